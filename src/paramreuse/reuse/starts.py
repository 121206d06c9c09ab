"""Starts: plans that say how much of a source is loaded, front to back, and how it is trained.

Units are blocks with their normalisations, since loaded and fresh layers that alternate break what
was learned together (Yosinski et al., 2014, arXiv 1411.1792).
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from paramreuse.reuse.blocks import Block
from paramreuse.reuse.plan import Action, Plan, PlanEntry
from paramreuse.reuse.recipe import Recipe
from paramreuse.sites.matching import Site

HEAD_FIRST = 0.25
"""Share of the steps that LP-FT spends on the head alone."""

GENTLE_RATE, GENTLE_ANCHOR = 0.3, 0.01
"""Factor on the learning rate, and pull towards the source, of a gentle training."""

SLOWED = 0.7
"""Factor on the learning rate from one block to the next."""

_RECALIBRATED = Recipe(recalibrate=True)


def full_plan(sites: Sequence[Site], *, source: str = "") -> Plan:
    """Load everything that fits and train all of it."""
    return Plan(tuple(PlanEntry(s, Action.TRAIN, "everything") for s in sites), source)


def head_plan(sites: Sequence[Site], *, source: str = "") -> Plan:
    """Load everything, hold the body with its statistics, train the output layer."""
    entries = tuple(
        PlanEntry(site, Action.TRAIN if site.is_output else Action.FREEZE, "head only")
        for site in sites
    )
    return Plan(entries, source)


def body_plan(sites: Sequence[Site], *, source: str = "") -> Plan:
    """Load everything but the output layer and train all of it."""
    return _leaving(sites, {s.key for s in sites if s.is_output}, source, "everything but the head")


def prefix_plan(blocks: Sequence[Block], share: float, *, source: str = "") -> Plan:
    """Load the front blocks that hold a share of the kernel layers, and train everything.

    Args:
        blocks: All blocks, front to back.
        share: Of the kernel layers, above 0 and below 1; the nearest end of a block is taken.
        source: Name of the source, for the record.
    """
    total = sum(block.num_kernels for block in blocks)
    ends = [sum(b.num_kernels for b in blocks[: k + 1]) / total for k in range(len(blocks))]
    cut = min(range(len(blocks) - 1), key=lambda k: (abs(ends[k] - share), k))
    left = {site.key for block in blocks[cut + 1 :] for site in block.sites}
    sites = [site for block in blocks for site in block.sites]
    return _leaving(sites, left, source, f"up to {blocks[cut].name}")


def suffix_plan(blocks: Sequence[Block], share: float, *, source: str = "") -> Plan:
    """Load the last blocks that hold a share of the kernel layers, and train everything."""
    front = prefix_plan(blocks, 1.0 - share, source=source)
    loaded = {site.key for site in front.loaded}
    sites = [site for block in blocks for site in block.sites]
    return _leaving(sites, loaded, source, f"the last {share:.0%} of the layers")


def _leaving(sites: Sequence[Site], left: Collection[str], source: str, reason: str) -> Plan:
    entries = tuple(
        PlanEntry(site, Action.LEAVE if site.key in left else Action.TRAIN, reason)
        for site in sites
    )
    return Plan(entries, source, recipe=_RECALIBRATED)


def gentle_plan(
    sites: Sequence[Site],
    *,
    source: str = "",
    rate: float = GENTLE_RATE,
    anchor: float = GENTLE_ANCHOR,
) -> Plan:
    """Load everything, train the body at a lower rate and pull it back (L2-SP, 1802.01483)."""
    entries = tuple(
        PlanEntry(s, Action.TRAIN, "gently", 1.0 if s.is_output else rate) for s in sites
    )
    return Plan(entries, source, recipe=Recipe(recalibrate=True, anchor=anchor))


def slowed_plan(blocks: Sequence[Block], *, front: bool, source: str = "") -> Plan:
    """Load everything and slow the front, or the rear, block by block (Surgical FT, 2210.11466)."""
    last = len(blocks) - 1
    entries = tuple(
        PlanEntry(site, Action.TRAIN, "slowed", SLOWED ** (last - k if front else k))
        for k, block in enumerate(blocks)
        for site in block.sites
    )
    return Plan(entries, source, recipe=_RECALIBRATED)


def rated_plan(blocks: Sequence[Block], rates: Sequence[float], *, source: str = "") -> Plan:
    """Load everything and train each block at a rate of its own.

    Args:
        blocks: All blocks, front to back.
        rates: Factor on the learning rate of each.
        source: Name of the source, for the record.
    """
    entries = tuple(
        PlanEntry(site, Action.TRAIN, f"rate {rate:.2g}", rate)
        for block, rate in zip(blocks, rates, strict=True)
        for site in block.sites
    )
    return Plan(entries, source, recipe=_RECALIBRATED)


def norms_plan(sites: Sequence[Site], *, source: str = "") -> Plan:
    """Load everything, train normalisations and the output layer only (AC-Norm, 2307.15282)."""
    entries = tuple(
        PlanEntry(
            site,
            Action.TRAIN if site.is_output or site.family == "norm" else Action.FREEZE,
            "normalisations and head",
        )
        for site in sites
    )
    return Plan(entries, source, recipe=_RECALIBRATED)


def recalibrating(plan: Plan) -> Plan:
    """Return a plan after which running statistics are recomputed on the training images."""
    return replace(plan, recipe=replace(plan.recipe, recalibrate=True))


def mixed(plan: Plan, mix: float) -> Plan:
    """Return a plan whose result is interpolated back towards the source (WiSE-FT, 2109.01903).

    It is recalibrated too: the statistics of neither end fit what lies between (REPAIR).
    """
    return recalibrating(replace(plan, recipe=replace(plan.recipe, mix=mix)))


def head_first_plan(sites: Sequence[Site], *, source: str = "") -> Plan:
    """Load everything, train the head alone at first, then everything (LP-FT, 2202.10054)."""
    return replace(full_plan(sites, source=source), recipe=Recipe(head_first=HEAD_FIRST))
