"""How channels move when a tensor is reshaped, cut, joined or reordered."""

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np

from paramreuse.alignment.call import Call, Value, fix_all
from paramreuse.alignment.channels import POSITION, Dim, Dims, Ids


def reshape(call: Call) -> Value:
    """Follow channels through a change of shape: dimensions may be joined, places only be split."""
    dims = [dim for taken, made in _runs(call) for dim in _regroup(call, taken, made)]
    remaining = iter(dims)
    return tuple(POSITION if size == 1 else next(remaining) for size in call.shape())


def _runs(call: Call) -> Iterator[tuple[list[tuple[Dim, int]], list[int]]]:
    """Yield the shortest runs of old dimensions and of new ones that stand for each other.

    A change of shape keeps the order of the values in memory, so where the products of the sizes
    agree, both runs count the same positions. Dimensions of size 1 count nothing.
    """
    old = zip(call.dims(0), call.shape(0), strict=True)
    dims = [(dim, size) for dim, size in old if size != 1]
    sizes = [size for size in call.shape() if size != 1]
    while dims or sizes:
        taken, made = [dims.pop(0)], [sizes.pop(0)]
        while (left := prod(size for _, size in taken)) != (right := prod(made)):
            if left < right:
                taken.append(dims.pop(0))
            else:
                made.append(sizes.pop(0))
        yield taken, made


def _regroup(call: Call, taken: list[tuple[Dim, int]], made: list[int]) -> list[Dim]:
    tracked = [at for at, (dim, _) in enumerate(taken) if not isinstance(dim, str)]
    if not tracked or len(taken) == len(made) == 1:
        return [taken[0][0]] * len(made)
    if len(tracked) > 1 or len(made) > 1:
        reason = f"{call.node.target} joins or splits channels"
        fix_all(call, [dim for dim, _ in taken], reason)
        return [reason] * len(made)
    # Channels joined with places, as before a linear layer: a position belongs to the channel it
    # came from, and a channel moves with all of its positions.
    (at,) = tracked
    sizes = [size for _, size in taken]
    along = [1] * len(sizes)
    along[at] = -1
    ids = np.asarray(taken[at][0]).reshape(along)
    return [np.broadcast_to(ids, sizes).reshape(-1)]


def permute(call: Call) -> Value:
    """Reorder dimensions."""
    x = call.dims(0)
    return tuple(x[at] for at in call.argument(1, "dims"))


def transpose(call: Call) -> Value:
    """Exchange two dimensions."""
    x = list(call.dims(0))
    one, other = (call.argument(1), call.argument(2)) if len(call.node.args) > 1 else (0, -1)
    x[one], x[other] = x[other], x[one]
    return tuple(x)


def expand(call: Call) -> Value:
    """Repeat single places."""
    x, old, new = call.dims(0), call.shape(0), call.shape()
    added = len(new) - len(old)
    kept = [dim if old[at] == new[at + added] else POSITION for at, dim in enumerate(x)]
    return (*(POSITION,) * added, *kept)


def concatenate(call: Call) -> Value:
    """Put channels beside each other, as long connections do."""
    nodes = [node for node in call.argument(0) if node.meta["val"].ndim]
    parts = [_single(call.values[node]) for node in nodes]
    sizes = [tuple(node.meta["val"].shape) for node in nodes]
    at = call.argument(1, "dim", 0) % len(call.shape())
    out = list(parts[0])
    for dims in parts[1:]:
        _tie_elsewhere(call, at, out, dims)
    if any(not isinstance(dims[at], str) for dims in parts):
        pieces = zip(parts, sizes, strict=True)
        out[at] = np.concatenate([_as_ids(call, dims[at], size[at]) for dims, size in pieces])
    return tuple(out)


def _tie_elsewhere(call: Call, at: int, dims: Sequence[Dim], others: Dims) -> None:
    """Tie two tensors that are joined along dimension ``at`` along all other dimensions."""
    for place, (dim, other) in enumerate(zip(dims, others, strict=True)):
        if place != at:
            call.ties.tie(dim, other)


