"""Bring one model's channels into another's order before the two are compared.

The channels of a hidden layer can change places, if those of every layer that reads them follow,
and the network computes the same. Two models that were started independently have their channels
in unrelated orders, so raw distances between them are those of unrelated tensors. Source: Git
Re-Basin (Ainsworth et al., ICLR 2023, arXiv 2209.04836), algorithm 1, weight matching.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from paramreuse.alignment.channels import ChannelGroup, Slot
from paramreuse.alignment.trace import aliases_of, channel_groups
from paramreuse.compare.pair_sums import PairSums, pair_sums
from paramreuse.sites.lending import Lent, Weights, is_swappable, lend, tensors_of
from paramreuse.sites.matching import Site, compare_sites, require_sites, source_key

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = [
    *("layer", "path", "kind", "key", "elements"),
    *("rmse_before", "rmse_after", "relative_rmse_before", "relative_rmse_after"),
]
_MAX_SWEEPS = 100
# In parts of what a perfect match would give. Rounding gives smaller gains, without end.
_SMALLEST_GAIN = 1e-6


@dataclass(frozen=True, slots=True)
class AlignedDistance:
    """How far a site is from the source's, before and after alignment.

    Attributes:
        site: Where.
        before: Sums of the tensors as they are.
        after: Sums with the source's channels brought onto the target's.
    """

    site: Site
    before: PairSums
    after: PairSums


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """Permutations of a source's channels that bring it onto a target.

    Attributes:
        groups: Every group of channels that belong together, in the order of the state dict. A
            frozen one says why its channels stay in place.
        permutations: For each group that is not frozen, by its name, which channel of the source
            comes to the place of each channel of the target, int64, shape ``(C,)``.
        rows: One per site that both models have, front to back.
        keys: Keys of the target's state dict.
        aliases: Keys of further names of a tensor, to the one under which the groups name it.
    """

    groups: tuple[ChannelGroup, ...]
    permutations: Mapping[str, Tensor]
    rows: tuple[AlignedDistance, ...]
    keys: tuple[str, ...]
    aliases: Mapping[str, str]

    @property
    def frozen(self) -> dict[str, str]:
        """Name of each group that stays in place, and why."""
        return {group.name: group.frozen for group in self.groups if group.frozen}

    def apply(self, source: Weights) -> dict[str, Tensor]:
        """Return the source's tensors with their channels permuted; it computes what it did.

        Args:
            source: The source that was aligned, or any other of the same shapes, left as it is.

        Returns:
            New tensors under the target's names, ready for ``load_state_dict``.

        Raises:
            SiteMismatchError: A tensor has another number of channels.
        """
        tensors = Lent(tensors_of(source), self.keys)
        permuted = {key: tensors[key].detach().clone() for key in tensors}
        slots: dict[str, list[tuple[Slot, Tensor]]] = {}
        for group in self.groups:
            for slot in group.slots if group.name in self.permutations else ():
                slots.setdefault(slot.key, []).append((slot, self.permutations[group.name]))
        for key, tensor in permuted.items():
            for slot, permutation in slots.get(self.aliases.get(key, key), ()):
                slot.permute_(tensor, permutation)
        return permuted

    def frame(self) -> "pd.DataFrame":
        """Return the rows as a table.

        Columns ``layer path kind key elements rmse_before rmse_after relative_rmse_before
        relative_rmse_after``.
        """
        import pandas as pd

        rows = [
            (
                *(row.site.layer, row.site.path, str(row.site.kind), row.site.key),
                *(row.before.elements, row.before.rmse, row.after.rmse),
                *(row.before.relative_rmse, row.after.relative_rmse),
            )
            for row in self.rows
        ]
        return pd.DataFrame(rows, columns=_COLUMNS)


def align_models(
    target: nn.Module, source: Weights, example_input: Tensor, *, seed: int = 0
) -> Alignment:
    """Find the permutations of a source's channels that bring it nearest to a target.

    Groups of channels are found by tracing the target, so any network works; where an operation is
    not understood its channels stay in place, and ``Alignment.frozen`` says so. What is maximised
    is the sum of products of target and source, each tensor divided by its size so that every
    element counts alike, by coordinate descent over the groups from two starts: the source as it
    is, and layer by layer from the input. Neither model is changed.

    Args:
        target: Network.
        source: Model, state dict or checkpoint path that fits it.
        example_input: One batch for the target, shape ``(N, C, H, W)`` or whatever it takes.
        seed: Seed of the order in which groups are visited.

    Returns:
        The permutations, and the distances before and after.

    Raises:
        ModelError: The target cannot be traced.
        SiteMismatchError: No tensor of the source fits any site of the target.
    """
    ours = tensors_of(target)
    theirs = lend(ours, source)
    match = compare_sites(target, theirs)
    require_sites(match)
    groups = [_fitting(group, theirs) for group in channel_groups(target, example_input)]
    live = [group for group in groups if not group.frozen]
    order = np.random.default_rng(seed)
    starts = (_Matching(live, ours, theirs) for _ in range(2))
    # Descent ends where no single group can improve, and where that is depends on its start: the
    # source as it is suits models of one start, layer by layer undoes any mere permutation.
    ends = [_descend(start, order, layer_by_layer=bool(at)) for at, start in enumerate(starts)]
    best = max(ends, key=_Matching.objective)
    names = [group.name for group in live]
    permutations = dict(zip(names, best.permutations, strict=True))
    alignment = Alignment(tuple(groups), permutations, (), tuple(ours), aliases_of(target))
    aligned = alignment.apply(theirs)
    rows = tuple(_distances(site, ours[site.key], theirs, aligned) for site in match.sites)
    return replace(alignment, rows=rows)


def _fitting(group: ChannelGroup, source: Lent) -> ChannelGroup:
    for slot in group.slots:
        if slot.key in source:
            shape = source.shape_of(slot.key)
            sizes = shape if slot.rows is None else (slot.rows[1] - slot.rows[0], *shape[1:])
            if len(sizes) <= slot.dim or sizes[slot.dim] != slot.size:
                reason = f"the source's {slot.key!r} has shape {shape}, so other channels"
                return replace(group, frozen=group.frozen or reason)
    return group


def _distances(
    site: Site, target: Tensor, source: Mapping[str, Tensor], aligned: Mapping[str, Tensor]
) -> AlignedDistance:
    key = source_key(site, source)
    assert key is not None, f"{site.key} was matched"
    return AlignedDistance(site, pair_sums(target, source[key]), pair_sums(target, aligned[key]))


class _Matching:
    """The source's tensors under the permutations found so far, beside the target's.

    Attributes:
        groups: What may be permuted.
        permutations: One per group, int64, shape ``(C,)``.
    """

    def __init__(
        self, groups: Sequence[ChannelGroup], ours: Mapping[str, Tensor], theirs: Lent
    ) -> None:
        self.groups = groups
        self.permutations = [torch.arange(group.size) for group in groups]
        self._ours: dict[str, Tensor] = {}
        self._theirs: dict[str, Tensor] = {}
        keys = dict.fromkeys(slot.key for group in groups for slot in group.slots)
        for key in (key for key in keys if _has_shape(theirs, key, ours[key].shape)):
            mine, other = _of_unit_size(ours[key]), _of_unit_size(theirs[key])
            if mine is not None and other is not None:
                self._ours[key], self._theirs[key] = mine, other
        self._members = _groups_by_part(groups)

    def slots(self, index: int, settled: Container[int]) -> list[Slot]:
        """Return where a group stands in tensors whose other groups are all settled."""
        return [
            slot
            for slot in self.groups[index].slots
            if slot.key in self._ours
            and all(
                other == index or other in settled for other in self._members[slot.key, slot.rows]
            )
        ]

    def neighbours(self, index: int) -> set[int]:
        """Return the groups that stand in a tensor together with a group."""
        slots = self.groups[index].slots
        near = set().union(*(self._members[slot.key, slot.rows] for slot in slots))
        # A group on both sides of one tensor (W[i, j] with both i and j its own) changes what it
        # is compared with when it moves, so it is to be looked at again.
        return near if self._stands_twice(slots) else near - {index}

    @staticmethod
    def _stands_twice(slots: Sequence[Slot]) -> bool:
        return len({(slot.key, slot.rows) for slot in slots}) < len(slots)

    def improve(self, index: int, slots: Sequence[Slot]) -> bool:
        """Give a group its best permutation, all others as they are; tell whether it changed."""
        if not slots:
            return False
        likeness = sum(self._likeness(slot) for slot in slots)
        assert isinstance(likeness, np.ndarray)
        # The objective is linear in one group's permutation as long as all others stand still, so
        # the assignment with the largest sum is the best one, not only a better one.
        rows, step = linear_sum_assignment(likeness, maximize=True)
        gain = likeness[rows, step].sum() - np.trace(likeness)
        if gain <= _SMALLEST_GAIN * sum(slot.part(self._ours[slot.key]).numel() for slot in slots):
            return False
        # Where the group stands on both sides of one tensor the objective is quadratic, and the
        # assignment, which holds one side in place, may make it worse: then the step is undone.
        twice = self._stands_twice(slots)
        before = self.objective() if twice else 0.0
        self._permute(index, torch.from_numpy(step))
        if twice and self.objective() <= before:
            self._permute(index, torch.from_numpy(np.argsort(step)))
            return False
        return True

    def objective(self) -> float:
        """Return the sum of products of target and source."""
        return sum(
            float(torch.dot(ours.flatten(), self._theirs[key].flatten()))
            for key, ours in self._ours.items()
        )

    def _likeness(self, slot: Slot) -> NDArray[np.float64]:
        """Return the product of each channel of the target with each of the source's."""
        ours, theirs = (
            slot.by_channel(self._ours[slot.key]),
            slot.by_channel(self._theirs[slot.key]),
        )
        return (ours @ theirs.T).double().numpy()

    def _permute(self, index: int, step: Tensor) -> None:
        self.permutations[index] = self.permutations[index][step]
        for slot in self.groups[index].slots:
            if slot.key in self._theirs:
                slot.permute_(self._theirs[slot.key], step)


