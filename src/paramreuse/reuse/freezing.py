"""Tensors of a model that training must not move, and the proof that it did not.

Frozen parameters get no gradient; frozen running statistics normalise in training too and do not
follow the batches (see ``frozen_norm``). Whether that held is measured, by hashing every frozen
tensor before and after a training step.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from paramreuse.errors import FrozenTensorMovedError, ModelError, PlanError
from paramreuse.reuse.frozen_norm import (
    STATISTICS,
    freeze_statistics,
    frozen_statistics,
    unfreeze_statistics,
)
from paramreuse.sites.copies import private_copy
from paramreuse.untouched import untouched_random_state

_AGREEMENT = 1e-5
"""Largest relative difference between training and evaluation outputs of a frozen part: rounding
in float32, in which two runs of one kernel may add up in another order."""


@dataclass(frozen=True, slots=True)
class FrozenTensors:
    """What one call of ``freeze_tensors`` froze.

    Attributes:
        keys: Every key that was asked for, in the order of the state dict.
        parameters: Keys of the parameters that were trained until then.
        statistics: Keys of the running statistics that moved in training until then.
        watched: Keys of other buffers. Their layer decides whether they move, so they cannot be
            held; ``check_frozen`` finds out.
    """

    keys: tuple[str, ...]
    parameters: tuple[str, ...]
    statistics: tuple[str, ...]
    watched: tuple[str, ...]


def freeze_tensors(model: nn.Module, keys: Iterable[str]) -> FrozenTensors:
    """Freeze tensors of the model, parameters and running statistics, until taken back.

    A frozen parameter gets ``requires_grad=False`` and loses its gradient; give the optimiser
    ``trainable_parameters(model)``. A frozen running mean or variance normalises in training as
    it does in evaluation and stays as it is, alone or with the other (see
    ``frozen_norm.freeze_statistics``). State dict keys and train/eval mode do not change. Two keys
    of one tied parameter freeze together. ``SyncBatchNorm.convert_sync_batchnorm`` makes new
    layers: freeze after it.

    Args:
        model: Changed in place.
        keys: Keys of the model's state dict.

    Returns:
        What was frozen, to be handed to ``unfreeze_tensors``.

    Raises:
        PlanError: A key is not in the model, holds no tensor, or names one statistic of a layer
            that can only freeze both. Nothing is frozen then.
        ModelError: The model still has uninitialised (lazy) tensors among the keys.
    """
    tensors = _tensors_by_key(model, keys)
    parameters, watched = [], []
    statistics: dict[str, frozenset[str]] = {}
    for key, tensor in tensors.items():
        path, _, attribute = key.rpartition(".")
        if isinstance(tensor, nn.Parameter):
            if tensor.requires_grad:
                parameters.append(key)
        elif isinstance(model.get_submodule(path), _NormBase) and attribute in STATISTICS:
            statistics[path] = statistics.get(path, frozenset()) | {attribute}
        else:
            watched.append(key)
    new_statistics = _freeze_all_statistics(model, statistics)
    for key in parameters:
        parameter = tensors[key]
        parameter.requires_grad_(False)
        parameter.grad = None
    return FrozenTensors(
        tuple(tensors),
        tuple(parameters),
        tuple(key for key in tensors if key in new_statistics),
        tuple(watched),
    )


def unfreeze_tensors(model: nn.Module, frozen: FrozenTensors) -> None:
    """Take back one ``freeze_tensors``: what it froze trains and moves again, nothing else does.

    Raises:
        PlanError: A key is not in the model.
    """
    tensors = _tensors_by_key(model, frozen.parameters + frozen.statistics)
    for key in frozen.parameters:
        tensors[key].requires_grad_(True)
    for key in frozen.statistics:
        path, _, attribute = key.rpartition(".")
        unfreeze_statistics(model.get_submodule(path), frozenset({attribute}))


def frozen_keys(model: nn.Module) -> tuple[str, ...]:
    """Return the keys of all parameters without gradient and all frozen running statistics."""
    tensors = model.state_dict(keep_vars=True)
    return tuple(key for key, tensor in tensors.items() if _is_frozen(model, key, tensor))


def _is_frozen(model: nn.Module, key: str, tensor: object) -> bool:
    if isinstance(tensor, nn.Parameter):
        return not tensor.requires_grad
    path, _, attribute = key.rpartition(".")
    if not isinstance(tensor, Tensor) or attribute not in STATISTICS:
        return False
    return attribute in frozen_statistics(model.get_submodule(path))


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters an optimiser may have, each once.

    Raises:
        PlanError: All parameters are frozen, so there is nothing to train.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise PlanError(
            "cannot train: every parameter of the model is frozen. Leave at least the output "
            'layer to be trained, or use mode="finetune"'
        )
    return parameters


@dataclass(frozen=True, slots=True, eq=False)
class FrozenRecord:
    """Frozen tensors as they were at one moment.

    Attributes:
        tensors: Copies on the CPU, by key.
        checksums: SHA-256 of their bytes, by key.
    """

    tensors: Mapping[str, Tensor]
    checksums: Mapping[str, str]


def record_tensors(model: nn.Module, keys: Iterable[str]) -> FrozenRecord:
    """Copy and hash tensors of the model, to be compared with ``check_record`` later.

    Raises:
        PlanError: A key is not in the model.
    """
    tensors = {
        key: tensor.detach().to("cpu", copy=True)
        for key, tensor in _tensors_by_key(model, keys).items()
    }
    return FrozenRecord(tensors, {key: checksum(tensor) for key, tensor in tensors.items()})


def check_record(model: nn.Module, record: FrozenRecord, *, when: str) -> None:
    """Compare the model's tensors with a record, bit for bit.

    Args:
        model: The model the record was made of.
        record: Made by ``record_tensors``.
        when: What happened in between, for the message: ``"in the first training step"``.

    Raises:
        FrozenTensorMovedError: A tensor has changed; the message names it and by how much.
    """
    moved = []
    for key, tensor in _tensors_by_key(model, record.tensors).items():
        now = tensor.detach().to("cpu")
        if checksum(now) != record.checksums[key]:
            moved.append(f"{key!r} by {_largest_change(record.tensors[key], now)}")
    if moved:
        more = f" and {len(moved) - 10} more" if len(moved) > 10 else ""
        raise FrozenTensorMovedError(
            f"frozen tensors moved {when}: {', '.join(moved[:10])}{more} (largest change of an "
            "element). Expected no bit to change. Freeze with freeze_tensors after the model has "
            "its final layers, and give the optimiser trainable_parameters(model) only"
        )


@dataclass(frozen=True, slots=True)
class FreezeReport:
    """Proof that frozen tensors held still.

    Attributes:
        checksums: SHA-256 of every frozen tensor, the same before and after the step.
        parts: For each largest submodule with nothing but frozen tensors, the largest difference
            between its outputs in training and in evaluation mode; empty without example input.
    """

    checksums: Mapping[str, str]
    parts: Mapping[str, float]


def check_frozen(
    model: nn.Module,
    keys: Iterable[str],
    step: Callable[[], object],
    *,
    example_input: Any = None,
) -> FreezeReport:
    """Prove by one training step that frozen tensors do not move.

    Args:
        model: The model that ``step`` trains; whatever else the step does to it stays.
        keys: Keys that must not move, e.g. ``frozen_keys(model)``.
        step: Runs one training step (forward, backward, optimiser).
        example_input: One input of the model, shape ``(N, C, H, W)``, or a tuple of inputs. With
            it, the outputs of fully frozen parts are compared between training and evaluation
            mode, dropout aside; on a copy of the model.

    Returns:
        Checksums and differences.

    Raises:
        PlanError: A key is not in the model, or none is given.
        FrozenTensorMovedError: A frozen tensor changed.
        ModelError: A fully frozen part gives other outputs in training than in evaluation.
    """
    record = record_tensors(model, keys)
    if not record.tensors:
        raise PlanError(
            "cannot prove that nothing moves: no key was given. "
            "Use check_frozen(model, frozen_keys(model), step)"
        )
    step()
    check_record(model, record, when="in a training step")
    parts: dict[str, float] = {}
    if example_input is not None:
        inputs = example_input if isinstance(example_input, tuple) else (example_input,)
        parts = _check_modes_agree(model, frozenset(record.tensors), inputs)
    return FreezeReport(record.checksums, parts)


def _tensors_by_key(model: nn.Module, keys: Iterable[str]) -> dict[str, Tensor]:
    """Return the model's own tensors for the keys, in the order of the state dict."""
    wanted = set(keys)
    tensors = model.state_dict(keep_vars=True)
    unknown = sorted(key for key in wanted if not isinstance(tensors.get(key), Tensor))
    if unknown:
        near = get_close_matches(unknown[0], list(tensors), n=1, cutoff=0.0)
        raise PlanError(
            f"cannot freeze {unknown[:10]!r}: the model has no such tensor; nearest to "
            f"{unknown[0]!r} is {near}. Use keys of model.state_dict()"
        )
    lazy = sorted(key for key in wanted if nn.parameter.is_lazy(tensors[key]))
    if lazy:
        raise ModelError(
            f"cannot freeze {lazy[:10]!r}: not initialised yet. Run one forward pass first"
        )
    return {key: tensor for key, tensor in tensors.items() if key in wanted}


