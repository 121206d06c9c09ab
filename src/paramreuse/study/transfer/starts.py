"""What each strategy puts into a fresh model before it is trained.

Source: arXiv 2008.03414, tables of the transfer learning experiments. ``random-plan`` is the
control for the plan, ``statistics`` the one of Raghu et al. (2019), arXiv 1902.07208.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from paramreuse.reuse.blocks import blocks_of
from paramreuse.reuse.plan import Action, Plan, PlanEntry, apply_plan
from paramreuse.reuse.starts import (
    body_plan,
    full_plan,
    gentle_plan,
    head_first_plan,
    head_plan,
    mixed,
    norms_plan,
    prefix_plan,
    recalibrating,
    suffix_plan,
)
from paramreuse.sites.lending import lend
from paramreuse.sites.matching import Site, match_sites
from paramreuse.sites.swaps import seed_of
from paramreuse.study.transfer.strategy import Strategy

_QUARTER, _HALF, _THREE_QUARTERS = 1 / 4, 1 / 2, 3 / 4
"""Shares of the kernel layers that prefixes and suffix load."""

_MIX = 0.75
"""Place of ``mixed`` between source and trained; halfway back lost (docs/results/gain.md)."""


@dataclass(frozen=True, slots=True, eq=False)
class Lender:
    """What a strategy starts from.

    Attributes:
        tensors: Tensors of the source.
        plan: Plan for the source, of its verdict or measured; None where the strategy has its own.
        seed: Seed of what the strategy draws.
    """

    tensors: Mapping[str, Tensor]
    plan: Plan | None
    seed: int

    @property
    def followed(self) -> Plan:
        """The plan of a strategy that follows one."""
        assert self.plan is not None, "a strategy that follows a plan is given one"
        return self.plan


def start_model(model: nn.Module, strategy: Strategy, lender: Lender | None) -> str:
    """Put into a fresh model what a strategy starts from, and freeze what it freezes.

    Args:
        model: Fresh model; changed in place.
        strategy: The strategy.
        lender: What it starts from; None where it needs no source.

    Returns:
        What was done, in words.
    """
    if lender is None:
        return "nothing loaded"
    plan = followed_plan(model, strategy, lender)
    if plan is None:
        return _load_statistics(model, lender)
    mode: Literal["freeze", "finetune"] = "freeze" if strategy.freezes else "finetune"
    return apply_plan(model, lender.tensors, plan, mode=mode).summary()


def followed_plan(model: nn.Module, strategy: Strategy, lender: Lender | None) -> Plan | None:
    """Return what a strategy loads, as a plan; None where it loads nothing as it is.

    Args:
        model: Fresh model.
        strategy: The strategy.
        lender: What it starts from; None where it needs no source.
    """
    if lender is None or strategy not in PLANS:
        return None
    return PLANS[strategy](match_sites(model, lender.tensors), lender)


def _everything(sites: Sequence[Site], lender: Lender) -> Plan:
    return Plan(tuple(PlanEntry(site, Action.LOAD, "everything") for site in sites))


def _own_plan(sites: Sequence[Site], lender: Lender) -> Plan:
    return lender.followed


def _random_plan(sites: Sequence[Site], lender: Lender) -> Plan:
    """Load as many sites of each kind as the plan does, drawn at random; the output layer alike."""
    plan = lender.followed
    rng = np.random.default_rng(lender.seed)
    drawn = {site.key for site in plan.loaded if site.is_output}
    for kind in sorted({site.kind for site in plan.loaded}):
        pool = [site.key for site in sites if site.kind == kind and not site.is_output]
        number = sum(site.kind == kind and not site.is_output for site in plan.loaded)
        drawn |= {pool[index] for index in rng.permutation(len(pool))[:number]}
    return Plan(
        tuple(
            PlanEntry(site, Action.LOAD if site.key in drawn else Action.LEAVE, "drawn at random")
            for site in sites
        )
    )


def _load_statistics(model: nn.Module, lender: Lender) -> str:
    """Redraw every tensor from a normal distribution with the source's mean and variance."""
    sites = match_sites(model, lender.tensors)
    lent = lend(model, lender.tensors)
    slots = model.state_dict(keep_vars=True)
    with torch.no_grad():
        for site in sites:
            values = lent[site.key].float()
            seed = seed_of(lender.seed, "statistics", site.key)
            noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(seed))
            spread = values.std(unbiased=False)
            drawn = values.mean() + spread * noise
            slots[site.key].copy_(drawn.abs() if site.attribute == "running_var" else drawn)
    return f"mean and variance of {len(sites)} tensors"


PLANS: Mapping[Strategy, Callable[[Sequence[Site], Lender], Plan]] = {
    Strategy.FULL: _everything,
    Strategy.PLAN_FREEZE: _own_plan,
    Strategy.PLAN_FINETUNE: _own_plan,
    Strategy.RANDOM_PLAN: _random_plan,
    Strategy.HEAD: lambda sites, lender: head_plan(sites),
    Strategy.BODY: lambda sites, lender: body_plan(sites),
    Strategy.PREFIX_QUARTER: lambda sites, lender: prefix_plan(blocks_of(sites), _QUARTER),
    Strategy.PREFIX: lambda sites, lender: prefix_plan(blocks_of(sites), _HALF),
    Strategy.PREFIX_THREE_QUARTERS: lambda sites, lender: prefix_plan(
        blocks_of(sites), _THREE_QUARTERS
    ),
    Strategy.SUFFIX: lambda sites, lender: suffix_plan(blocks_of(sites), _HALF),
    Strategy.NORMS: lambda sites, lender: norms_plan(sites),
    Strategy.RECALIBRATED: lambda sites, lender: recalibrating(full_plan(sites)),
    Strategy.MIXED: lambda sites, lender: mixed(full_plan(sites), _MIX),
    Strategy.GENTLE: lambda sites, lender: gentle_plan(sites),
    Strategy.LPFT: lambda sites, lender: head_first_plan(sites),
    Strategy.AUTO_RGN: _own_plan,
    Strategy.REWIND: _own_plan,
}
"""What each strategy that loads tensors as they are loads, of the sites that fit."""
