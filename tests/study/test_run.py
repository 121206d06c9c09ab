"""A whole study: every stage, interrupted and resumed, and the same every time."""

import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from torch import nn

from paramreuse.checkpoint import read_checkpoint
from paramreuse.reuse.judgement import Word
from paramreuse.reuse.plan_file import read_plan
from paramreuse.study import run as run_module
from paramreuse.study import stages
from paramreuse.study.config import Study
from paramreuse.study.findings import findings_of
from paramreuse.study.records import (
    FinishedStage,
    StoredDistance,
    StoredLineage,
    StoredShift,
    SweepScore,
    TrainedEpoch,
    TrialStatistics,
)
from paramreuse.study.run import STAGES, open_job, run_study
from paramreuse.study.store import Store
from paramreuse.study.stored_sweep import read_sweep
from paramreuse.study.transfer import stage as transfer_stage
from paramreuse.study.transfer import training
from paramreuse.study.workbench import Workbench
from samples.listening import Listener
from samples.studies import (
    PHANTOM,
    checkpoint,
    given_content,
    little,
    status_of,
    study_of,
    trained_content,
    write_study,
)

BLOOD = PHANTOM | {
    "reader": "samples.studies:read_blood",
    "root": "/",
    "options": PHANTOM["options"] | {"domain": "t1"},
}
STRATEGIES = ["scratch", "full", "plan-freeze", "plan-finetune", "random-plan", "statistics"]


