"""From a model to a graph of calls with torch.fx: the model's own code, run once on stand-ins."""

import copy
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from paramreuse.engine.graph import Call, Graph, Key, Ref, consumers_of
from paramreuse.engine.operations import (
    CaptureError,
    arguments_of,
    batch_norm,
    copy_to_trace,
    output_of,
    same,
    tensors_by_key,
)
from paramreuse.engine.sizes import rank_of, shape_of, size_of, sized

aten = torch.ops.aten

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_DROPOUTS = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
_WRITING = {operator.iadd, operator.imul, operator.isub, operator.itruediv, operator.setitem}
# What these give depends on how a tensor lies in memory, which here is not the model's own way.
_LAYOUT_BOUND = {"as_strided", "stride", "is_contiguous", "storage_offset", "data_ptr"}
_SAME_METHODS = {"contiguous", "clone", "detach"}
_ALIASES: Mapping[Any, Callable[..., Any]] = {
    F.relu: aten.relu.default,
    torch.relu: aten.relu.default,
    torch.concat: torch.cat,
}


def traced(model: nn.Module, example: Tensor) -> Graph:
    """Return the calls of one forward pass; tracing takes about ten milliseconds.

    Args:
        model: Network in evaluation mode; left as it is.
        example: One batch; the graph serves every number of samples of this size.

    Raises:
        CaptureError: The model does what the graph cannot hold.
    """
    model = copy_to_trace(model)
    graph = _Tracer(model).trace(model)
    tensors, canonical = tensors_by_key(model)
    nodes: list[Call] = [Call(same)]
    values: dict[fx.Node, Any] = {}
    written: dict[int, Any] = {}
    for node in graph.nodes:
        if node.op == "placeholder":
            values[node] = node.args[0] if values else Ref(0)
        elif node.op == "get_attr":
            values[node] = _key(str(node.target), canonical)
        elif node.op != "output":
            args, kwargs = arguments_of(node, values)
            if _writes(model, node, kwargs):
                written[len(nodes)] = args[0]
            kwargs.pop("inplace", None)
            values[node] = _appended(nodes, _call(model, node, args, kwargs, canonical))
    whole = Graph(tuple(nodes), output_of(graph, values), tensors, canonical)
    _check_written(whole, written)
    return sized(whole, example, frozenset(value.node for value in written.values()))


class _Tracer(fx.Tracer):
    """Refuses tensors that come from nowhere: it would hang them on the caller's model."""

    proxy_buffer_attributes = True
    """A branch on a running mean would be baked into the graph; on a stand-in it fails."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._own = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}

    def create_arg(self, a: Any) -> Any:
        """Return what stands for an argument in the graph."""
        if isinstance(a, Tensor) and id(a) not in self._own:
            raise CaptureError("the model computes with a tensor that is not its own")
        return super().create_arg(a)


def _key(name: str, canonical: Mapping[str, str]) -> Key:
    if name not in canonical:
        raise CaptureError(f"the model computes with a tensor that is not its own ({name})")
    return Key(canonical[name])


def _appended(nodes: list[Call], call: object) -> object:
    """Return what stands for a call's value; a value that is only passed on stands for itself."""
    if not isinstance(call, Call):
        return call
    nodes.append(call)
    return Ref(len(nodes) - 1)


def _writes(model: nn.Module, node: fx.Node, kwargs: Mapping[str, Any]) -> bool:
    """Tell whether a call asks for its first argument to be overwritten with the result.

    Raises:
        CaptureError: It writes in another way.
    """
    if node.op == "call_module":
        return bool(getattr(model.get_submodule(str(node.target)), "inplace", False))
    name = _name(node.target)
    if node.target in _WRITING or name.endswith("_") or kwargs.get("out") is not None:
        raise CaptureError(f"the model writes to a value in place ({name})")
    return bool(kwargs.get("inplace"))  # torch.fx names every argument of torch.nn.functional


def _name(target: object) -> str:
    return target if isinstance(target, str) else str(getattr(target, "__name__", target))


