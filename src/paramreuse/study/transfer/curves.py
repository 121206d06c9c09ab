"""Learning curves of the transfer: every start, averaged over its repetitions."""

from collections.abc import Iterable
from math import isfinite, nan

from paramreuse.report.start_words import full_label
from paramreuse.report.starts import Interval, Start
from paramreuse.study.config import Study
from paramreuse.study.records import TransferEpoch
from paramreuse.study.store import Store
from paramreuse.study.transfer.attempts import attempts_of


def start_curves(study: Study, store: Store, num_subjects: int | None) -> list[dict[str, object]]:
    """Return one row per start and epoch, averaged over repetitions.

    Args:
        study: The study.
        store: Its facts; trainings by steps leave no epochs.
        num_subjects: Which trainings; the largest number that the study asks for if None.

    Returns:
        Rows with ``model epoch train_loss validation_score``.
    """
    attempts = attempts_of(study, store)
    number = num_subjects or max((a.num_subjects for a in attempts), default=0)
    wanted = {a.training for a in attempts if a.num_subjects == number}
    grouped: dict[tuple[str, int], list[TransferEpoch]] = {}
    for row in store.read(TransferEpoch):
        if row.training in wanted:
            key = full_label(Start(row.strategy, row.source, Interval(nan)))
            grouped.setdefault((key, row.epoch), []).append(row)
    return [
        {
            "model": name,
            "epoch": epoch,
            "train_loss": _mean(row.train_loss for row in rows),
            "validation_score": _mean(row.validation_score for row in rows),
        }
        for (name, epoch), rows in grouped.items()
    ]


def _mean(values: Iterable[float]) -> float:
    finite = [value for value in values if isfinite(value)]
    return sum(finite) / len(finite) if finite else nan