def whole_content() -> dict[str, Any]:
    """Three models, two sources, every strategy; whatever a swap costs is accepted.

    The source t1 has two classes, so that its output layer does not fit.
    """
    models = {
        "target": {"data": "cine", "epochs": 2},
        "ae": {"data": "cine", "task": "autoencoder", "epochs": 1},
        "t1": {"data": "t1", "epochs": 1, "init": "independent"},
    }
    accept = ["reusable", "indifferent", "identical", "undecided", "not reusable"]
    return trained_content(
        data={"cine": PHANTOM, "t1": BLOOD},
        models=models,
        sources=["ae", "t1"],
        judge={"accept": accept},
        transfer={"subjects": [1], "strategies": STRATEGIES, "epochs": 1},
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a whole study."""
    folder = tmp_path_factory.mktemp("study")
    path = write_study(folder / "study.yaml", whole_content())
    assert status_of("run", path, "--out", folder / "run", "--quiet") == 0
    return folder / "run"


@pytest.mark.slow
def test_a_whole_study_leaves_every_file_that_is_promised(finished: Path) -> None:
    files = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    tables = {f"{kind}-{name}" for kind in ("sweep", "verdict", "share") for name in ("ae", "t1")}
    tables |= {"distances", "batchnorm", "learning", "transfer", "transfer-learning", "ranking"}
    figures = {f"{kind}-{name}" for kind in ("sweep", "map", "batchnorm") for name in ("ae", "t1")}

    assert {"study.yaml", "results.sqlite", "report.html"} <= files
    assert {f"models/{name}.safetensors" for name in ("target", "ae", "t1")} <= files
    assert {f"plans/{name}.yaml" for name in ("ae", "t1")} <= files
    assert {f"tables/{name}.csv" for name in tables} <= files
    assert {f"figures/{name}.svg" for name in figures | {"distances", "transfer"}} <= files
    # What only serves to resume a training is gone.
    assert not any(name.endswith(".ckpt") for name in files)


@pytest.mark.slow
def test_the_run_folder_holds_the_study_as_resolved(finished: Path) -> None:
    content = yaml.safe_load((finished / "study.yaml").read_text())

    assert study_of(content) == study_of(whole_content())
    assert content["judge"]["tolerance"] == 0.02


@pytest.mark.slow
def test_the_tables_have_the_agreed_columns(finished: Path) -> None:
    sweep = pd.read_csv(finished / "tables" / "sweep-ae.csv")
    verdict = pd.read_csv(finished / "tables" / "verdict-ae.csv")

    assert sweep.columns.tolist() == [
        *("swap", "family", "layer", "path", "kind", "replacement", "class"),
        *("baseline", "score", "drop", "drop_low", "drop_high", "subjects"),
    ]
    assert set(sweep["class"]) == {"background", "RV", "myocardium", "LV", "mean"}
    assert set(sweep["replacement"]) == {"source", "shuffled"}
    assert verdict.columns.tolist() == [
        *("swap", "family", "layer", "path", "kind", "drop", "drop_low", "drop_high"),
        *("control_drop", "paper", "verdict"),
    ]
    # Three kernels and biases, and four tensors in each of two norms.
    assert len(verdict) == 14


@pytest.mark.slow
def test_every_transfer_strategy_was_trained_and_scored(finished: Path) -> None:
    table = pd.read_csv(finished / "tables" / "transfer.csv")

    trained = set(zip(table["strategy"], table["source"].fillna(""), strict=True))
    assert trained == {("scratch", "")} | {
        (strategy, name)
        for strategy in STRATEGIES[1:]
        for name in ("ae", "t1")
        # Everything of the auto-encoder would be frozen, with nothing left to train.
        if (strategy, name) != ("plan-freeze", "ae")
    }
    assert table["mean"].between(0, 1).all()
    assert (table["num_subjects"] == 1).all()


@pytest.mark.slow
def test_the_plan_files_are_those_of_the_verdict(finished: Path) -> None:
    plan = read_plan(finished / "plans" / "ae.yaml")

    assert plan.source == "ae"
    assert (plan.tolerance, plan.confidence) == (0.02, 0.95)
    assert len(plan.loaded) == len(plan.entries) == 14


@pytest.mark.slow
def test_a_second_run_says_so_and_computes_nothing_anew(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("recomputed")

    for module, name in (
        *((stages, "train_model"), (stages, "sweep_sites"), (stages, "compare_models")),
        *((training, "train_model"), (transfer_stage, "score_subjects")),
    ):
        monkeypatch.setattr(module, name, never)
    # The report is redrawn; here only that it is.
    monkeypatch.setitem(run_module.STAGES, "report", lambda job: "drawn")  # type: ignore[attr-defined]
    talk = Listener()

    run_study(study_of(whole_content()), finished, talk=talk)

    assert list(dict.fromkeys(stage for stage, _ in talk.said)) == list(STAGES)
    for stage, line in talk.said:
        assert line.endswith("(finished before)") is (stage not in ("judge", "report"))


@pytest.mark.slow
def test_every_stage_says_what_it_found(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_study(finished.parent / "study.yaml", whole_content())

    assert status_of("run", path, "--out", finished, "--until", "transfer") == 0

    out, err = capsys.readouterr()
    patterns = {
        "data": r"cine: 2 \+ 2 subjects, 6 \+ 6 slices; t1: 2 \+ 2 subjects, 6 \+ 6 slices",
        "train": r"target's mean Dice \d\.\d{3} on 2 subjects \(target: Dice 0\.\d+, "
        r"ae: minus squared error -\d+\.\d+, t1: ",
        "compare": r"ae: shared start, median relative RMSE of W \d\.\d\d; t1: \w+ start",
        "sweep": r"ae: 14 swaps, 36 with controls, on 2 subjects, largest drop \d\.\d+ at \w+ \d; "
        r"t1: 12 swaps, 32 with",
        "judge": r"ae: (the target is useless|too few subjects)",
        "plan": r"ae: 12 of 12 sites reused \(100.0 %\), output layer aside, swapped in jointly it",
        "transfer": r"10 trainings: scratch on 1 0\.\d+, full from ae on 1 0\..*; "
        "1 left out: the plan freezes everything",
    }
    for stage, pattern in patterns.items():
        assert re.search(rf"^{stage} +{pattern}", err, re.MULTILINE), (stage, err)
    # Results, not talk: the verdict per source, the transfer table, the report.
    assert [line for line in out.splitlines() if line.startswith(("ae: ", "t1: "))]
    assert str(finished / "report.html") in out


@pytest.mark.slow
def test_another_tolerance_needs_no_forward_pass_of_a_single_swap(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[Any] = []
    trained: list[Any] = []
    sweep_sites, train = stages.sweep_sites, training.train_model

    def noting_sweep(*args: Any, **options: Any) -> Any:
        swept.append([swap.name for swap in options["swaps"]])
        return sweep_sites(*args, **options)

    def noting_train(*args: Any, **options: Any) -> Any:
        trained.append(options["settings"].folder.name)
        return train(*args, **options)

    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    monkeypatch.setattr(stages, "sweep_sites", noting_sweep)
    monkeypatch.setattr(training, "train_model", noting_train)
    content = whole_content()
    content["judge"]["tolerance"] = 1.0
    run_study(study_of(content), folder, until="transfer")

    # The plan alone is checked jointly; it is the same, so nothing is trained again.
    assert set(map(tuple, swept)) == {("plan",)}
    assert {site.name for site in read_plan(folder / "plans" / "ae.yaml").loaded} == {
        site.name for site in read_plan(finished / "plans" / "ae.yaml").loaded
    }
    assert trained == []


# Interrupted.


def scores_of(folder: Path, source: str = "ae") -> dict[Any, Any]:
    store = Store(folder / "results.sqlite")
    scores = store.read(SweepScore, sweep=source)
    store.close()
    return {(row.swap, row.replacement, row.subject, row.label): row.score for row in scores}


def in_small_batches(content: dict[str, Any]) -> dict[str, Any]:
    return content | {"sweep": {"batch_size": 1}}


@pytest.mark.parametrize("last", [1, 40, 150])
def test_a_sweep_interrupted_anywhere_goes_on_to_the_same_scores(tmp_path: Path, last: int) -> None:
    study = study_of(in_small_batches(given_content(tmp_path)))
    run_study(study, tmp_path / "whole", until="sweep")

    def interrupt(label: str, done: int) -> None:
        if label.startswith("sweep of") and done >= last:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(study, tmp_path / "run", until="sweep", talk=Listener(interrupt))
    store = Store(tmp_path / "run" / "results.sqlite")
    assert store.count(TrialStatistics) >= last
    assert store.read(FinishedStage, stage="sweep") == []
    store.close()
    run_study(study, tmp_path / "run", until="sweep")

    assert scores_of(tmp_path / "run") == scores_of(tmp_path / "whole") != {}


def test_an_interrupted_run_exits_with_130_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "sweep_sites", lambda *_, **__: interrupt())
    path = write_study(tmp_path / "study.yaml", given_content(tmp_path))

    assert status_of("run", path, "--out", tmp_path / "run") == 130
    assert "interrupted; the same command goes on where it was" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_same_scores(tmp_path: Path) -> None:
    content = given_content(
        tmp_path, data={"cine": PHANTOM | {"options": {"subjects": 4, "slices": 40, "size": 16}}}
    )
    content = content | {"sweep": {"batch_size": 1, "engine": "full"}}
    path = write_study(tmp_path / "study.yaml", content)
    run_study(study_of(content), tmp_path / "whole", until="sweep")
    command = [sys.executable, "-m", "paramreuse", "run", str(path), "--until", "sweep"]
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}

    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "run")], env=environment, stderr=subprocess.DEVNULL
    )
    recorded = wait_for_statistics(tmp_path / "run" / "results.sqlite", process)
    process.send_signal(signal.SIGKILL)
    process.wait()

    # 80 slices, 28 swaps and the baseline: killed well before the end, or else nothing is shown.
    assert 0 < recorded < 80 * 29
    run_study(study_of(content), tmp_path / "run", until="sweep")
    assert scores_of(tmp_path / "run") == scores_of(tmp_path / "whole") != {}


def wait_for_statistics(path: Path, process: "subprocess.Popen[bytes]") -> int:
    """Wait until a sweep in another process has recorded something."""
    for _ in range(1200):
        if path.exists() and path.stat().st_size > 0:
            store = Store(path)
            number = store.count(TrialStatistics)
            store.close()
            if number > 0:
                return number
        assert process.poll() is None, "the process ended before it recorded anything"
        time.sleep(0.05)
    raise AssertionError("nothing was recorded in a minute")


# Starts.


def initial(content: dict[str, Any], name: str, folder: Path) -> nn.Module:
    return Workbench(study_of(content), folder).initial(name)


def same_tensors(one: nn.Module, other: nn.Module) -> set[str]:
    ours, theirs = one.state_dict(), other.state_dict()
    return {
        key
        for key in ours
        if key.endswith("weight")
        and ours[key].ndim > 1
        and ours[key].shape == theirs[key].shape
        and torch.equal(ours[key], theirs[key])
    }


def test_a_shared_start_is_the_same_and_an_independent_one_is_not(tmp_path: Path) -> None:
    models = {
        "target": {"data": "cine"},
        "shared": {"data": "cine", "task": "autoencoder"},
        "own": {"data": "cine", "init": "independent"},
        "other": {"data": "cine", "init": "independent"},
    }
    content = trained_content(models=models, sources=["shared"])
    target, shared, own, other = (initial(content, name, tmp_path) for name in models)

    kernels = {"0.weight", "3.weight", "6.weight"}
    assert same_tensors(target, shared) == kernels
    assert same_tensors(target, own) == same_tensors(own, other) == set()
    assert same_tensors(target, initial(content, "target", tmp_path)) == kernels
    seeded = initial(content | {"seed": 1}, "target", tmp_path)
    assert same_tensors(target, seeded) == set()


def test_a_shared_start_is_shared_across_networks_of_other_channels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = trained_content(
        data={"cine": PHANTOM, "t1": BLOOD},
        models={"target": {"data": "cine"}, "ae": {"data": "t1"}},
    )
    bench = Workbench(study_of(content), tmp_path)
    monkeypatch.setattr(
        bench,
        "factory",
        lambda name: lambda: little(in_channels=1 if name == "target" else 2, num_classes=4),
    )

    # The first layer draws twice as many random numbers, which shifts all those behind it.
    assert same_tensors(bench.initial("target"), bench.initial("ae")) == {"3.weight", "6.weight"}


@pytest.mark.slow
def test_the_same_study_gives_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    study = study_of(trained_content())
    for name in ("one", "two"):
        run_study(study, tmp_path / name, until="train")

    for model in ("target", "ae"):
        one, two = (
            (tmp_path / name / "models" / f"{model}.safetensors").read_bytes()
            for name in ("one", "two")
        )
        assert one == two


# source = target.


@pytest.fixture
def twins(tmp_path: Path) -> tuple[Study, Path]:
    """A study whose source has the target's weights, until the sweep."""
    content = given_content(tmp_path)
    content["models"]["ae"]["checkpoint"] = content["models"]["target"]["checkpoint"]
    study = study_of(content | {"sweep": {"swaps": ["single", "pair", "layer"]}})
    return study, run_study(study, tmp_path / "run", until="plan")


def test_the_target_as_its_own_source_loses_nothing_and_is_no_distance_away(
    twins: tuple[Study, Path],
) -> None:
    _, folder = twins
    store = Store(folder / "results.sqlite")
    sweep = read_sweep(store, "ae")
    assert sweep is not None

    rows = [row for row in sweep.rows() if row["replacement"] == "source"]
    assert {row["drop"] for row in rows if not math.isnan(row["drop"])} == {0.0}
    distances = store.read(StoredDistance)
    assert len(distances) == 14
    assert {(row.rmse, row.relative_rmse) for row in distances} == {(0.0, 0.0)}
    norms = store.read(StoredShift)
    assert [(n.mrm, n.mrb, n.mrv, n.mrw, n.mrw_median) for n in norms] == [
        (0.0, 0.0, 1.0, 1.0, 1.0)
    ] * 2
    (lineage,) = store.read(StoredLineage)
    assert (lineage.lineage, lineage.identical_share) == ("shared", 1.0)
    store.close()


def test_the_target_as_its_own_source_is_identical_everywhere(twins: tuple[Study, Path]) -> None:
    study, folder = twins
    with open_job(Workbench(study, folder)) as job:
        verdict = findings_of(study, job.store).verdict("ae")

    assert {judgement.verdict for judgement in verdict.judgements} == {Word.IDENTICAL}
    assert verdict.reusable_network
    assert verdict.kernel_share == 1.0
    assert read_plan(folder / "plans" / "ae.yaml").share == 1.0


# Sources of another network.


def test_a_source_of_another_network_lends_what_fits_and_the_rest_is_listed(
    tmp_path: Path,
) -> None:
    content = given_content(tmp_path)
    checkpoint(tmp_path / "ae.safetensors", 1, in_channels=3, num_classes=2)
    folder = run_study(study_of(content), tmp_path / "run", until="plan")

    store = Store(folder / "results.sqlite")
    swept = read_sweep(store, "ae")
    assert swept is not None
    keys = {swap.anchor.key for swap in swept.swaps}
    assert "0.weight" not in keys
    assert "3.weight" in keys
    skipped = {item.key: item.reason for item in swept.skipped}
    assert {"0.weight", "6.weight", "6.bias"} <= set(skipped)
    assert "(2, 1, 3, 3)" in skipped["0.weight"]
    assert "(2, 3, 3, 3)" in skipped["0.weight"]
    (lineage,) = store.read(StoredLineage)
    assert "0.weight" in lineage.skipped
    store.close()


def test_a_study_without_single_swaps_has_no_plan_and_a_report(tmp_path: Path) -> None:
    study = study_of(given_content(tmp_path) | {"sweep": {"swaps": ["layer"]}})
    talk = Listener()

    run_study(study, tmp_path / "run", until="transfer", talk=talk)

    told = dict(talk.said)
    assert told["plan"].startswith("nothing to plan without single swaps")
    assert told["transfer"].startswith("the study asks for none")
    assert list((tmp_path / "run").glob("plans/*")) == []


def test_a_model_of_the_study_may_be_a_control(tmp_path: Path) -> None:
    content = given_content(tmp_path)
    content["models"]["twin"] = content["models"]["target"]
    study = study_of(content | {"sweep": {"controls": ["twin", "reinit"]}})
    folder = run_study(study, tmp_path / "run", until="sweep")

    store = Store(folder / "results.sqlite")
    stored = read_sweep(store, "ae")
    store.close()
    assert stored is not None
    assert stored.replacements == ("source", "twin", "reinit")
    assert {stored.scores["W 1", "twin"].tobytes()} == {stored.baseline.tobytes()}


@pytest.mark.slow
def test_training_goes_on_after_an_interruption_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = trained_content()
    content["models"]["target"]["epochs"] = 3
    study = study_of(content)
    run_study(study, tmp_path / "whole", until="train")
    write = Store.write

    def interrupt(self: Store, records: Any) -> None:
        written = list(records)
        write(self, written)
        if any(isinstance(row, TrainedEpoch) and row.epoch == 2 for row in written):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_study(study, tmp_path / "run", until="train")
    run_study(study, tmp_path / "run", until="train")

    for name in ("target", "ae"):
        one, two = (
            read_checkpoint(tmp_path / place / "models" / f"{name}.safetensors")
            for place in ("whole", "run")
        )
        assert all(torch.equal(one[key], two[key]) for key in one)
    store = Store(tmp_path / "run" / "results.sqlite")
    assert [row.epoch for row in store.read(TrainedEpoch, model="target")] == [1, 2, 3]
    store.close()
