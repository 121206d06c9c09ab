"""How fast each training of the transfer was: the optimiser steps until scratch's end is reached.

A start that ends where scratch ends has gained nothing but speed, which this keeps apart.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite, nan
from typing import Any

from paramreuse.study.records import TransferEpoch, TransferStep
from paramreuse.study.store import Store
from paramreuse.study.transfer.strategy import Strategy

Training = tuple[str, str, int, int]
"""What tells a training apart: source, strategy, number of subjects, repetition."""

Curve = list[tuple[int, float]]
"""Optimiser steps taken, and the validation score after them, in order."""


def length_fact(name: str) -> str:
    """Name the fact that says how many steps an epoch of a training has.

    Args:
        name: Name of the training.
    """
    return f"epoch-steps/{name}"


def curves_by_step(store: Store, names: Mapping[Training, str]) -> dict[Training, Curve]:
    """Return the validation scores of trainings by the steps taken until then.

    Args:
        store: Its facts; a training of a user's own function left none, and the epochs of one of
            an earlier version cannot be told in steps.
        names: Name of each training that is wanted.
    """
    curves: dict[Training, Curve] = {}
    lengths = {training: store.fact(length_fact(name)) for training, name in names.items()}
    for epoch in store.read(TransferEpoch):
        length = lengths.get(epoch.training)
        if length is not None and isfinite(epoch.validation_score):
            point = (epoch.epoch * int(length), epoch.validation_score)
            curves.setdefault(epoch.training, []).append(point)
    for step in store.read(TransferStep):
        if step.training in names:
            curves.setdefault(step.training, []).append((step.step, step.score))
    return {training: sorted(points) for training, points in curves.items()}


def steps_to_level(curve: Iterable[tuple[int, float]], level: float) -> float:
    """Return the first number of steps after which a level is reached, NaN if it never is.

    Args:
        curve: Steps and score, in order.
        level: The score to reach.
    """
    return float(next((step for step, score in curve if score >= level), nan))


def add_steps(rows: Sequence[dict[str, Any]], curves: Mapping[Training, Curve]) -> None:
    """Give each row of a transfer table the steps until it reached what scratch ends at.

    The level is the ``mean`` of the training from scratch with as many subjects in the same
    repetition. The end of a training counts with its own ``mean``: the best epoch's, or that of
    the last weights once the plan's recipe is done.

    Args:
        rows: Rows with ``source strategy num_subjects seed mean``; they get ``steps_to_scratch``,
            NaN where it was never reached. Without any curve they are left as they are.
        curves: Scores on the way, by training.
    """
    levels = {
        (row["num_subjects"], row["seed"]): float(row["mean"])
        for row in rows
        if row["strategy"] == Strategy.SCRATCH
    }
    if not curves or not levels:
        return
    for row in rows:
        training = (row["source"], row["strategy"], row["num_subjects"], row["seed"])
        curve, level = curves.get(training, []), levels.get(training[2:], nan)
        end = [(curve[-1][0], float(row["mean"]))] if curve else []
        row["steps_to_scratch"] = steps_to_level([*curve, *end], level)
