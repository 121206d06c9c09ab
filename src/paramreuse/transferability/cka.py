"""Linear CKA: how alike two descriptions of the same pixels are, up to rotation and scale."""

import torch
from torch import Tensor
from torch.nn import functional as F

from paramreuse.errors import ScoreError
from paramreuse.transferability.pixels import check_pixels, classes_in


def linear_cka(features: Tensor, others: Tensor) -> float:
    """Return ``|A'B|^2 / (|A'A| |B'B|)`` of the centred columns, Frobenius norms, from 0 to 1.

    Source: Kornblith et al. (ICML 2019), arXiv 1905.00414, section 3.

    Args:
        features: Shape ``(n, D)``.
        others: Another description of the same rows, shape ``(n, E)``.

    Returns:
        1 where one is a rotated and scaled copy of the other; NaN where a value is not finite or
        one side does not vary.

    Raises:
        ScoreError: The two do not have the same number of rows.

    Examples:
        >>> a = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
        >>> round(linear_cka(a, -3 * a.flip(1)), 12)
        1.0
    """
    if features.ndim != 2 or others.ndim != 2 or len(features) != len(others):
        raise ScoreError(
            f"cannot compare features of shapes {tuple(features.shape)} and "
            f"{tuple(others.shape)}: expected (n, D) and (n, E), the same rows"
        )
    a, b = (values.double() - values.double().mean(0) for values in (features, others))
    sizes = float((a.T @ a).norm() * (b.T @ b).norm())
    return float((a.T @ b).square().sum()) / sizes if sizes > 0 else float("nan")


def label_cka(features: Tensor, labels: Tensor) -> float:
    """Return the linear CKA between features and one-hot labels.

    Args:
        features: Shape ``(n, D)``.
        labels: Class of each row, shape ``(n,)``, integer.

    Returns:
        As for ``linear_cka``; NaN where only one class occurs.

    Raises:
        ScoreError: The shapes do not fit together, or there is no row.
    """
    check_pixels(features, labels)
    classes = torch.tensor(classes_in(labels))
    rows = torch.searchsorted(classes, labels.contiguous())
    return linear_cka(features, F.one_hot(rows, len(classes)))
