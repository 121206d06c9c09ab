"""Which tensors a layer holds, and what role each plays.

Everything that knows a layer's class, or guesses it from the names and shapes of a state dict,
is here; the rest of the package knows kinds and families only.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from paramreuse.errors import ModelError
from paramreuse.sites.copies import private_copy
from paramreuse.untouched import untouched_random_state


class Kind(StrEnum):
    """The role of a tensor in its layer, named as in the papers."""

    W = "W"
    """Weight of a convolution, linear or embedding layer, or a bare parameter."""
    B = "B"
    """Bias of a convolution or linear layer."""
    RM = "RM"
    """Running mean of a normalisation layer."""
    RV = "RV"
    """Running variance of a normalisation layer."""
    RW = "RW"
    """Weight (scale) of a normalisation layer."""
    RB = "RB"
    """Bias (shift) of a normalisation layer."""


KERNEL_FAMILIES = ("conv", "conv_transpose", "linear")
"""Families whose W is a kernel: what decides whether a network is reusable."""

KindsOf: TypeAlias = Callable[[nn.Module], Mapping[Kind, str]]

_NORM_ATTRIBUTES = {
    Kind.RW: "weight",
    Kind.RB: "bias",
    Kind.RM: "running_mean",
    Kind.RV: "running_var",
}
_KERNEL_ATTRIBUTES = {Kind.W: "weight", Kind.B: "bias"}
_NORM_CLASSES = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)

_SAMPLES = 2
"""Samples to run a network on, where only the order of its layers is asked for."""


@dataclass(frozen=True, slots=True)
class LayerTensors:
    """The tensors of one layer that count as sites.

    Attributes:
        path: Dotted path of the layer, ``""`` for the network itself.
        family: ``conv``, ``conv_transpose``, ``linear``, ``norm``, ``embedding`` or ``other``.
        kinds: Kind and attribute name of each tensor, e.g. ``(Kind.W, "weight")``.
    """

    path: str
    family: str
    kinds: tuple[tuple[Kind, str], ...]


def key_of(path: str, attribute: str) -> str:
    """Join the path of a layer and the name of its tensor to a state-dict key."""
    return f"{path}.{attribute}" if path else attribute


def own_tensors(layer: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and persistent buffers held by ``layer`` itself, by name."""
    transient = layer._non_persistent_buffers_set
    named = [*layer._parameters.items(), *layer._buffers.items()]
    return {name: t for name, t in named if t is not None and name not in transient}


def kinds_of_torch_layer(layer: nn.Module) -> Mapping[Kind, str]:
    """Return the role of each tensor of a layer as PyTorch, torchvision and others name them.

    Recognises convolutions and transposed convolutions of 1-3 dimensions, linear and embedding
    layers, the in-projection of ``MultiheadAttention``, and normalisation layers by their class or
    by what they hold (so torchvision's and timm's frozen BatchNorm count as such).

    Args:
        layer: Any module; its children are not looked at.

    Returns:
        Attribute name by kind; empty for a layer without tensors of a known role.
    """
    if isinstance(layer, nn.MultiheadAttention):
        return {Kind.W: "in_proj_weight", Kind.B: "in_proj_bias"}
    if isinstance(layer, _ConvNd | nn.Linear | nn.Bilinear):
        return _KERNEL_ATTRIBUTES
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        return {Kind.W: "weight"}
    tensors = own_tensors(layer)
    if isinstance(layer, _NORM_CLASSES) or _looks_like_norm(layer, tensors):
        return _NORM_ATTRIBUTES
    weight = tensors.get("weight")
    return _KERNEL_ATTRIBUTES if weight is not None and weight.ndim >= 2 else {}


def _looks_like_norm(layer: nn.Module, tensors: Mapping[str, Tensor]) -> bool:
    if {"running_mean", "running_var"} <= tensors.keys():
        return True
    named_norm = "norm" in type(layer).__name__.lower()
    return named_norm and "weight" in tensors and tensors["weight"].ndim == 1


def _family_of(layer: nn.Module, kinds: Mapping[Kind, str]) -> str:
    if kinds.keys() & {Kind.RM, Kind.RV, Kind.RW, Kind.RB}:
        return "norm"
    if isinstance(layer, _ConvTransposeNd):
        return "conv_transpose"
    if isinstance(layer, _ConvNd):
        return "conv"
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        return "embedding"
    if isinstance(layer, nn.Linear | nn.Bilinear | nn.MultiheadAttention):
        return "linear"
    weight = own_tensors(layer).get(kinds.get(Kind.W, ""))
    if weight is None or weight.ndim < 2:
        return "other"
    return "conv" if weight.ndim > 2 else "linear"


def layers_of_module(model: nn.Module, kinds_of: KindsOf) -> Iterator[LayerTensors]:
    """Yield the layers of a model in order of registration.

    Args:
        model: Any module, itself possibly a layer.
        kinds_of: Role of each tensor of a layer. A floating-point parameter that it does not claim
            is a layer of its own (family ``other``; ``linear`` inside an attention module).

    Raises:
        ModelError: A parameter is lazy, so it has no shape yet.
    """
    for path, layer in model.named_modules():
        tensors = own_tensors(layer)
        _refuse_lazy(path, tensors)
        kinds = {kind: name for kind, name in kinds_of(layer).items() if name in tensors}
        if kinds:
            ordered = tuple((kind, kinds[kind]) for kind in Kind if kind in kinds)
            yield LayerTensors(path, _family_of(layer, kinds), ordered)
        unclaimed = tensors.keys() - kinds.values()
        for name in (name for name in layer._parameters if name in unclaimed):
            yield LayerTensors(path, _family_of_bare(layer, name), ((_bare_kind(name), name),))