def _freeze_all_statistics(
    model: nn.Module, statistics: Mapping[str, frozenset[str]]
) -> frozenset[str]:
    """Freeze statistics per layer path; return the keys that were not frozen before."""
    new: dict[str, frozenset[str]] = {}
    try:
        for path, attributes in statistics.items():
            layer = model.get_submodule(path)
            fresh = attributes - frozen_statistics(layer)
            freeze_statistics(layer, attributes, path=path)
            new[path] = fresh
    except PlanError:
        for path, fresh in new.items():
            unfreeze_statistics(model.get_submodule(path), fresh)
        raise
    return frozenset(
        f"{path}.{attribute}" if path else attribute
        for path, fresh in new.items()
        for attribute in fresh
    )


def checksum(tensor: Tensor) -> str:
    """Return the SHA-256 of a CPU tensor's bytes."""
    # A view as bytes needs at least one dimension and adjacent elements.
    flat = tensor.contiguous().reshape(-1)
    return hashlib.sha256(flat.view(torch.uint8).numpy().tobytes()).hexdigest()


def _largest_change(before: Tensor, now: Tensor) -> str:
    if before.shape != now.shape or before.dtype != now.dtype:
        return f"{tuple(before.shape)} {before.dtype} to {tuple(now.shape)} {now.dtype}"
    return f"{float((now.double() - before.double()).abs().max()):.3g}"


