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
from paramreuse.sweep.intervals import mean_interval

Array = NDArray[np.float64]

FEWEST_SUBJECTS = 6
"""With fewer subjects nothing is said of a claim. A single site asks for two more: its word stands
by itself, and is one of hundreds."""

RESAMPLES = 5000
_WEIGHTS_AT_ONCE = 2**23
"""How many resampling weights are held at a time: 64 MB, however many the subjects are."""

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
    """A number with its interval.

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
            return f"{what}: no interval: at least two values are needed"
        return f"{what}: the interval holds 0"


def estimate_mean(values: Sequence[float], *, confidence: float) -> Estimate:
    """Return the mean of some values, with its interval over them; NaN if there is none."""
    if not values:
        return Estimate(np.nan, np.nan, np.nan)
    column = np.asarray(values, dtype=np.float64)[:, None]
    low, high = mean_interval(column, confidence=confidence)
    return Estimate(float(column.mean()), float(low[0]), float(high[0]))


def bootstrap_mean(values: Sequence[float], *, confidence: float) -> Estimate:
    """Return the mean over layers of some values, with its percentile bootstrap interval.

    The layers of a network are few and all there are, so the interval does not reach beyond what
    they hold. Source: Efron and Tibshirani (1993), chapter 13.
    """
    if len(values) < 2:
        return Estimate(fmean(values) if values else np.nan, np.nan, np.nan)
    tail = 50 * (1 - confidence)
    means = resampled_means(np.asarray(values, dtype=np.float64)[:, None])
    low, high = np.percentile(means, [tail, 100 - tail])
    return Estimate(fmean(values), float(low), float(high))


def estimate_gap(
    first: Mapping[Hashable, float],
    second: Mapping[Hashable, float],
    *,
    confidence: float,
) -> Estimate:
    """Return the mean of first minus second, paired over the subjects that both have.

    Raises:
        NotMeasuredError: These are too few.
    """
    gaps = [value - second[subject] for subject, value in first.items() if subject in second]
    require_subjects(len(gaps), "paired")
    return estimate_mean(gaps, confidence=confidence)


def loses_more(
    first: Mapping[Hashable, float],
    second: Mapping[Hashable, float],
    what: str,
    *,
    confidence: float,
) -> Finding:
    """Tell whether a larger share of the score is lost at first than at second.

    Args:
        first: Share of its own baseline that each subject loses.
        second: As for ``first``.
        what: What is compared, for the reader.
        confidence: Coverage of the interval.

    Returns:
        It cannot be told where both lose nearly everything.

    Raises:
        NotMeasuredError: Too few subjects have both.
    """
    gap = estimate_gap(first, second, confidence=confidence)
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


def resampled_means(values: Array, *, seed: int = 0) -> Array:
    """Return each column's mean over the subjects of each resample.

    All columns share the resamples, so that a number worked out per row has its bootstrap
    distribution.

    Args:
        values: One row per subject, shape ``(P, M)``; NaN where a subject does not count.
        seed: Seed of the resampling.

    Returns:
        Shape ``(RESAMPLES, M)``; NaN where no subject of the resample counts.
    """
    rng = np.random.default_rng(seed)
    num_subjects, num_columns = values.shape
    counted = np.isfinite(values).astype(np.float64)
    filled = np.where(counted > 0, values, 0.0)
    means = np.full((RESAMPLES, num_columns), np.nan)
    rows = max(1, _WEIGHTS_AT_ONCE // num_subjects)
    for start in range(0, RESAMPLES, rows):
        part = means[start : start + rows]
        chances = np.full(num_subjects, 1 / num_subjects)
        weights = rng.multinomial(num_subjects, chances, len(part)).astype(np.float64)
        counts = weights @ counted
        np.divide(weights @ filled, counts, out=part, where=counts > 0)
    return means
