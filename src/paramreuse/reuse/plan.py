"""The plan: one action per site, made from a verdict, applied to a fresh model.

Source: arXiv 2008.03414, "transfer learning experiments": the reusable parameters are loaded and
either frozen or trained along.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import torch
from torch import Tensor, nn

from paramreuse.errors import PlanError
from paramreuse.notebook import html_sentence, html_table
from paramreuse.reuse.freezing import freeze_tensors
from paramreuse.reuse.recipe import PLAIN, Recipe
from paramreuse.reuse.verdict import Judgement, Verdict, Word
from paramreuse.sites.lending import Lent, Weights, is_swappable, lend, tensors_of
from paramreuse.sites.matching import Site, SkippedTensor, source_key
from paramreuse.sites.swaps import Swap


class Action(StrEnum):
    """What a plan does with a site."""

    LOAD = "load"
    """Load the source's tensor; frozen or trained as ``apply_plan``'s mode says."""
    FREEZE = "freeze"
    """Load the source's tensor and freeze it, whatever the mode."""
    TRAIN = "train"
    """Load the source's tensor and train it along, whatever the mode."""
    LEAVE = "leave"
    """Leave the fresh model's own tensor."""


@dataclass(frozen=True, slots=True)
class PlanEntry:
    """What to do with one site, and why.

    Attributes:
        site: The site.
        action: What to do.
        reason: Why, e.g. the verdict that led to it.
        rate: Factor on the learning rate where the tensor is trained.

    Raises:
        PlanError: The rate is not above 0.
    """

    site: Site
    action: Action
    reason: str = ""
    rate: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.rate < float("inf"):
            raise PlanError(
                f"the plan trains {self.site.key} at {self.rate!r} times the learning rate: "
                "expected a number above 0. To hold the tensor still use the action 'freeze'"
            )


@dataclass(frozen=True, slots=True)
class Plan:
    """One action per site.

    Attributes:
        entries: The sites front to back, each with its action.
        source: Name of the source that the plan is for, ``""`` if it has none.
        tolerance: Tolerance of the verdict it was made from; None if it was made by hand.
        confidence: Confidence of that verdict; None if it was made by hand.
        recipe: What the plan asks of the training.
    """

    entries: tuple[PlanEntry, ...]
    source: str = ""
    tolerance: float | None = None
    confidence: float | None = None
    recipe: Recipe = PLAIN

    @property
    def loaded(self) -> tuple[Site, ...]:
        """Sites that take the source's tensor."""
        return tuple(entry.site for entry in self.entries if entry.action is not Action.LEAVE)

    @property
    def counted(self) -> tuple[PlanEntry, ...]:
        """Entries that are counted: all but the output layer's, as in the papers."""
        return tuple(entry for entry in self.entries if not entry.site.is_output)

    @property
    def share(self) -> float:
        """Share of the counted sites that take the source's tensor; NaN for a plan of none."""
        counted = self.counted
        reused = sum(entry.action is not Action.LEAVE for entry in counted)
        return reused / len(counted) if counted else float("nan")

    def as_swap(self) -> Swap:
        """Return the swap of all loaded sites together, to check the plan jointly before training.

        Raises:
            PlanError: The plan loads nothing.
        """
        if not self.loaded:
            raise PlanError("cannot check the plan: it loads no site")
        return Swap("plan", self.loaded, self.loaded[0])

    def _repr_html_(self) -> str:
        """Show a notebook how much is reused, and what is done at the first sites."""
        rows = (
            {"site": entry.site.name, "action": entry.action.value, "reason": entry.reason}
            for entry in self.entries
        )
        return html_sentence(self.summary()) + html_table(rows, total=len(self.entries))

    def summary(self) -> str:
        """Say in one line how much is reused."""
        counted = self.counted
        reused = sum(entry.action is not Action.LEAVE for entry in counted)
        share = f" ({100 * self.share:.1f} %)" if counted else ""
        return f"{reused} of {len(counted)} sites reused{share}, output layer aside"


