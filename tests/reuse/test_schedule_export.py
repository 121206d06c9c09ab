"""A plan as a schedule of finetuning-scheduler."""

import pytest
import yaml
from torch import nn

from paramreuse.errors import PlanError
from paramreuse.reuse.plan import Action, Plan, PlanEntry
from paramreuse.reuse.schedule_export import plan_to_schedule
from paramreuse.sites.layers import Kind
from paramreuse.sites.matching import Site


class Module(nn.Module):
    """A network beside a loss with a parameter of its own, as in a LightningModule."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 3, 1))
        self.loss = nn.Linear(1, 1, bias=False)


def plan_by_key(**actions: str) -> Plan:
    """A plan for the network; ``_0_weight="load"`` is the action of ``0.weight``."""
    sites = {
        "0.weight": Site(1, "0", Kind.W, "weight", (2, 1, 1, 1)),
        "0.bias": Site(1, "0", Kind.B, "bias", (2,)),
        "1.running_mean": Site(1, "1", Kind.RM, "running_mean", (2,)),
        "1.weight": Site(1, "1", Kind.RW, "weight", (2,)),
    }
    named = {key: actions.get("_" + key.replace(".", "_")) for key in sites}
    return Plan(tuple(PlanEntry(sites[key], Action(a)) for key, a in named.items() if a))


PLAN = plan_by_key(_0_weight="load", _0_bias="leave", _1_running_mean="load", _1_weight="freeze")


def phases_of(schedule: str) -> dict[int, list[str]]:
    return {number: phase["params"] for number, phase in yaml.safe_load(schedule).items()}


def test_what_is_new_trains_first_and_what_is_loaded_joins() -> None:
    phases = phases_of(plan_to_schedule(PLAN, Module()))

    # 1.bias and the head are not in the plan, so they are new; 1.weight is to stay frozen, and a
    # running mean is no parameter.
    new = ["0.bias", "1.bias", "2.weight", "2.bias"]
    assert phases == {
        0: [*(f"network.{name}" for name in new), "loss.weight"],
        1: ["network.0.weight"],
    }


def test_what_is_loaded_stays_frozen_where_the_mode_says_so() -> None:
    phases = phases_of(plan_to_schedule(PLAN, Module(), mode="freeze"))

    assert list(phases) == [0]
    assert "network.0.weight" not in phases[0]


def test_an_action_of_its_own_goes_before_the_mode() -> None:
    plan = plan_by_key(_0_weight="train", _0_bias="load")

    assert phases_of(plan_to_schedule(plan, Module(), mode="freeze"))[1] == ["network.0.weight"]


def test_a_network_by_itself_has_no_prefix() -> None:
    assert phases_of(plan_to_schedule(PLAN, Module().network))[1] == ["0.weight"]


def test_the_second_phase_can_be_given_an_epoch() -> None:
    schedule = yaml.safe_load(plan_to_schedule(PLAN, Module(), thaw_epoch=3))

    assert schedule[0]["max_transition_epoch"] == 3
    assert "max_transition_epoch" not in schedule[1]


def test_a_plan_that_loads_everything_has_one_phase() -> None:
    layer = nn.Conv2d(1, 2, 1)
    sites = (
        Site(1, "", Kind.W, "weight", (2, 1, 1, 1)),
        Site(1, "", Kind.B, "bias", (2,)),
    )
    plan = Plan(tuple(PlanEntry(site, Action.LOAD) for site in sites))

    assert phases_of(plan_to_schedule(plan, layer)) == {0: ["weight", "bias"]}
    with pytest.raises(PlanError, match="freezes every parameter"):
        plan_to_schedule(plan, layer, mode="freeze")


def test_the_file_says_what_is_never_thawed() -> None:
    assert "# Never thawed: 1 of 7 parameters.\n" in plan_to_schedule(PLAN, Module())


def test_a_plan_of_another_network_is_refused() -> None:
    with pytest.raises(PlanError, match="no submodule of Linear has all of the keys"):
        plan_to_schedule(PLAN, nn.Linear(1, 1))
    with pytest.raises(PlanError, match="unknown mode 'thaw'"):
        plan_to_schedule(PLAN, Module(), mode="thaw")  # type: ignore[arg-type]
