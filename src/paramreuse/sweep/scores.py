"""Scores as additive statistics per sample, so that subjects, batches and workers add up.

A score never sees a mean: it turns a batch into sums and counts per sample and class, those are
added over all samples of a subject, and only then divided.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paramreuse.errors import ScoreError

Array = NDArray[np.float64]


class Score(Protocol):
    """What a sweep asks of a score; higher is better.

    Attributes:
        classes: Name of each class (or of each component of the score), K of them.
        foreground: For each class, whether it enters a subject's mean.
    """

    classes: tuple[str, ...]
    foreground: tuple[bool, ...]

    def statistics(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return sums per sample and class, shape ``(N, K, S)``, float64 on the outputs' device."""

    def score(self, statistics: Array) -> Array:
        """Divide: statistics ``(..., K, S)`` to scores ``(..., K)``, NaN where none counts."""


def subject_means(scores: Array, foreground: Sequence[bool]) -> Array:
    """Return each subject's mean over the foreground classes that count for it.

    Args:
        scores: Shape ``(..., K)``, NaN where a class does not count for the subject.
        foreground: K flags.

    Returns:
        Shape ``(...)``; NaN for a subject in which no foreground class counts.
    """
    chosen = scores[..., np.asarray(foreground, dtype=bool)]
    counts = np.isfinite(chosen).sum(axis=-1)
    sums = np.where(np.isfinite(chosen), chosen, 0.0).sum(axis=-1)
    return _divide(sums, counts, counts > 0)


def foreground_names(classes: Sequence[str], foreground: Sequence[bool]) -> tuple[str, ...]:
    """Return the names of the classes that enter a subject's mean.

    Args:
        classes: Names of K classes.
        foreground: K flags.
    """
    return tuple(name for name, counts in zip(classes, foreground, strict=True) if counts)


def _class_names(num_classes: int, names: Sequence[str] | None) -> tuple[str, ...]:
    if num_classes < 2:
        raise ScoreError(
            f"cannot score {num_classes} class(es): expected at least 2, background included. "
            "For one output channel (a logit) use num_classes=2"
        )
    if names is None:
        return tuple(str(index) for index in range(num_classes))
    if len(names) != num_classes or len(set(names)) != num_classes or "mean" in names:
        raise ScoreError(
            f"cannot name {num_classes} classes {list(names)!r}: expected as many different names "
            "as classes, background first, none of them 'mean'"
        )
    return tuple(names)


def predicted_classes(outputs: Tensor) -> Tensor:
    """Return the class with the largest output, the first of equal ones.

    Class by class, which takes a tenth of the time of ``argmax`` over an axis that is not the last.

    Args:
        outputs: Shape ``(N, K, ...)``, or ``(N, 1, ...)`` where a positive logit means class 1.

    Returns:
        Shape ``(N, ...)``, uint8 or, for more than 256 classes, int64.
    """
    if outputs.shape[1] == 1:
        return (outputs[:, 0] > 0).to(torch.uint8)
    if outputs.shape[1] > 256:
        return outputs.argmax(1)
    best = outputs[:, 0]
    predicted = torch.zeros(best.shape, dtype=torch.uint8, device=outputs.device)
    for index in range(1, outputs.shape[1]):
        better = (outputs[:, index] > best).view(torch.uint8)
        predicted = torch.maximum(predicted, better * index)
        best = torch.maximum(best, outputs[:, index])
    return predicted


def has_near_tie(outputs: Tensor, rounding: float) -> bool:
    """Tell whether rounding could change the predicted class of any pixel.

    Args:
        outputs: Shape ``(N, K, ...)``, or ``(N, 1, ...)`` where a positive logit means class 1.
        rounding: How far an output may be off, in units of the largest.
    """
    reach = 2 * rounding * float(outputs.abs().max()) if outputs.numel() else 0.0
    if outputs.shape[1] == 1:
        return bool((outputs.abs() <= reach).any())
    best, second = outputs[:, 0], torch.full_like(outputs[:, 0], -torch.inf)
    for index in range(1, outputs.shape[1]):
        second = torch.maximum(second, torch.minimum(best, outputs[:, index]))
        best = torch.maximum(best, outputs[:, index])
    return bool((best - second <= reach).any())


