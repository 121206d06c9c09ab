"""Which channels of a network can be permuted together without changing what it computes.

The network is traced once. Every dimension of every tensor in the trace is either an array of
channel numbers, one per position, or a reason why its positions cannot be exchanged. Operations
*tie* channels (the two sides of a sum, a kernel's inputs and what enters it), pass them on, or
*fix* them. What remains are classes of tied channels; classes that meet the very same operations
the same number of times form a group, and any permutation within a group leaves the network's
output alone.
"""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paramreuse.errors import SiteMismatchError

Ids: TypeAlias = NDArray[np.int64]
Dim: TypeAlias = Ids | str
"""Channel number of each position along a dimension, or why positions cannot be exchanged."""
Dims: TypeAlias = tuple[Dim, ...]

POSITION = "these are places, not channels"
"""A reason not worth reporting: rows, columns, samples."""


@dataclass(frozen=True, slots=True, eq=False)
class Use:
    """A part of a tensor of the state dict, with the channels along its dimensions.

    Attributes:
        key: Key in the state dict.
        rows: Where the part starts and stops along dimension 0; None for the whole tensor.
        dims: One per dimension of the part.
    """

    key: str
    rows: tuple[int, int] | None
    dims: Dims


class Ties:
    """Channels, which of them belong together, and which have to stay in place."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._reasons: dict[int, str] = {}
        self._marks: list[Ids] = []

    def fresh(self, count: int) -> Ids:
        """Return ``count`` new channels."""
        start = len(self._parents)
        self._parents.extend(range(start, start + count))
        return np.arange(start, start + count)

    def tie(self, one: Dim, other: Dim) -> None:
        """Let the channels at the same position of two dimensions belong together."""
        if isinstance(one, str):
            self.fix(other, one)
        elif isinstance(other, str):
            self.fix(one, other)
        else:
            for a, b in zip(one.tolist(), other.tolist(), strict=True):
                self._join(a, b)

    def fix(self, dim: Dim, reason: str) -> None:
        """Keep the channels of a dimension in place."""
        if not isinstance(dim, str):
            for channel in dim.tolist():
                self._reasons.setdefault(self._root(channel), reason)

    def mark(self, dim: Dim) -> None:
        """Note that these channels met an operation: those that did not are different."""
        if not isinstance(dim, str):
            self._marks.append(dim)

    def classes(self, dim: Ids) -> Ids:
        """Return the class of each channel, as the number of one of its channels."""
        return np.array([self._root(channel) for channel in dim.tolist()], dtype=np.int64)

    def reason(self, channel: int) -> str | None:
        """Tell why a channel has to stay in place, if it has to."""
        return self._reasons.get(self._root(channel))

    def groups(self) -> list[Ids]:
        """Return the classes that are exchangeable for each other, by what they met."""
        # A permutation of classes is allowed if it moves positions within dimensions only: then all
        # values of the trace stay what they are but for the order of their positions. Two classes
        # that stand in the same dimensions equally often can be exchanged so; where one stands and
        # the other does not, the exchange would need a position that is not there.
        met: dict[int, list[tuple[int, int]]] = {}
        for index, dim in enumerate(self._marks):
            classes, counts = np.unique(self.classes(dim), return_counts=True)
            for channel, times in zip(classes.tolist(), counts.tolist(), strict=True):
                met.setdefault(channel, []).append((index, times))
        equals: dict[tuple[object, ...], list[int]] = {}
        for channel, history in met.items():
            equals.setdefault((self.reason(channel), *history), []).append(channel)
        return [np.array(sorted(channels), dtype=np.int64) for channels in equals.values()]

    def _root(self, channel: int) -> int:
        # Every channel passed is hung on its grandparent, so that long chains are walked once.
        while self._parents[channel] != channel:
            self._parents[channel] = self._parents[self._parents[channel]]
            channel = self._parents[channel]
        return channel

    def _join(self, a: int, b: int) -> None:
        first, second = sorted((self._root(a), self._root(b)))
        self._parents[second] = first
        # A reason is kept at the root alone. It has to move along, or the class would be free.
        if second in self._reasons:
            self._reasons.setdefault(first, self._reasons.pop(second))


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """Where the channels of a group stand along one dimension of a part of a tensor.

    Attributes:
        key: Key in the state dict.
        rows: Where the part starts and stops along dimension 0; None for the whole tensor.
        dim: The dimension.
        size: Length of the dimension.
        positions: Shape ``(C, m)``: the m positions of each of the group's channels.
    """

    key: str
    rows: tuple[int, int] | None
    dim: int
    size: int
    positions: Ids

    def part(self, tensor: Tensor) -> Tensor:
        """Return the part of a tensor that is meant, a view."""
        return tensor if self.rows is None else tensor[slice(*self.rows)]

    def by_channel(self, tensor: Tensor) -> Tensor:
        """Return what belongs to each of the group's channels, shape ``(C, values)``."""
        rows = self.part(tensor).movedim(self.dim, 0).reshape(self.size, -1)
        order = self.positions.reshape(-1)
        if not np.array_equal(order, np.arange(self.size)):
            rows = rows[torch.from_numpy(order)]
        return rows.reshape(len(self.positions), -1)

    def permute_(self, tensor: Tensor, permutation: Tensor) -> None:
        """Let channel ``permutation[i]`` of a tensor take the place of channel i, in place.

        Raises:
            SiteMismatchError: The tensor has another number of channels.
        """
        part = self.part(tensor)
        if part.ndim <= self.dim or part.shape[self.dim] != self.size:
            raise SiteMismatchError(
                f"cannot permute {self.key!r}: expected {self.size} positions along dimension "
                f"{self.dim}, got shape {tuple(tensor.shape)}. The channels were found in another "
                "network; give tensors of the one that was aligned"
            )
        # All m positions of a channel go together, the k-th to the k-th, and the positions of
        # channels outside the group stay: the index is a permutation of the whole dimension.
        index = torch.arange(self.size)
        positions = torch.from_numpy(self.positions)
        index[positions] = positions[permutation.cpu()]
        part.copy_(part.index_select(self.dim, index.to(part.device)))


