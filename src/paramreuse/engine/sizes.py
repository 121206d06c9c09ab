"""Numbers in a traced graph that follow from the size of an image, filled in."""

import operator
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from paramreuse.engine.graph import Call, Graph, Ref, consumers_of, substituted, without_unused
from paramreuse.engine.operations import CaptureError, add_alike


def shape_of(x: Tensor) -> tuple[int, ...]:
    """Return the lengths of all axes."""
    return tuple(x.shape)


def size_of(x: Tensor, axis: int) -> int:
    """Return the length of one axis."""
    return x.shape[axis]


def rank_of(x: Tensor) -> int:
    """Return the number of axes."""
    return x.ndim


def sized(graph: Graph, example: Tensor, written: Collection[int]) -> Graph:
    """Fill in what follows from the size of one sample: lengths of axes but the first, and sums.

    The number of samples stays open: it is the length of every first axis, or the graph gives
    other outputs than the model for two samples, which is found out when the two are compared.

    Args:
        graph: Straight from a trace.
        example: One batch; its first sample goes through the graph once.
        written: Nodes whose value the model overwrites.

    Raises:
        CaptureError: What is overwritten shares its memory with another value.
    """
    # A number that follows from the size of one image is the same for every batch of such images;
    # as a constant it needs no node, which would end a chain of convolutions.
    users = consumers_of(graph.nodes, graph.output)
    sample: dict[int, Any] = {0: example[:1]}
    known: dict[int, object] = {}
    nodes = [graph.nodes[0]]
    for number, traced in enumerate(graph.nodes[1:], start=1):
        call = substituted(traced, known)
        with torch.no_grad():
            sample[number] = call.run(sample, graph.tensors)
        if number in written and not _is_apart(number, call, sample, graph.tensors):
            raise CaptureError("the model writes in place to a value that shares its memory")
        if _follows_from_size(call, nodes, sample):
            known[number] = sample[number]
        elif call.op in (operator.add, torch.add) and _adds_alike(call, sample):
            call = Call(add_alike, call.args)
        nodes.append(call)
        for used in traced.inputs:
            if users[used][-1] == number:
                sample.pop(used, None)
    kept, output = without_unused(nodes, graph.output)
    return replace(graph, nodes=kept, output=output)


def _follows_from_size(call: Call, nodes: list[Call], sample: Mapping[int, Any]) -> bool:
    """Tell whether a value is the same for every batch of images of one size."""
    value = sample[len(nodes)]
    if call.op is rank_of or (call.op is getattr and call.args[1] in ("dtype", "device")):
        return True
    if call.op is size_of:
        return isinstance(call.args[1], int) and call.args[1] % sample[call.args[0].node].ndim != 0
    if call.op is operator.getitem and isinstance(call.args[0], Ref):
        source, index = call.args
        if nodes[source.node].op is not shape_of or not isinstance(index, int | slice):
            return False
        axes = range(len(sample[source.node]))
        return 0 not in (axes[index] if isinstance(index, slice) else (axes[index],))
    return not call.inputs and not call.keys and isinstance(value, int | float | tuple)


def _adds_alike(call: Call, sample: Mapping[int, Any]) -> bool:
    values = [sample[arg.node] for arg in call.args if isinstance(arg, Ref)]
    tensors = [value for value in values if isinstance(value, Tensor)]
    are_two = len(tensors) == 2 == len(call.args) and not call.kwargs
    return are_two and tensors[0].shape == tensors[1].shape


def _is_apart(
    number: int, call: Call, sample: Mapping[int, Any], tensors: Mapping[str, Tensor]
) -> bool:
    """Tell whether a value is a tensor that shares no memory with what it is made of."""
    taken = [sample[used] for used in call.inputs] + [tensors[key] for key in call.keys]
    places = {storage for value in taken for storage in _storages(value)}
    return isinstance(sample[number], Tensor) and places.isdisjoint(_storages(sample[number]))


def _storages(value: object) -> list[int]:
    if isinstance(value, list | tuple):
        return [storage for part in value for storage in _storages(part)]
    return [value.untyped_storage().data_ptr()] if isinstance(value, Tensor) else []
