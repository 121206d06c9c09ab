"""The plan: one action per site, made from a verdict, applied to a fresh model."""

import pytest
import torch
from torch import Tensor, nn

from paramreuse.errors import PlanError
from paramreuse.networks.pspnet import pspnet
from paramreuse.reuse.freezing import check_frozen, frozen_keys, trainable_parameters
from paramreuse.reuse.plan import Action, Plan, PlanEntry, apply_plan
from paramreuse.reuse.planning import plan_by_papers, plan_leaving, plan_reuse
from paramreuse.reuse.verdict import judge
from paramreuse.sites.matching import match_sites, sites_of
from paramreuse.sweep.scores import Accuracy
from paramreuse.sweep.sweeping import sweep_sites
from samples.networks import small_batches, small_network
from samples.sweeps import kernel, made_up_sweep

PAPERS_LIST = ["RM 1", "RM 17", *(f"W {n}" for n in (1, 6, 11, 12, 16, 17, 19, 20))]
"""What the papers found not reusable in PSPNet, their first bias aside."""

NONE, SMALL, LARGE = [0.0] * 8, [0.25] * 8, [0.5] * 8


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {key: t.clone() for key, t in model.state_dict().items()}


def plan_of(actions: dict[str, str], model: nn.Module | None = None) -> Plan:
    """Plan for the small network; sites that are not named are left."""
    sites = sites_of(model or small_network())
    return Plan(tuple(PlanEntry(s, Action(actions.get(s.name, "leave"))) for s in sites))


def test_the_papers_list_as_a_plan_reuses_139_of_150_sites_with_backbone_biases() -> None:
    sites = sites_of(pspnet(width=1, bias=True))

    plan = plan_leaving(sites, [*PAPERS_LIST, "B 1"])

    # 25 layers of six kinds; 2 RM, 8 W and 1 B are left, and the classifier is not counted.
    assert len(plan.counted) == 150
    assert sum(entry.action is Action.LOAD for entry in plan.counted) == 139
    assert plan.share == 139 / 150
    assert plan.summary() == "139 of 150 sites reused (92.7 %), output layer aside"


def test_the_papers_list_as_a_plan_reuses_119_of_130_sites_without_backbone_biases() -> None:
    sites = sites_of(pspnet(width=1))
    # Their B 1 is the first convolution that has a bias: the pyramid's first, our layer 21.
    first_bias = next(site.name for site in sites if site.kind == "B")
    assert first_bias == "B 21"

    plan = plan_leaving(sites, [*PAPERS_LIST, first_bias])

    assert plan.summary() == "119 of 130 sites reused (91.5 %), output layer aside"
    assert plan.share == 119 / 130
    assert [entry.site.name for entry in plan.entries if entry.site.is_output] == ["W 26", "B 26"]


def test_the_papers_plan_loads_exactly_what_it_says() -> None:
    target, source = pspnet(width=1), pspnet(width=1)
    with torch.no_grad():
        for t in source.state_dict().values():
            t.add_(1)
    before = state_of(target)
    plan = plan_leaving(match_sites(target, source), [*PAPERS_LIST, "B 21"])

    applied = apply_plan(target, source, plan)

    loaded = {site.key for site in plan.loaded}
    assert len(loaded) == len(applied.loaded) == 119
    for key, t in target.state_dict().items():
        expected = source.state_dict() if key in loaded else before
        assert torch.equal(t, expected[key]), key


def test_a_plan_by_words_loads_what_was_found_reusable_or_identical() -> None:
    drops = {
        kernel(1): {"source": SMALL, "shuffled": LARGE},
        kernel(2): {"source": LARGE, "shuffled": LARGE},
        kernel(3): {"source": SMALL, "shuffled": SMALL},
        kernel(4): {"source": NONE, "shuffled": NONE},
        kernel(5): {"source": [0.0, 0.0, 0.9, 0.0] * 2, "shuffled": LARGE},
    }
    verdict = judge(made_up_sweep(drops, identical=[kernel(4)]), tolerance=0.3)

    plan = plan_reuse(verdict, source="acdc-ae", accept=["reusable", "identical"])

    assert [(e.site.name, e.action, e.reason) for e in plan.entries] == [
        ("W 1", "load", "reusable"),
        ("W 2", "leave", "not reusable"),
        ("W 3", "leave", "indifferent"),
        ("W 4", "load", "identical"),
        ("W 5", "leave", "undecided"),
    ]
    assert (plan.source, plan.tolerance, plan.confidence) == ("acdc-ae", 0.3, 0.95)
    assert plan.summary() == "2 of 5 sites reused (40.0 %), output layer aside"
    wider = plan_reuse(verdict, accept=["reusable", "identical", "indifferent"])
    assert [site.name for site in wider.loaded] == ["W 1", "W 3", "W 4"]


