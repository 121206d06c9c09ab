"""Whether a network's outputs follow from its tensors and its input alone, found out by running it.

Every fast way to score a swap takes that for granted. A network that draws random numbers, keeps
values from one pass for the next or lets the samples of a batch meet gives other scores than a
fresh network with the swap in place, and nothing in the scores shows it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from paramreuse.checkpoint.slots import same_bits
from paramreuse.engine.agreement import AGREEMENT, difference, nudged
from paramreuse.engine.plain import RUN_ERRORS, checked_output, own_tensors, run_fresh
from paramreuse.errors import ModelError
from paramreuse.sites.copies import FORWARD_HOOKS, private_copy, tensors_in
from paramreuse.untouched import untouched_random_state

_NOISE = 1e-5
"""Largest difference between two passes that is taken for rounding: graphics processors add up in
another order each time."""

_REPEATS = 64
"""Passes that have to agree where random numbers are drawn: stochastic depth of 5 % shows in two
samples of each with a probability of 99.9 %."""

_SAMPLES = 2
"""Samples that a trial pass takes: the fewest that can meet each other in a batch."""


@dataclass(frozen=True, slots=True, eq=False)
class Examined:
    """A network that was tried out, and how it has to be run.

    Attributes:
        model: To be run in place of the caller's, which stays as it is.
        has_history: A pass depends on the ones before it, so each needs a fresh copy.
        writes_inputs: A pass overwrites what it is given, so each needs a copy of the batch.
        moves_tensors: A pass writes to parameters or buffers.
        mixes_samples: What comes out for a sample depends on the others of its batch, so batches
            can neither be cut nor put together.
        sample: Some samples that it runs on; ``None`` if it could not be tried out.
        outputs: What it gives for them; ``None`` likewise.
        notes: What the reader of the results should know.
    """

    model: nn.Module
    has_history: bool = False
    writes_inputs: bool = False
    moves_tensors: bool = False
    mixes_samples: bool = False
    sample: Tensor | None = None
    outputs: Tensor | None = None
    notes: tuple[str, ...] = ()


def examine(target: nn.Module, inputs: Tensor) -> Examined:
    """Try out a network on the first samples of a batch; about ten passes over two of them.

    Args:
        target: Network in evaluation mode; left as it is, and so is what its hooks hold, but for
            plain functions that the caller hooked in, which see two more passes.
        inputs: One batch; left as it is.

    Raises:
        ModelError: Two passes over the same samples differ, or the outputs are not one tensor.
    """
    try:
        model = private_copy(target, shared=own_tensors(target).values())
    except ModelError as error:
        note = f"{error}; so what a pass leaves behind on it was not looked for"
        return Examined(target, notes=(note,))
    with torch.no_grad(), untouched_random_state():
        if len(inputs) > _SAMPLES:
            try:
                return _tried(model, inputs[:_SAMPLES])
            except ModelError:
                raise
            except RUN_ERRORS:
                pass  # it takes batches of one size only
        return _tried(model, inputs)


def _tried(model: nn.Module, sample: Tensor) -> Examined:
    model = _without_caches(_without_idle_hooks(model, sample), sample)
    return _examined(model, sample)


def _nudged_tensors(model: nn.Module) -> dict[str, Tensor]:
    return {key: nudged(tensor.detach()) for key, tensor in own_tensors(model).items()}


def _without_idle_hooks(model: nn.Module, sample: Tensor) -> nn.Module:
    """Leave out the forward hooks if they only watch: they are the caller's, to be left alone."""
    if not any(vars(module)[name] for module in model.modules() for name in FORWARD_HOOKS):
        return model
    bare = private_copy(model, shared=own_tensors(model).values(), keeps_hooks=False)
    # The target as it is comes last, so that this is what a hook was left with.
    for tensors in (_nudged_tensors(model), {}):
        try:
            with_hooks = run_fresh(model, tensors, sample)
            if difference(run_fresh(bare, tensors, sample), with_hooks) > AGREEMENT:
                return model
        except RUN_ERRORS:
            return model
    return bare


def _without_caches(model: nn.Module, sample: Tensor) -> nn.Module:
    """Empty what earlier passes have left on the modules and the next pass computes again.

    What was computed from a tensor before a swap would hide the swap, in a fresh copy as well.
    """
    places = list(_tensor_attributes(model))
    if not places:
        return model
    outputs = run_fresh(model, {}, sample)
    refilled = _refilled(model, places, sample, outputs)
    if refilled is None:
        alone = (_refilled(model, [place], sample, outputs) for place in places)
        refilled = [place for attributes in alone if attributes for place in attributes]
    return _emptied(model, refilled, shared=own_tensors(model).values())


