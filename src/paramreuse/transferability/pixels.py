"""What every score of pixels asks of them."""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from paramreuse.errors import ScoreError


def check_pixels(features: Tensor, labels: Tensor) -> None:
    """Raise unless there is one label for each of one or more rows of features.

    Raises:
        ScoreError: Features are not ``(n, D)``, labels not ``(n,)``, or there is no row.
    """
    fits = features.ndim == 2 and labels.ndim == 1 and len(features) == len(labels)
    if not fits or not features.numel():
        raise ScoreError(
            f"cannot score features of shape {tuple(features.shape)} against labels of shape "
            f"{tuple(labels.shape)}: expected (n, D) and (n,), with at least one row and column"
        )


def check_owners(labels: Tensor, owners: Sequence[Hashable]) -> None:
    """Raise unless there is one owner for each label, and two different ones.

    Raises:
        ScoreError: There is another number of owners than of labels, or only one subject.
    """
    if len(owners) != len(labels):
        raise ScoreError(
            f"cannot hold out subjects: {len(labels)} rows and {len(owners)} owners; expected the "
            "subject of each row"
        )
    if len(set(owners)) < 2:
        raise ScoreError(
            f"cannot hold out subjects: expected two or more, got {sorted(set(map(str, owners)))}. "
            "Label another subject"
        )


def classes_in(labels: Tensor) -> list[int]:
    """Return the classes that occur, in ascending order."""
    return [int(label) for label in torch.unique(labels)]
