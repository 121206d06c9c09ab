"""From a model to a graph of calls with torch.export: what PyTorch itself makes of it."""

import operator
from collections.abc import Mapping

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind, OutputKind

from paramreuse.engine.graph import Call, Graph, Key, Ref, without_unused
from paramreuse.engine.operations import (
    CaptureError,
    add_alike,
    arguments_of,
    batch_norm,
    copy_to_trace,
    output_of,
    same,
    tensors_by_key,
)

aten = torch.ops.aten

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


def exported(model: nn.Module, example: Tensor) -> Graph:
    """Return the calls of one forward pass; the first takes about two seconds.

    Args:
        model: Network in evaluation mode; left as it is.
        example: One batch; the graph serves every number of samples, where the model allows.

    Raises:
        CaptureError: The model does what the graph cannot hold.
    """
    model = copy_to_trace(model)
    # One sample would be taken for a fixed size.
    program = _program(model, torch.cat([example, example]) if len(example) == 1 else example)
    number = _num_samples(program)
    if number is not None and number != len(example):
        program = _program(model, example)
    tensors, canonical = tensors_by_key(model)
    nodes: list[Call] = [Call(same)]
    values, constants = _inputs(program, canonical)
    tensors |= constants
    outputs = program.graph_signature.output_specs
    if [spec.kind for spec in outputs] != [OutputKind.USER_OUTPUT]:
        raise CaptureError("the model changes its own buffers or its input, or has several outputs")
    for node in program.graph.nodes:
        if node.op == "call_function":
            _append(nodes, values, node)
        elif node.op not in ("placeholder", "output"):
            raise CaptureError(f"the graph holds a {node.op} node ({node.name})")
    kept, output = without_unused(nodes, output_of(program.graph, values))
    return Graph(kept, output, tensors, canonical, num_samples=number)


def _inputs(
    program: torch.export.ExportedProgram, canonical: Mapping[str, str]
) -> tuple[dict[fx.Node, object], dict[str, Tensor]]:
    """Return what each placeholder stands for, and the constants that the program holds."""
    values: dict[fx.Node, object] = {}
    constants: dict[str, Tensor] = {}
    placeholders = (n for n in program.graph.nodes if n.op == "placeholder")
    for spec, node in zip(program.graph_signature.input_specs, placeholders, strict=True):
        if spec.kind is InputKind.USER_INPUT:
            values[node] = Ref(0)
        elif spec.kind is InputKind.CONSTANT_TENSOR and spec.target is not None:
            constants[spec.target] = program.constants[spec.target].detach()
            values[node] = Key(spec.target)
        elif spec.kind in (InputKind.PARAMETER, InputKind.BUFFER) and spec.target is not None:
            values[node] = Key(canonical[spec.target])
        else:
            raise CaptureError(f"the graph takes a {spec.kind.name.lower()}")
    return values, constants


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
    number = str(placeholder.meta["val"].shape[0])  # a symbol, or a symbol that is a number
    return int(number) if number.isdigit() else None


def _append(nodes: list[Call], values: dict[fx.Node, object], node: fx.Node) -> None:
    args, kwargs = arguments_of(node, values)
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


def _same_shape(args: tuple[object, ...]) -> bool:
    shapes = [arg.meta["val"].shape for arg in args if isinstance(arg, fx.Node)]
    return len(shapes) == 2 == len(args) and str(shapes[0]) == str(shapes[1])
