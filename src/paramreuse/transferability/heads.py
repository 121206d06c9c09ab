"""Heads on frozen features, each subject held out in turn: what could be read off them."""

from collections.abc import Callable, Hashable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from paramreuse.errors import ScoreError
from paramreuse.sweep.scores import Dice, subject_means
from paramreuse.transferability.pixels import check_owners, check_pixels

Array = NDArray[np.float64]

PENALTY = 1e-1
"""Ridge penalty per row, on features of variance 1. On the first 20 problems of the grid of gains
it ordered sources better than 1e-3: Kendall's tau with the gain .45 against .37."""

NEIGHBOURS = 5

_QUERIES = 2048


def held_out_ridge(
    features: Tensor,
    labels: Tensor,
    owners: Sequence[Hashable],
    num_classes: int,
    *,
    penalty: float = PENALTY,
) -> dict[Hashable, float]:
    """Predict each subject's classes with a ridge regression on the others; return its Dice.

    One-hot labels are regressed on the features with an intercept, every feature brought to mean 0
    and variance 1 over the rows that are fitted: the weights minimise
    ``|Y - X W|^2 + penalty n |W|^2``. The class with the largest prediction is taken.

    Source: Hoerl and Kennard (1970), "Ridge regression", equation 2.1.

    Args:
        features: Per row ``(n, D)``, or maps ``(N, D, ...)``.
        labels: Class per row ``(n,)``, or per position ``(N, ...)``, integer; 0 is the background,
            a label below 0 is neither fitted nor scored.
        owners: Subject of each row or map.
        num_classes: Number of classes, background included.
        penalty: Per row that is fitted.

    Returns:
        Dice of each subject, in order of appearance: the mean over its foreground classes. NaN
        where it has none, or where features are not finite.

    Raises:
        ScoreError: The shapes do not fit together, there are fewer than two subjects, or a label is
            not below ``num_classes``.
    """

    def predict(seen: Tensor, wanted: Tensor, asked: Tensor) -> Tensor:
        hot = F.one_hot(wanted, num_classes).double()
        gram = seen.T @ seen
        gram.diagonal().add_(penalty * len(seen))
        weights = torch.linalg.solve(gram, seen.T @ (hot - hot.mean(0)))
        predictions: Tensor = asked @ weights + hot.mean(0)
        return predictions.argmax(1)

    return _held_out(features, labels, owners, num_classes, predict)


def held_out_neighbours(
    features: Tensor,
    labels: Tensor,
    owners: Sequence[Hashable],
    num_classes: int,
    *,
    neighbours: int = NEIGHBOURS,
) -> dict[Hashable, float]:
    """Predict each subject's classes from its nearest neighbours in the others; return its Dice.

    Every feature is brought to mean 0 and variance 1 over the other subjects' rows; distances are
    Euclidean, each neighbour has one vote, and of equal votes the lowest class wins.

    Source: Fix and Hodges (1951); as a measure of frozen features, Wu et al. (2018), arXiv
    1805.01978.

    Args:
        features: As for ``held_out_ridge``.
        labels: As for ``held_out_ridge``.
        owners: As for ``held_out_ridge``.
        num_classes: As for ``held_out_ridge``.
        neighbours: How many vote; all where there are not as many.

    Returns:
        As for ``held_out_ridge``.

    Raises:
        ScoreError: As for ``held_out_ridge``.
    """

    def predict(seen: Tensor, wanted: Tensor, asked: Tensor) -> Tensor:
        number = min(neighbours, len(seen))
        voted = []
        for part in torch.split(asked, _QUERIES):
            nearest = torch.cdist(part, seen).topk(number, largest=False).indices
            voted.append(F.one_hot(wanted[nearest], num_classes).sum(1).argmax(1))
        return torch.cat(voted)

    return _held_out(features, labels, owners, num_classes, predict)


def _held_out(
    features: Tensor,
    labels: Tensor,
    owners: Sequence[Hashable],
    num_classes: int,
    predict: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> dict[Hashable, float]:
    values, wanted, of = _rows(features, labels, owners)
    check_pixels(values, wanted)
    check_owners(wanted, of)
    if int(wanted.max()) >= num_classes:
        raise ScoreError(
            f"cannot hold out subjects: a label is {int(wanted.max())}, expected less than "
            f"num_classes={num_classes}"
        )
    numbers = {owner: number for number, owner in enumerate(dict.fromkeys(of))}
    subject = torch.tensor([numbers[owner] for owner in of])
    if not bool(torch.isfinite(values).all()):
        return dict.fromkeys(numbers, float("nan"))
    return {
        owner: _dice_without(values, wanted, subject == number, num_classes, predict)
        for owner, number in numbers.items()
    }


def _rows(
    features: Tensor, labels: Tensor, owners: Sequence[Hashable]
) -> tuple[Tensor, Tensor, list[Hashable]]:
    """Lay maps out as rows, and leave out what has no label."""
    if features.ndim < 2 or features.shape[2:] != labels.shape[1:] or len(features) != len(labels):
        raise ScoreError(
            f"cannot hold out subjects: features of shape {tuple(features.shape)} and labels of "
            f"shape {tuple(labels.shape)}; expected (N, D, ...) and (N, ...)"
        )
    if len(owners) != len(labels):
        check_owners(labels, owners)
    places = labels[0].numel() if len(labels) else 1
    values = features.movedim(1, -1).reshape(-1, features.shape[1]).double()
    flat = labels.reshape(-1).long()
    of = [owner for owner in owners for _ in range(places)]
    kept = (flat >= 0).nonzero()[:, 0]
    return values[kept], flat[kept], [of[index] for index in kept.tolist()]


def _dice_without(
    values: Tensor,
    labels: Tensor,
    unseen: Tensor,
    num_classes: int,
    predict: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> float:
    seen = values[~unseen]
    mean, deviation = seen.mean(0), seen.std(0, correction=0)
    # A feature that does not vary among the others says nothing, however it varies here.
    scale = torch.where(deviation > 0, 1 / deviation.clamp_min(1e-30), 0.0)
    predicted = predict((seen - mean) * scale, labels[~unseen], (values[unseen] - mean) * scale)
    return _dice(predicted, labels[unseen], num_classes)


def _dice(predicted: Tensor, labels: Tensor, num_classes: int) -> float:
    score = Dice(num_classes=max(num_classes, 2))
    outputs = F.one_hot(predicted, len(score.classes)).T[None].double()
    counts = score.statistics(outputs, labels[None]).numpy()[0]
    return float(subject_means(score.score(counts), score.foreground))
