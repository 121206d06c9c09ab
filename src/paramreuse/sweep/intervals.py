"""How sure a mean over subjects is: Student's interval, lengthened where the values are skewed.

Drops are skewed: most subjects lose little and a few lose much. Student's interval is then too
short on the side of the long tail, and the percentile bootstrap is shorter still. Hall's
transformation of the studentised mean corrects for skewness; here it lengthens an end of Student's
interval and never shortens it.

With n values of standard deviation s and skewness g, ``q`` Student's quantile with n - 1 degrees
of freedom and ``k = 2 g (1 + 10 / n) / (3 sqrt(n))``, the ends lie that many standard errors
``s / sqrt(n)`` above and below the mean::

    above = -log(1 - k (q + k / 4)) / k,    at least q, at most 7 q
    below =  log(1 + k (q - k / 4)) / k,    at least q, at most 2.5 q

where the logarithm of what is not positive counts as unbounded, and above the mean k is at least
that of a skewness of 1 that is known, ``2 / (3 sqrt(n))``. Source: Hall (1992), On the removal
of skewness by transformation, J. R. Stat. Soc. B 54, 221-228, the exponential transformation, with
Student's quantile instead of the normal one. The factor ``1 + 10 / n`` (few values show too small a
skewness), the least skewness and the bounds are ours; docs/results/calibration.md has the
measurements behind them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

Array = NDArray[np.float64]

FEWEST_SUBJECTS = 8
"""With fewer subjects no interval keeps its promise for drops as skewed as those that occur."""

LEAST_SKEWNESS = 1.0
"""Drops are taken to be at least so skewed, also where those of a few subjects are not: the subject
that loses much may not be among them."""

_GROWTH = 10.0
MOST_REACH_ABOVE = 7.0
"""How many times Student's reach the upper end may lie from the mean: a few subjects that lose
much may not have been seen yet."""

MOST_REACH_BELOW = 2.5
"""The same for the lower end. Less, since a subject can hardly gain as much as it can lose."""

_STRAIGHT = 1e-9
"""Skewness below which the transformation is a straight line to within rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Means:
    """Means of columns over subjects, and what their intervals follow from.

    Attributes:
        mean: Mean of each column over the subjects that count, shape ``(M,)``; NaN where none does.
        error: Its standard error, shape ``(M,)``; NaN where fewer than two subjects count.
        skew: ``k`` of the formula above, shape ``(M,)``; 0 where all values are alike.
        subjects: Number of subjects that count, shape ``(M,)``, int64.
    """

    mean: Array
    error: Array
    skew: Array
    subjects: NDArray[np.int64]

    def interval(self, confidence: float) -> tuple[Array, Array]:
        """Return the lower and upper ends of each mean's interval, NaN where there is none.

        Args:
            confidence: Coverage aimed at, between 0 and 1.
        """
        student = stdtrit(np.maximum(self.subjects - 1, 1), 0.5 + confidence / 2)
        below = _reach(student, -self.skew, MOST_REACH_BELOW)
        above = _reach(student, self._skew_above(), MOST_REACH_ABOVE)
        return self.mean - below * self.error, self.mean + above * self.error

    def doubt(self, bound: float) -> Array:
        """Return the chance that a mean lies on the other side of a bound than it seems to.

        It is the tail that the interval leaves out when one of its ends meets the bound, so that
        a ``doubt`` of 0.025 belongs to a confidence of 0.95.

        Args:
            bound: Largest mean that counts as below, e.g. the tolerance.

        Returns:
            Shape ``(M,)``, 0 to 0.5: 0 where all values are alike, NaN where there is no interval.
        """
        is_above = self.mean > bound
        skew = np.where(is_above, -self.skew, self._skew_above())
        most = np.where(is_above, MOST_REACH_BELOW, MOST_REACH_ABOVE)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            steps = np.abs(bound - self.mean) / self.error
            steps = np.where(self.error == 0, np.inf, steps)
            curved = _curved(skew)
            straightened = -np.expm1(-curved * steps) / curved - curved / 4
        # The inverse of _reach: which quantile of Student's has this many steps as its reach.
        student = np.maximum(np.minimum(steps, straightened), steps / most)
        tail: Array = stdtr(np.maximum(self.subjects - 1, 1), -student)
        return tail

    def _skew_above(self) -> Array:
        """Return ``k`` as it counts for the upper end."""
        least = 2 * LEAST_SKEWNESS / (3 * np.sqrt(np.maximum(self.subjects, 1)))
        return np.maximum(self.skew, least)


def _reach(student: Array, skew: Array, most: float) -> Array:
    """Return how many standard errors from the mean an end lies, in direction of the skewness."""
    curved = _curved(skew)
    left = 1 - curved * (student + curved / 4)
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.where(left > 0, -np.log1p(left - 1) / curved, np.inf)
    return np.clip(reach, student, most * student)


def _curved(skew: Array) -> Array:
    return np.where(np.abs(skew) < _STRAIGHT, _STRAIGHT, skew)


def estimate_means(values: Array) -> Means:
    """Return the mean of each column over subjects, with what its interval follows from.

    A column's numbers depend on no other column, so that they are the same in every table.

    Args:
        values: One row per subject, shape ``(P, M)``; NaN where a subject does not count.
    """
    counted = np.isfinite(values)
    number = counted.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(counted, values, 0.0).sum(axis=0) / number
        apart = np.where(counted, values - mean, 0.0)
        squares = (apart**2).sum(axis=0)
        error = np.sqrt(squares / (number - 1) / number)
        skewness = np.sqrt(number) * (apart**3).sum(axis=0) / squares**1.5
        skew = 2 * skewness * (1 + _GROWTH / number) / (3 * np.sqrt(number))
    is_spread = np.isfinite(skew)
    enough = number >= 2
    return Means(mean, np.where(enough, error, np.nan), np.where(is_spread, skew, 0.0), number)


def mean_interval(values: Array, *, confidence: float = 0.95) -> tuple[Array, Array]:
    """Return the interval of each column's mean over subjects.

    Args:
        values: One row per subject, shape ``(P, M)``; NaN where a subject does not count.
        confidence: Coverage aimed at, between 0 and 1.

    Returns:
        Lower and upper ends, shape ``(M,)`` each; NaN where fewer than two subjects count, since
        one subject says nothing about the spread between subjects.
    """
    return estimate_means(values).interval(confidence)
