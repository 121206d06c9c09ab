"""The rewind audit: which blocks of a fine-tuned source needed the training, and which did not.

Each block of the fine-tuned network is put back to the source's values (*rewind*), with a fresh
draw (``reinit``) as the control. A fine-tuned copy lies in its source's basin (Neyshabur et al.,
2020, arXiv 2008.11687), so a block can be put back meaningfully; between independent starts it
cannot.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from paramreuse.recommendation.labelled import LabelledSet
from paramreuse.reuse.blocks import Block
from paramreuse.reuse.plan import Action, Plan, PlanEntry
from paramreuse.reuse.recipe import Recipe
from paramreuse.sites.lending import Weights
from paramreuse.sites.swaps import Swap
from paramreuse.sweep.scores import Score
from paramreuse.sweep.sweeping import sweep_sites

MATTERS = 0.02
"""Drop of a fresh draw below which a block is indifferent, in units of the score."""

SLOWEST = 0.1
"""Smallest factor on the learning rate that the audit gives."""


@dataclass(frozen=True, slots=True)
class BlockAudit:
    """What putting one block back costs.

    Attributes:
        block: Name of the block.
        rewind: Mean drop when the block is put back to the source's values.
        reinit: Mean drop when it is drawn afresh.
    """

    block: str
    rewind: float
    reinit: float

    @property
    def reading(self) -> str:
        """What it says about the block, in the words of the plan's reasons."""
        if self.reinit <= MATTERS:
            return "indifferent: a fresh draw does as well"
        if self.rewind <= 0:
            return "the source serves as it is"
        if self.rewind < self.reinit / 2:
            return "the source helps, training it helps more"
        return "the source is worth no more than a fresh draw"


def rewind_drops(
    tuned: nn.Module,
    source: Weights,
    blocks: Sequence[Block],
    data: LabelledSet,
    score: Score,
    *,
    seed: int = 0,
) -> np.ndarray:
    """Put each block back in turn, to the source's values and to a fresh draw.

    Args:
        tuned: Network that was fine-tuned from the source, in evaluation mode; left as it is.
        source: The source.
        blocks: Blocks of the network; sites that the source lacks are not among them.
        data: Samples that the fine-tuning has not seen.
        score: How it is scored.
        seed: Of the fresh draws.

    Returns:
        Drops of the mean foreground score, shape ``(blocks, 2, subjects)``: rewind, reinit.
    """
    swaps = [Swap(f"block {b.name}", b.sites, b.sites[0]) for b in blocks]
    # So few and so large swaps leave nothing that could be kept: plain passes are faster.
    sweep = sweep_sites(
        tuned,
        source,
        data.batches(),
        score,
        swaps=swaps,
        controls=("reinit",),
        engine="full",
        seed=seed,
    )
    return np.array(
        [[sweep.drops(swap.name, name)[:, -1] for name in ("source", "reinit")] for swap in swaps]
    )


def audit_blocks(blocks: Sequence[Block], drops: np.ndarray) -> tuple[BlockAudit, ...]:
    """Average the drops over all held-out subjects, shape ``(blocks, 2, subjects)``."""
    means = np.nanmean(drops, axis=2)
    return tuple(
        BlockAudit(block.name, float(rewind), float(reinit))
        for block, (rewind, reinit) in zip(blocks, means, strict=True)
    )


def rewind_plan(
    blocks: Sequence[Block], audits: Sequence[BlockAudit], *, num_subjects: int, source: str = ""
) -> Plan:
    """Freeze what training did not help, slow what it hardly helped, leave what is no use.

    Args:
        blocks: Blocks of the network.
        audits: What putting each back costs, in the same order.
        num_subjects: Labelled subjects; from eight on a block is slowed rather than frozen.
        source: Name of the source, for the record.
    """
    largest = max((audit.rewind for audit in audits if audit.reinit > MATTERS), default=0.0)
    entries = []
    for block, audit in zip(blocks, audits, strict=True):
        action, rate = _treatment(audit, largest, num_subjects)
        entries += [PlanEntry(site, action, audit.reading, rate) for site in block.sites]
    return Plan(tuple(entries), source, recipe=Recipe(recalibrate=True))


def _treatment(audit: BlockAudit, largest: float, num_subjects: int) -> tuple[Action, float]:
    if audit.reinit <= MATTERS:
        return Action.TRAIN, 1.0
    if audit.rewind <= 0:
        return (Action.TRAIN, SLOWEST) if num_subjects >= 8 else (Action.FREEZE, 1.0)
    if audit.rewind < audit.reinit / 2:
        return Action.TRAIN, float(np.clip(audit.rewind / largest, SLOWEST, 1.0))
    return Action.LEAVE, 1.0
