"""A number with its interval, and on which side of 0 it lies."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from paramreuse.papers.evidence import NotMeasuredError
from paramreuse.papers.rules.finding import Finding, Outcome
from paramreuse.reuse.verdict import ROUNDING
from paramreuse.sweep.intervals import RESAMPLES, bootstrap_interval

Array = NDArray[np.float64]

FEWEST_SUBJECTS = 6
"""Of fewer subjects a percentile bootstrap is too narrow: of 5 that all lie on one side by chance
there are 2 in 32, which is above the 5 % that the intervals leave."""

SATURATED = 0.9
"""Mean share of the score at which nearly everything is lost, so that no more can be."""


def require_subjects(number: int, what: str) -> None:
    """Make sure that an interval rests on enough subjects.

    Raises:
        NotMeasuredError: It does not.
    """
    if number < FEWEST_SUBJECTS:
        raise NotMeasuredError(
            f"{what}: {number} subjects were scored, expected {FEWEST_SUBJECTS} or more for an "
            "interval over subjects"
        )


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its bootstrap interval.

    Attributes:
        value: The number itself, NaN where there is none.
        low: Lower end of the interval, NaN where there is none.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if isnan(self.value):
            return "not known"
        if isnan(self.low):
            return f"{self.value:+.3f} (no interval)"
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"

    def above_zero(self, what: str) -> Finding:
        """Tell whether the number is above 0: the whole interval is, or no part of it.

        Args:
            what: What the number is, for the reader.
        """
        if self.low > ROUNDING:
            return Finding(Outcome.HOLDS, f"{what} {self}")
        if self.high <= ROUNDING:
            return Finding(Outcome.DOES_NOT_HOLD, f"{what} {self}", f"{what} is not above 0")
        return Finding(Outcome.CANNOT_TELL, f"{what} {self}", self._open(what))

    def below_zero(self, what: str) -> Finding:
        """Tell whether the number is below 0, by the same rule."""
        if self.high < -ROUNDING:
            return Finding(Outcome.HOLDS, f"{what} {self}")
        if self.low >= -ROUNDING:
            return Finding(Outcome.DOES_NOT_HOLD, f"{what} {self}", f"{what} is not below 0")
        return Finding(Outcome.CANNOT_TELL, f"{what} {self}", self._open(what))

    def _open(self, what: str) -> str:
        if isnan(self.low):
            return f"{what}: no interval: at least two values are needed to resample"
        return f"{what}: the interval holds 0"


def estimate_mean(values: Sequence[float], *, confidence: float, seed: int = 0) -> Estimate:
    """Return the mean of some values, with its interval over them; NaN if there is none."""
    if not values:
        return Estimate(np.nan, np.nan, np.nan)
    column = np.asarray(values, dtype=np.float64)[:, None]
    low, high = bootstrap_interval(column, confidence=confidence, seed=seed)
    return Estimate(float(column.mean()), float(low[0]), float(high[0]))


def estimate_gap(
    first: Mapping[Hashable, float],
    second: Mapping[Hashable, float],
    *,
    confidence: float,
    seed: int = 0,
) -> Estimate:
    """Return the mean of first minus second, paired over the subjects that both have.

    Raises:
        NotMeasuredError: These are too few.
    """
    gaps = [value - second[subject] for subject, value in first.items() if subject in second]
    require_subjects(len(gaps), "paired")
    return estimate_mean(gaps, confidence=confidence, seed=seed)


def loses_more(
    first: Mapping[Hashable, float],
    second: Mapping[Hashable, float],
    what: str,
    *,
    confidence: float,
    seed: int = 0,
) -> Finding:
    """Tell whether a larger share of the score is lost at first than at second.

    Args:
        first: Share of its own baseline that each subject loses.
        second: Likewise.
        what: What is compared, for the reader.
        confidence: Coverage of the interval.
        seed: Seed of the resampling.

    Returns:
        It cannot be told where both lose nearly everything.

    Raises:
        NotMeasuredError: Too few subjects have both.
    """
    gap = estimate_gap(first, second, confidence=confidence, seed=seed)
    means = [fmean(side[s] for s in first.keys() & second.keys()) for side in (first, second)]
    finding = gap.above_zero(f"share of the score lost, {what}")
    numbers = f"{finding.numbers} ({means[0]:.3f} against {means[1]:.3f})"
    if min(means) >= SATURATED - ROUNDING:
        reason = f"{what}: both lose nearly all of the score, which cannot rank them"
        return Finding(Outcome.CANNOT_TELL, numbers, reason)
    return replace(finding, numbers=numbers)


def estimate_table(table: Array, *, confidence: float) -> Estimate:
    """Return the mean of a table, with its interval over rows and columns, both resampled.

    Args:
        table: One row per repetition and one column per subject, at least one of each.
        confidence: Coverage of the interval.
    """
    rng = np.random.default_rng(0)
    rows, columns = (rng.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n for n in table.shape)
    means = ((rows @ table) * columns).sum(axis=1)
    tail = 50 * (1 - confidence)
    low, high = np.percentile(means, [tail, 100 - tail])
    return Estimate(float(table.mean()), float(low), float(high))
