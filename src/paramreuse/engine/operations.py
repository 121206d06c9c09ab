"""What captured calls are made of, whichever way they were captured."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from paramreuse.checkpoint.tied import first_names
from paramreuse.engine.graph import Ref
from paramreuse.engine.plain import own_tensors
from paramreuse.errors import ModelError
from paramreuse.sites.copies import private_copy

aten = torch.ops.aten


class CaptureError(ModelError):
    """A model cannot be captured as a graph; the message says why."""


def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    eps: float,
) -> Tensor:
    """Normalise with running statistics."""
    return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)


def add_alike(x: Tensor, y: Tensor) -> Tensor:
    """Add two tensors of one shape."""
    return x + y


def same(x: Any, *_: object, **__: object) -> Any:
    """Return the first argument: what dropout or a copy amounts to where nothing is written to."""
    return x


def tensors_by_key(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return a model's tensors by key, tied ones once, and the key that stands for each key."""
    # One key per tensor: swapped under any of its names it moves every node that takes it.
    own = own_tensors(model)
    canonical = first_names(own)
    return {key: own[key].detach() for key, first in canonical.items() if first == key}, canonical


def copy_to_trace(model: nn.Module) -> nn.Module:
    """Return a copy with the model's own tensors, on which forward may keep stand-ins.

    Raises:
        CaptureError: The model cannot be copied.
    """
    try:
        return private_copy(model, shared=own_tensors(model).values())
    except ModelError as error:
        raise CaptureError(str(error)) from error


def arguments_of(
    node: fx.Node, values: Mapping[fx.Node, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return a node's arguments with what stands for the values of other nodes filled in."""
    filled: Any = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
    return tuple(filled[0]), dict(filled[1])


def output_of(graph: fx.Graph, values: Mapping[fx.Node, object]) -> int:
    """Return the number of the node whose value a graph returns.

    Raises:
        CaptureError: The output is not one tensor computed from the input.
    """
    result = next(node for node in graph.nodes if node.op == "output").args[0]
    if isinstance(result, tuple | list) and len(result) == 1:
        result = result[0]
    last = values[result] if isinstance(result, fx.Node) else None
    if not isinstance(last, Ref):
        raise CaptureError("the output is not one tensor computed from the input")
    return last.node
