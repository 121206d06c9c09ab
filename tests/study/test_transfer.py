"""Transfer: what each strategy starts from, on whom it is trained, and what is told of it."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from paramreuse.checkpoint import write_checkpoint
from paramreuse.data.preparation import UNLABELLED, PreparedSet
from paramreuse.data.selection import draw_subjects, drawable_subjects
from paramreuse.errors import DataError
from paramreuse.reuse.freezing import frozen_keys
from paramreuse.reuse.plan import Action, Plan, PlanEntry
from paramreuse.sites.layers import Kind
from paramreuse.sites.matching import Site, match_sites
from paramreuse.study.config import Study
from paramreuse.study.job import Job
from paramreuse.study.records import TransferScore
from paramreuse.study.run import open_job, run_study
from paramreuse.study.store import Store
from paramreuse.study.transfer.attempts import Attempt, attempts_of, list_attempts
from paramreuse.study.transfer.stage import run_transfer
from paramreuse.study.transfer.starts import PLANS, Lender, start_model
from paramreuse.study.transfer.strategy import Strategy
from paramreuse.study.transfer.table import transfer_rows
from paramreuse.study.workbench import Workbench
from samples.studies import given_content, seeded, study_of
from samples.transfers import EVERYTHING, Trainer

KERNELS = ("0.weight", "3.weight", "6.weight")


def plan_for(model: nn.Module, loaded: Callable[[Site], bool]) -> Plan:
    sites = match_sites(model, seeded(1))
    actions = [(site, Action.LOAD if loaded(site) else Action.LEAVE) for site in sites]
    return Plan(tuple(PlanEntry(site, action) for site, action in actions))


def started(
    strategy: str, plan: Plan | None = None, *, seed: int = 5
) -> tuple[nn.Module, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A fresh model with the start of a strategy, its tensors before, and the source's."""
    model, source = seeded(0), seeded(1).state_dict()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    chosen = Strategy(strategy)
    start_model(model, chosen, Lender(source, plan, seed) if chosen.needs_source else None)
    return model, before, source


def keys_equal(model: nn.Module, other: dict[str, torch.Tensor]) -> set[str]:
    own = model.state_dict()
    return {key for key in own if torch.equal(own[key], other[key])} - COUNTERS


COUNTERS = {"1.num_batches_tracked", "4.num_batches_tracked"}
KEYS = set(seeded(0).state_dict()) - COUNTERS


def test_every_strategy_is_a_plan_but_three() -> None:
    others = {Strategy.SCRATCH, Strategy.STATISTICS, Strategy.RECOMMENDED}
    assert set(Strategy) - set(PLANS) == others


def test_a_strategy_knows_what_it_takes() -> None:
    # By hand, from the papers' words for them.
    assert [s.value for s in Strategy if not s.needs_source] == ["scratch", "recommended"]
    assert [s.value for s in Strategy if s.follows_plan] == [
        *("plan-freeze", "plan-finetune", "random-plan")
    ]
    assert [s.value for s in Strategy if s.freezes] == ["plan-freeze"]


def test_scratch_leaves_the_fresh_model_as_it_is() -> None:
    model, before, _ = started("scratch")

    assert keys_equal(model, before) == KEYS
    assert frozen_keys(model) == ()


def test_full_loads_everything_and_freezes_nothing() -> None:
    model, _, source = started("full")

    assert keys_equal(model, source) == KEYS
    assert frozen_keys(model) == ()


def test_plan_finetune_loads_the_plan_and_freezes_nothing() -> None:
    plan = plan_for(seeded(0), lambda site: site.kind is Kind.W and not site.is_output)
    model, before, source = started("plan-finetune", plan)

    assert keys_equal(model, source) == {"0.weight", "3.weight"}
    assert keys_equal(model, before) == KEYS - {"0.weight", "3.weight"}
    assert frozen_keys(model) == ()


def test_plan_freeze_loads_the_plan_and_freezes_all_of_it() -> None:
    plan = plan_for(seeded(0), lambda site: site.layer == 1 and not site.is_output)
    loaded = {site.key for site in plan.loaded}
    model, _, source = started("plan-freeze", plan)

    assert keys_equal(model, source) == loaded
    assert set(frozen_keys(model)) == loaded
    assert {"0.weight", "1.running_mean", "1.running_var", "1.weight"} <= loaded


