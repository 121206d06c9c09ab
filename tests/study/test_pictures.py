"""Pictures of subjects: what is kept of them, and which are shown with which score."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paramreuse.data.preparation import UNLABELLED, PreparedSet
from paramreuse.report.contents import ExampleImage
from paramreuse.sites.matching import sites_of
from paramreuse.study.answering import answer_in, trials_in
from paramreuse.study.config import Study
from paramreuse.study.examples import example_images
from paramreuse.study.findings import opened_findings
from paramreuse.study.pictures import (
    IMAGE,
    LABELS,
    PREDICTIONS,
    UNTOUCHED,
    pixels_of,
    read_pictures,
    read_predictions,
    shown_slices,
    write_predictions,
)
from paramreuse.study.records import StoredPicture
from paramreuse.study.run import read_job, report_run, run_study
from paramreuse.study.store import opened_store
from paramreuse.study.structure import structure_of
from paramreuse.study.workbench import Workbench
from samples.studies import PHANTOM, given_content, study_of
from samples.transfers import Trainer

FIVE = PHANTOM | {"train": 2, "validation": 5, "options": PHANTOM["options"] | {"subjects": 7}}


def study_with_transfer(folder: Path, **changes: Any) -> Study:
    transfer = {"subjects": [1], "strategies": ["scratch", "full"], "seeds": 2}
    content = {"data": {"cine": FIVE}, "sweep": {"engine": "full"}, "transfer": transfer}
    return study_of(given_content(folder, **(content | changes)))


@pytest.fixture
def ran(tmp_path: Path, trainer: Trainer) -> Path:
    return run_study(study_with_transfer(tmp_path), tmp_path / "run", until="transfer")


def shown_in(folder: Path) -> tuple[ExampleImage, ...]:
    with opened_findings(folder) as findings:
        return example_images(folder, findings, answer_in(folder, findings))


def prepared(labels: list[list[int]], subjects: str) -> PreparedSet:
    planes = torch.tensor(labels)[:, None, :]
    names = tuple(f"{subject} {index}" for index, subject in enumerate(subjects))
    return PreparedSet(planes[:, None].float(), planes, tuple(subjects), names, ("none", "LV"))


def test_of_each_subject_the_slice_with_most_foreground_is_shown() -> None:
    labels = [[0, 1, 0], [1, 1, 0], [1, 1, 0], [0, 0, 1], [UNLABELLED] * 3, [0, 0, 0]]

    # The first of two as full; nothing of a subject without any foreground.
    assert shown_slices(prepared(labels, "aaabcc")) == [1, 3]


def test_the_worst_the_middle_and_the_best_subject_of_the_start_to_use_are_shown(
    ran: Path,
) -> None:
    examples = shown_in(ran)

    with opened_findings(ran) as findings:
        best = answer_in(ran, findings).chosen
        assert best is not None
        trials = [t for t in trials_in(findings)[0] if (t.strategy, t.source) == best.key]
    dice = sorted(next(t for t in trials if t.seed == 0).by_subject.values())
    first = [next(iter(example.scores.values())) for example in examples]
    assert first == pytest.approx([dice[0], dice[2], dice[4]])
    places = [example.name.partition(":")[0] for example in examples]
    assert places == ["The worst subject", "A subject in the middle", "The best subject"]
    titles = list(examples[0].predictions)
    assert {"from scratch", "everything, ae", "the target"} < set(titles)
    assert titles[-1].endswith("of ae, its costliest swap")
    assert set(examples[0].scores) == set(titles)


def test_a_prediction_is_the_models_own(ran: Path, tmp_path: Path) -> None:
    bench = Workbench(study_with_transfer(tmp_path), ran)
    validation = bench.images("cine").validation
    target = bench.model("target")
    with opened_store(ran) as store:
        untouched = read_pictures(store, UNTOUCHED)
        labels = read_pictures(store, LABELS)
        images = read_pictures(store, IMAGE)

    assert list(images) == list(dict.fromkeys(validation.subjects))
    assert list(images) == list(labels) == list(untouched)
    for subject, picture in untouched.items():
        index = validation.names.index(picture.slice)
        with torch.no_grad():
            said = target(validation.images[index : index + 1]).argmax(1)[0]
        np.testing.assert_array_equal(pixels_of(picture), said.numpy())
        np.testing.assert_array_equal(pixels_of(labels[subject]), validation.labels[index].numpy())


def test_a_page_is_made_without_reading_an_image_or_running_a_network(
    ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the report needs no images")

    monkeypatch.setattr(Workbench, "images", refuse)
    monkeypatch.setattr(Workbench, "model", refuse)

    page = report_run(ran).read_text(encoding="utf-8")

    assert page.count("data:image/png") == 3 * 6


def test_a_run_that_kept_no_pictures_shows_none_and_says_so(ran: Path) -> None:
    with opened_store(ran) as store:
        store.remove(StoredPicture)
        store.remove_fact("structure")

    assert shown_in(ran) == ()
    page = report_run(ran).read_text(encoding="utf-8")
    assert "Example images (none were kept when this was measured)" in page
    # The network is looked at again: conv 1 to conv 2 to conv 3, each with its norm.
    assert '"edges":[[0,1],[1,2]]' in page


def test_without_a_transfer_the_target_takes_the_place_of_a_start(tmp_path: Path) -> None:
    study = study_with_transfer(tmp_path, transfer=None)
    ran = run_study(study, tmp_path / "run", until="sweep")

    (worst, _, _) = shown_in(ran)

    assert next(iter(worst.predictions)) == "the target as trained"
    assert len(worst.predictions) == 2


def test_predictions_of_a_recommended_model_have_a_file_of_their_own(tmp_path: Path) -> None:
    bench = Workbench(study_with_transfer(tmp_path), tmp_path)
    path = tmp_path / "predictions.npz"

    validation = bench.images("cine").validation
    first, second, *_ = dict.fromkeys(validation.subjects)

    write_predictions(bench, bench.model("target"), {first: 0.5, second: 0.25}, path)

    kept = read_predictions(path)
    assert list(kept.pixels) == list(dict.fromkeys(validation.subjects))
    assert {pixels.shape for pixels in kept.pixels.values()} == {(16, 16)}
    assert kept.scores == {first: 0.5, second: 0.25}
    path.write_bytes(path.read_bytes()[:100])
    assert read_predictions(path).pixels == {}
    assert read_predictions(tmp_path / "none.npz").scores == {}


def test_what_the_network_looks_like_comes_back_as_it_was_kept(ran: Path, tmp_path: Path) -> None:
    bench = Workbench(study_with_transfer(tmp_path), ran)
    with read_job(bench) as job:
        kept = structure_of(job)
        example = bench.images("cine").validation.images[:2]
        sites = tuple(sites_of(bench.model("target"), example_input=example))

    assert kept.sites == sites
    # By hand: conv 1, norm 1, conv 2, norm 2, conv 3.
    assert kept.edges == (("0", "1"), ("1", "3"), ("3", "4"), ("4", "6"))


RECOMMENDED = {
    "candidate": "full",
    "source": "ae",
    "reason": "by hand",
    "spent": 1.0,
    "gain": [0.1, 0.0, 0.2],
    "gain_over_full": [0.0, 0.0, 0.0],
    "candidates": [
        {"candidate": "full", "source": "ae", "score": 0.5, "low": 0.4, "high": 0.6},
    ],
    "sources": [{"name": "ae", "rank": 1}],
    "validation_score": 0.5,
}


def test_a_recommended_model_is_shown_first(ran: Path, tmp_path: Path) -> None:
    bench = Workbench(study_with_transfer(tmp_path), ran)
    subjects = dict.fromkeys(bench.images("cine").validation.subjects)
    scores = {subject: 0.1 * number for number, subject in enumerate(subjects)}
    (ran / "recommend").mkdir()
    (ran / "recommend" / "recommendation.json").write_text(json.dumps(RECOMMENDED))
    write_predictions(bench, bench.model("target"), scores, ran / "recommend" / PREDICTIONS)

    examples = shown_in(ran)

    first = "recommended (everything, ae)"
    assert [next(iter(example.predictions)) for example in examples] == [first] * 3
    assert [example.scores[first] for example in examples] == pytest.approx([0.0, 0.2, 0.4])
