"""One operation of a traced network, seen by the rule that follows its channels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch.fx import Node

from paramreuse.alignment.channels import Dim, Dims, Ids, Ties

Value: TypeAlias = Dims | list[Dims]
"""Dimensions of a tensor, or of each of several."""


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One operation of the trace, with the dimensions of what enters it.

    Attributes:
        node: Node of the graph.
        ties: Where to tie and fix.
        values: Dimensions of each value of the trace so far.
        grouped: For the weight of each grouped convolution its output channels, and its input
            channels per group.
    """

    node: Node
    ties: Ties
    values: dict[Node, Value]
    grouped: dict[Node, list[tuple[Ids, Ids]]]

    def argument(self, place: int, name: str = "", default: Any = None) -> Any:
        """Return an argument given by place or by name."""
        if place < len(self.node.args):
            return self.node.args[place]
        return self.node.kwargs.get(name, default)

    def dims(self, place: int, name: str = "") -> Dims:
        """Return the dimensions of the tensor at a place; none where no tensor is there."""
        argument = self.argument(place, name)
        value = self.values[argument] if isinstance(argument, Node) else ()
        return value if isinstance(value, tuple) else value[0]

    def shape(self, place: int | None = None) -> tuple[int, ...]:
        """Return the shape of the tensor at a place, or of the output."""
        node = self.node if place is None else self.argument(place)
        return tuple(node.meta["val"].shape)

    def output_shapes(self) -> list[tuple[int, ...]]:
        """Return the shape of every output tensor."""
        outputs = self.node.meta.get("val")
        listed = outputs if isinstance(outputs, tuple | list) else [outputs]
        return [tuple(one.shape) for one in listed if isinstance(one, torch.Tensor)]


Rule: TypeAlias = Callable[[Call], Value]
"""Ties and fixes what enters an operation, and tells the dimensions of what leaves it."""


def keep_in_place(call: Call) -> Value:
    """Fix every channel that enters an operation of which nothing is known: never wrong."""
    reason = f"{call.node.target} may tell channels apart"
    for node in call.node.all_input_nodes:
        value = call.values[node]
        for dims in value if isinstance(value, list) else [value]:
            fix_all(call, dims, reason)
    outputs: list[Dims] = [(reason,) * len(shape) for shape in call.output_shapes()]
    single = isinstance(call.node.meta.get("val"), torch.Tensor)
    return outputs[0] if single else outputs


def fix_all(call: Call, dims: Sequence[Dim], reason: str) -> None:
    """Keep the channels of several dimensions in place."""
    for dim in dims:
        call.ties.fix(dim, reason)