def test_random_plan_loads_as_many_of_each_kind_as_the_plan_and_freezes_nothing() -> None:
    plan = plan_for(seeded(0), lambda site: site.key in ("0.weight", "1.bias", "4.bias"))
    drawn = set()
    for seed in range(8):
        model, before, source = started("random-plan", plan, seed=seed)
        loaded = keys_equal(model, source)
        drawn.add(frozenset(loaded))

        # One W of two (the output layer aside) and both RB, whatever the seed.
        assert loaded - {"0.weight", "3.weight"} == {"1.bias", "4.bias"}
        assert len(loaded) == 3
        assert keys_equal(model, before) == KEYS - loaded
        assert frozen_keys(model) == ()

    assert len(drawn) == 2


def test_random_plan_loads_the_output_layer_where_the_plan_does() -> None:
    plan = plan_for(seeded(0), lambda site: site.key in ("0.weight", "6.weight"))

    model, _, source = started("random-plan", plan, seed=0)

    # Were the output left, plan and control would differ by their heads.
    loaded = keys_equal(model, source)
    assert "6.weight" in loaded
    assert len(loaded) == 2


def test_random_plan_depends_on_the_seed_alone() -> None:
    plan = plan_for(seeded(0), lambda site: site.key == "0.weight")
    first = started("random-plan", plan, seed=3)[0]
    torch.manual_seed(99)
    second = started("random-plan", plan, seed=3)[0]

    assert keys_equal(first, second.state_dict()) == KEYS


def test_statistics_loads_mean_and_variance_and_no_values() -> None:
    wide = {"width": 32}
    model, source = seeded(0, **wide), seeded(1, **wide).state_dict()
    start_model(model, Strategy.STATISTICS, Lender(source, None, 5))
    own = model.state_dict()

    assert keys_equal(model, source) == set()
    # 32 x 32 x 3 x 3 = 9216 values: the mean strays by a hundredth of the deviation.
    ours, theirs = own["3.weight"], source["3.weight"]
    assert abs(float(ours.mean() - theirs.mean())) < 0.05 * float(theirs.std())
    assert float(ours.std()) == pytest.approx(float(theirs.std()), rel=0.05)
    assert abs(float(torch.corrcoef(torch.stack([ours.flatten(), theirs.flatten()]))[0, 1])) < 0.05
    assert frozen_keys(model) == ()


def test_statistics_give_no_negative_variance() -> None:
    # Of mean 1 and deviation 1: one draw in six is negative, and would give NaN.
    model, source = seeded(0, width=64), seeded(1, width=64).state_dict()
    source["1.running_var"] = torch.tensor([0.0, 2.0]).repeat(32)

    start_model(model, Strategy.STATISTICS, Lender(source, None, 5))

    assert (model.state_dict()["1.running_var"] >= 0).all()


def test_statistics_of_a_constant_tensor_are_that_constant() -> None:
    source = seeded(1).state_dict()
    source["3.weight"] = torch.full_like(source["3.weight"], 0.25)
    model = seeded(0)

    start_model(model, Strategy.STATISTICS, Lender(source, None, 5))

    assert torch.equal(model.state_dict()["3.weight"], source["3.weight"])


def test_a_strategy_loads_from_a_source_with_another_output_layer() -> None:
    model, source = seeded(0), seeded(1, num_classes=2).state_dict()

    start_model(model, Strategy.FULL, Lender(source, None, 5))

    assert torch.equal(model.state_dict()["0.weight"], source["0.weight"])
    assert torch.equal(model.state_dict()["6.weight"], seeded(0).state_dict()["6.weight"])


def prepared(labelled: str = "aabbcd", unlabelled: str = "") -> PreparedSet:
    """One slice per letter, of the subject of that letter; the image holds its number."""
    names = labelled + unlabelled
    labels = torch.zeros((len(names), 2, 2), dtype=torch.int64)
    labels[len(labelled) :] = UNLABELLED
    images = torch.arange(len(names)).float()[:, None, None, None].expand(-1, 1, 2, 2)
    return PreparedSet(images, labels, tuple(names), tuple(f"slice {n}" for n in names), ("0", "1"))


def test_subjects_are_drawn_whole_and_the_smaller_draw_is_part_of_the_larger() -> None:
    whole = prepared()
    draws = [set(draw_subjects(whole, number, seed=3).subjects) for number in (1, 2, 3, 4)]

    assert [len(draw) for draw in draws] == [1, 2, 3, 4]
    assert draws[0] < draws[1] < draws[2] < draws[3]
    kept = draw_subjects(whole, 2, seed=3)
    assert [whole.subjects[int(n)] for n in kept.images[:, 0, 0, 0]] == list(kept.subjects)
    assert len(kept) == sum(whole.subjects.count(name) for name in set(kept.subjects))
    assert len({tuple(draw_subjects(whole, 2, seed=n).subjects) for n in range(9)}) > 1


