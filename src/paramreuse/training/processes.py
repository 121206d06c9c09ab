"""Processes that train one model together: which part of a batch is whose, and what they add up."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from paramreuse.errors import ParamReuseError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Processes:
    """How many processes train together, and which of them this one is.

    Attributes:
        number: How many there are.
        rank: This one's, from 0.
    """

    number: int = 1
    rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes and tells."""
        return self.rank == 0

    def part(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, float]:
        """Return this process's samples of a batch, and what their mean loss weighs.

        Weighed so, the mean over processes of a loss that is a mean over samples is that of the
        whole batch, whether or not all have as many samples.

        Args:
            inputs: Shape ``(N, C, H, W)``.
            labels: Shape ``(N, H, W)``.

        Raises:
            ParamReuseError: There are fewer samples than processes.
        """
        if self.number == 1:
            return inputs, labels, 1.0
        if len(inputs) < self.number:
            raise ParamReuseError(
                f"cannot divide a batch of {len(inputs)} among {self.number} processes: give each "
                "at least one image, with a larger batch_size or fewer devices"
            )
        own = slice(self.rank, None, self.number)
        share = len(inputs[own]) * self.number / len(inputs)
        return inputs[own], labels[own], share

    def total(self, value: Tensor) -> Tensor:
        """Add a tensor up over all processes."""
        if self.number > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value

    def gathered(self, value: T) -> list[T]:
        """Return what every process has, in order of rank."""
        if self.number == 1:
            return [value]
        values: list[Any] = [None] * self.number
        dist.all_gather_object(values, value)
        return values

    def average_statistics(self, network: nn.Module, frozen: Sequence[str]) -> None:
        """Give the running statistics of a network the mean over all processes.

        Each process sees its part of every batch only. What is frozen is left as it is.

        Args:
            network: The network in training.
            frozen: Keys of its frozen tensors.
        """
        if self.number == 1:
            return
        for key, buffer in network.named_buffers():
            if key not in frozen and buffer.is_floating_point():
                with torch.no_grad():
                    buffer.copy_(self.total(buffer) / self.number)


ALONE = Processes()
"""One process, which has every batch to itself."""


def is_first_process() -> bool:
    """Tell whether this process writes what several of them have trained together."""
    return not dist.is_available() or not dist.is_initialized() or dist.get_rank() == 0