def _check_written(graph: Graph, written: Mapping[int, object]) -> None:
    """Refuse calls in place to the input, or to a value that more than their result is made of."""
    users = consumers_of(graph.nodes, graph.output)
    for number, value in written.items():
        if not isinstance(value, Ref) or value.node == 0 or users[value.node] != [number]:
            raise CaptureError("the model writes in place to a value that others use")


def _call(
    model: nn.Module,
    node: fx.Node,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    canonical: Mapping[str, str],
) -> object:
    """Return the call that a node amounts to, or the value that it passes on."""
    if _name(node.target) in _LAYOUT_BOUND:
        raise CaptureError(f"{_name(node.target)} depends on how a tensor lies in memory")
    if node.op == "call_module":
        return _layer(str(node.target), model, args, kwargs, canonical)
    if node.op == "call_method":
        return _method(str(node.target), args, kwargs)
    return _function(node.target, args, kwargs)


def _function(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    if function is getattr and args[1] in ("shape", "ndim"):
        return Call(shape_of if args[1] == "shape" else rank_of, args[:1])
    op = _ALIASES.get(function, function)
    if op is torch.cat:
        return _concatenation(*args, **kwargs)
    if op is torch.conv2d and not any(isinstance(a, str) for a in (*args, *kwargs.values())):
        op = aten.conv2d.default  # the other one takes padding="same" too
    return Call(op, args, kwargs)


def _concatenation(tensors: Any, dim: int = 0, *, axis: int | None = None) -> Call:
    return Call(aten.cat.default, (tensors, dim if axis is None else axis))


def _method(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
    if name in _SAME_METHODS and not kwargs:
        return args[0]
    if name == "view" and any(isinstance(arg, torch.dtype) for arg in args):
        raise CaptureError("the model reads the bytes of a tensor as another type (view)")
    if name == "size":
        shape = Call(shape_of, args[:1])
        return shape if len(args) == 1 else Call(size_of, args)
    if name in ("dim", "ndimension"):
        return Call(rank_of, args)

    # Whether a tensor can be viewed depends on how it lies in memory.
    chosen = "reshape" if name == "view" else name

    def call(owner: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(owner, chosen)(*args, **kwargs)

    return Call(call, args, kwargs)


def _layer(
    path: str,
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    canonical: Mapping[str, str],
) -> object:
    layer = model.get_submodule(path)
    if layer._forward_hooks or layer._forward_pre_hooks or next(layer.children(), None) is not None:
        raise CaptureError(f"the layer {path!r} has hooks or layers of its own")
    named = (
        *layer.named_parameters(remove_duplicate=False),
        *layer.named_buffers(remove_duplicate=False),
    )
    keys = {name: _key(f"{path}.{name}", canonical) for name, _ in named}
    if type(layer) in _DROPOUTS:
        return args[0]
    if type(layer) is nn.ReLU:
        return Call(aten.relu.default, args)
    if type(layer) is nn.Conv2d and _pads_with_zeros(layer):
        sizes = [list(size) for size in (layer.stride, layer.padding, layer.dilation)]
        weights = (keys["weight"], keys.get("bias"))
        return Call(aten.conv2d.default, (*args, *weights, *sizes, layer.groups))
    if type(layer) in _NORMS and layer.running_mean is not None:
        affine = (keys.get("weight"), keys.get("bias"))
        statistics = (keys["running_mean"], keys["running_var"])
        return Call(batch_norm, (*args, *affine, *statistics, layer.eps))
    return Call(_layer_call(layer), (keys, *args), kwargs)


def _pads_with_zeros(layer: nn.Conv2d) -> bool:
    return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def _layer_call(layer: nn.Module) -> Callable[..., Any]:
    """Return a function that runs a layer with other tensors, and leaves the layer as it is."""
    like = copy.copy(layer)
    if getattr(like, "inplace", False):
        like.inplace = False  # type: ignore[assignment]

    def call(tensors: Mapping[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        twin = copy.copy(like)  # one per call, as several threads may be at it
        for registry in ("_parameters", "_buffers"):
            own = getattr(like, registry)
            twin.__dict__[registry] = own | {name: tensors[name] for name in own if name in tensors}
        return twin(*args, **kwargs)

    return call