def test_all_subjects_are_kept_when_no_number_is_given() -> None:
    whole = prepared("ab", "c")

    assert draw_subjects(whole, None, seed=3) is whole


def test_a_subject_without_labels_is_not_drawn_for_segmentation() -> None:
    whole = prepared("ab", "cde")

    assert drawable_subjects(whole) == ["a", "b"]
    assert drawable_subjects(whole, labelled_only=False) == ["a", "b", "c", "d", "e"]
    assert set(draw_subjects(whole, 2, seed=0).subjects) == {"a", "b"}
    with pytest.raises(DataError, match="on 3 subjects: the training fold has 2 with labels; ask"):
        draw_subjects(whole, 3, seed=0)
    assert len(draw_subjects(whole, 5, seed=0, labelled_only=False)) == 5


def test_scratch_is_trained_once_and_the_rest_once_per_source() -> None:
    names = [
        a.name for a in list_attempts([1, 4], [Strategy.SCRATCH, Strategy.FULL], 2, ["ae", "t1"])
    ]

    assert len(names) == len(set(names)) == 2 * (2 + 2 * 2)
    assert names[:6] == [
        *("scratch-1-0", "scratch-1-1"),
        *("full-ae-1-0", "full-ae-1-1", "full-t1-1-0", "full-t1-1-1"),
    ]


# The stage, with a training that takes no time.


def swept(tmp_path: Path, **changes: Any) -> Study:
    """A study, swept: random weights, so that it depends on the study what is accepted."""
    study = study_of(given_content(tmp_path, **changes))
    run_study(study, tmp_path / "run", until="sweep")
    return study


def transferred(study: Study, tmp_path: Path, **changes: Any) -> tuple[str, list[dict[str, Any]]]:
    """Run the stage of a study with changes; what it says, and its rows."""
    changed = study_of(study.model_dump(mode="json") | changes)
    with open_job(Workbench(changed, tmp_path / "run")) as job:
        said = run_transfer(job)
        return said, rows_of(job)


def rows_of(job: Job) -> list[dict[str, Any]]:
    attempts = attempts_of(job.bench.study, job.store)
    return transfer_rows(job.store, ["RV", "LV"], attempts)


def test_a_second_run_trains_nothing(tmp_path: Path, trainer: Trainer) -> None:
    study = swept(tmp_path, transfer={"subjects": [1], "strategies": ["scratch", "full"]})

    first = transferred(study, tmp_path)
    second = transferred(study, tmp_path)

    assert len(trainer.starts) == 2
    assert first == second
    assert [row["strategy"] for row in first[1]] == ["scratch", "full"]
    assert first[0].startswith("2 trainings: scratch on 1")


def test_another_plan_trains_only_what_follows_a_plan(tmp_path: Path, trainer: Trainer) -> None:
    strategies = ["scratch", "full", "plan-finetune", "random-plan", "statistics"]
    study = swept(tmp_path, transfer={"subjects": [1], "strategies": strategies})
    transferred(study, tmp_path, judge={"accept": EVERYTHING})
    assert len(trainer.starts) == 5

    transferred(study, tmp_path, judge={"accept": EVERYTHING, "tolerance": 0.5})
    # Everything is accepted, so that the plan is the same at any tolerance.
    assert len(trainer.starts) == 5
    said, rows = transferred(study, tmp_path, judge={"accept": ["identical"]})

    assert len(trainer.starts) == 5
    # Nothing is identical, so what stood there under the old plan is gone.
    assert said.endswith("; 2 left out: the plan is empty")
    assert [row["strategy"] for row in rows] == ["scratch", "full", "statistics"]
    transferred(study, tmp_path, judge={"accept": EVERYTHING})
    assert len(trainer.starts) == 7


def test_a_plan_of_other_sites_trains_anew_what_follows_it(
    tmp_path: Path, trainer: Trainer
) -> None:
    strategies = ["full", "plan-finetune", "random-plan"]
    content = given_content(tmp_path, transfer={"subjects": [1], "strategies": strategies})
    target, source = seeded(0).state_dict(), seeded(1).state_dict()
    write_checkpoint(tmp_path / "ae.safetensors", source | {"0.weight": target["0.weight"]})
    study = study_of(content)
    run_study(study, tmp_path / "run", until="sweep")
    transferred(study, tmp_path, judge={"accept": EVERYTHING})
    trainer.starts.clear()

    transferred(study, tmp_path, judge={"accept": ["identical"]})

    # Of all the sites the first kernel alone is identical; "full" follows no plan.
    assert len(trainer.starts) == 2
    planned, _ = trainer.starts
    assert torch.equal(planned["0.weight"], target["0.weight"])
    assert not torch.equal(planned["3.weight"], source["3.weight"])


