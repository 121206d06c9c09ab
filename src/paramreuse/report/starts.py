"""The starts that were trained: what each reached, with an interval, and what it gained."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, nan

from paramreuse.report.student import student_interval

SCRATCH = "scratch"
FULL = "full"

CONTROLS = frozenset({"random-plan", "statistics"})
"""Strategies that show what is gained without anything learned; never an answer."""

CONFIDENCE = 0.95

_FEWEST_SEEDS = 3
"""Fewest repetitions for an interval over them: Student's interval of two is useless."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One training of the target, scored on subjects that it was not trained on.

    Attributes:
        strategy: How it was started and trained, as in a study file.
        source: Name of the source; ``""`` from scratch, or where there is only one.
        num_subjects: Number of labelled subjects that it was trained on.
        seed: Which repetition, from 0.
        mean: Mean score, in units of the score.
        by_subject: The score of each subject, where it is known.
        steps_to_scratch: Optimiser steps until it reached what training from scratch ends at; NaN
            where it never did, or where that is not known.
    """

    strategy: str
    source: str
    num_subjects: int
    seed: int
    mean: float
    by_subject: Mapping[str, float] = field(default_factory=dict)
    steps_to_scratch: float = nan


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with the ends of its interval, NaN where there is none, and what it is over.

    Attributes:
        mean: The mean.
        low: Lower end.
        high: Upper end.
        over: What the interval is over, e.g. ``"16 subjects"``; empty where there is none.
    """

    mean: float
    low: float = nan
    high: float = nan
    over: str = ""

    @property
    def is_known(self) -> bool:
        """Whether there is an interval."""
        return isfinite(self.low) and isfinite(self.high)


@dataclass(frozen=True, slots=True)
class Start:
    """One way to start the target and to train it, with what it reached.

    Attributes:
        strategy: Name of the strategy, or of the candidate of a recommendation.
        source: Name of the source; ``""`` from scratch.
        score: What it reached.
    """

    strategy: str
    source: str
    score: Interval

    @property
    def key(self) -> tuple[str, str]:
        """What tells it apart from other starts."""
        return self.strategy, self.source


def trials_of(rows: Iterable[Mapping[str, object]]) -> list[Trial]:
    """Read the trainings of a transfer table that knows no single subjects.

    Args:
        rows: One row per training: ``strategy num_subjects seed mean`` and optionally ``source``.
    """
    return [
        Trial(
            strategy=str(row["strategy"]),
            source=str(row.get("source") or ""),
            num_subjects=int(str(row["num_subjects"])),
            seed=int(str(row.get("seed", 0))),
            mean=float(str(row["mean"])),
        )
        for row in rows
    ]


def starts_of(trials: Sequence[Trial]) -> list[Start]:
    """Return the starts of trainings with as many subjects each, the best first.

    A start without any score comes last.
    """
    starts = [
        Start(strategy, source, _averaged(repeated))
        for (strategy, source), repeated in _grouped(trials).items()
    ]
    return sorted(starts, key=_last_without_score)


def _last_without_score(start: Start) -> tuple[bool, float]:
    return not isfinite(start.score.mean), -start.score.mean


def gain_of(
    trials: Sequence[Trial], start: tuple[str, str], other: tuple[str, str]
) -> Interval | None:
    """Return how much better one start is than another, in pairs of the same repetition.

    Args:
        trials: Trainings with as many subjects each.
        start: Strategy and source.
        other: What it is compared with.

    Returns:
        The mean difference; None where no repetition has a score of both.
    """
    grouped = _grouped(trials)
    against = {trial.seed: trial for trial in grouped.get(other, ())}
    pairs = [_difference(t, against[t.seed]) for t in grouped.get(start, ()) if t.seed in against]
    gain = _averaged(pairs)
    return gain if isfinite(gain.mean) else None


def _grouped(trials: Iterable[Trial]) -> dict[tuple[str, str], list[Trial]]:
    grouped: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        grouped.setdefault((trial.strategy, trial.source), []).append(trial)
    return grouped


def _difference(one: Trial, other: Trial) -> Trial:
    by_subject = {
        name: score - other.by_subject[name]
        for name, score in one.by_subject.items()
        if name in other.by_subject
    }
    return Trial("", "", one.num_subjects, one.seed, one.mean - other.mean, by_subject)


def _averaged(trials: Sequence[Trial]) -> Interval:
    """Average trainings, with Student's interval over repetitions or, of few, over subjects."""
    means = [trial.mean for trial in trials if isfinite(trial.mean)]
    mean = sum(means) / len(means) if means else nan
    if len(means) >= _FEWEST_SEEDS:
        return Interval(mean, *student_interval(means, CONFIDENCE), f"{len(means)} repetitions")
    subjects = _subject_means(trials)
    if len(subjects) < 2:
        return Interval(mean)
    return Interval(mean, *student_interval(subjects, CONFIDENCE), f"{len(subjects)} subjects")


def _subject_means(trials: Sequence[Trial]) -> list[float]:
    scores: dict[str, list[float]] = {}
    for trial in trials:
        for name, score in trial.by_subject.items():
            if isfinite(score):
                scores.setdefault(name, []).append(score)
    return [sum(values) / len(values) for values in scores.values()]
