"""What each operation of a traced network does with channels, one rule per family of operations.

An operation that is not listed keeps every channel that enters it in place, which is never wrong.
"""

import operator

import numpy as np
import torch

from paramreuse.alignment import shapes
from paramreuse.alignment.call import Call, Rule, Value, fix_all, keep_in_place
from paramreuse.alignment.channels import POSITION, Dim, Dims


def apply_rule(call: Call) -> Value:
    """Tie and fix what an operation demands, and return the dimensions of its output."""
    target = call.node.target
    if target is operator.getitem:
        source = call.values[call.node.args[0]]  # type: ignore[index]
        return source[call.node.args[1]] if isinstance(source, list) else source  # type: ignore[index]
    name = str(target).removeprefix("aten.").partition(".")[0]
    rule = _RULES.get(name.removesuffix("_"))
    if rule is None and torch.Tag.pointwise in getattr(target, "tags", ()):
        rule = _pointwise
    return (rule or keep_in_place)(call)


def _same(call: Call) -> Value:
    return call.dims(0)


# --- layers with tensors of their own ---


def _convolution(call: Call) -> Value:
    x, weight, bias = call.dims(0), call.dims(1), call.dims(2, "bias")
    groups = call.argument(6, "groups", 1)
    at = len(x) - len(weight) + 1  # the channels' dimension, with or without samples before it
    fix_all(call, weight[2:], POSITION)
    out: Dim
    if groups == 1:
        call.ties.tie(weight[1], x[at])
        out = weight[0]
    elif call.shape(1)[1] == 1:
        # Depthwise: input channel c makes outputs c * multiple to (c + 1) * multiple - 1, and these
        # are the same channel from here on, since they can only move with it.
        multiple = call.shape(1)[0] // groups
        out = x[at] if isinstance(x[at], str) else np.repeat(x[at], multiple)
        call.ties.tie(weight[0], out)
    else:
        out = _grouped(call, weight, x[at], groups)
    if bias:
        call.ties.tie(bias[0], out)
    return *x[:at], out, *(POSITION,) * (len(weight) - 2)


def _grouped(call: Call, weight: Dims, entering: Dim, groups: int) -> Dim:
    """Let channels change places within their group of a grouped convolution."""
    # Position j along dimension 1 of the weight is another input channel in every group. As one
    # dimension these would be tied across groups, so each group's rows are followed as a tensor of
    # their own; a weight with a second user has no such parts there and stays in place.
    node, out = call.argument(1), weight[0]
    if isinstance(out, str) or isinstance(entering, str) or len(node.users) > 1:
        fix_all(call, (entering, *weight), "a grouped convolution whose weight or input is fixed")
        return out
    call.ties.fix(weight[1], POSITION)  # one dimension for several channels: the parts replace it
    parts = zip(np.split(out, groups), np.split(entering, groups), strict=True)
    call.grouped[node] = list(parts)
    return out


def _transposed_convolution(call: Call) -> Value:
    x, weight, bias = call.dims(0), call.dims(1), call.dims(2, "bias")
    groups = call.argument(6, "groups", 1)
    at = len(x) - len(weight) + 1
    fix_all(call, weight[2:], POSITION)
    out: Dim
    if groups == 1:
        call.ties.tie(weight[0], x[at])
        out = weight[1]
    elif call.shape(1)[:2] == (groups, 1):
        call.ties.tie(weight[0], x[at])
        out = x[at]
    else:
        out = "a grouped transposed convolution may tell channels apart"
        fix_all(call, (x[at], *weight[:2]), out)
    if bias:
        call.ties.tie(bias[0], out)
    return *x[:at], out, *(POSITION,) * (len(weight) - 2)


def _linear(call: Call) -> Value:
    x, weight, bias = call.dims(0), call.dims(1), call.dims(2, "bias")
    call.ties.tie(weight[1], x[-1])
    if bias:
        call.ties.tie(bias[0], weight[0])
    return *x[:-1], weight[0]


def _matrix_product(call: Call) -> Value:
    x, y = call.dims(0), call.dims(1)
    if len(x) != len(y) or len(x) < 2:
        return keep_in_place(call)
    call.ties.tie(x[-1], y[-2])
    for one, other in zip(x[:-2], y[:-2], strict=True):
        call.ties.tie(one, other)
    return *x[:-1], y[-1]


def _per_channel(call: Call) -> Value:
    """BatchNorm, InstanceNorm and PReLU: one value of each tensor per channel."""
    x = call.dims(0)
    for place in range(1, 5):
        if len(dims := call.dims(place)) == 1 and call.shape(place) != (1,):
            call.ties.tie(dims[0], x[1])
    return x