def plan_reuse(
    verdict: Verdict,
    *,
    source: str = "",
    accept: Collection[str] = (Word.REUSABLE, Word.IDENTICAL),
) -> Plan:
    """Plan to load every site whose single swap was found reusable.

    Args:
        verdict: Judgement of a sweep that swapped sites singly.
        source: Name of the source, for the record.
        accept: Verdicts that are loaded. Add ``"indifferent"`` to load also where anything would
            do. ``"undecided"`` takes in what has too few subjects.

    Raises:
        PlanError: The verdict has no single swap, or ``accept`` names no verdict.
    """
    unknown = sorted(set(accept) - set(Word))
    if unknown:
        raise PlanError(f"unknown verdicts {unknown}: expected some of {[w.value for w in Word]}")
    accepted = {*accept, *([Word.TOO_FEW] if Word.UNDECIDED in accept else [])}
    return _planned(verdict, source, lambda j: (j.verdict in accepted, j.verdict.value))


def plan_by_papers(verdict: Verdict, *, source: str = "") -> Plan:
    """Plan by the papers' rule: everything whose point estimate stays within the tolerance.

    Args:
        verdict: Judgement of a sweep that swapped sites singly.
        source: Name of the source, for the record.

    Raises:
        PlanError: The verdict has no single swap.
    """
    return _planned(
        verdict, source, lambda j: (j.paper is Word.REUSABLE, f"{j.paper} by the papers' rule")
    )


def _planned(
    verdict: Verdict, source: str, choose: Callable[[Judgement], tuple[bool, str]]
) -> Plan:
    entries: list[PlanEntry] = []
    for judgement in verdict.judgements:
        if judgement.swap.is_single:
            chosen, reason = choose(judgement)
            action = Action.LOAD if chosen else Action.LEAVE
            entries.append(PlanEntry(judgement.swap.sites[0], action, reason))
    if not entries:
        raise PlanError(
            "cannot plan: the verdict judges no site by itself. Sweep with swaps='single'"
        )
    return Plan(tuple(entries), source, verdict.tolerance, verdict.confidence)


def plan_leaving(sites: Sequence[Site], left: Iterable[str], *, source: str = "") -> Plan:
    """Plan to load all sites but those named, as the papers give their list.

    Args:
        sites: Sites that target and source share; the output layer is left as well.
        left: Names of the sites to leave, e.g. ``["W 1", "RM 17"]``.
        source: Name of the source, for the record.

    Raises:
        PlanError: A name is not that of a site.
    """
    names = set(left)
    unknown = sorted(names - {site.name for site in sites})
    if unknown:
        raise PlanError(
            f"cannot leave {unknown[:10]}: no such site. Names look like 'W 6' or 'RM 17'; "
            "`paramreuse layers` lists them"
        )
    entries = tuple(
        PlanEntry(site, Action.LEAVE, "named")
        if site.name in names
        else PlanEntry(site, Action.LEAVE, "output layer")
        if site.is_output
        else PlanEntry(site, Action.LOAD, "not named")
        for site in sites
    )
    return Plan(entries, source)


@dataclass(frozen=True, slots=True)
class AppliedPlan:
    """What ``apply_plan`` did.

    Attributes:
        loaded: Keys of the model that now hold the source's values.
        frozen: Those among them that training will not move.
        skipped: Sites that the plan wanted loaded or left, each with the reason why it was not
            loaded.
    """

    loaded: tuple[str, ...]
    frozen: tuple[str, ...]
    skipped: tuple[SkippedTensor, ...]

    def summary(self) -> str:
        """Say in one line what was loaded."""
        return f"{len(self.loaded)} loaded, {len(self.frozen)} frozen, {len(self.skipped)} left"


