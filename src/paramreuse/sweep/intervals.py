"""Paired bootstrap over subjects: how sure a mean drop is when subjects are few."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RESAMPLES = 5000
_COLUMNS_AT_ONCE = 256
_WEIGHTS_AT_ONCE = 2**23
"""How many resampling weights are held at a time: 64 MB, however many the subjects are."""


def bootstrap_interval(
    values: Array, *, confidence: float = 0.95, seed: int = 0
) -> tuple[Array, Array]:
    """Return the percentile bootstrap interval of each column's mean over subjects.

    All columns share the same resamples of subjects, so that rows of one table are comparable, and
    the same seed gives the same interval. Source: Efron and Tibshirani (1993), chapter 13.

    Args:
        values: One row per subject, shape ``(P, M)``; NaN where a subject does not count.
        confidence: Coverage aimed at, between 0 and 1.
        seed: Seed of the resampling.

    Returns:
        Lower and upper ends, shape ``(M,)`` each; NaN where fewer than two subjects count, since
        one subject says nothing about the spread between subjects.
    """
    low, high = np.full((2, values.shape[1]), np.nan)
    counted = np.isfinite(values)
    enough = np.flatnonzero(counted.sum(axis=0) >= 2)
    if not len(enough):
        return low, high
    means = resampled_means(values[:, enough], seed=seed)
    tail = 50 * (1 - confidence)
    for start in range(0, len(enough), _COLUMNS_AT_ONCE):
        part = slice(start, start + _COLUMNS_AT_ONCE)
        ends = np.nanpercentile(means[:, part], [tail, 100 - tail], axis=0)
        low[enough[part]], high[enough[part]] = ends
    return low, high


def resampled_means(values: Array, *, seed: int = 0) -> Array:
    """Return each column's mean over the subjects of each resample.

    All columns share the resamples, so that a number worked out per row has its bootstrap
    distribution.

    Args:
        values: As for ``bootstrap_interval``.
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
