"""How far the kernels of the models are apart, and which of two sources is nearer to the target."""

from collections.abc import Mapping
from math import isfinite

from paramreuse.papers.evidence import Arm, NotMeasuredError
from paramreuse.papers.rules.arms import TARGET
from paramreuse.papers.rules.condition import Condition, Variant
from paramreuse.papers.rules.estimate import Estimate, bootstrap_mean

NEARER = 0.05
"""Smallest difference for a source to count as nearer: half an epoch of training more or less moves
kernels by as much, so that less says when the training stopped and not what it was of."""


def rmse_words(condition: Condition) -> str:
    """Say which of the two RMSEs the condition takes."""
    return "relative RMSE" if condition.variant is Variant.RELATIVE else "RMSE"


def kernel_distances(arm: Arm, source: str, condition: Condition) -> dict[int, float]:
    """Return the RMSE between the target's kernels and a source's, by layer, the output aside.

    Args:
        arm: What was measured.
        source: Name of a model.
        condition: Whether the relative RMSE takes the place of the RMSE.

    Raises:
        NotMeasuredError: There is none.
    """
    relative = condition.variant is Variant.RELATIVE
    distances = {
        pair.layer: pair.relative_rmse if relative else pair.rmse
        for pair in arm.distances
        if {pair.first, pair.second} == {TARGET, source} and pair.kind == "W" and not pair.is_output
    }
    finite = {layer: value for layer, value in distances.items() if isfinite(value)}
    if not finite:
        raise NotMeasuredError(
            f"the arm {arm.name} has no RMSE between the kernels of {TARGET} and {source}"
        )
    return finite


def nearness_gap(
    first: Mapping[int, float], second: Mapping[int, float], *, confidence: float
) -> Estimate:
    """Return how much nearer or farther the first source is, as a mean over layers.

    Layers differ in size by orders of magnitude, so each counts by ``(a - b) / max(a, b)``: -1
    where only the first is the same as the target, 0 where both are as far, 1 where only the second
    is, and -0.05 where the first is nearer by 5 %.

    Args:
        first: RMSE by layer.
        second: As for ``first``.
        confidence: Coverage of the interval, over layers.
    """
    gaps = []
    for layer in sorted(first.keys() & second.keys()):
        a, b = first[layer], second[layer]
        gaps.append((a - b) / max(a, b) if a + b else 0.0)
    return bootstrap_mean(gaps, confidence=confidence)
