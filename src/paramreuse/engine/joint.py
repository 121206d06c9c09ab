"""Runs the swaps of a layer as one batch: behind the layer all of them need the same tensors.

Each swap computes the nodes that it touches, the results are put one after the other along the
samples, and what follows runs once for all. That suits a graphics processor, which takes hardly
longer for several swaps than for one as long as it is not full.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, TypeAlias

import torch
from torch import Tensor

from paramreuse.engine.agreement import AGREEMENT, difference
from paramreuse.engine.execution import Network, Prepared
from paramreuse.engine.fitted import FittedNetwork
from paramreuse.engine.operations import CaptureError
from paramreuse.engine.plain import RUN_ERRORS
from paramreuse.engine.recomputed import Slot, Step, inputs_of

Extent: TypeAlias = "int | tuple[Extent, ...] | None"
"""How a value grows with the number of samples: the axis along which they lie (0 for a number that
counts them), ``None`` if it does not grow, or each part of several on its own."""

_UNKNOWN = -1
"""The extent of a value that grows in another way."""


def extents_of(network: Network, inputs: Tensor) -> list[Extent]:
    """Return how the value of each node grows with the number of samples.

    Args:
        network: Run on one sample and on two.
        inputs: One batch.
    """
    two = inputs[:2] if len(inputs) > 1 else torch.cat([inputs, inputs])
    walks = zip(network.walk(two[:1], {}), network.walk(two, {}), strict=True)
    return [_extent(one[number], both[number]) for (number, one), (_, both) in walks]


def _extent(one: Any, two: Any) -> Extent:
    if isinstance(one, Tensor):
        if one.ndim != two.ndim:
            return _UNKNOWN
        # Twice as long for two samples as for one: then samples lie along this axis, one after the
        # other, and those of several swaps can too.
        grown = [axis for axis in range(one.ndim) if one.shape[axis] != two.shape[axis]]
        if not grown:
            return None
        is_doubled = two.shape[grown[0]] == 2 * one.shape[grown[0]]
        return grown[0] if len(grown) == 1 and is_doubled else _UNKNOWN
    if isinstance(one, list | tuple):
        if len(one) != len(two):
            return _UNKNOWN
        return tuple(_extent(*pair) for pair in zip(one, two, strict=True))
    if one == two:
        return None
    return 0 if isinstance(one, int) and two == 2 * one else _UNKNOWN


class JointSwaps:
    """Swaps of one captured network, those of a layer as one batch.

    Attributes:
        reason: Why swaps run one at a time, if they do.
        rounding: Largest difference found between a swap in a batch and alone, in units of the
            largest output.

    Args:
        fitted: The network.
        inputs: One batch.
    """

    def __init__(self, fitted: FittedNetwork, inputs: Tensor) -> None:
        self.reason: str | None = None
        self.rounding = 0.0
        self._fitted = fitted
        self._compared: set[frozenset[int]] = set()
        self._extents: list[Extent] = []
        if fitted.num_fixed is not None:
            self.reason = f"its graph serves batches of {fitted.num_fixed} alone"
            return
        with torch.no_grad():
            self._extents = extents_of(fitted.network, inputs)

    def outputs(
        self,
        kept: Mapping[Slot, Tensor],
        reference: Tensor,
        variants: Sequence[Mapping[str, Tensor]],
    ) -> Iterator[Tensor | None]:
        """Yield the outputs of each variant, in order.

        Args:
            kept: What was kept of a clean pass over the whole batch.
            reference: Outputs of the untouched target.
            variants: For each variant the tensors to put in, by state-dict key.

        Yields:
            Outputs; ``None`` where only a plain forward pass can tell.
        """
        most = self._fitted.variants_together(len(reference))
        moved = (self._fitted.moved(variant) for variant in variants)
        for touched, run in groupby(moved, self._touched):
            group = list(run)
            if not touched:
                yield from (None if one is None else reference for one in group)
                continue
            for start in range(0, len(group), most):
                yield from self._run(touched, group[start : start + most], kept)  # type: ignore[arg-type]

    def _touched(self, moved: Mapping[str, Tensor] | None) -> frozenset[int]:
        """Return the nodes that take a swapped tensor."""
        if not moved:
            return frozenset()
        nodes = self._fitted.network.nodes
        return frozenset(n for n, node in enumerate(nodes) if not node.keys.isdisjoint(moved))

    def _run(
        self,
        touched: frozenset[int],
        group: Sequence[Mapping[str, Tensor]],
        kept: Mapping[Slot, Tensor],
    ) -> Iterator[Tensor]:
        network = self._fitted.network
        with torch.no_grad():
            prepared = [network.prepare(moved) for moved in group]
            outputs = self._together(touched, prepared, kept)
        if outputs is not None:
            yield from outputs
            return
        for one in prepared:
            with torch.no_grad():
                output = network.swapped_pass(one, kept)
            yield output

    def _together(
        self, touched: frozenset[int], prepared: Sequence[Prepared], kept: Mapping[Slot, Tensor]
    ) -> list[Tensor] | None:
        """Return the outputs of several swaps, or nothing if they have to run one at a time.

        The first time that these nodes are swapped, one of the swaps also runs alone.
        """
        if len(prepared) == 1 or self.reason is not None:
            return None
        network = self._fitted.network
        try:
            batch = _JointPass(network, self._extents, touched, prepared, kept)
            outputs = batch.outputs()
            if touched not in self._compared:
                off = difference(outputs[-1], network.swapped_pass(prepared[-1], kept))
                if not off <= AGREEMENT:
                    raise CaptureError(f"in a batch a swap is off by {off:.1e}")
                self.rounding = max(self.rounding, off)
                self._compared.add(touched)
        except (CaptureError, *RUN_ERRORS) as error:
            self.reason = str(error).partition("\n")[0]
            return None
        return outputs


class _JointPass:
    """One pass for several swaps that touch the same nodes.

    Args:
        network: The network.
        extents: How the value of each node grows with the number of samples.
        touched: Nodes that take a swapped tensor.
        prepared: The swaps.
        kept: What was kept of a clean pass.
    """

    def __init__(
        self,
        network: Network,
        extents: Sequence[Extent],
        touched: frozenset[int],
        prepared: Sequence[Prepared],
        kept: Mapping[Slot, Tensor],
    ) -> None:
        self._network = network
        self._extents = extents
        self._touched = touched
        self._prepared = prepared
        self._kept = kept
        self._steps = [{step.node: step for step in one.schedule.steps} for one in prepared]
        reads = frozenset().union(*(one.schedule.reads for one in prepared))
        # Values as they are without a swap; of all swaps, joined; and of each swap on its own,
        # where there is nothing to join along (tensors made of the swapped ones).
        self._clean: dict[int, Any] = {slot[0]: kept[slot] for slot in reads if slot[1] is None}
        self._joined: dict[int, Any] = {}
        self._single: dict[int, list[Any]] = {}

    def outputs(self) -> list[Tensor]:
        """Return the outputs of each swap."""
        numbers = sorted(frozenset().union(*self._steps))
        last = {used: number for number in numbers for used in self._used(number)}
        for number in numbers:
            self._compute(number)
            for used in self._used(number):
                if last[used] == number:
                    for values in (self._clean, self._joined, self._single):
                        values.pop(used, None)
        return [self._value_for(self._network.output, i) for i in range(len(self._prepared))]

    def _used(self, number: int) -> frozenset[int]:
        node = self._network.nodes[number]
        steps = (steps[number] for steps in self._steps if number in steps)
        return frozenset().union(*(inputs_of(node, step) for step in steps))

    def _compute(self, number: int) -> None:
        step = next(steps[number] for steps in self._steps if number in steps)
        used = self._used(number)
        if not step.moved:
            self._clean[number] = self._network.value(
                step, self._prepared[0], self._clean, self._kept
            )
        # Behind the nodes that take a swapped tensor all swaps use the same tensors, so that they
        # differ in their samples only and one pass serves all; up to there each goes alone.
        elif number in self._touched or any(n in self._single for n in used):
            values = [self._alone(number, index) for index in range(len(self._prepared))]
            if self._extents[number] is None:
                self._single[number] = values
            else:
                self._joined[number] = _joined(values, self._extents[number])
        else:
            self._joined[number] = self._at_once(step, used)

    def _alone(self, number: int, index: int) -> Any:
        """Compute a node for one of the swaps."""
        step = self._steps[index][number]
        used = inputs_of(self._network.nodes[number], step)
        values = {n: self._value_for(n, index) for n in used}
        return self._network.value(step, self._prepared[index], values, self._kept)

    def _at_once(self, step: Step, used: frozenset[int]) -> Any:
        """Compute a node for all swaps together."""
        values = {n: self._value_for_all(n) for n in used}
        kept = {}
        if step.base is not None:
            kept[step.base] = _joined([self._kept[step.base]] * len(self._prepared), 0)
        return self._network.value(step, self._prepared[0], values, kept)

    def _value_for(self, number: int, index: int) -> Any:
        if number in self._single:
            return self._single[number][index]
        if number in self._joined:
            parts = len(self._prepared)
            return _part(self._joined[number], self._extents[number], index, parts)
        return self._clean[number]

    def _value_for_all(self, number: int) -> Any:
        if number in self._joined:
            return self._joined[number]
        return _joined([self._clean[number]] * len(self._prepared), self._extents[number])


def _joined(values: Sequence[Any], extent: Extent) -> Any:
    """Put values of several swaps one after the other along their samples."""
    if extent is None:
        return values[0]
    if isinstance(extent, tuple):
        parts = zip(zip(*values, strict=True), extent, strict=True)
        return type(values[0])([_joined(part, own) for part, own in parts])
    _require_known(extent)
    if isinstance(values[0], Tensor):
        return torch.cat(list(values), dim=extent)
    return sum(values)


def _part(value: Any, extent: Extent, index: int, parts: int) -> Any:
    """Take the share of one of several swaps, all of a size."""
    if extent is None:
        return value
    if isinstance(extent, tuple):
        pairs = zip(value, extent, strict=True)
        return type(value)([_part(part, own, index, parts) for part, own in pairs])
    _require_known(extent)
    if isinstance(value, Tensor):
        size = value.shape[extent] // parts
        return value.narrow(extent, index * size, size)
    return value // parts


def _require_known(extent: int) -> None:
    if extent == _UNKNOWN:
        raise CaptureError("a value does not lie sample by sample")
