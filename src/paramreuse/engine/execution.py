"""Runs schedules on a few samples at a time: one clean pass, then one short pass per swap."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from paramreuse.engine.convolution import (
    ConvNode,
    Kernel,
    finish,
    fold,
    laid_out,
    scale_and_shift,
)
from paramreuse.engine.fusion import Node
from paramreuse.engine.graph import consumers_of
from paramreuse.engine.recomputed import RAW, Schedule, Slot, Step, make_schedule


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A swap that is ready to run on any samples of a batch.

    Attributes:
        schedule: What to compute.
        tensors: The model's tensors with those of the swap in place.
        kernels: Folded kernels of the convolutions that the swap touches.
    """

    schedule: Schedule
    tensors: Mapping[str, Tensor]
    kernels: Mapping[int, Kernel]


@dataclass(slots=True, eq=False)
class Footprint:
    """What a clean pass found out about sizes.

    Attributes:
        slot_bytes: Size of every slot that was computed.
        peak_bytes: Most that was alive at once, apart from what is kept.
        largest_bytes: Size of the largest single value.
    """

    slot_bytes: dict[Slot, int] = field(default_factory=dict)
    peak_bytes: int = 0
    largest_bytes: int = 0


class Network:
    """The nodes of a network with their folded kernels; samples are the caller's business.

    Args:
        nodes: The network.
        output: Number of the node that gives its output.
        tensors: The model's tensors by key.
        packs_bare_kernels: Whether kernels lie ready in a second copy without their norm, which
            makes clean passes faster.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        output: int,
        tensors: Mapping[str, Tensor],
        *,
        packs_bare_kernels: bool = False,
    ) -> None:
        self.packs_bare_kernels = packs_bare_kernels
        self.nodes = nodes
        self.output = output
        self.tensors = dict(tensors)
        self._users = consumers_of(nodes, output)
        self._kernels: dict[tuple[int, tuple[int, ...] | None], Kernel] = {}
        self._bare_kernels: dict[int, Kernel] = {}
        self._affine: dict[int, tuple[Tensor | None, Tensor | None]] = {}
        self._shapes: dict[int, tuple[tuple[int, ...], ...]] = {}
        self._schedules: dict[frozenset[str], Schedule] = {}
        self._kept: frozenset[Slot] = frozenset({(0, None)})
        self._lock = Lock()

    def keep(self, slots: frozenset[Slot]) -> None:
        """Choose what clean passes keep from now on."""
        self._kept = slots | {(0, None)}
        self._schedules.clear()

    def clean_pass(
        self, inputs: Tensor, footprint: Footprint | None = None
    ) -> tuple[Tensor, dict[Slot, Tensor]]:
        """Compute every node with the model's own tensors.

        Returns:
            The output, and the slots that are kept.
        """
        kept: dict[Slot, Tensor] = {}
        for number, values in self.walk(inputs, kept):
            if footprint is not None:
                _record(footprint, number, values, kept)
        return values[self.output], kept

    def walk(
        self, inputs: Tensor, kept: dict[Slot, Tensor]
    ) -> Iterator[tuple[int, dict[int, Any]]]:
        """Compute one node after the other with the model's own tensors.

        Args:
            inputs: Some samples.
            kept: Is given what is kept, as it is computed.

        Yields:
            The number of the node just computed, and every value that is still needed.
        """
        values: dict[int, Any] = {0: laid_out(inputs)}
        kept[0, None] = values[0]
        yield 0, values
        for number, node in enumerate(self.nodes[1:], start=1):
            if isinstance(node, ConvNode):
                values[number] = self._clean_convolution(number, node, values, kept)
            else:
                values[number] = node.run(values, self.tensors)
            if (number, None) in self._kept:
                kept[number, None] = values[number]
            yield number, values
            # Let go of at the last use: most of what a pass computes is never alive at once.
            for used in node.inputs:
                if self._users[used][-1] == number:
                    values.pop(used, None)

    def _clean_convolution(
        self, number: int, node: ConvNode, values: Mapping[int, Any], kept: dict[Slot, Tensor]
    ) -> Tensor:
        parts = [values[part] for part in node.parts]
        self._shapes[number] = tuple(tuple(part.shape) for part in parts)
        # A convolution is a sum over its input channels, so what some parts of a concatenation
        # contribute can be kept and added to what the others give once they have moved.
        for slot in self._kept:
            if slot[0] == number and isinstance(slot[1], tuple):
                rest = slot[1]
                x = _together([parts[i] for i in rest])
                kept[slot] = self._kernel(number, rest)(x, None, relu=False)
        residual = None if node.residual is None else values[node.residual]
        # Norm and bias act on the bare convolution channel by channel, so a swap of theirs starts
        # from it and needs no convolution.
        if (number, RAW) not in self._kept:
            return self._kernel(number, None)(_together(parts), residual, relu=node.relu)
        bare = self._bare(number, node)
        kept[number, RAW] = z = laid_out(bare(_together(parts), None, relu=False))
        return finish(z, *self._clean_affine(number, node), residual, relu=node.relu)

    def _clean_affine(self, number: int, node: ConvNode) -> tuple[Tensor | None, Tensor | None]:
        if number not in self._affine:
            self._affine[number] = scale_and_shift(node, self.tensors)
        return self._affine[number]

    def _bare(self, number: int, node: ConvNode) -> Kernel:
        if not self.packs_bare_kernels:
            return Kernel(self.tensors[node.weight], None, node.geometry, packed=False)
        with self._lock:
            if number not in self._bare_kernels:
                shape = self._shapes[number][0]
                self._bare_kernels[number] = fold(node, self.tensors, shape, raw=True)
            return self._bare_kernels[number]

    def _kernel(self, number: int, parts: tuple[int, ...] | None) -> Kernel:
        """Return a clean kernel; without shift if it adds to what has the shift already."""
        with self._lock:
            if (number, parts) not in self._kernels:
                self._kernels[number, parts] = self._fold(number, parts, self.tensors)
            return self._kernels[number, parts]

    def _fold(
        self, number: int, parts: tuple[int, ...] | None, tensors: Mapping[str, Tensor]
    ) -> Kernel:
        node = self.nodes[number]
        assert isinstance(node, ConvNode)
        shapes = self._shapes[number]
        channels = None if parts is None else _ranges(shapes, parts)
        return fold(node, tensors, shapes[0], channels=channels)

    def prepare(self, swapped: Mapping[str, Tensor]) -> Prepared:
        """Fold what a swap changes; once for all samples.

        Args:
            swapped: Tensors to put in, by the key that the nodes use.
        """
        # What is to be computed follows from which tensors move, not from their values: all
        # replacements of a site share one schedule.
        keys = frozenset(swapped)
        with self._lock:
            if keys not in self._schedules:
                self._schedules[keys] = make_schedule(
                    self.nodes, self.output, keys, self._kept.__contains__
                )
            schedule = self._schedules[keys]
        tensors = self.tensors | dict(swapped)
        kernels = {number: self._fold(number, None, tensors) for number in schedule.folds}
        return Prepared(schedule, tensors, kernels)

    def swapped_pass(self, prepared: Prepared, kept: Mapping[Slot, Tensor]) -> Tensor:
        """Compute what a swap changes, from what a clean pass kept."""
        schedule = prepared.schedule
        values: dict[int, Any] = {slot[0]: kept[slot] for slot in schedule.reads if slot[1] is None}
        for step in schedule.steps:
            values[step.node] = self.value(step, prepared, values, kept)
            for gone in step.releases:
                del values[gone]
        return values[self.output]  # type: ignore[no-any-return]

    def value(
        self,
        step: Step,
        prepared: Prepared,
        values: Mapping[int, Any],
        kept: Mapping[Slot, Tensor],
    ) -> Any:
        """Compute one node.

        Args:
            step: Which, and what it starts from.
            prepared: The swap.
            values: Of the nodes that it needs.
            kept: What a clean pass kept.
        """
        node = self.nodes[step.node]
        if isinstance(node, ConvNode):
            return self._convolution(node, step, prepared, values, kept)
        return node.run(values, prepared.tensors)

    def _convolution(
        self,
        node: ConvNode,
        step: Step,
        prepared: Prepared,
        values: Mapping[int, Any],
        kept: Mapping[Slot, Tensor],
    ) -> Tensor:
        residual = None if node.residual is None else values[node.residual]
        if step.parts is None:
            kernel = prepared.kernels.get(step.node) or self._kernel(step.node, None)
            return kernel(_together([values[p] for p in node.parts]), residual, relu=node.relu)
        assert step.base is not None
        base = kept[step.base]
        # No input moved: the bare convolution stands as it was kept, and only what follows it runs.
        if not step.parts:
            affine = scale_and_shift(node, prepared.tensors)
            return finish(base, *affine, residual, relu=node.relu)
        if residual is not None:
            base = base + residual
        fresh = _together([values[node.parts[i]] for i in step.parts])
        return self._addition(step.node, step.parts)(fresh, base, relu=node.relu)

    def _addition(self, number: int, parts: tuple[int, ...]) -> Kernel:
        """Return the kernel of some parts, to be added to that of the others and their shift."""
        # The base has the shift already, which would be counted twice.
        kernel = self._kernel(number, parts)
        return replace(kernel, shift=None, shift_size=0.0)

    def kernel_bytes(self) -> int:
        """Return what the folded kernels take, as far as they have been needed."""
        # A packed tensor does not tell its size; it has as many values as a plain one, and padding.
        return sum(self.tensors[n.weight].nbytes for n in self.nodes if isinstance(n, ConvNode))


def _ranges(
    shapes: Sequence[tuple[int, ...]], parts: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    starts = [0]
    for shape in shapes:
        starts.append(starts[-1] + shape[1])
    return tuple((starts[part], starts[part + 1]) for part in parts)


def _together(parts: Sequence[Tensor]) -> Tensor:
    return laid_out(parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=1))


def _record(
    footprint: Footprint, number: int, values: Mapping[int, Any], kept: Mapping[Slot, Tensor]
) -> None:
    alive = {v.untyped_storage().data_ptr(): v.nbytes for v in values.values() if _is_tensor(v)}
    own = values[number].nbytes if _is_tensor(values[number]) else 0
    footprint.slot_bytes[number, None] = own
    for slot, value in kept.items():
        if slot[0] == number and _is_tensor(value):
            footprint.slot_bytes[slot] = value.nbytes
    footprint.peak_bytes = max(footprint.peak_bytes, sum(alive.values()))
    footprint.largest_bytes = max(footprint.largest_bytes, own)


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided
