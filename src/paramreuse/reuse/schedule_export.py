"""A plan as a schedule of finetuning-scheduler: what trains first, and what is thawed after it."""

from typing import Literal

import yaml
from torch import nn

from paramreuse.errors import PlanError
from paramreuse.reuse.plan import Action, Plan

_HEAD = """# Schedule for finetuning-scheduler, made from a plan of paramreuse.
# Phase 0 trains what is new to the network, phase 1 thaws what was loaded and is trained along.
# Never thawed: {frozen}.
# Running means and variances are no parameters: paramreuse.apply_plan freezes those of the plan,
# and the callback paramreuse.FreezePlan checks that they hold still.
"""


def plan_to_schedule(
    plan: Plan,
    model: nn.Module,
    *,
    mode: Literal["freeze", "finetune"] = "finetune",
    thaw_epoch: int | None = None,
) -> str:
    """Return a plan as the YAML of an explicit schedule of ``finetuning_scheduler``.

    Phase 0 holds the parameters that are not loaded: those the plan leaves and those it does not
    know of, such as a head of another size. The next phase holds those that are loaded and trained
    along. What is loaded and frozen is in none, so it stays frozen. A phase without parameters is
    left out. Names are exact, one parameter each, since the library takes anything that is not a
    name for a regular expression.

    Args:
        plan: One action per site. Apply it first: the schedule loads nothing.
        model: What the trainer is given, a LightningModule that holds the network; or the network.
        mode: What the plan's ``load`` means, as for ``apply_plan``.
        thaw_epoch: Epoch, counted from 0, with which the second phase begins at the latest; by
            default the library goes by its early stopping alone.

    Raises:
        PlanError: The mode is unknown, the model holds no network with the plan's tensors, or the
            plan freezes every parameter.

    Examples:
        >>> print(plan_to_schedule(Plan(()), nn.Linear(1, 1)).split("still.")[1].strip())
        0:
          params:
          - weight
          - bias
    """
    if mode not in ("freeze", "finetune"):
        raise PlanError(f"unknown mode {mode!r}: expected 'freeze' or 'finetune'")
    frozen, thawed = _frozen_and_thawed(plan, _prefix(plan, model), mode)
    names = [name for name, _ in model.named_parameters()]
    phases = (
        [name for name in names if name not in frozen | thawed],
        [name for name in names if name in thawed],
    )
    filled = [{"params": phase} for phase in phases if phase]
    if not filled:
        raise PlanError(
            "cannot write a schedule: the plan freezes every parameter, so there is nothing to "
            'train. Leave at least the output layer to be trained, or use mode="finetune"'
        )
    if thaw_epoch is not None and len(filled) > 1:
        filled[0] |= {"max_transition_epoch": thaw_epoch}  # type: ignore[dict-item]
    count = sum(name in frozen for name in names)
    head = _HEAD.format(frozen=f"{count} of {len(names)} parameters")
    return head + str(yaml.safe_dump(dict(enumerate(filled)), sort_keys=False, width=10**9))


def _frozen_and_thawed(plan: Plan, prefix: str, mode: str) -> tuple[set[str], set[str]]:
    """Return the keys that stay frozen, and those that are loaded and trained along."""
    frozen, thawed = set(), set()
    for entry in plan.entries:
        if entry.action is Action.FREEZE or (entry.action is Action.LOAD and mode == "freeze"):
            frozen.add(prefix + entry.site.key)
        elif entry.action is not Action.LEAVE:
            thawed.add(prefix + entry.site.key)
    return frozen, thawed


def _prefix(plan: Plan, model: nn.Module) -> str:
    """Return what the model's keys have in front of the plan's: its network's path."""
    keys = {entry.site.key for entry in plan.entries}
    for path, module in model.named_modules():
        if keys <= module.state_dict().keys():
            return f"{path}." if path else ""
    raise PlanError(
        f"cannot write a schedule: no submodule of {type(model).__name__} has all of the keys "
        f"{sorted(keys)[:10]}. The plan was made for another network"
    )
