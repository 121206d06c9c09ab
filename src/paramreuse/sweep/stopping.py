"""When a swap's verdict can no longer change: for certain, or with a stated error rate."""

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from paramreuse.sweep.intervals import FEWEST_SUBJECTS, estimate_means

Array = NDArray[np.float64]

TOLERANCE = 0.02
"""Largest drop of the mean score that still counts as almost unchanged; the papers give none."""

CONFIDENCE = 0.95
"""One minus the probability, per swap, of stopping on the wrong side."""

_GROWTH = 2**0.5
_LEAST_SPREAD = 0.25


class Side(StrEnum):
    """Where the mean drop of a swap lies."""

    BELOW = "below"
    """At most the tolerance."""
    ABOVE = "above"
    """Above the tolerance."""
    OPEN = "open"
    """Not yet known."""


@dataclass(frozen=True, slots=True)
class StoppingRule:
    """When to stop looking at subjects.

    Attributes:
        tolerance: Largest drop that passes, in units of the score.
        confidence: One minus the probability, per swap, of being sent to the wrong side.
    """

    tolerance: float = TOLERANCE
    confidence: float = CONFIDENCE

    def looks(self, num_subjects: int) -> tuple[int, ...]:
        """Return after how many subjects to look, each time about 1.4 times as many as before.

        Examples:
            >>> StoppingRule().looks(40)
            (8, 12, 16, 23, 32)
        """
        sizes: list[int] = []
        size = float(FEWEST_SUBJECTS)
        while round(size) < num_subjects:
            sizes.append(int(np.ceil(size - 1e-9)))
            size *= _GROWTH
        return tuple(n for n in sizes if n < num_subjects)

    def side(self, drops: Array, baselines_unseen: Array, *, num_looks: int) -> Side:
        """Tell on which side of the tolerance the mean drop of all subjects lies.

        Args:
            drops: Drops of the subjects seen, shape ``(n,)``; NaN where a subject does not count.
            baselines_unseen: Scores of the untouched target for all others; NaN where one does
                not count.
            num_looks: How often this question is asked of one swap.
        """
        drops = drops[np.isfinite(drops)]
        if is_certainly_above(drops, baselines_unseen, self.tolerance):
            return Side.ABOVE
        # The probability is shared by the looks and by the two sides.
        level = (1 - self.confidence) / max(1, num_looks) / 2
        return likely_side(drops, self.tolerance, level)


def is_certainly_above(drops: Array, baselines_unseen: Array, tolerance: float) -> bool:
    """Tell whether no outcome for the unseen subjects can bring the mean down to the tolerance.

    No score exceeds 1, so a subject's drop is at least its baseline minus 1.

    Args:
        drops: Drops of the subjects seen, shape ``(n,)``.
        baselines_unseen: Scores of the untouched target for all others.
        tolerance: Largest drop that passes.

    Examples:
        >>> is_certainly_above(np.array([0.6, 0.6]), np.array([0.9, 0.9]), 0.02)
        True
    """
    unseen = baselines_unseen[np.isfinite(baselines_unseen)]
    total = len(drops) + len(unseen)
    least = drops.sum() + np.minimum(unseen - 1, 0.0).sum()
    return bool(len(drops)) and bool(least > tolerance * total)


def likely_side(drops: Array, tolerance: float, level: float) -> Side:
    """Tell on which side of the tolerance the mean lies, wrongly with probability ``level``.

    An end of the interval that leaves out ``level`` on each side, ``mean_interval``, has to lie on
    one side; asked at several looks, their levels add up (Bonferroni). A few subjects may agree by
    chance, so their deviation counts as at least a quarter of the tolerance. Source: Wald (1947),
    chapter 1, for the question.

    Args:
        drops: Drops of the subjects seen, shape ``(n,)``.
        tolerance: Largest drop that passes.
        level: Probability of an error, at this look.
    """
    number = len(drops)
    if number < FEWEST_SUBJECTS:
        return Side.OPEN
    means = estimate_means(drops[:, None])
    least = _LEAST_SPREAD * tolerance / number**0.5
    if means.error[0] < least:
        means = replace(means, error=np.array([least]), skew=np.zeros(1))
    low, high = means.interval(1 - 2 * level)
    if high[0] <= tolerance:
        return Side.BELOW
    return Side.ABOVE if low[0] > tolerance else Side.OPEN
