"""Transfer results of several seeds, added up with an interval over the seeds."""

from collections.abc import Sequence
from numbers import Real

import numpy as np

from paramreuse.report.contents import Row
from paramreuse.report.student import student_interval

_GROUP = ("source", "strategy", "num_subjects")
_NO_CLASS = frozenset({*_GROUP, "seed", "mean", "level"})


def transfer_classes(rows: Sequence[Row], classes: Sequence[str] = ()) -> list[str]:
    """Return the columns of transfer rows that hold the score of a class.

    Args:
        rows: One row per training.
        classes: Names of the classes, where they are known; else every number that is not named
            otherwise counts as one.
    """
    names = dict.fromkeys(str(name) for row in rows for name in row)
    if any(name in names for name in classes):
        return [name for name in classes if name in names]
    return [
        name
        for name in names
        if name not in _NO_CLASS
        and not name.startswith(("epoch", "second"))
        and any(isinstance(row.get(name), Real) for row in rows)
    ]


def summarise_transfer(
    rows: Sequence[Row], classes: Sequence[str] = (), *, confidence: float = 0.95
) -> list[dict[str, object]]:
    """Return one row per strategy and number of subjects, with an interval over the seeds.

    Args:
        rows: One row per training: ``strategy num_subjects seed mean``, a column per class, and
            optionally ``source`` and columns ``epochs_to_...``.
        classes: Names of the classes, where they are known.
        confidence: Coverage of ``mean_low`` to ``mean_high``: Student's interval of the mean.

    Returns:
        Rows with ``seeds``, the mean over seeds of every score, the interval of ``mean`` (NaN with
        fewer than two seeds), and per ``epochs_to_...`` column its mean over the seeds that got
        there, with ``..._reached`` for how many did.
    """
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(name) for name in _GROUP), []).append(row)
    names = transfer_classes(rows, classes)
    epochs = sorted({str(n) for row in rows for n in row if str(n).startswith("epochs_to")})
    summaries: list[dict[str, object]] = []
    for group, trainings in groups.items():
        summary: dict[str, object] = dict(zip(_GROUP, group, strict=True))
        summary["seeds"] = len(trainings)
        for name in names:
            summary[name] = _mean(_numbers(trainings, name))
        means = _numbers(trainings, "mean")
        summary["mean"] = _mean(means)
        summary["mean_low"], summary["mean_high"] = student_interval(means, confidence)
        for name in epochs:
            reached = _numbers(trainings, name)
            summary[name] = _mean(reached)
            summary[f"{name}_reached"] = len(reached)
        summaries.append(summary)
    return summaries


def _numbers(rows: Sequence[Row], name: str) -> list[float]:
    values = [row.get(name) for row in rows]
    numbers = [float(v) for v in values if isinstance(v, Real)]
    return [v for v in numbers if np.isfinite(v)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
