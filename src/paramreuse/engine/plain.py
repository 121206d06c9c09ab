"""How the outputs of a swapped network are computed: the interface, and plain forward passes."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call

from paramreuse.checkpoint.tied import place_of
from paramreuse.errors import ModelError
from paramreuse.sites.copies import private_copy


class Engine(Protocol):
    """Computes the target's outputs for one batch, untouched and with tensors replaced.

    Attributes:
        notes: What the reader of the results should know.
        rounding: How far outputs may be from those of a plain forward pass, in units of the
            largest output.
    """

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader of the results should know."""

    @property
    def rounding(self) -> float:
        """How far outputs may be from those of a plain forward pass."""

    def fitting(self, inputs: Tensor) -> int:
        """Return how many samples of a batch to hand over at once."""

    def plain(self, inputs: Tensor) -> Tensor:
        """Return the outputs of the untouched target, and keep nothing."""

    def baseline(self, inputs: Tensor) -> Tensor:
        """Return the outputs of the untouched target; the batch stays the current one."""

    def swapped(self, variants: Sequence[Mapping[str, Tensor]]) -> Iterator[Tensor]:
        """Yield, for the current batch, the outputs with each variant's tensors in place.

        Args:
            variants: For each variant the tensors to put in, by state-dict key.
        """

    def settled(self, variant: Mapping[str, Tensor]) -> Tensor:
        """Return, for the current batch, what a plain forward pass gives with a variant in place.

        Args:
            variant: Tensors to put in, by state-dict key.
        """


class FullEngine:
    """A full forward pass per variant; the caller's model is never written to.

    Args:
        model: Network in evaluation mode.
        notes: What the reader of the results should know, e.g. why no other engine was used.
        has_history: A pass depends on the ones before it, so each gets a fresh copy of the model.
        writes_inputs: A pass overwrites its input, so each gets a copy of the batch.
        known: Some samples, and what the untouched target gives for them.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        notes: tuple[str, ...] = (),
        has_history: bool = False,
        writes_inputs: bool = False,
        known: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        self.notes = notes
        self.rounding = 0.0
        self._model = model
        self._has_history = has_history
        self._writes_inputs = writes_inputs
        self._known = known
        self._inputs: Tensor | None = None

    def outputs(self, variant: Mapping[str, Tensor], inputs: Tensor | None) -> Tensor:
        """Run the target with a variant's tensors in place, the empty one for as it is.

        Args:
            variant: Tensors to put in, by state-dict key.
            inputs: What to run it on; left as it is.
        """
        if inputs is not None and self._has_history:
            return run_fresh(self._model, variant, inputs)
        given = inputs.clone() if inputs is not None and self._writes_inputs else inputs
        if not variant:
            return checked_output(self._model(given))
        return checked_output(run_with(self._model, variant, given))

    def plain(self, inputs: Tensor) -> Tensor:
        """Run the target as it is."""
        return self.outputs({}, inputs)

    def tried(self, variant: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        """Return outputs to within rounding, without a pass where they are known.

        Args:
            variant: Tensors to put in, by state-dict key.
            inputs: What to run it on; left as it is.
        """
        if not variant and self._known is not None and torch.equal(inputs, self._known[0]):
            return self._known[1]
        return self.outputs(variant, inputs)

    def baseline(self, inputs: Tensor) -> Tensor:
        """Run the target as it is, and hold the batch."""
        self._inputs = inputs
        return self.outputs({}, inputs)

    def swapped(self, variants: Sequence[Mapping[str, Tensor]]) -> Iterator[Tensor]:
        """Run the target once per variant."""
        for variant in variants:
            yield self.settled(variant)

    def settled(self, variant: Mapping[str, Tensor]) -> Tensor:
        """Run the target with one variant in place."""
        return self.outputs(variant, self._inputs)

    def fitting(self, inputs: Tensor) -> int:
        """Take every batch as it comes."""
        return len(inputs)


def own_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return every parameter and buffer of a network by each of its names, persistent or not."""
    named = (model.named_parameters, model.named_buffers)
    return {key: tensor for each in named for key, tensor in each(remove_duplicate=False)}


RUN_ERRORS = (RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError)
"""What running a network on inputs that it does not take may raise."""


