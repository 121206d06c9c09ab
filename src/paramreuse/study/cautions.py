"""What makes a study's numbers doubtful, said before them: one sentence each."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isnan

from paramreuse.report.starts import SCRATCH, Trial
from paramreuse.study.records import StoredDistance

_LAST = 0.8
"""Share of the epochs after which a training that has converged does not improve any more."""


def untrained_sources(distances: Mapping[str, Sequence[StoredDistance]]) -> Iterator[str]:
    """Name sources that look untrained: all their running means are zero.

    Args:
        distances: Rows of the comparison with the target, by source.
    """
    for source, rows in distances.items():
        means = [row for row in rows if row.kind == "RM"]
        # The cosine of the angle to a tensor of zeros is not defined.
        if means and all(isnan(row.cosine) for row in means):
            yield (
                f"{source} looks untrained: its running means are all zero, as in a network that "
                "has seen no image; check the checkpoint"
            )


def nothing_learnt(
    trials: Sequence[Trial], constant: float | None, tolerance: float
) -> Iterator[str]:
    """Say so where no start does better than the same class everywhere.

    Args:
        trials: Trainings of the transfer.
        constant: What the same class everywhere scores; None where not known.
        tolerance: Smallest difference that counts.
    """
    reached = [trial.mean for trial in trials if not isnan(trial.mean)]
    if reached and constant is not None and max(reached) <= constant + tolerance:
        yield (
            f"no training does better than predicting one class everywhere ({constant:.3f}), so "
            "nothing can be said of any start; train longer"
        )


def one_seed(trials: Sequence[Trial]) -> Iterator[str]:
    """Say so where every start was trained once."""
    if trials and max(trial.seed for trial in trials) == 0:
        yield (
            "every start was trained once; other subjects and other fresh weights may change the "
            "order, so set transfer.seeds to 3 or more"
        )


def speed_in_gain(
    trials: Sequence[Trial], long_trials: Sequence[Trial], tolerance: float
) -> Iterator[str]:
    """Say so where training from scratch twice as long reaches more than the tolerance more.

    Args:
        trials: Trainings of the transfer table; those on most subjects count.
        long_trials: The same trainings made twice as long, as far as they were run.
        tolerance: What twice the length may add where a training has converged.
    """
    number = max((trial.num_subjects for trial in trials), default=0)
    once, twice = (
        {t.seed: t.mean for t in trained if t.strategy == SCRATCH and t.num_subjects == number}
        for trained in (trials, long_trials)
    )
    pairs = [(once[seed], twice[seed]) for seed in once if seed in twice]
    pairs = [pair for pair in pairs if not any(isnan(score) for score in pair)]
    if not pairs:
        return
    before, after = (sum(scores) / len(pairs) for scores in zip(*pairs, strict=True))
    if after - before > tolerance:
        yield (
            "part of this gain is speed: training from scratch has not converged, and twice as "
            f"long takes it from {before:.3f} to {after:.3f}"
        )


def unconverged(
    curves: Mapping[str, Sequence[tuple[int, float]]], tolerance: float
) -> Iterator[str]:
    """Name the trainings that still improved by more than the tolerance when they ended.

    Args:
        curves: Epoch and validation score, in order, by name of the training; NaN where an epoch
            was not validated.
        tolerance: Smallest improvement in the last fifth of the epochs that counts.
    """
    names = [name for name, points in curves.items() if _late_gain(points) > tolerance]
    if names:
        listed = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        yield (
            f"still improving in the last fifth of the training: {listed}; part of a gain may be "
            "speed, so train longer"
        )


def _late_gain(points: Iterable[tuple[int, float]]) -> float:
    known = [(epoch, score) for epoch, score in points if not isnan(score)]
    if not known:
        return 0.0
    end = _LAST * max(epoch for epoch, _ in known)
    early = [score for epoch, score in known if epoch <= end]
    late = [score for epoch, score in known if epoch > end]
    return max(late) - max(early) if early and late else 0.0