def _family_of_bare(layer: nn.Module, name: str) -> str:
    of_attention = isinstance(layer, nn.MultiheadAttention) and name.endswith("weight")
    return "linear" if of_attention else "other"


def _refuse_lazy(path: str, tensors: Mapping[str, Tensor]) -> None:
    lazy = [name for name, t in tensors.items() if nn.parameter.is_lazy(t)]
    if lazy:
        raise ModelError(
            f"cannot list the sites of {path or 'the model'}: {lazy[0]!r} has no shape yet "
            "because the layer is lazy. Run the model once on an example input first"
        )


def _bare_kind(name: str) -> Kind:
    words = name.split("_")
    return Kind.B if words[0] == "bias" or words[-1] in {"bias", "b"} else Kind.W


def layers_of_tensors(shapes: Mapping[str, tuple[int, ...]]) -> Iterator[LayerTensors]:
    """Guess the layers behind a state dict from its keys and shapes alone.

    Args:
        shapes: Shape by key, of the floating-point tensors, in the order of the state dict.

    Yields:
        Layers in order of their first key. A transposed convolution is known by its bias (as long
        as the second dimension of the weight, not as the first) or by a path that says so.
    """
    grouped: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, shape in shapes.items():
        path, _, attribute = key.rpartition(".")
        grouped.setdefault(path, {})[attribute] = shape
    for path, shapes_in in grouped.items():
        kinds = _kinds_of_names(path, shapes_in)
        if kinds:
            yield LayerTensors(path, _family_of_names(path, shapes_in, kinds), kinds)
        claimed = {name for _, name in kinds}
        for name in shapes_in:
            if name not in claimed:
                yield LayerTensors(path, "other", ((_bare_kind(name), name),))


def _kinds_of_names(
    path: str, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[tuple[Kind, str], ...]:
    if "in_proj_weight" in shapes:
        roles = {Kind.W: "in_proj_weight", Kind.B: "in_proj_bias"}
    elif _is_activation(path, shapes):
        return ()
    elif "running_mean" in shapes or len(shapes.get("weight", ())) == 1:
        roles = _NORM_ATTRIBUTES
    elif "weight" in shapes:
        roles = _KERNEL_ATTRIBUTES
    else:
        return ()
    return tuple((kind, roles[kind]) for kind in Kind if roles.get(kind) in shapes)


def _is_activation(path: str, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Tell the slopes of a PReLU, commonly one for all channels, from the weight of a norm."""
    last = path.rpartition(".")[2].lower()
    return shapes.keys() == {"weight"} and (
        shapes["weight"] == (1,) or "relu" in last or last.startswith("act")
    )


def _family_of_names(
    path: str, shapes: Mapping[str, tuple[int, ...]], kinds: tuple[tuple[Kind, str], ...]
) -> str:
    if kinds[0][0] not in (Kind.W, Kind.B):
        return "norm"
    weight = shapes.get("weight", shapes.get("in_proj_weight", ()))
    if len(weight) == 2:
        last = path.rpartition(".")[2].lower()
        embeds = "bias" not in shapes and ("emb" in last or last in {"wte", "wpe"})
        return "embedding" if embeds else "linear"
    bias = shapes.get("bias")
    by_bias = bias is not None and weight[0] != bias[0] == weight[1]
    by_name = any(word in path.lower() for word in ("transp", "deconv", "upconv"))
    return "conv_transpose" if by_bias or (by_name and bias is None) else "conv"


def execution_order(model: nn.Module, example_input: Tensor) -> dict[str, int]:
    """Return the rank of each module of ``model`` in order of first execution.

    The caller's model is not run: a deep copy in evaluation mode is.

    Args:
        model: Network that takes ``example_input``.
        example_input: One batch, shape ``(N, C, H, W)`` or whatever the network takes.

    Returns:
        Rank by path, for the modules that ran. The out-projection of an attention layer counts
        with the layer, which uses its tensors without calling it.
    """
    twin = private_copy(model).eval()
    ranks: dict[str, int] = {}
    clock = count()

    def remember(path: str) -> Callable[[nn.Module, object], None]:
        def hook(_module: nn.Module, _arguments: object) -> None:
            ranks.setdefault(path, next(clock))

        return hook

    for path, module in twin.named_modules():
        module.register_forward_pre_hook(remember(path))
    with torch.no_grad(), untouched_random_state():
        try:
            twin(example_input[:_SAMPLES].clone())
        # What the caller's code raises for a few samples may be about their number: all of them
        # show whether it is.
        except Exception:
            ranks.clear()
            twin(example_input.clone())
    for path, module in twin.named_modules():
        if isinstance(module, nn.MultiheadAttention) and path in ranks:
            ranks.setdefault(key_of(path, "out_proj"), ranks[path])
    return ranks
