"""A network captured for inputs of one shape, with the choice of what to keep of a batch."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from paramreuse.engine.agreement import AGREEMENT, difference, nudged
from paramreuse.engine.capture import capture
from paramreuse.engine.execution import Footprint, Network
from paramreuse.engine.fusion import fused
from paramreuse.engine.graph import Graph
from paramreuse.engine.operations import CaptureError
from paramreuse.engine.plain import RUN_ERRORS, FullEngine
from paramreuse.engine.recomputed import useful_slots

_CACHE_BYTES = 2**20
"""How large a value may get before samples are split further: a core's second-level cache."""

_VARIANTS = 8
"""Swaps that run in turn on the same samples, while what was kept of those is in the cache."""

_VARIANT_BYTES = 2**29
"""Bounds the folded kernels of swaps under way."""

_TOGETHER_BYTES = 2**32
"""Bounds what swaps that run as one batch take, where the user sets no limit."""

_WORKING_COPIES = 2
"""What a pass takes next to what is kept, in units of the values that a clean pass holds at once: a
plain pass folds nothing, and swaps that run together repeat values that none of them moves."""

_KERNEL_COPIES = 4
"""Folded kernels: the network's own, in whole and in parts, and those of swaps under way."""


class FittedNetwork:
    """A network captured for inputs of one shape.

    Attributes:
        network: What runs.
        together: Whether the swaps of a layer run as one batch, as a graphics processor wants it;
            else one after the other, a few samples at a time, on one core each.
        samples_at_once: How many samples go through the network together.
        variants_at_once: How many swaps run in turn on the same samples.
        num_fixed: The only number of samples that the graph serves, if there is only one.

    Args:
        model: Left as it is.
        inputs: One batch.
        limit_bytes: Bounds what is kept.
        together: As above.
        plain: Runs the model as it is, if that takes more than calling it.

    Raises:
        CaptureError: The model cannot be captured, or the captured graph gives other outputs.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Tensor,
        limit_bytes: int | None,
        *,
        together: bool,
        plain: FullEngine | None = None,
    ) -> None:
        plain = plain or FullEngine(model)
        if torch.is_autocast_enabled(inputs.device.type):
            raise CaptureError("autocast is on, and a captured graph would not follow it")

        def checked(graph: Graph) -> tuple[Graph, Network]:
            nodes, output = fused(graph)
            packs = limit_bytes is None
            network = Network(nodes, output, graph.tensors, packs_bare_kernels=packs)
            _check(plain, graph, network, inputs)
            return graph, network

        graph, self.network = capture(model, inputs, checked)
        self.together = together
        self.num_fixed = graph.num_samples
        self._canonical = graph.canonical
        self._used: frozenset[str] = frozenset().union(*(n.keys for n in self.network.nodes))
        self._limit = limit_bytes
        self._choose_slots(inputs)

    def _choose_slots(self, inputs: Tensor) -> None:
        network = self.network
        slots = set(useful_slots(network.nodes, network.output))
        network.keep(frozenset(slots))
        footprint = Footprint()
        self.variants_at_once = 1
        number = 1 if self.num_fixed is None else self.num_fixed
        try:
            with torch.no_grad():
                network.clean_pass(inputs[:number], footprint)
        except RUN_ERRORS as error:
            raise CaptureError(f"its graph does not run on {number} sample(s): {error}") from error
        sizes = {slot: size // number for slot, size in footprint.slot_bytes.items()}
        self._peak_bytes = footprint.peak_bytes // number
        self._sample_bytes = sum(sizes.get(slot, 0) for slot in slots)
        self.samples_at_once = max(1, _CACHE_BYTES * number // max(1, footprint.largest_bytes))
        if self.num_fixed is not None:
            self.samples_at_once = self.num_fixed
        if self._limit is None:
            self.variants_at_once = max(1, min(_VARIANTS, _VARIANT_BYTES // self._kernel_bytes()))
            return
        # The largest first: few channels at full size are the cheapest to compute again.
        for slot in sorted(slots, key=lambda slot: (-sizes.get(slot, 0), str(slot))):
            if self._sample_bytes + self._fixed_bytes() <= self._limit:
                break
            slots.discard(slot)
            self._sample_bytes -= sizes.get(slot, 0)
        network.keep(frozenset(slots))

    def _kernel_bytes(self) -> int:
        return max(1, self.network.kernel_bytes())

    def _fixed_bytes(self) -> int:
        kernels = _KERNEL_COPIES * self._kernel_bytes()
        if self.together:
            return kernels
        return kernels + torch.get_num_threads() * self._peak_bytes * self.samples_at_once

    def num_samples(self, wanted: int) -> int:
        """Return how many samples fit under the memory limit, at least one."""
        if self._limit is None or self.num_fixed is not None:
            return wanted
        each = max(1, self._sample_bytes + _WORKING_COPIES * self._peak_bytes)
        return min(wanted, max(1, (self._limit - self._fixed_bytes()) // each))

    def variants_together(self, num_samples: int) -> int:
        """Return how many swaps fit into one batch, at least one.

        Args:
            num_samples: Samples per swap.
        """
        budget = _TOGETHER_BYTES
        if self._limit is not None:
            budget = self._limit - self._fixed_bytes() - num_samples * self._sample_bytes
        each = _WORKING_COPIES * num_samples * self._peak_bytes + self._kernel_bytes()
        return max(1, budget // each)

    def moved(self, variant: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Return what a variant changes, by the keys of the nodes.

        Returns:
            Tensors that differ from the model's own; ``None`` if one is not among the graph's, so
            that only a plain forward pass can tell what it does.
        """
        moved: dict[str, Tensor] = {}
        for key, tensor in variant.items():
            name = self._canonical.get(key)
            if name is None or name not in self._used:
                return None
            # What is equal moves nothing, so that the schedule starts at the first real change.
            if not torch.equal(tensor, self.network.tensors[name]):
                moved[name] = tensor.detach()
        return moved


def _check(plain: FullEngine, graph: Graph, network: Network, inputs: Tensor) -> None:
    """Compare the graph with the model, also with every tensor moved a little.

    A tensor whose value was written into the graph as a constant would not follow a swap.
    """
    is_fixed = graph.num_samples is not None
    # Two samples tell whether their number was written into the graph, one is enough for tensors.
    two, one = (inputs, inputs) if is_fixed else (inputs[:2], inputs[:1])
    own = {key: nudged(graph.tensors[key]) for key in sorted(set(graph.canonical.values()))}
    moved = Network(network.nodes, network.output, network.tensors | own)
    for what, tensors, trial, x in (
        ("graph", {}, network, two),
        ("graph with other tensors", own, moved, one),
    ):
        try:
            with torch.no_grad():
                wanted = plain.tried(tensors, x)
                off = difference(trial.clean_pass(x)[0], wanted)
        except RUN_ERRORS as error:
            raise CaptureError(f"its {what} does not run: {error}") from error
        if not off <= AGREEMENT:
            raise CaptureError(f"its {what} is off by {off:.1e} of the largest output")
