"""A number with its interval, and on which side of 0 it lies."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np

from paramreuse.intervals import bootstrap_interval
from paramreuse.papers.rules.finding import Finding, Outcome
from paramreuse.verdict import ROUNDING


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
        """Tell whether the number is below 0, likewise."""
        if self.high < -ROUNDING:
            return Finding(Outcome.HOLDS, f"{what} {self}")
        if self.low >= -ROUNDING:
            return Finding(Outcome.DOES_NOT_HOLD, f"{what} {self}", f"{what} is not below 0")
        return Finding(Outcome.CANNOT_TELL, f"{what} {self}", self._open(what))

    def _open(self, what: str) -> str:
        if isnan(self.low):
            return f"{what}: there is no interval, for want of two values to resample"
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
    """Return the mean of first minus second, paired over the subjects that both have."""
    gaps = [value - second[subject] for subject, value in first.items() if subject in second]
    return estimate_mean(gaps, confidence=confidence, seed=seed)
