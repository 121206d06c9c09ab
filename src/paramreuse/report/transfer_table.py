"""Transfer results of several seeds, added up with an interval over the seeds."""

from collections.abc import Iterable, Mapping, Sequence
from math import isnan
from numbers import Real
from typing import Any

import numpy as np

from paramreuse.report.contents import Row
from paramreuse.report.starts import SCRATCH
from paramreuse.report.student import student_interval
from paramreuse.sweep.stopping import TOLERANCE

_GROUP = ("source", "strategy", "num_subjects")
_NO_CLASS = frozenset({*_GROUP, "seed", "mean", "mean_twice", "level"})
_SPEEDS = ("epochs_to", "steps_to")
"""How the names of columns begin that say how soon a training got somewhere."""


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
        and not name.startswith(("epoch", "second", "steps"))
        and any(isinstance(row.get(name), Real) for row in rows)
    ]


def summarise_transfer(
    rows: Sequence[Row],
    classes: Sequence[str] = (),
    *,
    confidence: float = 0.95,
    tolerance: float = TOLERANCE,
) -> list[dict[str, object]]:
    """Return one row per strategy and number of subjects, with an interval over the seeds.

    Args:
        rows: One row per training: ``strategy num_subjects seed mean``, a column per class, and
            optionally ``source``, ``mean_twice`` (trained twice as long) and columns
            ``epochs_to_...`` and ``steps_to_...``.
        classes: Names of the classes, where they are known.
        confidence: Coverage of ``mean_low`` to ``mean_high``: Student's interval of the mean.
        tolerance: What twice the length may add to ``mean`` where a training has converged.

    Returns:
        Rows with ``seeds``, the mean over seeds of every score, the interval of ``mean`` (NaN with
        fewer than two seeds), and per ``epochs_to_...`` and ``steps_to_...`` column its mean over
        the seeds that got there, with ``..._reached`` for how many did. Where ``mean_twice`` is
        known also ``converged`` (``yes`` or ``no``), and ``gain`` and ``gain_at_end``: what a start
        is better than scratch in pairs of the same seed, as trained and trained twice as long.
    """
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(name) for name in _GROUP), []).append(row)
    names = transfer_classes(rows, classes)
    speeds = sorted({str(n) for row in rows for n in row if str(n).startswith(_SPEEDS)})
    summaries: list[dict[str, object]] = []
    for group, trainings in groups.items():
        summary: dict[str, object] = dict(zip(_GROUP, group, strict=True))
        summary["seeds"] = len(trainings)
        for name in names:
            summary[name] = _mean(_numbers(trainings, name))
        means = _numbers(trainings, "mean")
        summary["mean"] = _mean(means)
        summary["mean_low"], summary["mean_high"] = student_interval(means, confidence)
        if any("mean_twice" in row for row in rows):
            summary |= _ends(trainings, rows, tolerance)
        for name in speeds:
            reached = _numbers(trainings, name)
            summary[name] = _mean(reached)
            summary[f"{name}_reached"] = len(reached)
        summaries.append(summary)
    return summaries


def best_first(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Order rows of ``summarise_transfer`` by number of subjects, the best of each first.

    A row without a mean comes last.
    """

    def place(row: Mapping[str, Any]) -> tuple[object, bool, float]:
        mean = float(row["mean"])
        return row["num_subjects"], isnan(mean), -mean

    return [dict(row) for row in sorted(rows, key=place)]


def _ends(trainings: Sequence[Row], rows: Sequence[Row], tolerance: float) -> dict[str, object]:
    """Keep apart what is gained at the end and what a longer training from scratch gains too."""
    pairs = [(_number(row, "mean"), _number(row, "mean_twice")) for row in trainings]
    added = _mean([twice - once for once, twice in pairs if np.isfinite(twice - once)])
    return {
        "mean_twice": _mean(_numbers(trainings, "mean_twice")),
        "converged": "" if np.isnan(added) else "yes" if added <= tolerance else "no",
        "gain": _gain(trainings, rows, "mean"),
        "gain_at_end": _gain(trainings, rows, "mean_twice"),
    }


def _gain(trainings: Sequence[Row], rows: Sequence[Row], name: str) -> float:
    scratch = {
        (row["num_subjects"], row.get("seed")): _number(row, name)
        for row in rows
        if row["strategy"] == SCRATCH
    }
    gains = [
        _number(row, name) - scratch.get((row["num_subjects"], row.get("seed")), np.nan)
        for row in trainings
    ]
    return _mean([gain for gain in gains if np.isfinite(gain)])


def _number(row: Row, name: str) -> float:
    value = row.get(name)
    return float(value) if isinstance(value, Real) else float("nan")


def _numbers(rows: Sequence[Row], name: str) -> list[float]:
    values = [row.get(name) for row in rows]
    numbers = [float(v) for v in values if isinstance(v, Real)]
    return [v for v in numbers if np.isfinite(v)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
