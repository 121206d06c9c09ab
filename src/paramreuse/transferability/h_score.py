"""H-score: how far apart the classes' mean features are, in units of the features' spread."""

import torch
from torch import Tensor

from paramreuse.transferability.pixels import check_pixels, classes_in

_RANK_TOLERANCE = 1e-10
"""Directions with less than this share of the largest variance count as none."""


def h_score(features: Tensor, labels: Tensor) -> float:
    """Return ``tr(cov(f)^+ cov(E[f | y]))``, from 0 to the number of classes less one.

    Source: Bao et al. (ICIP 2019), "An information-theoretic approach to transferability in task
    transfer learning", definition 2.

    Args:
        features: Shape ``(n, D)``.
        labels: Class of each row, shape ``(n,)``, integer.

    Returns:
        Higher is better; NaN where a feature is not finite.

    Raises:
        ScoreError: The shapes do not fit together, or there is no row.

    Examples:
        >>> h_score(torch.tensor([[-1.0], [-1.0], [1.0], [1.0]]), torch.tensor([0, 0, 1, 1]))
        1.0
    """
    check_pixels(features, labels)
    centred = _centred(features)
    if not bool(torch.isfinite(centred).all()):
        return float("nan")
    spread = centred.T @ centred / len(centred)
    inverse = torch.linalg.pinv(spread, rtol=_RANK_TOLERANCE, hermitian=True)
    return float((inverse * _between(centred, labels)).sum())


def h_score_regularised(features: Tensor, labels: Tensor) -> float:
    """Return the H-score with a covariance shrunk after Ledoit and Wolf.

    With shrinkage ``a``: ``tr(cov_a(f)^-1 (1 - a) cov(E[f | y]))``, where
    ``cov_a = (1 - a) cov + a tr(cov) / D I``; it stays finite with fewer rows than features.

    Source: Ibrahim et al. (2021), arXiv 2110.06893, section 4; Ledoit and Wolf (2004), "A
    well-conditioned estimator for large-dimensional covariance matrices", section 3.3.

    Args:
        features: Shape ``(n, D)``.
        labels: Class of each row, shape ``(n,)``, integer.

    Returns:
        Higher is better; NaN where a feature is not finite, 0 where none varies.

    Raises:
        ScoreError: The shapes do not fit together, or there is no row.
    """
    check_pixels(features, labels)
    centred = _centred(features)
    if not bool(torch.isfinite(centred).all()):
        return float("nan")
    if not bool(centred.any()):
        return 0.0
    spread = centred.T @ centred / len(centred)
    size = float(spread.trace()) / len(spread)
    shrinkage = ledoit_wolf_shrinkage(centred)
    shrunk = (1 - shrinkage) * spread + shrinkage * size * torch.eye(len(spread)).double()
    inverse = torch.linalg.pinv(shrunk, rtol=_RANK_TOLERANCE, hermitian=True)
    return (1 - shrinkage) * float((inverse * _between(centred, labels)).sum())


def ledoit_wolf_shrinkage(centred: Tensor) -> float:
    """Return how far a covariance is best shrunk towards a multiple of the identity, 0 to 1.

    Source: Ledoit and Wolf (2004), section 3.3.

    Args:
        centred: Shape ``(n, D)``, each column with mean 0, at least one value not 0.
    """
    n, num_features = centred.shape
    spread = centred.T @ centred / n
    size = float(spread.trace()) / num_features
    distance = float(spread.square().sum()) / num_features - size**2
    fourth = float(centred.square().sum(1).square().sum()) / n
    error = (fourth - float(spread.square().sum())) / (n * num_features)
    return min(error, distance) / distance if distance > 0 else 0.0


def _centred(features: Tensor) -> Tensor:
    values = features.double()
    return values - values.mean(0)


def _between(centred: Tensor, labels: Tensor) -> Tensor:
    """Return the covariance of each row's class mean, shape ``(D, D)``."""
    means = torch.zeros_like(centred)
    for label in classes_in(labels):
        of_class = labels == label
        means[of_class] = centred[of_class].mean(0)
    return means.T @ means / len(centred)
