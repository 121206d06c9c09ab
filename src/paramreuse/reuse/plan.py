"""The plan: one action per site, applied to a fresh model.

Source: arXiv 2008.03414, "transfer learning experiments": the reusable parameters are loaded and
either frozen or trained along.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import torch
from torch import Tensor, nn

from paramreuse.errors import PlanError
from paramreuse.notebook import html_sentence, html_table
from paramreuse.reuse.freezing import freeze_tensors
from paramreuse.reuse.recipe import PLAIN, Recipe
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
        slot = slots.get(entry.site.key)
        if slot is not None and tuple(slot.shape) != entry.site.shape:
            raise PlanError(
                f"cannot apply the plan: {entry.site.key} has shape {tuple(slot.shape)} in the "
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
