"""The rewind audit: which blocks of a fine-tuned source needed the training, and which did not.

Each block of the fine-tuned network is put back to the source's values (*rewind*), with a fresh
draw (``reinit``) as the control. A fine-tuned copy lies in its source's basin (Neyshabur et al.,
2020, arXiv 2008.11687), so a block can be put back meaningfully; between independent starts it
cannot.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from torch import nn

from paramreuse.errors import ScoreError
from paramreuse.recommendation.labelled import LabelledSet
from paramreuse.reuse.blocks import Block, blocks_of
from paramreuse.reuse.plan import Action, Plan, PlanEntry
from paramreuse.reuse.recipe import Recipe
from paramreuse.sites.lending import Weights
from paramreuse.sites.matching import match_sites
from paramreuse.sites.swaps import SOURCE, Swap
from paramreuse.sweep.batches import Batches
from paramreuse.sweep.intervals import estimate_means, mean_interval
from paramreuse.sweep.outcomes import Sweep
from paramreuse.sweep.scores import Score
from paramreuse.sweep.sweeping import sweep_sites

MATTERS = 0.02
"""Drop of a fresh draw below which a block is indifferent, in units of the score."""

SLOWEST = 0.1
"""Smallest factor on the learning rate that the audit gives."""

_PREFIX, _REINIT = "block ", "reinit"


@dataclass(frozen=True, slots=True)
class BlockAudit:
    """What putting one block back costs.

    Attributes:
        block: Name of the block.
        rewind: Mean drop when the block is put back to the source's values.
        reinit: Mean drop when it is drawn afresh.
        rewind_interval: Ends of the 95 % interval of ``rewind`` over subjects; NaN where there is
            none.
        reinit_interval: The same of ``reinit``.
    """

    block: str
    rewind: float
    reinit: float
    rewind_interval: tuple[float, float] = (nan, nan)
    reinit_interval: tuple[float, float] = (nan, nan)

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

    def to_dict(self) -> dict[str, object]:
        """Return the audit as a row of a table."""
        return {
            "block": self.block,
            "rewind": self.rewind,
            "rewind_low": self.rewind_interval[0],
            "rewind_high": self.rewind_interval[1],
            "reinit": self.reinit,
            "reinit_low": self.reinit_interval[0],
            "reinit_high": self.reinit_interval[1],
            "reading": self.reading,
        }


def rewind_sweep(
    tuned: nn.Module,
    source: Weights,
    batches: Batches,
    score: Score,
    *,
    blocks: Sequence[Block] | None = None,
    seed: int = 0,
) -> Sweep:
    """Put each block of a fine-tuned network back in turn, to its source and to a fresh draw.

    It tells which blocks needed the training, which may be frozen, and where the source is worth no
    more than a draw, for one fine-tuning and no further training. Score it on subjects that the
    fine-tuning has not seen: on its own training subjects every block looks needed.

    Args:
        tuned: Network that was fine-tuned from everything of the source, in evaluation mode; left
            as it is.
        source: Model, state dict or checkpoint path that the fine-tuning started from.
        batches: Re-iterable of ``(inputs, labels, subjects)``.
        score: ``Dice(num_classes=4)`` or another ``Score``.
        blocks: Blocks of the network; those of ``blocks_of`` if None.
        seed: Of the fresh draws.

    Returns:
        A sweep of one swap per block, ``source`` being the rewind and ``reinit`` its control.

    Raises:
        SiteMismatchError: Nothing of the source fits the network.
        ModelError: The network is in training mode, or does not return a tensor.
        ScoreError: The batches cannot be used, or no subject has a foreground class.
    """
    chosen = blocks_of(match_sites(tuned, source)) if blocks is None else blocks
    swaps = [Swap(f"{_PREFIX}{block.name}", block.sites, block.sites[0]) for block in chosen]
    # So few and so large swaps leave nothing that could be kept: plain passes are faster.
    return sweep_sites(
        tuned,
        source,
        batches,
        score,
        swaps=swaps,
        controls=(_REINIT,),
        engine="full",
        seed=seed,
    )


def rewind_drops(
    tuned: nn.Module,
    source: Weights,
    blocks: Sequence[Block],
    data: LabelledSet,
    score: Score,
    *,
    seed: int = 0,
) -> np.ndarray:
    """Return what ``rewind_sweep`` measures on samples in memory, subject by subject.

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
    sweep = rewind_sweep(tuned, source, data.batches(), score, blocks=blocks, seed=seed)
    return _drops_of(sweep)


def _drops_of(sweep: Sweep) -> np.ndarray:
    names = (SOURCE, _REINIT)
    return np.array(
        [[sweep.drops(swap.name, name)[:, -1] for name in names] for swap in sweep.swaps]
    )


def audit_blocks(blocks: Sequence[Block], drops: np.ndarray) -> tuple[BlockAudit, ...]:
    """Average the drops over all held-out subjects, shape ``(blocks, 2, subjects)``."""
    return audit_named([block.name for block in blocks], drops)


def audit_named(names: Sequence[str], drops: np.ndarray) -> tuple[BlockAudit, ...]:
    """Do the same where only the names of the blocks are known."""
    flat = drops.reshape(-1, drops.shape[-1]).T
    means = estimate_means(flat).mean.tolist()
    low, high = (ends.tolist() for ends in mean_interval(flat))
    return tuple(
        BlockAudit(
            name,
            means[2 * k],
            means[2 * k + 1],
            (low[2 * k], high[2 * k]),
            (low[2 * k + 1], high[2 * k + 1]),
        )
        for k, name in enumerate(names)
    )


def audit_rewind(sweep: Sweep) -> tuple[BlockAudit, ...]:
    """Read a rewind sweep: what putting each block back costs, and what that says.

    Args:
        sweep: What ``rewind_sweep`` measured.

    Raises:
        ScoreError: The sweep has no control ``reinit``.
    """
    return audit_blocks(_blocks_in(sweep), _drops_of(sweep))


def plan_by_rewind(sweep: Sweep, *, num_subjects: int, source: str = "") -> Plan:
    """Plan by a rewind sweep: freeze what training did not help, leave what is no use.

    Args:
        sweep: What ``rewind_sweep`` measured.
        num_subjects: Labelled subjects that will be trained on; from eight on a block is slowed
            rather than frozen.
        source: Name of the source, for the record.

    Raises:
        ScoreError: The sweep has no control ``reinit``.
    """
    audits = audit_rewind(sweep)
    return rewind_plan(_blocks_in(sweep), audits, num_subjects=num_subjects, source=source)


def _blocks_in(sweep: Sweep) -> tuple[Block, ...]:
    if _REINIT not in sweep.controls:
        raise ScoreError(
            f"cannot read a rewind sweep: expected the control 'reinit', got {sweep.controls}. "
            "Measure it with rewind_sweep"
        )
    return tuple(Block(swap.name.removeprefix(_PREFIX), swap.sites) for swap in sweep.swaps)


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