def _check_modes_agree(
    model: nn.Module, keys: frozenset[str], inputs: Sequence[Any]
) -> dict[str, float]:
    """Compare outputs of the fully frozen parts in both modes, on a copy of the model."""
    copy = private_copy(model).eval()
    differences = {}
    with untouched_random_state(), torch.no_grad():
        calls = _calls_of(copy, list(_frozen_parts(copy, keys)), inputs)
        for path, (args, kwargs) in calls.items():
            part = copy.get_submodule(path)
            evaluated = list(_tensors_in(part.eval()(*args, **kwargs)))
            _train_without_dropout(part)
            trained = list(_tensors_in(part(*args, **kwargs)))
            differences[path] = _compare_modes(path, evaluated, trained)
    return differences


def _frozen_parts(model: nn.Module, keys: frozenset[str], path: str = "") -> Iterator[str]:
    """Yield the largest submodules that hold tensors, all of them frozen."""
    prefix = f"{path}." if path else ""
    module = model.get_submodule(path)
    own = [
        prefix + key
        for key, value in module.state_dict().items()
        if isinstance(value, Tensor) and not key.endswith("num_batches_tracked")
    ]
    if own and keys.issuperset(own):
        yield path
        return
    for name, _ in module.named_children():
        yield from _frozen_parts(model, keys, prefix + name)


def _calls_of(
    model: nn.Module, paths: Sequence[str], inputs: Sequence[Any]
) -> dict[str, tuple[Any, Any]]:
    """Return the arguments each submodule is called with, for those that are called."""
    calls: dict[str, tuple[Any, Any]] = {}
    for path in paths:

        def remember(_: nn.Module, args: Any, kwargs: Any, path: str = path) -> None:
            calls.setdefault(path, deepcopy((args, kwargs)))

        model.get_submodule(path).register_forward_pre_hook(remember, with_kwargs=True)
    model(*inputs)
    return dict(calls)


def _train_without_dropout(part: nn.Module) -> None:
    part.train()
    for module in part.modules():
        if isinstance(module, _DropoutNd):
            module.eval()


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors_in(item)


def _compare_modes(path: str, evaluated: Sequence[Tensor], trained: Sequence[Tensor]) -> float:
    difference = 0.0
    for one, other in zip(evaluated, trained, strict=True):
        change = float((one.double() - other.double()).abs().max()) if one.numel() else 0.0
        # Written so that a NaN counts as disagreement.
        if not change <= _AGREEMENT * max(1.0, float(one.double().abs().max())):
            raise ModelError(
                f"the frozen part {path!r} gives other outputs in training than in evaluation: "
                f"largest difference {change:.3g}, expected 0. A layer in it depends on the mode "
                "beyond its frozen tensors (a normalisation without running statistics?)"
            )
        difference = max(difference, change)
    return difference