def _single(value: Value) -> Dims:
    return value[0] if isinstance(value, list) else value


def _as_ids(call: Call, dim: Dim, size: int) -> Ids:
    if not isinstance(dim, str):
        return dim
    # Channels of their own that are fixed for the same reason: beside channels that may move, one
    # reason for the whole dimension would fix those as well.
    ids = call.ties.fresh(size)
    call.ties.fix(ids, dim)
    return ids


def _cut(call: Call, dim: Dim, part: slice) -> Dim:
    if isinstance(dim, str):
        return dim
    # A channel of several positions may lie on both sides of the cut. Moving it would then exchange
    # what is kept for what is not.
    if len(np.unique(dim)) < len(dim):
        call.ties.fix(dim, reason := f"{call.node.target} cuts through channels")
        return reason
    return dim[part]


def take_slice(call: Call) -> Value:
    """Take a run of channels out."""
    x, at = list(call.dims(0)), call.argument(1, "dim", 0)
    if call.shape(0)[at] != call.shape()[at]:
        part = slice(call.argument(2, "start"), call.argument(3, "end"), call.argument(4, "step"))
        x[at] = _cut(call, x[at], part)
    return tuple(x)


def split(call: Call) -> Value:
    """Cut channels into runs."""
    x, at = call.dims(0), call.argument(2, "dim", 0)
    at %= len(x)
    outputs: list[Dims] = []
    start = 0
    for shape in call.output_shapes():
        piece = _cut(call, x[at], slice(start, start + shape[at]))
        outputs.append((*x[:at], piece, *x[at + 1 :]))
        start += shape[at]
    return outputs


def pad(call: Call) -> Value:
    """Put places around a dimension, or cut some off.

    Channels that hold the same constant can be exchanged for each other, as those can that a short
    connection adds (He et al., arXiv 1512.03385, option A).
    """
    x, amounts = list(call.dims(0)), call.argument(1, "pad")
    mode = call.argument(2, "mode", "constant")  # constant_pad_nd has its value there
    for back, (before, behind) in enumerate(zip(amounts[::2], amounts[1::2], strict=True), start=1):
        at = len(x) - back
        if not before and not behind:
            continue
        if isinstance(mode, str) and mode != "constant":
            call.ties.fix(x[at], "padding tells channels apart")
            x[at] = POSITION
        elif isinstance(x[at], str) and (at != 1 or x[at] == POSITION):
            # Rows, columns and samples stay places; only along dimension 1 are constants channels.
            x[at] = POSITION
        else:
            x[at] = _with_constants(call, _as_ids(call, x[at], call.shape(0)[at]), before, behind)
    return tuple(x)


def _with_constants(call: Call, ids: Ids, before: int, behind: int) -> Dim:
    # Each constant is a channel of its own: the sum that follows ties it to the channel to which it
    # is added, so that only constants added to exchangeable channels are exchanged.
    kept: Dim = ids
    if min(before, behind) < 0:
        kept = _cut(call, ids, slice(max(-before, 0), len(ids) - max(-behind, 0)))
    if isinstance(kept, str):
        return kept
    constants = (call.ties.fresh(max(count, 0)) for count in (before, behind))
    return np.concatenate([next(constants), kept, next(constants)])


def shuffle_pixels(call: Call) -> Value:
    """Move channels into places; the channels that make up one come along together."""
    x, factor = call.dims(0), call.argument(1) ** 2
    channels = x[-3]
    if not isinstance(channels, str):
        # Channels c * factor to c * factor + factor - 1 become the places of channel c. Tied, they
        # change places as one block, each with its like, so every place keeps its own.
        for shift in range(1, factor):
            call.ties.tie(channels[::factor], channels[shift::factor])
        channels = channels[::factor]
    return *x[:-3], channels, POSITION, POSITION


def shuffle_channels(call: Call) -> Value:
    """Interleave the groups of channels."""
    x, groups = call.dims(0), call.argument(1)
    channels = x[1]
    if not isinstance(channels, str):
        channels = channels.reshape(groups, -1).T.reshape(-1)
    return x[0], channels, *x[2:]