def _tensor_attributes(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield path and name of what holds floating-point tensors without being registered."""
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            is_own = name in ("_parameters", "_buffers", "_modules")
            if not is_own and any(t.is_floating_point() for t in tensors_in(value)):
                yield path, name


def _refilled(
    model: nn.Module, places: list[tuple[str, str]], sample: Tensor, outputs: Tensor
) -> list[tuple[str, str]] | None:
    """Return the places that a pass fills again once emptied; none if it needs what was there."""
    twin = _emptied(model, places)
    try:
        if difference(checked_output(twin(sample.clone())), outputs) > AGREEMENT:
            return None
    except (*RUN_ERRORS, NotImplementedError):
        return None
    present = set(_tensor_attributes(twin))
    return [place for place in places if place in present]


def _emptied(
    model: nn.Module, places: list[tuple[str, str]], *, shared: Iterable[Tensor] = ()
) -> nn.Module:
    twin = private_copy(model, shared=shared)
    for path, name in places:
        module = twin.get_submodule(path)
        value = vars(module)[name]
        if isinstance(getattr(type(module), name, None), cached_property):
            del vars(module)[name]
        else:
            vars(module)[name] = type(value)() if isinstance(value, dict | list) else None
    return twin


def _examined(model: nn.Module, sample: Tensor) -> Examined:
    twin = private_copy(model)
    before, given = _state_of(twin), sample.clone()
    random_state = torch.get_rng_state()
    outputs = checked_output(twin(given))
    draws = not torch.equal(random_state, torch.get_rng_state())
    changed = _changed(before, _state_of(twin))
    moves_tensors = any(name in ("_parameters", "_buffers") for _, name in changed)

    def again(inputs: Tensor) -> Tensor:
        return run_fresh(model, {}, inputs, moves_tensors=moves_tensors)

    # Halves that come out as the whole did show at once that nothing is drawn, and nothing mixed.
    off = None if draws else _halves_off(again, sample, outputs)
    is_plain = off is not None and off <= _NOISE
    if not is_plain:
        _refuse_noise(model, again, sample, outputs, _REPEATS if draws else 1)
    has_history = bool(changed) and _has_history(model, twin, sample, outputs)
    examined = Examined(
        # A tensor that moves without consequence must not move on the caller's network either.
        model=private_copy(model) if moves_tensors else model,
        has_history=has_history,
        writes_inputs=not same_bits(given, sample),
        moves_tensors=moves_tensors,
        sample=sample,
        outputs=outputs,
        mixes_samples=not is_plain and _mixes_samples(again, sample, outputs),
    )
    return replace(examined, notes=tuple(_notes(examined, changed)))


def _state_of(model: nn.Module) -> dict[tuple[str, str], object]:
    """Return what a pass can change: tensors, and whatever else the modules hold."""
    return {
        (path, name): _snapshot(value)
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if name != "_modules" and name not in FORWARD_HOOKS
    }


def _snapshot(value: object) -> object:
    """Return a value that stays as it is when the one that was given changes."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, Mapping):
        return {key: _snapshot(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_snapshot(item) for item in value]
    if isinstance(value, str | int | float | complex | None):
        return value
    return id(value)


def _changed(
    before: Mapping[tuple[str, str], object], after: Mapping[tuple[str, str], object]
) -> list[tuple[str, str]]:
    places = dict.fromkeys((*before, *after))
    return [place for place in places if not _alike(before.get(place), after.get(place))]


def _alike(one: object, other: object) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        same_form = one.shape == other.shape and one.dtype == other.dtype
        return same_form and same_bits(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    return type(one) is type(other) and bool(one == other)


def _refuse_noise(
    model: nn.Module,
    again: Callable[[Tensor], Tensor],
    sample: Tensor,
    outputs: Tensor,
    repeats: int,
) -> None:
    off = max(difference(again(sample), outputs) for _ in range(repeats))
    if not off <= _NOISE:
        raise ModelError(
            f"two forward passes of {type(model).__name__} over the same samples differ, by "
            f"{off:.1e} of the largest output, though it is in evaluation mode; so the scores of "
            "swaps would be noise. Switch off what draws random numbers: F.dropout(x) needs "
            "training=self.training, and dropout of other kinds a switch of its own"
        )


def _has_history(model: nn.Module, used: nn.Module, sample: Tensor, outputs: Tensor) -> bool:
    """Tell whether a pass that was run matters to later ones, with these tensors or with others."""
    if difference(checked_output(used(sample.clone())), outputs) > _NOISE:
        return True
    others = _nudged_tensors(model)
    slots = own_tensors(used)
    for key, tensor in others.items():
        slots[key].copy_(tensor)
    again = checked_output(used(sample.clone()))
    return difference(again, run_fresh(model, others, sample)) > _NOISE


def _halves_off(again: Callable[[Tensor], Tensor], sample: Tensor, outputs: Tensor) -> float | None:
    """Return by how much samples come out otherwise in other company.

    A network that cannot take fewer samples is not looked at: nothing will cut its batches.
    """
    if len(sample) < 2:
        return None
    halves = (sample[: len(sample) // 2], sample[len(sample) // 2 :])
    try:
        return difference(torch.cat([again(half) for half in halves]), outputs)
    except RUN_ERRORS:
        return None


def _mixes_samples(again: Callable[[Tensor], Tensor], sample: Tensor, outputs: Tensor) -> bool:
    """Tell whether a sample comes out otherwise in other company."""
    if len(sample) > 1:
        off = _halves_off(again, sample, outputs)
        return off is not None and off > AGREEMENT
    if sample.ndim < 2:
        return False
    try:
        pair = torch.cat([sample, sample.flip(-1)])
        return difference(again(pair)[:1], outputs) > AGREEMENT
    except RUN_ERRORS:
        return False


def _notes(examined: Examined, changed: list[tuple[str, str]]) -> Iterator[str]:
    if examined.has_history:
        where = sorted({path or "the network itself" for path, _ in changed})
        yield (
            "a forward pass of the target changes what later ones give "
            f"(kept by {_listed(where)}): every pass was run on a fresh copy of the target"
        )
    if examined.writes_inputs:
        yield "the target overwrites its input: every pass was given a copy of the batch"
    if examined.mixes_samples:
        yield (
            "what the target gives for a sample depends on the others of its batch: every pass "
            "took whole batches, and scores hold for batches put together like these"
        )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
