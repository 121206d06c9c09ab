"""Paired bootstrap over subjects: how sure a mean drop is when subjects are few."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RESAMPLES = 5000
_COLUMNS_AT_ONCE = 256


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
    num_subjects, num_columns = values.shape
    low, high = np.full((2, num_columns), np.nan)
    counted = np.isfinite(values)
    enough = np.flatnonzero(counted.sum(axis=0) >= 2)
    if not len(enough):
        return low, high
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(num_subjects, np.full(num_subjects, 1 / num_subjects), RESAMPLES)
    weights = weights.astype(np.float64)
    tail = 50 * (1 - confidence)
    filled = np.where(counted, values, 0.0)
    for start in range(0, len(enough), _COLUMNS_AT_ONCE):
        columns = enough[start : start + _COLUMNS_AT_ONCE]
        totals = weights @ filled[:, columns]
        counts = weights @ counted[:, columns].astype(np.float64)
        means = np.divide(totals, counts, out=np.full(totals.shape, np.nan), where=counts > 0)
        low[columns], high[columns] = np.nanpercentile(means, [tail, 100 - tail], axis=0)
    return low, high
