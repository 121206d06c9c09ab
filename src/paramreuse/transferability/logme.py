"""LogME: how probable the labels are under Bayesian linear regression on frozen features."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paramreuse.transferability.pixels import check_pixels, classes_in

Array = NDArray[np.float64]

_DECADES = 10.0
_GRID = 201


def logme(features: Tensor, labels: Tensor) -> float:
    """Return the largest log evidence per pixel, the mean over the classes that occur.

    For each class, its 0/1 indicator ``y`` is regressed on the features ``F`` under the prior
    ``w ~ N(0, 1/alpha)`` and noise of variance ``1/beta``, so that
    ``y ~ N(0, (I + F F' / t) / beta)`` with ``t = alpha / beta``. For a given ``t`` the best
    ``beta`` is ``n / y' (I + F F' / t)^-1 y``; ``t`` itself is searched over twenty decades around
    the largest squared singular value, which needs no convergence of a fixed point.

    Source: You et al. (ICML 2021), arXiv 2102.11005, equations 1 to 3.

    Args:
        features: Shape ``(n, D)``.
        labels: Class of each row, shape ``(n,)``, integer.

    Returns:
        Higher is better; NaN where a feature is not finite or all are zero.

    Raises:
        ScoreError: The shapes do not fit together, or there is no row.

    Examples:
        >>> logme(torch.eye(2), torch.tensor([0, 1])) < logme(10 * torch.eye(2)[[0, 0, 1, 1]],
        ...     torch.tensor([0, 0, 1, 1]))
        True
    """
    check_pixels(features, labels)
    values = features.double()
    if not bool(torch.isfinite(values).all()) or not bool(values.any()):
        return float("nan")
    left, singular, _ = torch.linalg.svd(values, full_matrices=False)
    squares = (singular**2).numpy()
    evidences = []
    for label in classes_in(labels):
        wanted = (labels == label).double()
        inside = ((left.T @ wanted) ** 2).numpy()
        evidences.append(_best_evidence(squares, inside, float(wanted.sum()), len(labels)))
    return float(np.mean(evidences)) / len(labels)


def _best_evidence(squares: Array, inside: Array, total: float, n: int) -> float:
    """Return the evidence at the best ``t``.

    Args:
        squares: Squared singular values of the features.
        inside: Squared coordinates of the indicator along the left singular vectors.
        total: Squared length of the indicator.
        n: Number of rows.
    """
    from scipy.optimize import minimize_scalar

    outside = max(total - float(inside.sum()), 0.0)

    def loss(log_ratio: float) -> float:
        ratio = np.exp(log_ratio)
        misfit = outside + float((inside * ratio / (ratio + squares)).sum())
        spread = float(np.log1p(squares / ratio).sum())
        return float(0.5 * (n * np.log(2 * np.pi * max(misfit, 1e-300) / n) + n + spread))

    middle, reach = np.log(squares.max()), _DECADES * np.log(10)
    grid = np.linspace(middle - reach, middle + reach, _GRID)
    best = int(np.argmin([loss(point) for point in grid]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, _GRID - 1)]
    minimum = minimize_scalar(loss, bounds=(low, high), method="bounded")
    return -min(float(minimum.fun), loss(grid[best]))