@dataclass(frozen=True, slots=True, eq=False)
class ChannelGroup:
    """Channels that can be exchanged for each other, and every place where they stand.

    Attributes:
        name: Path of the layer that puts the channels out.
        size: Number of channels.
        slots: Where they stand.
        frozen: Why they have to stay in place; empty where they do not.
    """

    name: str
    size: int
    slots: tuple[Slot, ...]
    frozen: str = ""


def find_groups(ties: Ties, uses: Sequence[Use]) -> list[ChannelGroup]:
    """Turn ties into groups, in the order of the state dict.

    Single channels, and channels that stand in no tensor of the state dict, are left out.
    """
    for use in uses:
        for dim in use.dims:
            ties.mark(dim)
    classes = _classes(ties, uses)
    groups: dict[str, ChannelGroup] = {}
    for channels in ties.groups():
        reason = ties.reason(int(channels[0])) or ""
        slots = tuple(_slots(channels, classes))
        if len(channels) > 1 and slots and reason != POSITION:
            name = _free_name(_name(slots), groups)
            groups[name] = ChannelGroup(name, len(channels), slots, reason)
    return list(groups.values())


def _classes(ties: Ties, uses: Sequence[Use]) -> list[tuple[Use, int, Ids]]:
    """List every dimension that holds channels, with the class of each of its positions."""
    return [
        (use, number, ties.classes(dim))
        for use in uses
        for number, dim in enumerate(use.dims)
        if not isinstance(dim, str)
    ]


def _slots(channels: Ids, dimensions: Sequence[tuple[Use, int, Ids]]) -> Iterator[Slot]:
    for use, number, classes in dimensions:
        (places,) = np.isin(classes, channels).nonzero()
        if len(places):
            # Stable, so that the k-th place of each channel stays the k-th. Classes of one group
            # stand in a dimension equally often, so the places make up a full table.
            by_channel = places[np.argsort(classes[places], kind="stable")]
            positions = by_channel.reshape(len(channels), -1)
            yield Slot(use.key, use.rows, number, len(classes), positions)


def _name(slots: Sequence[Slot]) -> str:
    producer = next((slot for slot in slots if slot.dim == 0), None)
    slot = producer or slots[0]
    path = slot.key.rpartition(".")[0] or slot.key
    return path if producer else f"{path} in"


def _free_name(name: str, taken: Container[str]) -> str:
    further = (f"{name} {number}" for number in count(2))
    return next(free for free in chain([name], further) if free not in taken)
