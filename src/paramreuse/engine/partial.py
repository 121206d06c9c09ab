"""The engine that recomputes only what a swap changes."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from paramreuse.engine.agreement import AGREEMENT, difference
from paramreuse.engine.fitted import FittedNetwork
from paramreuse.engine.joint import JointSwaps
from paramreuse.engine.operations import CaptureError
from paramreuse.engine.plain import Engine, FullEngine
from paramreuse.engine.workers import Chunk, clean_chunks, swapped_outputs, threads

_GB = 10**9


def partial_engine(
    model: nn.Module,
    example_input: Tensor,
    *,
    memory_limit_gb: float | None = None,
    plain: FullEngine | None = None,
) -> Engine:
    """Return the fast engine for a model, or plain forward passes where it cannot be captured.

    Args:
        model: Network in evaluation mode; left as it is.
        example_input: One batch.
        memory_limit_gb: Bounds what is kept from a batch, in units of 1e9 bytes; what does not fit
            is recomputed.
        plain: Runs the model as it is, if that takes more than calling it.

    Returns:
        A ``PartialEngine``, or a ``FullEngine`` whose ``notes`` say why.
    """
    plain = plain or FullEngine(model)
    try:
        return PartialEngine(model, example_input, memory_limit_gb=memory_limit_gb, plain=plain)
    except CaptureError as error:
        plain.notes = (_note(str(error)),)
        return plain


def _note(reason: str) -> str:
    return f"every swap took a full forward pass, as the target cannot be captured: {reason}"


class PartialEngine:
    """Runs the target once per batch, and per swap only the nodes that depend on it.

    Outputs differ from plain forward passes by rounding only: convolutions are folded and sums
    taken in another order.

    Attributes:
        notes: Why swaps take plain forward passes, or run one at a time, if they do.
        rounding: Largest difference between the captured and a plain pass of the untouched target
            on the current batch, and between a swap in a batch of swaps and alone, in units of
            the largest output.

    Args:
        model: Network in evaluation mode; never written to.
        example_input: One batch.
        memory_limit_gb: Bounds what is kept from a batch.
        together: Run the swaps of a layer as one batch; left out: on every device but the CPU.
        plain: Runs the model as it is, if that takes more than calling it.

    Raises:
        CaptureError: The model cannot be captured, or the captured graph gives other outputs.
    """

    def __init__(
        self,
        model: nn.Module,
        example_input: Tensor,
        *,
        memory_limit_gb: float | None = None,
        together: bool | None = None,
        plain: FullEngine | None = None,
    ) -> None:
        self.notes: tuple[str, ...] = ()
        self.rounding = 0.0
        self._clean_rounding = 0.0
        self._model = model
        self._full = plain or FullEngine(model)
        self._limit = None if memory_limit_gb is None else int(memory_limit_gb * _GB)
        self._together = example_input.device.type != "cpu" if together is None else together
        self._current: FittedNetwork | None = None
        self._chunks: list[Chunk] = []
        self._reference = example_input
        self._num_threads = torch.get_num_threads()
        self._gave_up = False
        self._fitted = {_place(example_input): self._captured(example_input)}
        self._joint: dict[FittedNetwork, JointSwaps] = {}

    def _captured(self, inputs: Tensor) -> FittedNetwork:
        return FittedNetwork(
            self._model, inputs, self._limit, together=self._together, plain=self._full
        )

    def fitting(self, inputs: Tensor) -> int:
        """Return how many samples of a batch to hand over at once, for memory's sake."""
        fitted = self._fit(inputs)
        return len(inputs) if fitted is None else fitted.num_samples(len(inputs))

    def baseline(self, inputs: Tensor) -> Tensor:
        """Run the target as it is, plainly, and once more to keep what swaps will need."""
        with torch.no_grad():
            return self._baseline(inputs)

    def plain(self, inputs: Tensor) -> Tensor:
        """Run the target as it is, and keep nothing."""
        return self._full.plain(inputs)

    def _baseline(self, inputs: Tensor) -> Tensor:
        self._chunks = []  # what was kept of the last batch goes before more is kept
        self._reference = self._full.baseline(inputs)
        self._current = self._fit(inputs)
        if self._current is not None:
            self._chunks, outputs = self._clean_pass(self._current, inputs)
            self.rounding = self._clean_rounding = difference(outputs, self._reference)
            if not self.rounding <= AGREEMENT:
                self._give_up(f"its graph is off by {self.rounding:.1e} of the largest output")
        return self._reference

    def _clean_pass(self, fitted: FittedNetwork, inputs: Tensor) -> tuple[list[Chunk], Tensor]:
        if not self._together:
            return clean_chunks(fitted, inputs)
        if fitted not in self._joint:
            self._joint[fitted] = JointSwaps(fitted, inputs)
        outputs, kept = fitted.network.clean_pass(inputs)
        return [Chunk(0, len(inputs), kept)], outputs

    def _fit(self, inputs: Tensor) -> FittedNetwork | None:
        """Return the network captured for inputs of this shape, but for their number."""
        if self._gave_up:
            return None
        # One graph serves any number of samples, unless the model fixed it while it was captured;
        # then each number has a graph of its own, and running another's would be wrong.
        for place in (_place(inputs), (len(inputs), *_place(inputs))):
            fitted = self._fitted.get(place)
            if fitted is None:
                return self._fit_again(inputs, place)
            if fitted.num_fixed in (None, len(inputs)):
                return fitted
        return None

    def _fit_again(self, inputs: Tensor, place: tuple[object, ...]) -> FittedNetwork | None:
        try:
            self._fitted[place] = self._captured(inputs)
        except CaptureError as error:
            self._give_up(str(error))
            return None
        return self._fitted[place]

    def _give_up(self, reason: str) -> None:
        self._gave_up = True
        self.notes = (_note(reason),)
        self.rounding = 0.0
        self._current = None
        self._chunks = []

    def swapped(self, variants: Sequence[Mapping[str, Tensor]]) -> Iterator[Tensor]:
        """Yield, for the current batch, the outputs with each variant's tensors in place."""
        if self._current is None:
            yield from self._full.swapped(variants)
            return
        self._num_threads = torch.get_num_threads()
        outputs = self._outputs(self._current, variants)
        for variant, output in zip(variants, outputs, strict=True):
            yield self.settled(variant) if output is None else output

    def _outputs(
        self, fitted: FittedNetwork, variants: Sequence[Mapping[str, Tensor]]
    ) -> Iterator[Tensor | None]:
        if not self._together:
            yield from swapped_outputs(fitted, self._chunks, self._reference, variants)
            return
        joint = self._joint[fitted]
        for output in joint.outputs(self._chunks[0].kept, self._reference, variants):
            self.rounding = self._clean_rounding + joint.rounding
            if joint.reason is not None:
                self.notes = (f"swaps ran one at a time, not a layer's together: {joint.reason}",)
            yield output

    def settled(self, variant: Mapping[str, Tensor]) -> Tensor:
        """Return the outputs of one variant on the current batch from a plain forward pass."""
        with torch.no_grad(), threads(self._num_threads):  # one while swaps are under way
            return next(self._full.swapped([variant]))


def _place(inputs: Tensor) -> tuple[object, ...]:
    return (tuple(inputs.shape[1:]), inputs.dtype, inputs.device)
