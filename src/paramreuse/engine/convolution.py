"""Convolution, normalisation, residual and activation as one node, and the ways to compute it.

In evaluation mode normalisation is ``scale * x + shift`` per channel, so it folds into the
convolution in front: ``conv(x, scale * W) + shift``. Source: Ioffe and Szegedy (2015), Algorithm 2,
step 11. What a swap leaves as it was is used again:

* The norm or the bias is swapped, the input is not: the raw convolution ``z`` was kept.
* The input is a concatenation and some of its parts are as they were: the contribution of those
  was kept, as a convolution is a sum over its input channels.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

_IMAGE_RANK = 4

_FAR_FROM_OVERFLOW = 1e37
"""float32 ends at 3.4e38."""


@dataclass(frozen=True, slots=True)
class Norm:
    """Keys of a normalisation with running statistics; ``None`` for what it does not have."""

    weight: str | None
    bias: str | None
    mean: str
    var: str
    eps: float

    @property
    def keys(self) -> frozenset[str]:
        """The keys that are there."""
        return frozenset({self.weight, self.bias, self.mean, self.var} - {None})  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a 2-D convolution moves over its input."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


@dataclass(frozen=True, slots=True, eq=False)
class ConvNode:
    """One node: ``relu(norm(conv(cat(parts))) + residual)``; all but the convolution may lack.

    Attributes:
        parts: Nodes whose values, side by side along the channels, are the input.
        weight: Key of the kernel.
        bias: Key of the bias.
        geometry: Strides and the like.
        norm: The normalisation behind it.
        residual: Node whose value is added.
        relu: Whether negative values are cut off in the end.
        inputs: All nodes whose value is used.
        keys: All tensors that are used.
    """

    parts: tuple[int, ...]
    weight: str
    bias: str | None
    geometry: Geometry
    norm: Norm | None = None
    residual: int | None = None
    relu: bool = False
    inputs: tuple[int, ...] = field(init=False)
    keys: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        rest = () if self.residual is None else (self.residual,)
        object.__setattr__(self, "inputs", tuple(dict.fromkeys((*self.parts, *rest))))
        keys = {self.weight} | ({self.bias} if self.bias else set())
        keys |= self.norm.keys if self.norm else set()
        object.__setattr__(self, "keys", frozenset(keys))


def scale_and_shift(
    node: ConvNode, tensors: Mapping[str, Tensor]
) -> tuple[Tensor | None, Tensor | None]:
    """Return what happens to the raw convolution per channel; ``None`` for 1 and for 0.

    Computed in float64 and rounded once, so that folding adds as little as it can.
    """
    bias = tensors[node.bias] if node.bias else None
    if node.norm is None:
        return None, bias
    norm = node.norm
    mean, var = tensors[norm.mean].double(), tensors[norm.var].double()
    scale = torch.rsqrt(var + norm.eps)
    if norm.weight:
        scale = scale * tensors[norm.weight]
    shift = -mean if bias is None else bias - mean
    shift = shift * scale
    if norm.bias:
        shift = shift + tensors[norm.bias]
    dtype = tensors[node.weight].dtype
    return scale.to(dtype), shift.to(dtype)


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """A folded kernel, ready to run.

    Attributes:
        weight: In the layout of ``packed``, or a plain tensor.
        shift: Added per channel.
        geometry: Strides and the like.
        packed: Whether the weight lies as oneDNN wants it, which then also adds and cuts off.
        gain: Length of a packed weight as a vector: by so much at most an output is longer than
            the input, shift aside. Infinite for a plain one, which is in no need of it.
        shift_size: Length of the shift.
    """

    weight: Tensor
    shift: Tensor | None
    geometry: Geometry
    packed: bool
    gain: float = math.inf
    shift_size: float = 0.0

    def __call__(self, x: Tensor, addend: Tensor | None, *, relu: bool) -> Tensor:
        """Return ``relu(conv(x) + shift + addend)``."""
        g = self.geometry
        if not self.packed:
            y = F.conv2d(x, self.weight, self.shift, g.stride, g.padding, g.dilation, g.groups)
            y = y if addend is None else y.add_(addend)
            return y.relu_() if relu else y
        placed = (self.weight, self.shift, g.padding, g.stride, g.dilation, g.groups)
        fuses = relu and self._stays_finite(x, addend)
        then = "relu" if fuses else "none"
        if addend is None:
            y = torch.ops.mkldnn._convolution_pointwise(x, *placed, then, [], "")
        else:
            y = torch.ops.mkldnn._convolution_pointwise.binary(
                x, addend, *placed, "add", 1.0, then if fuses else None, [], None
            )
        return y.relu_() if relu and not fuses else y  # type: ignore[no-any-return]

    def _stays_finite(self, x: Tensor, addend: Tensor | None) -> bool:
        """Tell for certain that no output, and no sum on the way to one, is NaN.

        oneDNN's ReLU cuts NaN off to 0 like a negative number, which makes a plausible score of a
        broken network; PyTorch's keeps it. By Cauchy and Schwarz a sum of products is at most the
        product of the lengths of its factors, so nothing overflows below that bound, and what is
        finite and does not overflow is not NaN.
        """
        most = self.gain * float(torch.linalg.vector_norm(x)) + self.shift_size
        if addend is not None:
            most += float(torch.linalg.vector_norm(addend))
        return most < _FAR_FROM_OVERFLOW  # false for NaN


def fold(
    node: ConvNode,
    tensors: Mapping[str, Tensor],
    input_shape: tuple[int, ...],
    *,
    channels: tuple[tuple[int, int], ...] | None = None,
    raw: bool = False,
) -> Kernel:
    """Fold a node's normalisation into its kernel.

    Args:
        node: The node.
        tensors: The model's tensors, with those of a swap in place.
        input_shape: ``(N, C, H, W)`` of the whole input; a hint for the layout.
        channels: Ranges of input channels to keep, all of them if left out.
        raw: Leave scale and shift out: the bare convolution.
    """
    weight = tensors[node.weight]
    scale, shift = (None, None) if raw else scale_and_shift(node, tensors)
    if scale is not None:
        # A convolution is linear in each output channel's kernel, the first axis of the weight:
        # scale * conv(x, W) = conv(x, scale * W).
        weight = weight * scale.view(-1, *[1] * (weight.ndim - 1))
    if channels is not None:
        weight = torch.cat([weight[:, start:stop] for start, stop in channels], dim=1)
    g = node.geometry
    if not runs_packed(weight):
        return Kernel(laid_out(weight), shift, g, packed=False)
    shape = [input_shape[0], weight.shape[1] * g.groups, *input_shape[2:]]
    packed = torch.ops.mkldnn._reorder_convolution_weight(
        weight.contiguous(), g.padding, g.stride, g.dilation, g.groups, shape
    )
    gain = float(torch.linalg.vector_norm(weight))
    shift_size = 0.0 if shift is None else float(torch.linalg.vector_norm(shift))
    return Kernel(packed, shift, g, True, gain, shift_size)


def laid_out(value: Tensor) -> Tensor:
    """Return images or kernels as they lie best: channels last for the CPU's convolutions.

    Elsewhere they keep PyTorch's own layout: channels last is reported to slow float32 convolutions
    down on graphics processors (pytorch/pytorch#44943).
    """
    if value.ndim != _IMAGE_RANK:
        return value
    is_on_cpu = value.device.type == "cpu"
    layout = torch.channels_last if is_on_cpu else torch.contiguous_format
    return value.contiguous(memory_format=layout)


def runs_packed(weight: Tensor) -> bool:
    """Tell whether oneDNN's fused convolution can take a kernel."""
    return (
        weight.device.type == "cpu"
        and weight.dtype is torch.float32
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and bool(torch.backends.mkldnn.enabled)
    )


def finish(
    z: Tensor, scale: Tensor | None, shift: Tensor | None, residual: Tensor | None, *, relu: bool
) -> Tensor:
    """Return ``relu(scale * z + shift + residual)`` from a raw convolution, which is kept."""
    # Further swaps start from z, so nothing is written in place before y is a tensor of its own.
    y = z
    if scale is not None and shift is not None:
        y = torch.addcmul(_by_channel(shift), z, _by_channel(scale))
    elif shift is not None:
        y = z + _by_channel(shift)
    if residual is not None:
        y = y + residual if y is z else y.add_(residual)
    if not relu:
        return y
    return torch.relu(y) if y is z else y.relu_()


def _by_channel(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)
