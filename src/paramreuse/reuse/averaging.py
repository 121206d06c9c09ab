"""Averages of weights that leave alone what did not move, to the bit.

``decay * average + (1 - decay) * value`` of two equal values is off by a rounding, so a moving
average moves frozen tensors, and goes on moving them with every step.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

Average: TypeAlias = Callable[[Tensor, Tensor, Tensor | int], Tensor]
"""From an average, a value and the number averaged so far to the new average."""

MultiAverage: TypeAlias = Callable[[list[Tensor], list[Tensor], Tensor | int], None]
"""The same for several tensors, in place."""


def keeping_equal(average: Average) -> Average:
    """Return an average that is the value itself where both are equal.

    Args:
        average: For ``AveragedModel(avg_fn=...)``, e.g. ``get_ema_avg_fn()``.

    Examples:
        >>> from torch.optim.swa_utils import get_ema_avg_fn
        >>> value = torch.tensor([0.3])
        >>> bool(keeping_equal(get_ema_avg_fn(0.9))(value, value, 1) == value)
        True
    """

    def kept(averaged: Tensor, value: Tensor, number: Tensor | int) -> Tensor:
        return value if torch.equal(averaged, value) else average(averaged, value, number)

    return kept


def keeping_equal_ones(average: MultiAverage) -> MultiAverage:
    """Return an average of several tensors that passes over those that are equal.

    Args:
        average: For ``AveragedModel(multi_avg_fn=...)``.
    """

    def kept(averaged: list[Tensor], values: list[Tensor], number: Tensor | int) -> None:
        moved = [pair for pair in zip(averaged, values, strict=True) if not torch.equal(*pair)]
        if moved:
            average([one for one, _ in moved], [other for _, other in moved], number)

    return kept


def keep_equal(model: AveragedModel) -> None:
    """Let an averaged model leave alone what does not move, from its next update on.

    Args:
        model: Changed in place.
    """
    if model.avg_fn is not None:
        model.avg_fn = keeping_equal(model.avg_fn)
    if model.multi_avg_fn is not None:
        model.multi_avg_fn = keeping_equal_ones(model.multi_avg_fn)  # type: ignore[assignment]
