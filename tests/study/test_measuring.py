"""Strategies that measure first, prefixes and the depth curve: in the transfer and by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import paramreuse as pr
from paramreuse.data.preparation import batches
from paramreuse.report.starts import Trial
from paramreuse.reuse.plan import Action
from paramreuse.sites.matching import match_sites, sites_of
from paramreuse.study.reporting import report_data
from paramreuse.study.run import open_job, run_study
from paramreuse.study.store import Store
from paramreuse.study.talk import Silent
from paramreuse.study.train_by_plan import TrainingOrder, train_by_plan
from paramreuse.study.transfer import measuring
from paramreuse.study.transfer.attempts import Attempt
from paramreuse.study.transfer.depth import CUTS, depth_rows, share_loaded
from paramreuse.study.transfer.measuring import Measuring, measured_plan
from paramreuse.study.transfer.rewound import rewind_fact, rewind_rows
from paramreuse.study.transfer.strategy import Strategy
from paramreuse.study.workbench import Workbench
from paramreuse.training.steps import StepSettings
from samples.disks import disk_network, disks
from samples.studies import given_content, little, seeded, study_of

MEASURING = Measuring(
    disk_network, pr.Dice(num_classes=2), StepSettings(), 6, torch.device("cpu"), 3
)


def source_of(seed: int) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return disk_network().state_dict()


def test_rewinding_holds_out_every_subject_once_and_trains_on_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noted: list[np.ndarray] = []
    trained: list[tuple[set[str], int]] = []
    left_out: list[tuple[str, ...]] = []

    def train(
        model: nn.Module, labelled: Any, plan: Any, steps: int, seed: int, **more: Any
    ) -> nn.Module:
        trained.append(({owner for _, _, owners in labelled for owner in owners}, steps))
        return model.eval()

    drops = {"s0": 0.0, "s1": 0.1, "s2": 0.2}

    def rewound(
        tuned: nn.Module, source: Any, blocks: Any, data: Any, score: Any, *, seed: int
    ) -> np.ndarray:
        left_out.append(data.subjects)
        return np.array([[[drops[s] for s in data.subjects]] * 2] * len(blocks))

    monkeypatch.setattr(measuring, "train_steps", train)
    monkeypatch.setattr(measuring, "rewind_drops", rewound)
    plan = measured_plan(
        Strategy.REWIND,
        source_of(1),
        disks(3),
        Measuring(
            *(MEASURING.factory, MEASURING.score, MEASURING.settings, 9, MEASURING.device, 3),
            lambda blocks, drops: noted.append(drops),
        ),
    )

    everyone = {"s0", "s1", "s2"}
    assert {subject for (subject,) in left_out} == everyone
    # A third of the steps each, on those that are not held out.
    assert trained == [(everyone - set(out), 3) for out in left_out]
    assert sorted(noted[0][0, 0].tolist()) == [0.0, 0.1, 0.2]
    # Rewinding costs what a fresh draw costs: the source is left everywhere.
    assert {entry.action for entry in plan.entries} == {Action.LEAVE}


@pytest.mark.slow
def test_measured_plans_depend_on_the_seed_alone() -> None:
    for strategy in (Strategy.AUTO_RGN, Strategy.REWIND):
        first, second = (
            measured_plan(strategy, source_of(1), disks(3), MEASURING) for _ in range(2)
        )
        assert first == second
        assert {entry.site.key for entry in first.entries} == {
            site.key for site in sites_of(disk_network())
        }


def test_stored_rewinds_are_averaged_over_repetitions(tmp_path: Path) -> None:
    store = Store(tmp_path / "results.sqlite")
    attempts = [Attempt(Strategy.REWIND, "ae", 4, seed) for seed in (0, 1)]
    for attempt, drop in zip(attempts, (0.1, 0.3), strict=True):
        rewind, reinit = [drop, drop], [0.5, 0.5]
        store.put_fact(rewind_fact(attempt), {"blocks": ["a"], "drops": [[rewind, reinit]]})

    (row,) = rewind_rows(store, [*attempts, Attempt(Strategy.FULL, "ae", 4, 0)])

    assert (row["source"], row["num_subjects"], row["block"]) == ("ae", 4, "a")
    assert (row["rewind"], row["reinit"]) == (pytest.approx(0.2), pytest.approx(0.5))
    assert row["reading"] == "the source helps, training it helps more"
    store.close()


def test_a_cut_s_share_counts_the_kernels_that_it_loads() -> None:
    model, source = seeded(0), seeded(1).state_dict()
    sites = match_sites(model, source)
    smaller = seeded(1, num_classes=2).state_dict()

    shares = {cut: share_loaded(cut, sites, source, sites_of(model)) for cut in CUTS}
    without_head = share_loaded(
        Strategy.FULL, match_sites(model, smaller), smaller, sites_of(model)
    )

    # Three kernels, the output layer's among them; a quarter is nearest to one of them.
    assert [shares[cut] for cut in CUTS] == pytest.approx([1 / 3, 2 / 3, 2 / 3, 2 / 3, 1, 1])
    # The output layer of a source with other classes does not fit.
    assert without_head == pytest.approx(2 / 3)


def trial(strategy: str, seed: int, mean: float, source: str = "ae") -> Trial:
    return Trial(strategy, source, 2, seed, mean, {"a": mean, "b": mean})


def test_the_depth_curve_goes_from_scratch_over_the_cuts_to_everything(tmp_path: Path) -> None:
    study = study_of(given_content(tmp_path))
    trials = [
        *(trial("scratch", seed, 0.5, "") for seed in (0, 1)),
        *(trial("prefix-quarter", seed, 0.6 + 0.1 * seed) for seed in (0, 1)),
        *(trial("prefix", 0, 0.8), trial("full", 0, 0.7), trial("recalibrated", 0, 0.75)),
    ]
    with open_job(Workbench(study, tmp_path / "run")) as job:
        rows = depth_rows(job, trials, [])
        assert depth_rows(job, [trials[0], trials[-2]], []) == []
        longer = depth_rows(job, trials, [trial("scratch", 0, 0.7, ""), trial("prefix", 0, 0.8)])

    # Recalibrated as the cuts are, everything counts once; gains are paired by repetition.
    assert [(row["strategy"], round(row["share"], 3), round(row["gain"], 3)) for row in rows] == [
        ("scratch", 0.0, 0.0),
        ("prefix-quarter", 0.333, 0.15),
        ("prefix", 0.667, 0.3),
        ("recalibrated", 1.0, 0.25),
    ]
    assert {(row["source"], row["num_subjects"]) for row in rows} == {("ae", 2)}
    assert rows[2]["gain_low"] == pytest.approx(0.3)
    # What was trained twice as long counts where it is there.
    assert [(row["strategy"], round(row["gain"], 3)) for row in longer] == [
        ("scratch", 0.0),
        ("prefix", 0.1),
    ]


@pytest.mark.slow
def test_a_study_shows_the_depth_curve_and_the_rewind_sweep(tmp_path: Path) -> None:
    strategies = ["scratch", "prefix-quarter", "prefix", "full", "auto-rgn", "rewind"]
    section = {"subjects": [2], "strategies": strategies, "steps": 6, "keep_seeds": 1}
    study = study_of(given_content(tmp_path, sweep={"engine": "full"}, transfer=section))
    folder = run_study(study, tmp_path / "run")

    with open_job(Workbench(study, folder)) as job:
        data = report_data(job)

    assert [row["strategy"] for row in data.depth] == strategies[:4]
    assert [row["block"] for row in data.rewind] == ["0", "3", "6"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "How much to load" in page
    assert "What putting blocks back costs" in page
    for name in ("depth", "rewind"):
        assert (folder / "tables" / f"{name}.csv").is_file()
    assert (folder / "figures" / "depth.svg").is_file()
    assert (folder / "figures" / "rewind-ae-2.svg").is_file()

    told = {}
    for strategy in ("gentle", "auto-rgn", "rewind"):
        order = TrainingOrder(None, "ae", "finetune", 2, None, 0, strategy, 6)
        out = tmp_path / f"{strategy}.safetensors"
        told[strategy] = train_by_plan(folder, order, out, device="cpu", talk=Silent())
        assert set(pr.read_checkpoint(out)) == set(little().state_dict())
    assert all("after 6 steps" in text for text in told.values())


@pytest.mark.slow
def test_a_plan_file_s_recipe_is_done_by_hand_too(tmp_path: Path) -> None:
    study = study_of(given_content(tmp_path, sweep={"engine": "full"}))
    folder = run_study(study, tmp_path / "run", until="compare")
    source = pr.read_checkpoint(tmp_path / "ae.safetensors")
    plan = pr.mixed(pr.gentle_plan(match_sites(seeded(0), source), source="ae"), 1e-9)
    pr.write_plan(plan, tmp_path / "plan.yaml")
    out = tmp_path / "model.safetensors"

    order = TrainingOrder(tmp_path / "plan.yaml", None, "finetune", 2, 1, 0)
    by_epochs = train_by_plan(folder, order, out, device="cpu", talk=Silent())
    trained = pr.read_checkpoint(out)
    by_steps = TrainingOrder(tmp_path / "plan.yaml", None, "finetune", 2, None, 0, None, 3)
    told = train_by_plan(folder, by_steps, out, device="cpu", talk=Silent())

    # Mixed all the way back, what was trained is the source again.
    torch.testing.assert_close(trained["0.weight"], source["0.weight"])
    torch.testing.assert_close(pr.read_checkpoint(out)["0.weight"], source["0.weight"])
    assert by_epochs.endswith("the plan's rates and anchor had no effect by epochs: give --steps")
    assert told.endswith("after 3 steps")


def test_batches_of_a_prepared_set_are_what_is_measured_on(tmp_path: Path) -> None:
    study = study_of(given_content(tmp_path))
    bench = Workbench(study, tmp_path / "run")
    labelled = batches(bench.images("cine").trainable, 4)
    factory = bench.factory("target")

    plan = measured_plan(
        Strategy.AUTO_RGN,
        seeded(1).state_dict(),
        labelled,
        Measuring(factory, bench.score, StepSettings(), 6, torch.device("cpu"), 3),
    )

    assert max(entry.rate for entry in plan.entries) == 1.0
