"""What to compute for a swap, in which order, from what was kept, and when to let go of what."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from paramreuse.engine.convolution import ConvNode
from paramreuse.engine.fusion import Node
from paramreuse.engine.graph import dependent_nodes

RAW = "raw"
"""The bare convolution of a node, before norm, residual and activation."""

Slot: TypeAlias = tuple[int, object]
"""What may be kept: ``(node, None)`` its value, ``(node, RAW)`` its bare convolution,
``(node, parts)`` what the convolution makes of some of its input's parts, shift included."""


@dataclass(frozen=True, slots=True)
class Step:
    """One node to compute.

    Attributes:
        node: Its number.
        moved: Whether the swap changes its value; else it is recomputed as it was, not having been
            kept.
        base: Kept slot to start from: the bare convolution, or the contribution of the parts that
            did not move.
        parts: Which parts of a convolution's input are computed; all of them if left out.
        releases: Nodes whose value no later step needs.
    """

    node: int
    moved: bool
    base: Slot | None = None
    parts: tuple[int, ...] | None = None
    releases: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Schedule:
    """Everything to do for one set of swapped tensors.

    Attributes:
        steps: In order.
        reads: Slots that are kept from the baseline pass.
        folds: Nodes whose kernel has to be folded with the swapped tensors.
    """

    steps: tuple[Step, ...]
    reads: frozenset[Slot]
    folds: tuple[int, ...]


def make_schedule(
    nodes: Sequence[Node],
    output: int,
    keys: Collection[str],
    is_kept: Callable[[Slot], bool] = lambda slot: True,
) -> Schedule:
    """Work out what a swap of ``keys`` takes.

    Args:
        nodes: The network.
        output: Number of the node that gives its output.
        keys: The swapped tensors.
        is_kept: Which slots the baseline pass keeps. What is not kept is recomputed.
    """
    # Back from the output: what is kept ends the search, so nothing is computed that it does not
    # need, and all that it needs is.
    moved = dependent_nodes(nodes, keys)
    steps: dict[int, Step] = {}
    reads: set[Slot] = set()
    pending = [output]
    while pending:
        number = pending.pop()
        if number in steps or (number, None) in reads:
            continue
        if number not in moved and is_kept((number, None)):
            reads.add((number, None))
            continue
        step = _step(nodes, number, keys, moved, is_kept)
        steps[number] = step
        if step.base is not None:
            reads.add(step.base)
        pending += inputs_of(nodes[number], step)
    folds = tuple(n for n, s in sorted(steps.items()) if _needs_fold(nodes[n], s, keys))
    return Schedule(_with_releases(nodes, output, steps), frozenset(reads), folds)


def _step(
    nodes: Sequence[Node],
    number: int,
    keys: Collection[str],
    moved: frozenset[int],
    is_kept: Callable[[Slot], bool],
) -> Step:
    node, changed = nodes[number], number in moved
    if not isinstance(node, ConvNode) or node.weight in keys:
        return Step(number, changed)
    # With its own kernel swapped, neither the bare convolution nor a part of it is what it was.
    fresh = tuple(i for i, part in enumerate(node.parts) if part in moved)
    rest = tuple(i for i in range(len(node.parts)) if i not in fresh)
    if not fresh and is_kept((number, RAW)):
        return Step(number, changed, base=(number, RAW), parts=())
    # What the unmoved parts contribute was folded with the clean norm and bias, so these must stay.
    if fresh and rest and node.keys.isdisjoint(keys) and is_kept((number, rest)):
        return Step(number, changed, base=(number, rest), parts=fresh)
    return Step(number, changed)


def inputs_of(node: Node, step: Step) -> tuple[int, ...]:
    """Return the nodes whose values a step takes."""
    if not isinstance(node, ConvNode) or step.parts is None:
        return node.inputs
    used = tuple(node.parts[i] for i in step.parts)
    return used if node.residual is None else (*used, node.residual)


def _needs_fold(node: Node, step: Step, keys: Collection[str]) -> bool:
    return isinstance(node, ConvNode) and step.parts is None and not node.keys.isdisjoint(keys)


def _with_releases(
    nodes: Sequence[Node], output: int, steps: Mapping[int, Step]
) -> tuple[Step, ...]:
    seen = {output}
    backwards: list[Step] = []
    for number in sorted(steps, reverse=True):
        step = steps[number]
        used = inputs_of(nodes[number], step)
        last = tuple(dict.fromkeys(n for n in used if n in steps and n not in seen))
        seen.update(last)
        backwards.append(Step(number, step.moved, step.base, step.parts, last))
    return tuple(reversed(backwards))


def useful_slots(nodes: Sequence[Node], output: int) -> dict[Slot, int]:
    """Return every slot that some swap would read, and the number of tensors whose swap does.

    A node that depends on several swapped tensors reads nothing that a swap of one does not, but
    for combinations of parts, so single tensors tell what is worth keeping.
    """
    counts: dict[Slot, int] = {}
    for key in sorted(frozenset().union(*(node.keys for node in nodes))):
        for slot in make_schedule(nodes, output, {key}).reads:
            counts[slot] = counts.get(slot, 0) + 1
    return counts
