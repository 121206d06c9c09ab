"""From a model to a graph of calls, with torch.export or, where that fails, torch.fx."""

import operator
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind, OutputKind
from torch.func import functional_call
from torch.nn import functional as F

from paramreuse.errors import ModelError
from paramreuse.partial.graph import Call, Graph, Key, Ref, without_unused

aten = torch.ops.aten


class CaptureError(ModelError):
    """A model cannot be captured as a graph; the message says why."""


def capture(model: nn.Module, example_input: Tensor) -> Graph:
    """Return the calls of one forward pass of a model in evaluation mode.

    Args:
        model: Left as it is.
        example_input: One batch; the graph serves every number of samples, where the model allows.

    Raises:
        CaptureError: Neither torch.export nor torch.fx can capture the model.
    """
    reasons = []
    for tracer in (_exported, _traced):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return tracer(model, example_input)
        # Tracing runs the caller's code on stand-ins for tensors: it may raise anything at all.
        except Exception as error:
            reasons.append(f"{tracer.__name__[1:]}: {_first_line(error)}")
    raise CaptureError("; ".join(reasons))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"


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


_SAME = {
    aten.clone.default,
    aten.contiguous.default,
    aten.detach.default,
    aten.alias.default,
    aten.dropout.default,
    aten.feature_dropout.default,
}
# Whether a tensor can be viewed depends on its memory layout, which is not the captured one here.
_RESHAPES = {aten.view.default, aten._unsafe_view.default, aten.reshape.default}
_LAYOUT_BOUND = {aten.as_strided.default, aten.set_.source_Tensor}


def _exported(model: nn.Module, example: Tensor) -> Graph:
    # One sample would be taken for a fixed size.
    program = _program(model, torch.cat([example, example]) if len(example) == 1 else example)
    number = _num_samples(program)
    if number is not None and number != len(example):
        program = _program(model, example)
    tensors, canonical = _tensors(model)
    nodes: list[Call] = [Call(same)]
    values: dict[fx.Node, object] = {}
    for spec, node in zip(
        program.graph_signature.input_specs,
        (n for n in program.graph.nodes if n.op == "placeholder"),
        strict=True,
    ):
        if spec.kind is InputKind.USER_INPUT:
            values[node] = Ref(0)
        elif spec.kind is InputKind.CONSTANT_TENSOR and spec.target is not None:
            tensors[spec.target] = program.constants[spec.target].detach()
            values[node] = Key(spec.target)
        elif spec.kind in (InputKind.PARAMETER, InputKind.BUFFER) and spec.target is not None:
            values[node] = Key(canonical[spec.target])
        else:
            raise CaptureError(f"the graph takes a {spec.kind.name.lower()}")
    outputs = program.graph_signature.output_specs
    if [spec.kind for spec in outputs] != [OutputKind.USER_OUTPUT]:
        raise CaptureError("the model changes its own buffers or its input, or has several outputs")
    for node in program.graph.nodes:
        if node.op == "call_function":
            _append(nodes, values, node)
        elif node.op not in ("placeholder", "output"):
            raise CaptureError(f"the graph holds a {node.op} node ({node.name})")
    graph = _graph(nodes, values, program.graph, tensors, canonical)
    return replace(graph, num_samples=number)


