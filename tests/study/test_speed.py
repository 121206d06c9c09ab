"""What is gained at the end and what is speed: steps to a level, and trainings twice as long."""

from math import isnan, nan
from pathlib import Path
from typing import Any

import pytest
import torch

from paramreuse.study.answering import trials_in
from paramreuse.study.findings import findings_of
from paramreuse.study.records import LongTransferScore, TransferEpoch, TransferScore, TransferStep
from paramreuse.study.run import open_job, run_study
from paramreuse.study.transfer.attempts import Attempt, attempts_of, lengthened
from paramreuse.study.transfer.speed import add_steps, steps_to_level
from paramreuse.study.transfer.stage import run_transfer
from paramreuse.study.transfer.strategy import Strategy
from paramreuse.study.transfer.table import summed_transfer, transfer_rows
from paramreuse.study.workbench import Workbench
from samples.studies import given_content, study_of
from samples.transfers import Trainer

CURVE = [(10, 0.2), (20, 0.5), (30, 0.4), (40, 0.6)]


@pytest.mark.parametrize(("level", "steps"), [(0.1, 10), (0.5, 20), (0.55, 40), (0.7, nan)])
def test_steps_to_a_level_are_those_of_the_first_score_that_reaches_it(
    level: float, steps: float
) -> None:
    taken = steps_to_level(CURVE, level)

    assert taken == steps or (isnan(taken) and isnan(steps))


def row(strategy: str, seed: int, mean: float) -> dict[str, Any]:
    source = "" if strategy == "scratch" else "ae"
    return {
        "source": source,
        "strategy": strategy,
        "num_subjects": 4,
        "seed": seed,
        "mean": mean,
    }


def test_the_level_is_what_scratch_ends_at_in_the_same_repetition() -> None:
    rows = [row("scratch", 0, 0.5), row("scratch", 1, 0.9), row("full", 0, 0.7)]
    rows += [row("full", 1, 0.8), row("head", 0, 0.55)]
    curves = {
        ("", "scratch", 4, 0): [(10, 0.3), (20, 0.4)],
        ("ae", "full", 4, 0): CURVE,
        ("ae", "full", 4, 1): CURVE,
        ("ae", "head", 4, 0): [(10, 0.1), (20, 0.2)],
    }

    add_steps(rows, curves)

    # Scratch: 0.5 only once its recipe is done, at its end; no curve of seed 1. Full: 0.5 after 20
    # steps, 0.9 never. Head: its own 0.55, not its curve, is what it ends with.
    steps = [r["steps_to_scratch"] for r in rows]
    assert [steps[0], steps[2], steps[4]] == [20, 20, 20]
    assert isnan(steps[1])
    assert isnan(steps[3])


def test_without_scratch_or_curves_there_are_no_steps() -> None:
    alone, no_curves = [row("full", 0, 0.7)], [row("scratch", 0, 0.5)]

    add_steps(alone, {("ae", "full", 4, 0): CURVE})
    add_steps(no_curves, {})

    assert "steps_to_scratch" not in alone[0] | no_curves[0]


def test_every_training_is_repeated_only_where_that_is_asked_for(tmp_path: Path) -> None:
    attempts = [Attempt(s, "", 2, 0) for s in (Strategy.SCRATCH, Strategy.RECOMMENDED)]
    section: dict[str, Any] = {"subjects": [2], "strategies": ["scratch", "recommended"]}
    plain, asked, by_steps = (
        study_of(given_content(tmp_path, transfer=section | more))
        for more in ({}, {"check_convergence": True}, {"check_convergence": True, "steps": 4})
    )

    assert lengthened(attempts, plain) == []
    assert [a.name for a in lengthened(attempts, asked)] == ["scratch-2-0-twice"]
    # How long recommend trains by itself is its own affair; told in steps, it is doubled too.
    assert len(lengthened(attempts, by_steps)) == 2


def test_a_training_twice_as_long_is_the_same_but_for_its_epochs(
    tmp_path: Path, trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[tuple[int, int]] = []

    def train(model: Any, train: Any, validation: Any, *, settings: Any, **more: Any) -> Any:
        lengths.append((settings.epochs, settings.seed))
        return trainer(model, train, validation)

    monkeypatch.setattr("paramreuse.study.transfer.training.train_model", train)
    section = {"subjects": [2], "strategies": ["scratch", "statistics"], "epochs": 3}
    study = study_of(given_content(tmp_path, transfer=section | {"check_convergence": True}))
    run_study(study, tmp_path / "run", until="compare")
    with open_job(Workbench(study, tmp_path / "run")) as job:
        said = run_transfer(job)
        once, twice = job.store.read(TransferScore), job.store.read(LongTransferScore)
        epochs = job.store.read(TransferEpoch)
        rows = summed_transfer(study, job.store)
        again = run_transfer(job)

    assert [epochs for epochs, _ in lengths] == [3, 3, 6, 6]
    assert len({seed for _, seed in lengths}) == 1
    assert all(
        torch.equal(trainer.starts[k][key], trainer.starts[k + 2][key])
        for k in (0, 1)
        for key in trainer.starts[k]
    )
    # The trainer does the same whatever the length, so that both end alike: converged.
    assert [s.score for s in once] == [s.score for s in twice]
    assert len(epochs) == 2
    assert said == again
    assert said.startswith("4 trainings: ")
    assert [r["converged"] for r in rows] == ["yes", "yes"]
    assert [r["gain_at_end"] for r in rows] == [r["gain"] for r in rows]


@pytest.mark.slow
def test_training_by_steps_is_scored_at_every_tenth_and_at_twice_the_steps(tmp_path: Path) -> None:
    section = {"subjects": [2], "strategies": ["scratch", "full"], "steps": 20}
    plain = study_of(given_content(tmp_path, sweep={"engine": "full"}, transfer=section))
    checked = study_of(
        given_content(
            tmp_path, sweep={"engine": "full"}, transfer=section | {"check_convergence": True}
        )
    )
    run_study(plain, tmp_path / "run", until="transfer")
    with open_job(Workbench(plain, tmp_path / "run")) as job:
        before = job.store.read(TransferScore)
        assert job.store.read(TransferStep) == []
    run_study(checked, tmp_path / "run", until="transfer")
    with open_job(Workbench(checked, tmp_path / "run")) as job:
        store, attempts = job.store, attempts_of(checked, job.store)
        steps = [s.step for s in store.read(TransferStep, strategy="full")]
        rows = transfer_rows(store, ["RV", "myocardium", "LV"], attempts)
        trials, long_trials = trials_in(findings_of(checked, store))

        # Looking at the training on its way has changed nothing that came of it.
        assert sorted(store.read(TransferScore), key=str) == sorted(before, key=str)
    assert steps == [2 * k for k in range(1, 11)]
    assert all(row["steps_to_scratch"] in (nan, *steps) for row in rows[:1])
    assert {row["strategy"]: row["mean_twice"] for row in rows} == {
        trial.strategy: trial.mean for trial in long_trials
    }
    assert [trial.mean for trial in trials] == [row["mean"] for row in rows]