class _Overlap:
    """Intersection, prediction and label counts per class: what Dice and IoU divide.

    Args:
        num_classes: Number of classes K, background (label 0) included.
        names: K names for the classes; ``"0"``, ``"1"``, ... when left out.
    """

    def __init__(self, num_classes: int, names: Sequence[str] | None = None) -> None:
        self.classes = _class_names(num_classes, names)
        self.foreground = (False,) + (True,) * (num_classes - 1)

    def statistics(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Count pixels per sample and class.

        Args:
            outputs: Logits, shape ``(N, K, ...)``; or ``(N, 1, ...)`` for two classes, where a
                positive logit means class 1.
            labels: Class per pixel, shape ``(N, ...)``, integer; a negative label is ignored.

        Returns:
            Intersection, predicted and labelled pixels, shape ``(N, K, 3)``, float64.

        Raises:
            ScoreError: Shapes do not fit, labels are no integers, or one is not below K.
        """
        num_classes = len(self.classes)
        _check_shapes(outputs, labels, num_classes)
        predicted = predicted_classes(outputs)
        counts = _confusion(predicted.flatten(1), labels.flatten(1), num_classes)
        intersection = counts.diagonal(dim1=1, dim2=2)
        return torch.stack([intersection, counts.sum(1), counts.sum(2)], dim=-1).double()

    def is_near_tie(self, outputs: Tensor, rounding: float) -> bool:
        """Tell whether rounding could change what is counted; as for ``has_near_tie``."""
        return has_near_tie(outputs, rounding)


def _confusion(predicted: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Count pixels by label (rows) and prediction (columns), shape ``(N, K, K)``, int64."""
    if labels.is_floating_point() or labels.is_complex():
        raise ScoreError(
            f"cannot score: the labels are {labels.dtype}, expected integers, the class of each "
            "pixel. Convert them with labels.long()"
        )
    if labels.numel() and int(labels.max()) >= num_classes:
        raise ScoreError(
            f"cannot score: a label is {int(labels.max())}, expected less than the number of "
            f"classes, {num_classes}. Give the score as many classes as the labels have"
        )
    ignored = num_classes**2
    fits = ignored <= torch.iinfo(torch.uint8).max
    kind = torch.uint8 if fits else torch.int64  # narrow integers take an eighth of the memory
    cells = labels.to(kind) * num_classes + predicted.to(kind)
    if labels.numel() and int(labels.min()) < 0:
        cells = cells.masked_fill(labels < 0, ignored)
    counts = [torch.bincount(row, minlength=ignored + 1)[:ignored] for row in cells]
    return torch.stack(counts).view(len(labels), num_classes, num_classes)


def _check_shapes(outputs: Tensor, labels: Tensor, num_classes: int) -> None:
    channels = outputs.shape[1] if outputs.ndim > 1 else 0
    channels_fit = channels == num_classes or (channels == 1 and num_classes == 2)
    if not channels_fit or outputs.shape[2:] != labels.shape[1:] or len(outputs) != len(labels):
        raise ScoreError(
            f"cannot score outputs of shape {tuple(outputs.shape)} against labels of shape "
            f"{tuple(labels.shape)}: expected outputs (N, {num_classes}, ...) and labels (N, ...)"
        )


class Dice(_Overlap):
    """Dice coefficient per class and subject, ``2 |P n L| / (|P| + |L|)`` in pixels.

    A class counts for a subject when the subject's labels contain it, whatever is predicted, so
    that scores before and after a swap stay paired. Source: Dice (1945); both papers score with it.

    Examples:
        >>> Dice(num_classes=2, names=("background", "LV")).classes
        ('background', 'LV')
    """

    def score(self, statistics: Array) -> Array:
        """Return Dice from intersection, predicted and labelled pixels ``(..., K, 3)``."""
        shared, predicted, labelled = np.moveaxis(np.asarray(statistics, dtype=float), -1, 0)
        return _divide(2 * shared, predicted + labelled, labelled > 0)


class IoU(_Overlap):
    """Intersection over union (Jaccard index) per class and subject, counted as for ``Dice``."""

    def score(self, statistics: Array) -> Array:
        """Return IoU from intersection, predicted and labelled pixels ``(..., K, 3)``."""
        shared, predicted, labelled = np.moveaxis(np.asarray(statistics, dtype=float), -1, 0)
        return _divide(shared, predicted + labelled - shared, labelled > 0)


class Accuracy:
    """Share of samples or pixels labelled right, per true class (recall) and subject.

    Every class is foreground, so a subject's mean is its balanced accuracy. For classification,
    outputs are ``(N, K)`` and labels ``(N,)``.

    Args:
        num_classes: Number of classes K.
        names: K names; ``"0"``, ``"1"``, ... when left out.
    """

    def __init__(self, num_classes: int, names: Sequence[str] | None = None) -> None:
        self.classes = _class_names(num_classes, names)
        self.foreground = (True,) * num_classes

    def statistics(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Count right and all per true class, shape ``(N, K, 2)``; shapes as for ``Dice``."""
        num_classes = len(self.classes)
        _check_shapes(outputs, labels, num_classes)
        predicted = predicted_classes(outputs)
        rows = len(labels)
        counts = _confusion(predicted.reshape(rows, -1), labels.reshape(rows, -1), num_classes)
        return torch.stack([counts.diagonal(dim1=1, dim2=2), counts.sum(2)], dim=-1).double()

    def score(self, statistics: Array) -> Array:
        """Return the share of right ones from ``(..., K, 2)``."""
        right, labelled = np.moveaxis(np.asarray(statistics, dtype=float), -1, 0)
        return _divide(right, labelled, labelled > 0)

    def is_near_tie(self, outputs: Tensor, rounding: float) -> bool:
        """Tell whether rounding could change what is counted; as for ``has_near_tie``."""
        return has_near_tie(outputs, rounding)


class NegativeMSE:
    """Minus the mean squared error, for auto-encoders and regression; one component, ``"mse"``.

    Outputs and labels have the same shape ``(N, ...)``, or labels lack the channel axis and are
    then compared with every output channel, as the papers' auto-encoder is trained.
    """

    classes = ("mse",)
    foreground = (True,)

    def statistics(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the sum of squared errors and the number of values, shape ``(N, 1, 2)``."""
        wanted = labels if labels.ndim == outputs.ndim else labels[:, None]
        channels_fit = wanted.shape[1:2] in (outputs.shape[1:2], (1,))
        rest_fits = wanted.shape[2:] == outputs.shape[2:] and len(wanted) == len(outputs)
        if not channels_fit or not rest_fits:
            raise ScoreError(
                f"cannot compare outputs of shape {tuple(outputs.shape)} with labels of shape "
                f"{tuple(labels.shape)}: expected the same shape, or labels without channels"
            )
        squares = (outputs.double() - wanted.double()).square().reshape(len(outputs), -1)
        counts = torch.full_like(squares[:, 0], squares.shape[1])
        return torch.stack([squares.sum(1), counts], dim=-1)[:, None]

    def score(self, statistics: Array) -> Array:
        """Return minus the mean from ``(..., 1, 2)``."""
        squares, counts = np.moveaxis(np.asarray(statistics, dtype=float), -1, 0)
        return -_divide(squares, counts, counts > 0)


def _divide(numerator: Array, denominator: Array, counts: NDArray[np.bool_]) -> Array:
    quotient = np.full(counts.shape, np.nan)
    np.divide(numerator, denominator, out=quotient, where=counts)
    return quotient