def _program(model: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    shapes = ({0: torch.export.Dim.AUTO},)
    with torch.no_grad():
        program = torch.export.export(model, (example,), dynamic_shapes=shapes, strict=False)
        functional: torch.export.ExportedProgram = program.run_decompositions({})
        return functional


def _num_samples(program: torch.export.ExportedProgram) -> int | None:
    """Return the number of samples that a program is bound to, if it is."""
    names = {spec.arg.name for spec in program.graph_signature.input_specs if spec.target is None}
    placeholder = next(n for n in program.graph.nodes if n.name in names)
    number = placeholder.meta["val"].shape[0]
    return number if isinstance(number, int) else None


def _arguments(
    node: fx.Node, values: Mapping[fx.Node, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    filled: Any = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
    return tuple(filled[0]), dict(filled[1])


def _append(nodes: list[Call], values: dict[fx.Node, object], node: fx.Node) -> None:
    args, kwargs = _arguments(node, values)
    op = node.target
    if op in _LAYOUT_BOUND:
        raise CaptureError(f"{op} depends on how a tensor lies in memory")
    if op in _SAME:
        values[node] = args[0]
        return
    if op is operator.getitem and isinstance(args[0], Ref):
        parent = nodes[args[0].node]
        if parent.op is batch_norm and args[1] == 0:
            values[node] = args[0]
            return
    if op is aten._native_batch_norm_legit_no_training.default:
        call = Call(batch_norm, (*args[:5], args[6]))
    elif op is aten.add.Tensor and not kwargs and _same_shape(node.args):
        call = Call(add_alike, args)
    elif op in _RESHAPES:
        call = Call(torch.reshape, args)
    else:
        call = Call(op, args, kwargs)  # type: ignore[arg-type]
    nodes.append(call)
    values[node] = Ref(len(nodes) - 1)


def _same_shape(args: tuple[Any, ...]) -> bool:
    shapes = [arg.meta["val"].shape for arg in args if isinstance(arg, fx.Node)]
    return len(shapes) == 2 == len(args) and str(shapes[0]) == str(shapes[1])


def _graph(
    nodes: list[Call],
    values: Mapping[fx.Node, object],
    graph: fx.Graph,
    tensors: Mapping[str, Tensor],
    canonical: Mapping[str, str],
) -> Graph:
    result = next(node for node in graph.nodes if node.op == "output").args[0]
    if isinstance(result, tuple | list) and len(result) == 1:
        result = result[0]
    last = values[result] if isinstance(result, fx.Node) else None
    if not isinstance(last, Ref):
        raise CaptureError("the output is not one tensor computed from the input")
    kept, output = without_unused(nodes, last.node)
    return Graph(kept, output, tensors, canonical)


def _tensors(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return a model's tensors by key, tied ones once, and the key that stands for each key."""
    first: dict[int, str] = {}
    tensors: dict[str, Tensor] = {}
    canonical: dict[str, str] = {}
    for named in (model.named_parameters, model.named_buffers):
        for key, tensor in named(remove_duplicate=False):
            canonical[key] = first.setdefault(id(tensor), key)
            tensors.setdefault(canonical[key], tensor.detach())
    return tensors, canonical


def _traced(model: nn.Module, example: Tensor) -> Graph:
    del example  # torch.fx traces without looking at a value
    traced = fx.symbolic_trace(model)
    tensors, canonical = _tensors(model)
    nodes: list[Call] = [Call(same)]
    values: dict[fx.Node, object] = {}
    for node in traced.graph.nodes:
        if node.op == "placeholder":
            values[node] = node.args[0] if values else Ref(0)
        elif node.op == "get_attr":
            values[node] = Key(canonical[str(node.target)])
        elif node.op != "output":
            arguments = _arguments(node, values)
            nodes.append(_traced_call(model, node, arguments, canonical))
            values[node] = Ref(len(nodes) - 1)
    graph = _graph(nodes, values, traced.graph, tensors, canonical)
    return replace(graph, concurrent=False)  # functional_call holds the layer while it runs


def _traced_call(
    model: nn.Module,
    node: fx.Node,
    arguments: tuple[Any, dict[str, Any]],
    canonical: Mapping[str, str],
) -> Call:
    args, kwargs = arguments
    if node.op == "call_function" and callable(node.target):
        return Call(_out_of_place(node.target), args, kwargs)
    if node.op == "call_method":
        name = str(node.target)
        if name.endswith("_") and not name.endswith("__"):
            raise CaptureError(f"the model writes to a value in place ({name})")
        return Call(_method(name), args, kwargs)
    path = str(node.target)
    layer = model.get_submodule(path)
    keys = {key: Key(canonical[f"{path}.{key}"]) for key, _ in layer.named_parameters()}
    keys |= {key: Key(canonical[f"{path}.{key}"]) for key, _ in layer.named_buffers()}
    return Call(_layer_call(layer), (keys, *args), kwargs)


def _out_of_place(function: Callable[..., Any]) -> Callable[..., Any]:
    if function in (operator.iadd, operator.imul, operator.isub, operator.itruediv):
        raise CaptureError(f"the model writes to a value in place ({function.__name__})")

    def call(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("inplace"):
            kwargs["inplace"] = False
        return function(*args, **kwargs)

    return call


def _method(name: str) -> Callable[..., Any]:
    def call(owner: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(owner, name)(*args, **kwargs)

    return call


def _layer_call(layer: nn.Module) -> Callable[..., Any]:
    def call(tensors: dict[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        # A layer that works in place would overwrite a value that others still need.
        owned = [a.clone() if isinstance(a, Tensor) and _in_place(layer) else a for a in args]
        return functional_call(layer, tensors, tuple(owned), kwargs)

    return call


def _in_place(layer: nn.Module) -> bool:
    return bool(getattr(layer, "inplace", False))
