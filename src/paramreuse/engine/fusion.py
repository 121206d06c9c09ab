"""Finds convolution, normalisation, residual and activation that can run as one node."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from paramreuse.engine.convolution import ConvNode, Geometry, Norm
from paramreuse.engine.graph import Call, Graph, Key, Ref, consumers_of, renumbered
from paramreuse.engine.operations import add_alike, batch_norm

aten = torch.ops.aten

Node: TypeAlias = Call | ConvNode


@dataclass(frozen=True, slots=True)
class _Chain:
    """A convolution and what follows it, by number of the node."""

    conv: int
    norm: int | None = None
    add: int | None = None
    relu: int | None = None

    @property
    def last(self) -> int:
        return max(n for n in (self.conv, self.norm, self.add, self.relu) if n is not None)


def fused(graph: Graph) -> tuple[tuple[Node, ...], int]:
    """Return the nodes of a graph, each convolution with what follows it in one.

    A node that several others use ends a chain, so every value that is needed is still there.

    Returns:
        The nodes in order, and the number of the one that gives the output.
    """
    nodes = graph.nodes
    users = consumers_of(nodes, graph.output)
    taken: set[int] = set()
    chains: dict[int, _Chain] = {}
    # Back to front: of two convolutions whose sum is taken, the later one adds the earlier.
    for number in range(len(nodes) - 1, -1, -1):
        if _is_conv(nodes[number]):
            chain = _chain(nodes, users, number, taken)
            chains[chain.last] = chain
            taken |= {n for n in (chain.add, chain.relu) if n is not None}
    inside = {
        n for c in chains.values() for n in (c.conv, c.norm, c.add) if n is not None and n != c.last
    }
    return _rebuilt(graph, chains, inside)


def _rebuilt(
    graph: Graph, chains: dict[int, _Chain], inside: set[int]
) -> tuple[tuple[Node, ...], int]:
    parts = {last: _parts(graph.nodes, chain) for last, chain in chains.items()}
    used = {graph.output, 0}
    for number in range(len(graph.nodes) - 1, -1, -1):
        if number in used:
            used.update(_inputs(graph.nodes, number, chains, parts))
    numbers: dict[int, int] = {}
    rebuilt: list[Node] = []
    for number, node in enumerate(graph.nodes):
        if number in inside or number not in used:
            continue
        if number in chains:
            rebuilt.append(_conv_node(graph.nodes, chains[number], parts[number], numbers))
        else:
            rebuilt.append(renumbered(node, numbers))
        numbers[number] = len(rebuilt) - 1
    return tuple(rebuilt), numbers[graph.output]


def _inputs(
    nodes: Sequence[Call],
    number: int,
    chains: dict[int, _Chain],
    parts: dict[int, tuple[int, ...]],
) -> tuple[int, ...]:
    if number not in chains:
        return nodes[number].inputs
    residual = _residual(nodes, chains[number])
    return parts[number] if residual is None else (*parts[number], residual)


def _is_conv(node: Call) -> bool:
    if node.op is not aten.conv2d.default or not isinstance(node.args[0], Ref):
        return False
    args = _conv_args(node)
    return (
        isinstance(args[1], Key)
        and (args[2] is None or isinstance(args[2], Key))
        and all(isinstance(size, int) for part in args[3:6] for size in part)
    )


def _conv_args(node: Call) -> list[Any]:
    defaults = (None, None, None, [1, 1], [0, 0], [1, 1], 1)
    given = [*node.args, *defaults[len(node.args) :]]
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    return [node.kwargs.get(name, value) for name, value in zip(names, given, strict=True)]


def _only_user(users: Sequence[Sequence[int]], nodes: Sequence[Call], number: int) -> Call | None:
    """Return the node that uses a value, if no other does and it is not the network's output."""
    # What another node or the caller asks for has to come out as it is, not folded into the next.
    if len(users[number]) != 1 or users[number][0] >= len(nodes):
        return None
    return nodes[users[number][0]]


def _chain(
    nodes: Sequence[Call], users: Sequence[Sequence[int]], conv: int, taken: set[int]
) -> _Chain:
    chain, end = _Chain(conv), conv
    follower = _only_user(users, nodes, end)
    if follower is not None and _normalises(follower, end):
        end = users[end][0]
        chain = _Chain(conv, norm=end)
        follower = _only_user(users, nodes, end)
    if follower is not None and _adds(follower) and users[end][0] not in taken:
        end = users[end][0]
        chain = _Chain(conv, chain.norm, add=end)
        follower = _only_user(users, nodes, end)
    if follower is not None and follower.op is aten.relu.default and users[end][0] not in taken:
        chain = _Chain(conv, chain.norm, chain.add, relu=users[end][0])
    return chain


def _normalises(node: Call, conv: int) -> bool:
    if node.op is not batch_norm or node.args[0] != Ref(conv):
        return False
    return all(isinstance(a, Key) or (a is None and i < 2) for i, a in enumerate(node.args[1:5]))


def _adds(node: Call) -> bool:
    return (
        node.op is add_alike
        and all(isinstance(a, Ref) for a in node.args)
        and len(node.inputs) == 2
    )


def _residual(nodes: Sequence[Call], chain: _Chain) -> int | None:
    if chain.add is None:
        return None
    end = chain.conv if chain.norm is None else chain.norm
    return next(n for n in nodes[chain.add].inputs if n != end)


def _parts(nodes: Sequence[Call], chain: _Chain) -> tuple[int, ...]:
    """Return what the convolution's input is put together from, if it is put together."""
    source: int = nodes[chain.conv].args[0].node
    node = nodes[source]
    groups = _conv_args(nodes[chain.conv])[6]
    if node.op is not aten.cat.default or groups != 1 or node.args[1:] != (1,):
        return (source,)
    pieces = node.args[0]
    # A part that comes twice would move both of its shares at once, of which one was kept.
    if all(isinstance(p, Ref) for p in pieces) and len(set(pieces)) == len(pieces):
        return tuple(p.node for p in pieces)
    return (source,)


def _conv_node(
    nodes: Sequence[Call], chain: _Chain, parts: tuple[int, ...], numbers: dict[int, int]
) -> ConvNode:
    _, weight, bias, stride, padding, dilation, groups = _conv_args(nodes[chain.conv])
    norm = None
    if chain.norm is not None:
        _, scale, shift, mean, var, eps = nodes[chain.norm].args
        names = [None if key is None else key.name for key in (scale, shift)]
        norm = Norm(names[0], names[1], mean.name, var.name, eps)
    residual = _residual(nodes, chain)
    return ConvNode(
        parts=tuple(numbers[part] for part in parts),
        weight=weight.name,
        bias=None if bias is None else bias.name,
        geometry=Geometry(_pair(stride), _pair(padding), _pair(dilation), groups),
        norm=norm,
        residual=None if residual is None else numbers[residual],
        relu=chain.relu is not None,
    )


def _pair(sizes: Sequence[int]) -> tuple[int, ...]:
    return (sizes[0], sizes[0]) if len(sizes) == 1 else tuple(sizes)