def test_a_plan_leaves_only_blocks_in_which_the_source_does_no_better_than_its_control() -> None:
    drops = {
        kernel(1): {"source": LARGE, "shuffled": LARGE},  # matters, and is worth nothing
        kernel(2): {"source": SMALL, "shuffled": LARGE},  # costs much, its control more
        kernel(3): {"source": NONE, "shuffled": [0.1] * 8},  # does not matter
    }
    verdict = judge(made_up_sweep(drops), tolerance=0.2)

    plan = plan_reuse(verdict, source="acdc-ae")

    assert [e.action for e in plan.entries] == ["leave", "load", "load"]
    assert "does no better than its control" in plan.entries[0].reason
    assert "the source costs 0.250" in plan.entries[1].reason
    assert "no control costs more than the tolerance" in plan.entries[2].reason


def test_where_single_swaps_cannot_tell_everything_is_loaded() -> None:
    drops = {kernel(k): {"source": LARGE, "shuffled": LARGE} for k in (1, 2, 3)}
    verdict = judge(made_up_sweep(drops), tolerance=0.3)

    plan = plan_reuse(verdict)

    assert verdict.cannot_tell
    assert [e.action for e in plan.entries] == ["load"] * 3
    assert {e.reason for e in plan.entries} == {"single swaps cannot tell, so everything is loaded"}


def test_the_papers_rule_needs_no_control_and_no_interval() -> None:
    drops = {
        kernel(1): {"source": SMALL, "shuffled": SMALL},
        kernel(2): {"source": LARGE, "shuffled": LARGE},
        kernel(3): {"source": [0.0, 0.0, 0.9, 0.0] * 2, "shuffled": LARGE},
    }

    plan = plan_by_papers(judge(made_up_sweep(drops), tolerance=0.3))

    assert [site.name for site in plan.loaded] == ["W 1", "W 3"]
    assert plan.entries[0].reason == "reusable by the papers' rule"


def test_a_plan_can_be_checked_jointly_before_training() -> None:
    target, source = small_network(0), small_network(1)
    plan = plan_of({"W 1": "load", "RM 2": "freeze", "B 1": "train"})

    swap = plan.as_swap()
    sweep = sweep_sites(
        target, source, small_batches(), Accuracy(2), engine="full", controls=(), swaps=[swap]
    )

    assert [site.name for site in swap.sites] == ["W 1", "B 1", "RM 2"]
    twin = small_network(0)
    apply_plan(twin, source, plan)
    score = sweep_sites(
        twin, source, small_batches(), Accuracy(2), engine="full", controls=(), swaps=[swap]
    )
    # What the plan gives once applied is what the joint swap promised.
    assert score.baseline.tolist() == sweep.scores["plan", "source"].tolist()
    assert score.identical == {("plan", "source")}


@pytest.mark.parametrize(
    ("mode", "frozen"),
    [
        ("finetune", ["0.bias", "1.running_mean", "1.running_var"]),
        ("freeze", ["0.weight", "0.bias", "1.running_mean", "1.running_var"]),
    ],
)
def test_applying_loads_exactly_and_freezes_what_the_mode_says(
    mode: str, frozen: list[str]
) -> None:
    model, source = small_network(0), small_network(1)
    before = state_of(model)
    plan = plan_of(
        {"W 1": "load", "B 1": "freeze", "RM 1": "freeze", "RV 1": "freeze", "W 2": "train"}
    )

    applied = apply_plan(model, source, plan, mode=mode)  # type: ignore[arg-type]

    assert applied.loaded == ("0.weight", "0.bias", "1.running_mean", "1.running_var", "3.weight")
    assert list(applied.frozen) == frozen == list(frozen_keys(model))
    assert {skipped.key: skipped.reason for skipped in applied.skipped} == {
        site.key: "left by the plan"
        for site in sites_of(small_network())
        if site.key not in applied.loaded
    }
    assert applied.summary() == f"5 loaded, {len(frozen)} frozen, 9 left"
    for key, t in model.state_dict().items():
        expected = source.state_dict() if key in applied.loaded else before
        assert torch.equal(t, expected[key]), key
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            source.state_dict().values(), small_network(1).state_dict().values(), strict=True
        )
    )


def test_what_a_plan_freezes_holds_still_in_training() -> None:
    model = small_network(0)
    plan = plan_of(dict.fromkeys(["W 1", "B 1", "RM 1", "RV 1", "RW 1", "RB 1"], "load"))
    applied = apply_plan(model, small_network(1), plan, mode="freeze")
    optimiser = torch.optim.SGD(trainable_parameters(model), lr=0.1)
    before = state_of(model)

    def step() -> None:
        images, labels, _ = small_batches()[0]
        nn.functional.cross_entropy(model.train()(images), labels).backward()
        optimiser.step()

    report = check_frozen(model, applied.frozen, step, example_input=small_batches()[0][0])

    assert sorted(report.checksums) == sorted(applied.frozen)
    # The rest does move, or the proof were worth nothing.
    assert not torch.equal(model.state_dict()["7.weight"], before["7.weight"])
    assert not torch.equal(model.state_dict()["4.running_mean"], before["4.running_mean"])


