"""What a study will take: counts times what was measured, and nothing is left behind."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from paramreuse.cli import app
from paramreuse.errors import DataError, StudyError
from paramreuse.study.arms import read_one
from paramreuse.study.forecast.forecast import forecast_study
from paramreuse.study.forecast.memory import forget_peaks, peak_memory_gb
from paramreuse.study.forecast.stages import Counts, Measured, stage_costs
from paramreuse.study.forecast.sweep_cost import SweepCost, stand_in
from paramreuse.study.forecast.training_cost import TrainingCost
from samples.studies import PHANTOM, given_content, seeded, study_of, trained_content, write_study

STAGES = ["data", "train", "compare", "sweep", "judge", "plan", "transfer", "report"]


MODEL = TrainingCost(start=1.0, step=0.5, validation=0.25, save=0.125, first=4.0)
MEASURED = Measured(
    reading=7.0,
    trainings={"target": MODEL, "ae": MODEL},
    sweep=SweepCost(1.0, 0.5, 0.2, 0.01, keep=0.001, judge=0.1, log_bytes=10, score_bytes=100),
    compare=2.0,
    figure=1.5,
    memory_gb={"compare": 0.5, "train": 2.0, "report": 0.75},
)
COUNTS = Counts(
    slices={"target": 32, "ae": 64},
    validation={"target": 2, "ae": 2},
    swaps={"ae": 5},
    trials={"ae": 10},
    batches=3,
    subjects=2,
    classes=4,
    slices_per_subject=8,
    attempts={2: 2},
    model_bytes=1_000_000,
)


def test_each_stage_is_a_count_times_what_was_measured() -> None:
    transfer = {"subjects": [2], "strategies": ["scratch", "full"], "epochs": 3}
    study = study_of(trained_content(transfer=transfer))
    costs = {stage.stage: stage for stage in stage_costs(study, COUNTS, MEASURED)}

    assert list(costs) == STAGES
    assert costs["data"].seconds == 7.0
    # One epoch of 2 and of 4 steps, each with one validation of two batches; the target's score.
    target, ae = 1 + 2 * 0.5 + 0.125 + 2 * 0.25, 1 + 4 * 0.5 + 0.125 + 2 * 0.25
    assert costs["train"].seconds == pytest.approx(target + ae + 4 + 3 * 0.5)
    # 5 swaps with the source and one control on 3 batches; 11 x 8 scores are kept.
    assert costs["sweep"].seconds == pytest.approx(1 + 2 + 3 * (0.5 + 0.1) + 11 * 8 * 0.001)
    assert costs["judge"].seconds == pytest.approx(0.5)
    assert costs["plan"].seconds == pytest.approx(1 + 3 * 2 * 0.5 + 0.5)
    # Two trainings of 3 epochs of one step (16 slices), validated 3 times, scored once.
    assert costs["transfer"].seconds == pytest.approx(2 * (1 + 3 * 0.625 + 3 * 0.5 + 3 * 0.5))
    assert costs["report"].seconds == pytest.approx(5 * 1.5 * 1.5)
    assert costs["train"].disk_mb == 2.0
    assert costs["sweep"].disk_mb == pytest.approx((10 * 8 * 100 + 10 * 10 * 3) / 1e6)
    # What training took is not given back; drawing comes on top.
    assert (costs["train"].memory_gb, costs["judge"].memory_gb) == (2.0, 2.0)
    assert costs["report"].memory_gb == 2.25


def test_trainings_by_steps_and_of_twice_the_length_are_forecast() -> None:
    transfer = {"subjects": [2], "strategies": ["scratch", "full"], "steps": 7}
    by_steps = study_of(trained_content(transfer=transfer))
    checked = study_of(trained_content(transfer=transfer | {"check_convergence": True}))

    once, twice = (
        next(c for c in stage_costs(s, COUNTS, MEASURED) if c.stage == "transfer")
        for s in (by_steps, checked)
    )

    # Two trainings of 7 steps, never validated on the way, scored once; then two of 14.
    seven = 2 * (1 + 7 * 0.5 + 0.125 + 3 * 0.5)
    assert once.seconds == pytest.approx(seven)
    assert twice.seconds == pytest.approx(seven + 2 * (1 + 14 * 0.5 + 0.125 + 3 * 0.5))
    assert twice.basis == "4 trainings of 7 steps, half of them twice as long, at most"


def ticking() -> Iterator[float]:
    now = 0.0
    while True:
        now += 1.0
        yield now


@pytest.mark.slow
def test_a_study_is_forecast_and_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = trained_content(transfer={"subjects": [1], "strategies": ["scratch"]})
    clock = ticking()
    forecast = forecast_study(study_of(content), clock=lambda: next(clock)).to_dict()

    assert [stage["stage"] for stage in forecast["stages"]] == STAGES
    assert forecast["seconds"] == pytest.approx(
        sum(stage["seconds"] for stage in forecast["stages"])
    )
    assert all(stage["memory_gb"] > 0.01 for stage in forecast["stages"])
    assert list(tmp_path.iterdir()) == []


def test_a_stand_in_differs_in_every_tensor() -> None:
    model = seeded(0)
    other = stand_in(model).state_dict()

    floating = {k: v for k, v in model.state_dict().items() if v.is_floating_point()}
    assert all(not (value == other[key]).any() for key, value in floating.items())


def test_the_peak_sees_memory_that_is_given_back() -> None:
    forget_peaks()
    before = peak_memory_gb()
    memory = bytearray(200_000_000)
    memory[::4096] = b"x" * len(memory[::4096])
    del memory

    assert peak_memory_gb() - before > 0.15


def check(path: Path, *more: str) -> Any:
    return CliRunner().invoke(app, ["check", str(path), *more], standalone_mode=False)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    content = given_content(tmp_path, data={"cine": PHANTOM | {"train": 50}})
    ended = check(write_study(tmp_path / "study.yaml", content))

    assert isinstance(ended.exception, DataError)
    assert "cannot train on 50 subjects" in str(ended.exception)


def test_an_arm_has_to_be_named(tmp_path: Path) -> None:
    path = write_study(tmp_path / "study.yaml", trained_content(arms={"one": {"seed": 3}}))

    with pytest.raises(StudyError, match=r"no arm is chosen. Say --arm with one of \['one'\]"):
        read_one(path)
    with pytest.raises(StudyError, match="there is no arm 'two'"):
        read_one(path, arm="two")
    assert read_one(path, arm="one").seed == 3