def apply_plan(
    model: nn.Module,
    source: Weights,
    plan: Plan,
    *,
    mode: Literal["freeze", "finetune"] = "finetune",
) -> AppliedPlan:
    """Load a source's tensors into a model under a plan, and freeze what is to stay.

    The one function that changes the model it is given. Frozen RM and RV normalise in training too
    and do not move; see ``freezing``.

    Args:
        model: Fresh model; changed in place.
        source: Model, state dict or checkpoint path.
        plan: One action per site.
        mode: What ``load`` means: ``"freeze"`` or ``"finetune"``.

    Returns:
        What was loaded and frozen, and why not the rest.

    Raises:
        PlanError: The mode is unknown, the plan is of another network or names a tensor twice,
            nothing that it wants loaded is in the source, or a layer cannot freeze one statistic
            alone. The model is untouched then.
    """
    if mode not in ("freeze", "finetune"):
        raise PlanError(f"unknown mode {mode!r}: expected 'freeze' or 'finetune'")
    slots = tensors_of(model)
    _check_fit(plan, slots)
    lent = lend(model, source)
    skipped: list[SkippedTensor] = []
    wanted: list[tuple[PlanEntry, Tensor]] = []
    for entry in plan.entries:
        tensor = _lent_tensor(entry, lent)
        if isinstance(tensor, str):
            skipped.append(SkippedTensor(entry.site.key, tensor))
        else:
            wanted.append((entry, tensor))
    if plan.loaded and not wanted:
        raise PlanError(
            f"cannot apply the plan: none of the {len(plan.loaded)} sites that it loads can be "
            f"taken from the source. First: {skipped[0].key}: {skipped[0].reason}"
        )
    frozen = [entry.site.key for entry, _ in wanted if _is_frozen(entry.action, mode)]
    # First, since it may refuse; then the model has to be untouched.
    freeze_tensors(model, frozen)
    with torch.no_grad():
        for entry, tensor in wanted:
            slots[entry.site.key].copy_(tensor)
    return AppliedPlan(tuple(entry.site.key for entry, _ in wanted), tuple(frozen), tuple(skipped))


def _is_frozen(action: Action, mode: str) -> bool:
    return action is Action.FREEZE or (action is Action.LOAD and mode == "freeze")


def _check_fit(plan: Plan, slots: Mapping[str, Tensor]) -> None:
    counts = Counter(entry.site.key for entry in plan.entries)
    twice = [key for key, count in counts.items() if count > 1]
    if twice:
        raise PlanError(
            f"cannot apply the plan: it has {counts[twice[0]]} entries for {twice[0]!r}, expected "
            "one action per site. Remove all but one"
        )
    for entry in plan.entries:
        held = slots.get(entry.site.key)
        if held is not None and tuple(held.shape) != entry.site.shape:
            raise PlanError(
                f"cannot apply the plan: {entry.site.key} has shape {tuple(held.shape)} in the "
                f"model, {entry.site.shape} in the plan. The plan was made for another network"
            )
    strangers = [entry.site.key for entry in plan.entries if entry.site.key not in slots]
    if strangers:
        raise PlanError(
            f"cannot apply the plan: the model has no tensor {strangers[0]!r} "
            f"({len(strangers)} of {len(plan.entries)} sites are not in it). "
            "The plan was made for another network"
        )


def _lent_tensor(entry: PlanEntry, lent: Lent) -> Tensor | str:
    """Return the tensor to load at an entry, or the reason why there is none."""
    site = entry.site
    if entry.action is Action.LEAVE:
        return f"left by the plan: {entry.reason}" if entry.reason else "left by the plan"
    key = source_key(site, lent)
    if key is None:
        return "the source has no tensor of this name"
    if lent.shape_of(key) != site.shape:
        return f"the model has shape {site.shape}, the source {lent.shape_of(key)}"
    if not is_swappable(lent.dtype_of(key)):
        return f"the source tensor is {lent.dtype_of(key)}, not a plain floating-point tensor"
    return lent[key]