def _group_norm(call: Call) -> Value:
    x, num_groups = call.dims(0), call.argument(1)
    for place, name in ((2, "weight"), (3, "bias")):
        if dims := call.dims(place, name):
            call.ties.tie(dims[0], x[1])
    # Mean and variance are those of a group of channels: the same in any order within it, others
    # if a channel left it. The mark keeps channels of different groups from being exchanged.
    if not isinstance(x[1], str):
        for ids in np.split(x[1], num_groups):
            call.ties.mark(ids)
    return x


def _layer_norm(call: Call) -> Value:
    # Mean and variance over all channels do not depend on their order.
    x = call.dims(0)
    for place, name in ((2, "weight"), (3, "bias")):
        dims = call.dims(place, name)
        for mine, entering in zip(dims, x[len(x) - len(dims) :], strict=True):
            call.ties.tie(mine, entering)
    return x


# --- element by element, place by place ---


def _pointwise(call: Call) -> Value:
    shape = call.shape()
    out: list[Dim | None] = [None] * len(shape)
    for node in call.node.all_input_nodes:
        dims, sizes = call.values[node], tuple(node.meta["val"].shape)
        if isinstance(dims, list):
            return keep_in_place(call)
        offset = len(shape) - len(sizes)
        for at, (dim, size) in enumerate(zip(dims, sizes, strict=True), start=offset):
            known = out[at]
            if size != shape[at]:
                continue  # one value for every position
            if known is None:
                out[at] = dim
            else:
                call.ties.tie(known, dim)
    return tuple(POSITION if dim is None else dim for dim in out)


def _over_places(num_dims: int) -> Rule:
    """Pool or resize the last dimensions; the channels in front of them stay what they are."""

    def rule(call: Call) -> Value:
        x = call.dims(0)
        fix_all(call, x[-num_dims:], "pooling or resizing tells channels apart")
        out = (*x[:-num_dims], *(POSITION,) * num_dims)
        return out if isinstance(call.node.meta["val"], torch.Tensor) else [out, out]

    return rule


def _reduce(call: Call) -> Value:
    # A sum, mean or maximum over channels is the same in any order, so nothing has to be fixed.
    x, dim = call.dims(0), call.argument(1, "dim")
    rank = len(x)
    listed = [dim] if isinstance(dim, int) else (dim or range(rank))
    gone = {at % rank for at in listed}
    if len(call.shape()) == rank:
        return tuple(POSITION if at in gone else one for at, one in enumerate(x))
    return tuple(one for at, one in enumerate(x) if at not in gone)


# Softmax is among those that change no dimension: over the channels it divides all of them by the
# same sum, over places each by its own.
_RULES: dict[str, Rule] = {
    **{f"conv{n}d": _convolution for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _transposed_convolution for n in (1, 2, 3)},
    **dict.fromkeys(("batch_norm", "instance_norm", "prelu"), _per_channel),
    **dict.fromkeys(("mm", "bmm", "matmul"), _matrix_product),
    **dict.fromkeys(("layer_norm", "rms_norm"), _layer_norm),
    **dict.fromkeys(
        (
            *("dropout", "feature_dropout", "alpha_dropout", "clone", "contiguous", "detach"),
            *("alias", "to", "_to_copy", "type_as", "softmax", "_softmax", "log_softmax"),
            *("lift_fresh_copy", "hardswish", "log_sigmoid"),
        ),
        _same,
    ),
    **{
        f"{name}{n}d": _over_places(n)
        for n in (1, 2, 3)
        for name in (
            *("max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool"),
            *("upsample_nearest", "_upsample_nearest_exact", "replication_pad", "reflection_pad"),
        )
    },
    "upsample_linear1d": _over_places(1),
    "upsample_bilinear2d": _over_places(2),
    "upsample_bicubic2d": _over_places(2),
    "upsample_trilinear3d": _over_places(3),
    "max_pool2d_with_indices": _over_places(2),
    "max_pool3d_with_indices": _over_places(3),
    **dict.fromkeys(("pad", "constant_pad_nd"), shapes.pad),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "logsumexp"), _reduce),
    **dict.fromkeys(
        ("view", "reshape", "_unsafe_view", "flatten", "unflatten", "unsqueeze", "squeeze"),
        shapes.reshape,
    ),
    "linear": _linear,
    "group_norm": _group_norm,
    "permute": shapes.permute,
    **dict.fromkeys(("transpose", "t"), shapes.transpose),
    **dict.fromkeys(("expand", "expand_as"), shapes.expand),
    "cat": shapes.concatenate,
    "slice": shapes.take_slice,
    **dict.fromkeys(("split", "split_with_sizes", "chunk"), shapes.split),
    "pixel_shuffle": shapes.shuffle_pixels,
    "channel_shuffle": shapes.shuffle_channels,
}