def _has_shape(source: Lent, key: str, shape: torch.Size) -> bool:
    return key in source and source.shape_of(key) == tuple(shape)


def _groups_by_part(groups: Sequence[ChannelGroup]) -> dict[tuple[object, ...], set[int]]:
    """Return the numbers of the groups that stand in each part of a tensor."""
    members: dict[tuple[object, ...], set[int]] = {}
    for index, group in enumerate(groups):
        for slot in group.slots:
            members.setdefault((slot.key, slot.rows), set()).add(index)
    return members


def _of_unit_size(tensor: Tensor) -> Tensor | None:
    """Return a float32 copy with mean square 1; None where no such exists."""
    if not is_swappable(tensor.dtype):
        return None
    values = tensor.detach().to("cpu", torch.float64)
    size = values.square().mean().sqrt()
    if not torch.isfinite(size) or not size:
        return None
    return (values / size).float()


def _descend(state: _Matching, order: np.random.Generator, *, layer_by_layer: bool) -> _Matching:
    """Improve group by group until none improves.

    Args:
        state: Where to start; it is changed.
        order: Gives the order of the groups in each sweep.
        layer_by_layer: Whether to begin with one sweep from the input on in which a group looks
            only at tensors whose other channels are settled already, which finds the way of a
            merely permuted copy at once.
    """
    everyone = range(len(state.groups))
    if layer_by_layer:
        settled: set[int] = set()
        for index in everyone:
            if slots := state.slots(index, settled):
                state.improve(index, slots)
                settled.add(index)
    # Every step raises the objective and there are finitely many permutations, so this ends. A
    # group whose neighbours have not moved would find the same assignment, so it is not asked.
    waiting = set(everyone)
    for _ in range(_MAX_SWEEPS):
        for index in order.permutation(sorted(waiting)).tolist():
            waiting.discard(index)
            if state.improve(index, state.slots(index, everyone)):
                waiting |= state.neighbours(index)
        if not waiting:
            break
    return state
