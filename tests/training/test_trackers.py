"""Trackers: a study's curves, tables and figures end in one run, whichever logger keeps it."""

import csv
import importlib.util
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from paramreuse.errors import MissingExtraError, ParamReuseError
from paramreuse.study.run import run_study
from paramreuse.study.talk import Silent
from paramreuse.study.train_by_plan import TrainingOrder, train_by_plan
from paramreuse.training.settings import EpochRow
from paramreuse.training.trackers import open_tracker, require_tracker
from samples.studies import study_of, trained_content


def log_all(name: str, folder: Path) -> None:
    figure = Figure()
    figure.subplots().plot([1, 2])
    with open_tracker(name, folder, run="tiny") as tracker:
        tracker.log_epoch("target", EpochRow(1, 0.5, None, 2.0))
        tracker.log_epoch("target", EpochRow(2, 0.25, 0.75, 2.0))
        tracker.log_table("verdict", pd.DataFrame({"site": ["W 1"], "drop": [0.125]}))
        tracker.log_figure("map", figure)


def test_csv_keeps_epochs_tables_and_figures(tmp_path: Path) -> None:
    log_all("csv", tmp_path)

    folder = tmp_path / "logs" / "csv" / "version_0"
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["step"], row["target/train_loss"]) for row in rows] == [
        ("1", "0.5"),
        ("2", "0.25"),
    ]
    assert [row["target/validation_score"] for row in rows] == ["", "0.75"]
    assert (folder / "tables" / "verdict.csv").read_text() == "site,drop\nW 1,0.125\n"
    assert "<svg" in (folder / "figures" / "map.svg").read_text()


def test_no_logger_leaves_no_file(tmp_path: Path) -> None:
    with open_tracker(None, tmp_path, run="tiny") as tracker:
        tracker.log_epoch("target", EpochRow(1, 0.5, None, 2.0))
        tracker.log_table("verdict", pd.DataFrame())
        tracker.log_figure("map", Figure())

    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_holds_all_of_two_sessions_as_one_run(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log_all("tensorboard", tmp_path)
    log_all("tensorboard", tmp_path)

    logged = EventAccumulator(str(tmp_path / "logs" / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in logged.Scalars("target/validation_score")] == [(2, 0.75)] * 2
    assert logged.Tags()["images"] == ["figures/map"]
    assert logged.Tags()["tensors"] == ["tables/verdict/text_summary"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_goes_on_with_the_run_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    from mlflow.tracking import MlflowClient

    log_all("mlflow", tmp_path)
    log_all("mlflow", tmp_path)

    client = MlflowClient(f"sqlite:///{tmp_path}/logs/mlflow.db")
    experiment = client.get_experiment_by_name("paramreuse")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.metrics["target/validation_score"] == 0.75
    kept = (
        item.path
        for part in ("tables", "figures")
        for item in client.list_artifacts(run.info.run_id, part)
    )
    assert sorted(kept) == ["figures/map.png", "tables/verdict.csv"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_wandb_logs_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")

    log_all("wandb", tmp_path)

    (kept,) = (tmp_path / "logs" / "wandb").glob("offline-run-*-tiny-????????")
    names = {path.name.split("_")[0] for path in (kept / "files" / "media").rglob("*.*")}
    assert names == {"map", "verdict"}


def test_an_unknown_logger_is_noticed_before_anything_is_written(tmp_path: Path) -> None:
    study = study_of(trained_content())

    with pytest.raises(ParamReuseError, match=r"unknown logger 'neptune': expected one of \['csv'"):
        run_study(study, tmp_path / "run", logger="neptune")
    assert not (tmp_path / "run").exists()


def test_a_logger_that_is_not_installed_comes_with_the_pip_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "paramreuse.training.trackers.find_spec",
        lambda name: None if name == "wandb" else find(name),
    )

    with pytest.raises(
        MissingExtraError,
        match=r"pip install 'paramreuse\[trackers\]'",
    ):
        require_tracker("wandb")


def test_a_run_that_cannot_begin_says_so(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("in the way")

    with pytest.raises(ParamReuseError, match=r"cannot begin a run of csv: .*leave --logger out"):
        log_all("csv", tmp_path)


@pytest.mark.slow
def test_a_study_logs_every_training_and_what_it_reports(tmp_path: Path) -> None:
    transfer = {"subjects": [2], "strategies": ["scratch", "full"]}
    study = study_of(trained_content(transfer=transfer))

    folder = run_study(study, tmp_path / "run", logger="csv")

    logged = folder / "logs" / "csv" / "version_0"
    trainings = {name.partition("/")[0] for name in pd.read_csv(logged / "metrics.csv").columns}
    assert trainings == {"step", "target", "ae", "scratch-2-0", "full-ae-2-0"}
    for part in ("tables", "figures"):
        written = sorted(path.name for path in (folder / part).iterdir())
        assert sorted(path.name for path in (logged / part).iterdir()) == written
        assert written

    order = TrainingOrder(None, None, "finetune", None, 1, 0)
    out = tmp_path / "model.safetensors"
    train_by_plan(folder, order, out, device="cpu", talk=Silent(), logger="csv")

    again = pd.read_csv(folder / "logs" / "csv" / "version_1" / "metrics.csv")
    assert len(again["model/train_loss"]) == 1
