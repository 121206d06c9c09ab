"""A network as a list of calls: which value needs which, and which tensors of the model."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Ref:
    """Stands in a call's arguments for the value of an earlier node."""

    node: int


@dataclass(frozen=True, slots=True)
class Key:
    """Stands in a call's arguments for a tensor of the model."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One node: a pure function of earlier values and of tensors of the model.

    Attributes:
        op: What is called. The first node of a graph stands for the input and is never called.
        args: Positional arguments, in which ``Ref`` and ``Key`` are filled in.
        kwargs: Named arguments, filled in as ``args`` are.
        inputs: Numbers of the nodes among the arguments.
        keys: Names of the tensors among the arguments.
    """

    op: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[int, ...] = field(init=False)
    keys: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        leaves = list(_leaves((self.args, dict(self.kwargs))))
        inputs = dict.fromkeys(leaf.node for leaf in leaves if isinstance(leaf, Ref))
        object.__setattr__(self, "inputs", tuple(inputs))
        keys = frozenset(leaf.name for leaf in leaves if isinstance(leaf, Key))
        object.__setattr__(self, "keys", keys)

    def run(self, values: Mapping[int, Any], tensors: Mapping[str, Tensor]) -> Any:
        """Call the function with every argument filled in."""
        return self.op(
            *(_filled(arg, values, tensors) for arg in self.args),
            **{name: _filled(arg, values, tensors) for name, arg in self.kwargs.items()},
        )


def _leaves(item: object) -> Iterator[object]:
    if isinstance(item, tuple | list):
        for part in item:
            yield from _leaves(part)
    elif isinstance(item, dict):
        for part in item.values():
            yield from _leaves(part)
    elif isinstance(item, slice):
        yield from _leaves((item.start, item.stop, item.step))
    else:
        yield item


def _filled(item: Any, values: Mapping[int, Any], tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(item, Ref):
        return values[item.node]
    if isinstance(item, Key):
        return tensors[item.name]
    if isinstance(item, tuple | list):
        return type(item)(_filled(part, values, tensors) for part in item)
    if isinstance(item, dict):
        return {name: _filled(part, values, tensors) for name, part in item.items()}
    if isinstance(item, slice):
        return slice(*(_filled(p, values, tensors) for p in (item.start, item.stop, item.step)))
    return item


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """Every call of one forward pass, in order.

    Attributes:
        nodes: The calls; the first stands for the input.
        output: Number of the node that gives the network's output.
        tensors: Every tensor that the calls name, by key: the model's own, and constants.
        canonical: For each key of a tied tensor the one key by which the calls name it.
        num_samples: The only number of samples that the graph serves, if there is only one.
    """

    nodes: tuple[Call, ...]
    output: int
    tensors: Mapping[str, Tensor]
    canonical: Mapping[str, str]
    num_samples: int | None = None


def consumers_of(nodes: Sequence[Any], output: int) -> list[list[int]]:
    """Return, per node, the nodes that use its value; the output is used by one past the last."""
    users: list[list[int]] = [[] for _ in nodes]
    for number, node in enumerate(nodes):
        for used in node.inputs:
            users[used].append(number)
    users[output].append(len(nodes))
    return users


def dependent_nodes(nodes: Sequence[Any], keys: Collection[str]) -> frozenset[int]:
    """Return the nodes whose value depends on one of ``keys``."""
    moved = set(keys)
    dirty: set[int] = set()
    # Nodes are in the order of execution: what a node uses has been decided when it is reached.
    for number, node in enumerate(nodes):
        if not node.keys.isdisjoint(moved) or any(used in dirty for used in node.inputs):
            dirty.add(number)
    return frozenset(dirty)


def without_unused(nodes: Sequence[Call], output: int) -> tuple[tuple[Call, ...], int]:
    """Leave out the nodes that the output does not need, and renumber the others."""
    needed = {0, output}
    # Backwards, all users of a node come before it, so one pass finds everything that is needed.
    for number in range(len(nodes) - 1, -1, -1):
        if number in needed:
            needed.update(nodes[number].inputs)
    numbers = {old: new for new, old in enumerate(sorted(needed))}
    return tuple(renumbered(nodes[old], numbers) for old in sorted(needed)), numbers[output]


def renumbered(node: Call, numbers: Mapping[int, int]) -> Call:
    """Return a call that refers to other nodes."""
    return substituted(node, {old: Ref(new) for old, new in numbers.items()})


def substituted(node: Call, values: Mapping[int, object]) -> Call:
    """Return a call with something else in place of some of the nodes that it refers to."""
    refs = {number: values.get(number, Ref(number)) for number in node.inputs}
    args = _filled(node.args, refs, _KEEP_KEYS)
    return Call(node.op, args, _filled(dict(node.kwargs), refs, _KEEP_KEYS))


class _SameKeys(dict[str, Any]):
    def __missing__(self, name: str) -> Key:
        return Key(name)


_KEEP_KEYS = _SameKeys()