def test_only_empty_plans_train_nothing_and_say_so(tmp_path: Path, trainer: Trainer) -> None:
    study = swept(
        tmp_path,
        judge={"accept": ["identical"]},
        transfer={"subjects": [1, 2], "strategies": ["plan-freeze"]},
    )

    said, rows = transferred(study, tmp_path)

    assert said == "nothing trained; 2 left out: the plan is empty"
    assert rows == []
    assert trainer.starts == []


def test_a_plan_that_would_freeze_everything_is_left_out(tmp_path: Path, trainer: Trainer) -> None:
    study = swept(
        tmp_path,
        judge={"accept": EVERYTHING},
        transfer={"subjects": [1], "strategies": ["plan-freeze", "plan-finetune"]},
    )

    said, rows = transferred(study, tmp_path)

    assert said.startswith("1 trainings: plan-finetune from ae on 1 ")
    assert said.endswith("; 1 left out: the plan freezes everything")
    assert [row["strategy"] for row in rows] == ["plan-finetune"]


def test_more_epochs_train_everything_anew(tmp_path: Path, trainer: Trainer) -> None:
    transfer = {"subjects": [1], "strategies": ["scratch", "full"], "epochs": 1}
    study = swept(tmp_path, transfer=transfer)
    transferred(study, tmp_path)
    transferred(study, tmp_path, transfer=transfer | {"epochs": 2})

    assert len(trainer.starts) == 4


def test_what_is_no_longer_asked_for_is_kept_and_not_told(tmp_path: Path, trainer: Trainer) -> None:
    transfer = {"subjects": [1, 2], "strategies": ["scratch", "full"]}
    study = swept(tmp_path, transfer=transfer)
    transferred(study, tmp_path)

    _, rows = transferred(study, tmp_path, transfer=transfer | {"subjects": [2]})
    assert [(row["strategy"], row["num_subjects"]) for row in rows] == [("scratch", 2), ("full", 2)]
    _, rows = transferred(study, tmp_path)
    assert len(rows) == len(trainer.starts) == 4


def test_strategies_of_one_seed_share_fresh_weights_and_subjects(
    tmp_path: Path, trainer: Trainer
) -> None:
    strategies = ["scratch", "plan-finetune"]
    transfer = {"subjects": [1, 2], "strategies": strategies, "seeds": 2}
    study = swept(tmp_path, transfer=transfer, judge={"accept": EVERYTHING})

    transferred(study, tmp_path)

    # In order: one subject and seeds 0, 1 from scratch, then by the plan; then two subjects.
    scratch, subjects = trainer.starts, trainer.subjects
    assert not torch.equal(scratch[0]["0.weight"], scratch[1]["0.weight"])
    assert torch.equal(scratch[0]["0.weight"], scratch[4]["0.weight"])
    lent = seeded(1).state_dict()
    assert torch.equal(scratch[2]["0.weight"], lent["0.weight"])
    assert subjects[0] == subjects[2] < subjects[4]


def test_too_many_subjects_are_refused_before_any_is_trained(
    tmp_path: Path, trainer: Trainer
) -> None:
    study = swept(tmp_path)

    with pytest.raises(DataError, match="cannot train on 3 subjects: the training fold has 2 with"):
        transferred(study, tmp_path, transfer={"subjects": [1, 3], "strategies": ["scratch"]})
    assert trainer.starts == []


def test_a_mean_is_over_subjects_of_means_over_their_foreground(tmp_path: Path) -> None:
    store = Store(tmp_path / "results.sqlite")
    attempt = Attempt(Strategy.FULL, "ae", 10, 0)
    scores = {
        ("a", "background"): 1.0,
        ("a", "RV"): 0.5,
        ("a", "LV"): 1.0,
        ("b", "background"): 1.0,
        ("b", "RV"): math.nan,
        ("b", "LV"): 0.25,
    }
    store.write(
        TransferScore(*attempt.training, subject, label, score)
        for (subject, label), score in scores.items()
    )

    (row,) = transfer_rows(store, ["RV", "LV"], [attempt])

    # a: 0.75, b: 0.25; the mean of all three foreground scores were 0.583.
    assert row["mean"] == 0.5
    assert (row["RV"], row["LV"], row["num_subjects"]) == (0.5, 0.625, 10)
    assert transfer_rows(store, ["RV", "LV"], [replace(attempt, seed=1)]) == []
    assert np.isfinite(row["background"])
    store.close()
