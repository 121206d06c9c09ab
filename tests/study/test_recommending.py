"""``paramreuse recommend`` on a study: what it writes, prints and refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from paramreuse.checkpoint import read_checkpoint
from paramreuse.errors import DataError
from paramreuse.reuse.plan_file import read_plan
from paramreuse.study.recommending import RecommendationOrder, recommend_in_study
from paramreuse.study.talk import Silent
from samples.studies import PHANTOM, given_content, status_of, study_of, write_study

ORDER = RecommendationOrder(subjects=3, steps=6)
FOUR = PHANTOM | {"train": 4, "validation": 2, "options": PHANTOM["options"] | {"subjects": 6}}


def content_of(folder: Path) -> dict[str, Any]:
    return given_content(folder, data={"cine": FOUR})


def test_model_plan_and_numbers_are_written_and_the_command_prints_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write_study(tmp_path / "study.yaml", content_of(tmp_path))
    out = tmp_path / "run"

    status = status_of(*("recommend", study, "--out", out, "--subjects", 3, "--steps", 6, "--json"))

    printed = json.loads(capsys.readouterr().out)
    assert status == 0
    kept = json.loads((out / "recommend" / "recommendation.json").read_text(encoding="utf-8"))
    assert 0 <= kept.pop("validation_score") <= 1
    assert printed == kept
    assert (out / "recommend" / "predictions.npz").is_file()
    tensors = read_checkpoint(out / "recommend" / "model.safetensors")
    assert "0.weight" in tensors
    has_plan = (out / "recommend" / "plan.yaml").exists()
    assert has_plan == (printed["candidate"] != "scratch")
    if has_plan:
        assert read_plan(out / "recommend" / "plan.yaml").source == printed["source"]


def test_a_second_call_trains_the_final_model_alone(tmp_path: Path) -> None:
    study = study_of(content_of(tmp_path))

    first, score = recommend_in_study(study, tmp_path / "run", ORDER, talk=Silent())
    second, again = recommend_in_study(study, tmp_path / "run", ORDER, talk=Silent())

    assert first.frame().equals(second.frame())
    assert score == again


def test_the_table_is_printed_with_the_answer_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write_study(tmp_path / "study.yaml", content_of(tmp_path))

    status_of("recommend", study, "--out", tmp_path / "run", "--subjects", 3, "--steps", 6, "-q")

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(("Start from", "Train from scratch"))
    assert any(line.startswith("On the validation subjects") for line in lines)
    assert str(tmp_path / "run" / "recommend" / "model.safetensors") in lines[-1]


def test_more_labelled_subjects_than_there_are_are_refused(tmp_path: Path) -> None:
    study = study_of(content_of(tmp_path))

    with pytest.raises(DataError, match="cannot train on 9 subjects: the training fold has 4"):
        recommend_in_study(study, tmp_path / "run", RecommendationOrder(subjects=9), talk=Silent())


def test_one_labelled_subject_is_refused_with_the_two_ways_that_are_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write_study(tmp_path / "study.yaml", content_of(tmp_path))

    status = status_of("recommend", study, "--out", tmp_path / "run", "--subjects", 1)

    assert status == 2
    message = capsys.readouterr().err
    assert "cannot choose with one labelled subject" in message
    assert "Train from scratch or from everything" in " ".join(message.split())