def test_a_source_of_other_dtype_is_loaded_in_the_models() -> None:
    model = small_network(0)
    source = {key: t.double() for key, t in small_network(1).state_dict().items()}

    apply_plan(model, source, plan_of({"W 1": "load"}))

    assert model[0].weight.dtype == torch.float32
    assert torch.equal(model[0].weight, small_network(1)[0].weight)


def test_what_cannot_be_loaded_is_told_with_the_reason() -> None:
    source = small_network(1).state_dict()
    del source["0.weight"]
    source["3.weight"] = torch.zeros(3, 2, 1, 1)
    source["1.weight"] = torch.ones(2, dtype=torch.int64)
    plan = plan_of(dict.fromkeys(["W 1", "W 2", "RW 1", "B 1"], "load"))

    applied = apply_plan(small_network(0), source, plan)

    assert applied.loaded == ("0.bias",)
    reasons = {skipped.key: skipped.reason for skipped in applied.skipped}
    assert reasons["0.weight"] == "the source has no tensor of this name"
    assert reasons["3.weight"] == "the model has shape (3, 2, 3, 3), the source (3, 2, 1, 1)"
    assert "torch.int64" in reasons["1.weight"]


def test_a_plan_that_leaves_everything_changes_nothing() -> None:
    model = small_network(0)

    applied = apply_plan(model, small_network(1), plan_of({}), mode="freeze")

    assert (applied.loaded, applied.frozen) == ((), ())
    assert all(torch.equal(t, small_network(0).state_dict()[k]) for k, t in state_of(model).items())


class OwnNorm(nn.BatchNorm2d):
    """A norm with a forward pass of its own, which can freeze both statistics or none."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 0


def assert_refused(
    model: nn.Module, source: object, plan: Plan, message: str, **options: str
) -> None:
    before, modes = state_of(model), [p.requires_grad for p in model.parameters()]
    with pytest.raises(PlanError, match=message):
        apply_plan(model, source, plan, **options)  # type: ignore[arg-type]
    # Refused means untouched.
    assert all(torch.equal(t, before[key]) for key, t in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == modes
    assert frozen_keys(model) == ()


def test_a_plan_that_cannot_be_applied_leaves_the_model_untouched() -> None:
    model, source, plan = small_network(0), small_network(1), plan_of({"W 1": "load"})

    assert_refused(model, source, plan, "unknown mode 'frozen': expected 'freeze'", mode="frozen")
    assert_refused(model, {"x.y": torch.zeros(2)}, plan, "none of the 1 sites that it loads")
    assert_refused(
        nn.Sequential(nn.Conv2d(1, 5, 3)), source, plan, r"shape \(5, 1, 3, 3\) in the model"
    )
    assert_refused(nn.Linear(2, 2), source, plan, "14 of 14 sites are not in it.*another network")
    twice = Plan((*plan.entries, plan.entries[0]))
    assert_refused(model, source, twice, "2 entries for '0.weight'")
    own = nn.Sequential(nn.Conv2d(1, 2, 3), OwnNorm(2))
    one_statistic = plan_of({"W 1": "load", "RM 1": "freeze"}, own)
    assert_refused(own, small_network(1), one_statistic, "cannot freeze .* alone at '1'")


def test_a_verdict_without_single_swaps_makes_no_plan() -> None:
    target = small_network()
    sweep = sweep_sites(
        target, small_network(1), small_batches(), Accuracy(2), engine="full", swaps="layer"
    )

    for make in (plan_reuse, plan_by_papers):
        with pytest.raises(PlanError, match="Sweep with swaps='single'"):
            make(judge(sweep))


def test_words_and_names_that_do_not_exist_are_refused() -> None:
    verdict = judge(made_up_sweep({kernel(1): {"source": NONE}}))

    with pytest.raises(PlanError, match=r"unknown verdicts \['good'\]: expected some of"):
        plan_reuse(verdict, accept=["good"])
    with pytest.raises(PlanError, match=r"cannot leave \['W 9'\]: no such site. Names look like"):
        plan_leaving([kernel(1)], ["W 9"])


def test_an_empty_plan_cannot_be_checked_and_has_no_share() -> None:
    plan = Plan((PlanEntry(kernel(1, is_output=True), Action.LOAD),))

    assert plan.summary() == "0 of 0 sites reused, output layer aside"
    assert plan.share != plan.share
    with pytest.raises(PlanError, match="it loads no site"):
        Plan(()).as_swap()


def test_a_tied_tensor_is_loaded_under_both_names_from_either() -> None:
    def tied(value: float) -> nn.Module:
        model = nn.Module()
        model.embedding = nn.Embedding(3, 2)
        model.decoder = nn.Linear(2, 3, bias=False)
        model.decoder.weight = model.embedding.weight
        nn.init.constant_(model.embedding.weight, value)
        return model

    model = tied(1)
    plan = plan_leaving(sites_of(model), [])
    assert [entry.action for entry in plan.entries] == ["load"]

    apply_plan(model, {"decoder.weight": torch.full((3, 2), 2.0)}, plan)

    assert model.decoder.weight is model.embedding.weight
    assert model.embedding.weight.unique().tolist() == [2.0]
