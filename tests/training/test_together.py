"""Trainings of several processes: what one process would have trained, and no other statistics."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from paramreuse.errors import ParamReuseError
from paramreuse.reuse.plan import Action
from paramreuse.training.processes import Processes
from paramreuse.training.steps import StepSettings, train_steps
from samples.studies import seeded
from samples.together import FROZEN, FROZEN_TOO, everything, gently, images, largest_difference

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes got."""
    folder = tmp_path_factory.mktemp("together")
    paths = [str(ROOT / "tests"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *command, "-m", "samples.together", str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def by_one() -> dict[str, Any]:
    return everything(1)


@pytest.mark.slow
def test_both_processes_end_with_the_same_bits(by_two: list[dict[str, Any]]) -> None:
    first, second = by_two

    for kind in ("epochs", "steps"):
        assert largest_difference(first[kind]["weights"], second[kind]["weights"]) == 0.0
    assert first["epochs"]["history"] == second["epochs"]["history"]


@pytest.mark.slow
def test_two_processes_train_what_one_does(
    by_one: dict[str, Any], by_two: list[dict[str, Any]]
) -> None:
    alone, together = by_one["epochs"], by_two[0]["epochs"]

    # Eleven images in batches of four: parts of two, and of two and one, which weigh accordingly.
    assert largest_difference(alone["weights"], together["weights"]) < 1e-5
    for one, two in zip(alone["history"], together["history"], strict=True):
        assert two == pytest.approx(one, rel=1e-5)


@pytest.mark.slow
def test_frozen_tensors_and_statistics_are_the_callers_under_two_processes(
    by_two: list[dict[str, Any]],
) -> None:
    start = seeded(0).state_dict()

    for result in by_two:
        for key in (*FROZEN, *FROZEN_TOO):
            assert torch.equal(result["epochs"]["weights"][key], start[key]), key
        assert not torch.equal(result["epochs"]["weights"]["3.weight"], start["3.weight"])


@pytest.mark.slow
def test_rates_and_anchors_of_a_plan_are_kept_under_two_processes(
    by_one: dict[str, Any], by_two: list[dict[str, Any]]
) -> None:
    alone, together = by_one["steps"]["weights"], by_two[0]["steps"]["weights"]

    # Adam steps by signs: a rate or an anchor applied twice would show in the first digit.
    assert largest_difference(alone, together) < 1e-4
    lent = seeded(1).state_dict()
    moved = {key: float((alone[key] - lent[key]).abs().max()) for key in ("3.weight", "6.weight")}
    assert moved["3.weight"] < moved["6.weight"]
    for key in ("1.weight", "1.bias", "1.running_mean", "1.running_var"):
        assert torch.equal(together[key], lent[key])


@pytest.mark.slow
def test_statistics_that_are_not_frozen_are_the_mean_of_both_processes(
    by_one: dict[str, Any], by_two: list[dict[str, Any]]
) -> None:
    alone, together = by_one["steps"]["weights"], by_two[0]["steps"]["weights"]

    torch.testing.assert_close(
        together["4.running_mean"], alone["4.running_mean"], rtol=1e-3, atol=1e-4
    )


@pytest.mark.slow
def test_the_validation_score_of_two_processes_is_that_of_one(
    by_one: dict[str, Any], by_two: list[dict[str, Any]]
) -> None:
    # Five batches: three for the first process, two for the second, subjects in both.
    assert [result["validated"] for result in by_two] == pytest.approx(
        [by_one["validated"]] * 2, abs=1e-12
    )


@pytest.mark.slow
def test_only_the_first_process_tells_of_epochs(by_two: list[dict[str, Any]]) -> None:
    assert [result["epochs"]["told"] for result in by_two] == [[1, 2, 3], []]


@pytest.mark.slow
def test_a_finished_training_of_two_is_read_again_by_both(by_two: list[dict[str, Any]]) -> None:
    for result in by_two:
        # Not a step was taken, nor an epoch told.
        assert result["resumed"]["history"] == result["epochs"]["history"]
        assert result["resumed"]["told"] == []
        weights = result["resumed"]["weights"], result["epochs"]["weights"]
        assert largest_difference(*weights) == 0.0


def test_parts_of_a_batch_weigh_as_much_as_they_have_samples() -> None:
    inputs, labels = torch.arange(5.0)[:, None], torch.arange(5)

    parts = [Processes(2, rank).part(inputs, labels) for rank in range(2)]

    # Three and two of five: the mean over two processes weighs them 3/5 and 2/5.
    assert [part[0].flatten().tolist() for part in parts] == [[0, 2, 4], [1, 3]]
    assert [part[2] for part in parts] == [1.2, 0.8]
    mean = sum(float(part[0].mean()) * part[2] for part in parts) / 2
    assert mean == pytest.approx(float(inputs.mean()))


def test_a_batch_smaller_than_the_number_of_processes_is_refused() -> None:
    with pytest.raises(ParamReuseError, match="a batch of 1 among 2 processes"):
        Processes(2, 0).part(torch.zeros(1, 1), torch.zeros(1))


def test_a_process_that_torchrun_did_not_start_is_told_how() -> None:
    one = images(4)
    batch = (one.images, one.labels, list(one.subjects))

    with pytest.raises(ParamReuseError, match=r"one of 1, expected 2\. Start them with torchrun"):
        train_steps(
            *(seeded(0), [batch], None, 2, 0), settings=StepSettings(batch_size=4, devices=2)
        )


def test_the_plan_of_these_tests_has_rates_an_anchor_and_a_frozen_norm() -> None:
    plan = gently()

    assert {entry.rate for entry in plan.entries} == {0.3, 1.0}
    assert plan.recipe.anchor == 0.5
    assert {entry.action for entry in plan.entries} == {Action.FREEZE, Action.TRAIN}
