"""What reuse gains: the target trained afresh, under each strategy, on few subjects.

Source: arXiv 2008.03414, tables of the transfer learning experiments. ``random-plan`` is the
control for the plan, ``statistics`` the one of Raghu et al. (2019), arXiv 1902.07208.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from paramreuse.reuse.plan import Action, Plan, PlanEntry, apply_plan
from paramreuse.sites.lending import Weights, lend
from paramreuse.sites.matching import Site, SkippedTensor, compare_sites, match_sites
from paramreuse.sites.swaps import seed_of


@dataclass(frozen=True, slots=True)
class Attempt:
    """One training of the transfer table.

    Attributes:
        strategy: As in the study file.
        source: Name of the source, ``""`` for ``scratch``.
        subjects: Number of training subjects.
        seed: Which repetition, from 0.
    """

    strategy: str
    source: str
    subjects: int
    seed: int

    @property
    def name(self) -> str:
        """What the attempt is called in messages and file names."""
        start = f"-{self.source}" if self.source else ""
        return f"{self.strategy}{start}-{self.subjects}-{self.seed}"

    @property
    def follows_plan(self) -> bool:
        """Whether it loads what a plan says, or a random choice as large."""
        return "plan" in self.strategy

    @property
    def columns(self) -> dict[str, object]:
        """The attempt as columns of a table."""
        return {
            "source": self.source,
            "strategy": self.strategy,
            "subjects": self.subjects,
            "seed": self.seed,
        }


def kept_model(folder: Path, attempt: Attempt) -> Path:
    """Return where a run folder keeps the trained model of an attempt, if the study asks for it."""
    return folder / "models" / "transfer" / f"{attempt.name}.safetensors"


def list_attempts(
    subjects: Sequence[int], strategies: Sequence[str], seeds: int, sources: Sequence[str]
) -> list[Attempt]:
    """List every training of the transfer table; ``scratch`` needs no source."""
    return [
        Attempt(strategy, source, number, seed)
        for number in subjects
        for strategy in strategies
        for source in ([""] if strategy == "scratch" else sources)
        for seed in range(seeds)
    ]


def fit_plan(
    plan: Plan, target: nn.Module, source: Weights
) -> tuple[Plan, tuple[SkippedTensor, ...]]:
    """Leave those sites of a plan that a source cannot give: the plan may be another source's.

    Args:
        plan: The plan.
        target: Network that the plan is for.
        source: Source whose tensors are to be loaded.

    Returns:
        The plan without them, and what was taken out of it, each with the reason.
    """
    reasons = {item.key: item.reason for item in compare_sites(target, source).skipped}
    missing = [site.key for site in plan.loaded if site.key in reasons]
    entries = tuple(
        replace(entry, action=Action.LEAVE, reason=reasons[entry.site.key])
        if entry.site.key in missing
        else entry
        for entry in plan.entries
    )
    skipped = tuple(SkippedTensor(key, reasons[key]) for key in missing)
    return replace(plan, entries=entries), skipped


def start_model(
    model: nn.Module,
    source: Mapping[str, Tensor] | None,
    plan: Plan | None,
    attempt: Attempt,
    seed: int,
) -> str:
    """Put into a fresh model what a strategy starts from, and freeze what it freezes.

    Args:
        model: Fresh model; changed in place.
        source: Tensors of the source; None for ``scratch``.
        plan: Plan for the source; None where the strategy needs none.
        attempt: The strategy.
        seed: Seed of what the strategy draws.

    Returns:
        What was done, in words.
    """
    if source is None:
        return "nothing loaded"
    if attempt.strategy == "statistics":
        return _load_statistics(model, source, seed)
    chosen = followed_plan(model, source, plan, attempt, seed)
    assert chosen is not None, "what loads tensors as they are follows a plan"
    mode: Literal["freeze", "finetune"] = (
        "freeze" if attempt.strategy == "plan-freeze" else "finetune"
    )
    return apply_plan(model, source, chosen, mode=mode).summary()


def followed_plan(
    model: nn.Module,
    source: Mapping[str, Tensor] | None,
    plan: Plan | None,
    attempt: Attempt,
    seed: int,
) -> Plan | None:
    """Return what a strategy loads, as a plan; None where it loads nothing as it is.

    Args:
        model: Fresh model.
        source: Tensors of the source; None for ``scratch``.
        plan: Plan for the source; None where the strategy needs none.
        attempt: The strategy.
        seed: Seed of what the strategy draws.
    """
    if source is None or attempt.strategy == "statistics":
        return None
    return _plan_of(attempt.strategy, match_sites(model, source), plan, seed)


def _plan_of(strategy: str, sites: Sequence[Site], plan: Plan | None, seed: int) -> Plan:
    if strategy == "full":
        return Plan(tuple(PlanEntry(site, Action.LOAD, "everything") for site in sites))
    assert plan is not None, "a strategy that follows a plan is given one"
    return _random_plan(sites, plan, seed) if strategy == "random-plan" else plan


def _random_plan(sites: Sequence[Site], plan: Plan, seed: int) -> Plan:
    """Load as many sites of each kind as the plan does, drawn at random; the output layer alike."""
    rng = np.random.default_rng(seed)
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


def _load_statistics(model: nn.Module, source: Mapping[str, Tensor], seed: int) -> str:
    """Draw every tensor anew from a normal distribution with the source's mean and variance."""
    sites = match_sites(model, source)
    lent = lend(model, source)
    slots = model.state_dict(keep_vars=True)
    with torch.no_grad():
        for site in sites:
            values = lent[site.key].float()
            generator = torch.Generator().manual_seed(seed_of(seed, "statistics", site.key))
            noise = torch.randn(values.shape, generator=generator)
            spread = values.std(unbiased=False)
            drawn = values.mean() + spread * noise
            slots[site.key].copy_(drawn.abs() if site.attribute == "running_var" else drawn)
    return f"mean and variance of {len(sites)} tensors"
