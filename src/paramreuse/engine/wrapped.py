"""Networks inside a wrapper that only runs them: compiled, or spread over devices."""

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor, nn

from paramreuse.engine.plain import Engine

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def unwrapped(model: nn.Module) -> tuple[nn.Module, str]:
    """Return the network inside a wrapper, and what the wrapper puts before its keys.

    Args:
        model: Network, wrapped by ``torch.compile``, ``DataParallel`` or
            ``DistributedDataParallel``, or not at all.
    """
    prefix = ""
    # These wrappers decide where and how a network runs, not what it computes, so the network
    # inside gives the same outputs; they can be stacked.
    while True:
        name = "_orig_mod" if hasattr(model, "_orig_mod") else "module"
        if name == "module" and not isinstance(model, _PARALLEL):
            return model, prefix
        model, prefix = model.get_submodule(name), f"{prefix}{name}."


class InsideWrapper:
    """An engine for the network inside a wrapper, asked by the wrapper's keys; an ``Engine``.

    Args:
        engine: For the network inside.
        prefix: What the wrapper puts before its keys.
    """

    def __init__(self, engine: Engine, prefix: str) -> None:
        self._engine = engine
        self._prefix = prefix

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader of the results should know."""
        return self._engine.notes

    @property
    def rounding(self) -> float:
        """How far outputs may be from those of a plain forward pass."""
        return self._engine.rounding

    def fitting(self, inputs: Tensor) -> int:
        """Return how many samples of a batch to hand over at once."""
        return self._engine.fitting(inputs)

    def plain(self, inputs: Tensor) -> Tensor:
        """Return the outputs of the untouched target, and keep nothing."""
        return self._engine.plain(inputs)

    def baseline(self, inputs: Tensor) -> Tensor:
        """Return the outputs of the untouched target; the batch stays the current one."""
        return self._engine.baseline(inputs)

    def swapped(self, variants: Sequence[Mapping[str, Tensor]]) -> Iterator[Tensor]:
        """Yield, for the current batch, the outputs with each variant's tensors in place."""
        return self._engine.swapped([self._inside(variant) for variant in variants])

    def settled(self, variant: Mapping[str, Tensor]) -> Tensor:
        """Return what a plain forward pass gives with a variant in place."""
        return self._engine.settled(self._inside(variant))

    def _inside(self, variant: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {key.removeprefix(self._prefix): tensor for key, tensor in variant.items()}
