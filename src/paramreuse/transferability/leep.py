"""LEEP: how well a source's own classes tell the target's."""

import torch
from torch import Tensor

from paramreuse.transferability.pixels import check_pixels, classes_in


def leep(probabilities: Tensor, labels: Tensor) -> float:
    """Return the mean log likelihood of the labels, given what the source predicts.

    With the source's probabilities ``p(z | x)`` and the empirical ``P(y, z) = mean of p(z | x) over
    the rows of label y``, it is the mean of ``log sum_z P(y | z) p(z | x)``.

    Source: Nguyen et al. (ICML 2020), arXiv 2002.12462, equations 1 and 2.

    Args:
        probabilities: The source's class probabilities, shape ``(n, Z)``, rows that add up to 1.
        labels: The target's class of each row, shape ``(n,)``, integer.

    Returns:
        At most 0, higher is better; NaN where a probability is not finite.

    Raises:
        ScoreError: The shapes do not fit together, or there is no row.

    Examples:
        >>> leep(torch.eye(2)[[0, 0, 1]], torch.tensor([1, 1, 0]))
        0.0
    """
    check_pixels(probabilities, labels)
    given = probabilities.double()
    if not bool(torch.isfinite(given).all()):
        return float("nan")
    classes = classes_in(labels)
    joint = torch.stack([given[labels == label].sum(0) for label in classes]) / len(given)
    conditional = joint / joint.sum(0).clamp_min(torch.finfo(torch.float64).tiny)
    rows = torch.searchsorted(torch.tensor(classes), labels.contiguous())
    likelihood = (conditional[rows] * given).sum(1)
    return float(likelihood.log().mean())
