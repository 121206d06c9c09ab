"""The transfer table: Dice of every training, averaged in one place."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paramreuse.study.config import Study
from paramreuse.study.records import LongTransferScore, TransferScore
from paramreuse.study.store import Store
from paramreuse.study.transfer.attempts import Attempt, attempts_of
from paramreuse.study.transfer.speed import Training, add_steps, curves_by_step

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class TrainingDice:
    """Dice of one training of the transfer on every validation subject.

    Attributes:
        source: Name of the source, ``""`` for a training from scratch.
        strategy: As in the study file.
        num_subjects: Number of training subjects.
        seed: Which repetition, from 0.
        classes: Names of the classes, K of them.
        subjects: The validation subjects, P of them.
        scores: Shape ``(P, K)``, NaN where a subject has none of a class.
    """

    source: str
    strategy: str
    num_subjects: int
    seed: int
    classes: tuple[str, ...]
    subjects: tuple[str, ...]
    scores: Array

    @property
    def key(self) -> Training:
        """What tells it apart: source, strategy, number of subjects, repetition."""
        return self.source, self.strategy, self.num_subjects, self.seed

    def by_class(self) -> dict[str, float]:
        """Return the mean over subjects of each class that some subject has."""
        columns = zip(self.classes, self.scores.T, strict=True)
        return {name: _mean(column) for name, column in columns if np.isfinite(column).any()}

    def by_subject(self, foreground: Collection[str]) -> dict[str, float]:
        """Return each subject's mean over its foreground classes; subjects with none are left out.

        Args:
            foreground: Names of the classes that enter the mean.
        """
        counted = [name in foreground for name in self.classes]
        rows = zip(self.subjects, self.scores[:, counted], strict=True)
        return {subject: _mean(row) for subject, row in rows if np.isfinite(row).any()}

    def mean(self, foreground: Collection[str]) -> float:
        """Return the mean over subjects of ``by_subject``; NaN where no subject counts."""
        return _mean(np.array(list(self.by_subject(foreground).values())))


def _mean(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(np.mean(finite)) if finite.size else float("nan")


def trainings_of(scores: Iterable[TransferScore]) -> list[TrainingDice]:
    """Bring together the scores of each training, in the order in which they are given."""
    grouped: dict[tuple[str, str, int, int], list[TransferScore]] = {}
    for score in scores:
        grouped.setdefault(score.training, []).append(score)
    return [_training(rows) for rows in grouped.values()]


def _training(rows: Sequence[TransferScore]) -> TrainingDice:
    classes = tuple(dict.fromkeys(row.label for row in rows))
    subjects = tuple(dict.fromkeys(row.subject for row in rows))
    table = np.full((len(subjects), len(classes)), np.nan)
    for row in rows:
        table[subjects.index(row.subject), classes.index(row.label)] = row.score
    return TrainingDice(*rows[0].training, classes, subjects, table)


def wanted_scores(
    store: Store, attempts: Iterable[Attempt], kind: type[TransferScore] = TransferScore
) -> list[TransferScore]:
    """Return the scores of some trainings; the store may hold more.

    Args:
        store: Where the facts are.
        attempts: What the study asks for now.
        kind: ``TransferScore``, or ``LongTransferScore`` for those of twice the length.
    """
    return _scores(store, kind, {attempt.training for attempt in attempts})


def _scores(
    store: Store, kind: type[TransferScore], wanted: Collection[Training]
) -> list[TransferScore]:
    return [score for score in store.read(kind) if score.training in wanted]


def transfer_rows(
    store: Store, foreground: Collection[str], attempts: Iterable[Attempt]
) -> list[dict[str, Any]]:
    """Return one row per training: its columns, the mean Dice per class, and their mean.

    Args:
        store: Where the facts are.
        foreground: Names of the classes that enter a subject's mean.
        attempts: What the study asks for now; the store may hold more.

    Returns:
        Rows with ``source strategy num_subjects seed``, a column per class, and ``mean``: the mean
        over subjects of the mean over foreground classes. Where they were measured also
        ``mean_twice``, that of the same training made twice as long, and ``steps_to_scratch``, the
        optimiser steps until it reached what scratch ends at.
    """
    wanted = {attempt.training: attempt.name for attempt in attempts}
    rows = [
        {
            "source": training.source,
            "strategy": training.strategy,
            "num_subjects": training.num_subjects,
            "seed": training.seed,
            **training.by_class(),
            "mean": training.mean(foreground),
        }
        for training in trainings_of(_scores(store, TransferScore, wanted))
    ]
    longer = trainings_of(_scores(store, LongTransferScore, wanted))
    ends = {training.key: training.mean(foreground) for training in longer}
    for row in rows if ends else ():
        row["mean_twice"] = ends.get(training_of(row), float("nan"))
    add_steps(rows, curves_by_step(store, wanted))
    return rows


def training_of(row: Mapping[str, Any]) -> Training:
    """Return which training a row of the table is of."""
    return row["source"], row["strategy"], row["num_subjects"], row["seed"]


def summed_transfer(study: Study, store: Store) -> list[dict[str, Any]]:
    """Return one row per strategy, source and number of subjects: means over seeds."""
    from paramreuse.report.transfer_table import summarise_transfer

    attempts = attempts_of(study, store)
    names = list(dict.fromkeys(score.label for score in store.read(TransferScore)))
    # The background is the first class of every image set.
    rows = transfer_rows(store, names[1:], attempts)
    tolerance = study.judge.tolerance
    return [dict(row) for row in summarise_transfer(rows, names, tolerance=tolerance)]
