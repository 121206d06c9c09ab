"""Student's interval of a mean."""

from collections.abc import Sequence
from math import sqrt

import numpy as np


def student_interval(values: Sequence[float], confidence: float) -> tuple[float, float]:
    """Return the ends of Student's interval of a mean; NaN with fewer than two values."""
    # The t distribution's quantile; scipy.stats would take a second to import.
    from scipy.special import stdtrit

    if len(values) < 2:
        return float("nan"), float("nan")
    spread = float(np.std(values, ddof=1)) / sqrt(len(values))
    reach = float(stdtrit(len(values) - 1, 0.5 + confidence / 2)) * spread
    mean = sum(values) / len(values)
    return mean - reach, mean + reach