def run_fresh(
    model: nn.Module, tensors: Mapping[str, Tensor], inputs: Tensor, *, moves_tensors: bool = True
) -> Tensor:
    """Run a copy of a network that is then let go of: what any other way has to agree with.

    Args:
        model: Left as it is.
        tensors: What to write into the copy, by state-dict key.
        inputs: What to run it on; left as it is.
        moves_tensors: Whether a pass may write to parameters or buffers. If not, only those that
            take ``tensors`` are copied.
    """
    own = own_tensors(model)
    # A tensor of several names is copied under all of them, so that writing to one is seen by all.
    written = {place_of(own[key]) for key in tensors}
    shared = () if moves_tensors else [t for t in own.values() if place_of(t) not in written]
    twin = private_copy(model, shared=shared)
    slots = own_tensors(twin)
    with torch.no_grad():
        for key, tensor in tensors.items():
            slots[key].copy_(tensor)
    return checked_output(twin(inputs.clone()))


def run_with(model: nn.Module, tensors: Mapping[str, Tensor], inputs: Tensor | None) -> Any:
    """Run a model with other tensors in some places, and leave it as it was.

    A tensor that several modules hold is replaced in all of them. A module that is registered under
    several names is one place: replaced once for each name, it would keep the second-last tensor.

    Args:
        model: Network, left as it was.
        tensors: What to put in, by state-dict key.
        inputs: What to run it on.
    """
    places = _places(model)
    variant = {name: value for key, value in tensors.items() for name in places.get(key, (key,))}
    return functional_call(model, variant, (inputs,), tie_weights=False)


def _places(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Return, for every key, one name of each module and attribute that holds the same tensor."""
    holders: dict[Hashable, dict[tuple[int, str], str]] = {}
    places: dict[str, Hashable] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for attribute, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                name = f"{path}.{attribute}".lstrip(".")
                places[name] = place_of(tensor)
                holders.setdefault(places[name], {}).setdefault((id(module), attribute), name)
    return {name: tuple(holders[place].values()) for name, place in places.items()}


def checked_output(output: object) -> Tensor:
    """Return what a model gave back if it is a tensor.

    Raises:
        ModelError: It is something else; the message says what, and how to wrap the model.
    """
    if isinstance(output, Tensor):
        return output
    what = f"a {type(output).__name__}"
    access = "[0]"
    if isinstance(output, Mapping):
        keys = [str(key) for key in output]
        what += f" with the keys {keys[:10]}"
        access = f"[{keys[0]!r}]" if keys else "[...]"
    elif isinstance(output, tuple | list):
        what += f" of {len(output)}"
    raise ModelError(
        f"the model returns {what}; expected a tensor. Wrap it: a module whose "
        f"forward(self, x) returns self.model(x){access}"
    )


def require_evaluation_mode(model: nn.Module) -> None:
    """Raise if any part of the model is in training mode.

    Raises:
        ModelError: Some module is in training mode, scripted or quantised.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"cannot run the target: expected a model (nn.Module), got {type(model).__name__}. "
            "A state dict or a file has no forward pass; load it into its network first"
        )
    _refuse_sealed(model)
    for path, module in model.named_modules():
        if module.training:
            where = f"the target's {path!r}" if path else "the target"
            raise ModelError(
                f"{where} is in training mode, so every forward pass would move its running means "
                "and variances (and drop units) while they are judged: call model.eval()"
            )


def _refuse_sealed(model: nn.Module) -> None:
    """Refuse networks whose tensors cannot be exchanged from outside."""
    for path, module in model.named_modules():
        where = f"the target's {path!r}" if path else "the target"
        if isinstance(module, torch.jit.ScriptModule):
            raise ModelError(
                f"cannot swap tensors of {where}: it is a TorchScript module "
                f"({module.original_name}), which holds its tensors out of reach. Give the "
                "nn.Module that it was made from, with torch_script.state_dict() loaded"
            )
        if ".quantized" in type(module).__module__:
            raise ModelError(
                f"cannot swap tensors of {where}: {type(module).__name__} is quantised, its "
                "weights are packed integers. Sweep the network before it is quantised"
            )


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a model's first tensor, the CPU for one without tensors."""
    first = next(iter(model.state_dict(keep_vars=True).values()), None)
    return torch.device("cpu") if first is None else first.device
