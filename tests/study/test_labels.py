"""Label maps of a study: which classes a set gets, and what is said of a map that does not fit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from paramreuse.errors import DataError, StudyError
from paramreuse.study.records import StoredLineage, SweepScore
from paramreuse.study.run import run_study
from paramreuse.study.run_folder import holds_study
from paramreuse.study.store import Store
from paramreuse.study.workbench import Workbench
from samples.studies import PHANTOM, begun, study_of, trained_content

BLOOD = PHANTOM | {"reader": "samples.studies:read_blood", "root": "/"}
"""The subjects of the phantom with two classes, background and blood."""

CLASSES = ("background", "RV", "myocardium", "LV")


def content_with(labels: dict[str, str] | None, task: str = "segmentation") -> dict[str, Any]:
    """A target on the phantom, and a source on a set with two classes."""
    models = {
        "target": {"data": "cine", "epochs": 1},
        "far": {"data": "blood", "task": task, "epochs": 1},
    }
    data = {"cine": PHANTOM, "blood": BLOOD | {"labels": labels}}
    return trained_content(data=data, models=models, sources=["far"])


def bench_with(folder: Path, labels: dict[str, str] | None, **more: str) -> Workbench:
    return Workbench(study_of(content_with(labels, **more)), folder)


def outputs_of(bench: Workbench) -> int:
    return int(bench.initial("far")(torch.zeros(1, 1, 16, 16)).shape[1])


def test_a_label_map_gives_a_set_the_targets_classes_everywhere(tmp_path: Path) -> None:
    plain = bench_with(tmp_path, None).images("blood")
    bench = bench_with(tmp_path, {"blood": "LV"})
    mapped = bench.images("blood")

    assert plain.classes == ("background", "blood")
    assert mapped.classes == bench.image_set("blood").classes == CLASSES
    # Blood was 1 and is now LV, 3, in both folds; the images are the same.
    folds = ((mapped.trainable, plain.trainable), (mapped.validation, plain.validation))
    for fold, before in folds:
        assert (before.labels == 1).any()
        assert torch.equal(fold.labels, 3 * before.labels)
        assert torch.equal(fold.images, before.images)
        assert fold.classes == CLASSES
    assert outputs_of(bench) == 4


def test_the_images_of_a_set_are_noted_as_they_were_mapped(tmp_path: Path) -> None:
    noted = []
    for name, labels in (("a", {"blood": "LV"}), ("b", {"blood": "RV"}), ("c", {"blood": "LV"})):
        run_study(study_of(content_with(labels)), tmp_path / name, until="data")
        store = Store(tmp_path / name / "results.sqlite")
        noted.append((store.fact("images/cine"), store.fact("images/blood")))
        store.close()

    assert noted[0] == noted[2]
    assert noted[0][0] == noted[1][0]
    assert noted[0][1] != noted[1][1]


def test_without_a_map_the_output_layer_alone_does_not_fit(tmp_path: Path) -> None:
    content = content_with(None) | {"sweep": {"engine": "full"}}
    folder = run_study(study_of(content), tmp_path / "run", until="sweep")

    store = Store(folder / "results.sqlite")
    (lineage,) = store.read(StoredLineage)
    swaps = {score.swap for score in store.read(SweepScore, sweep="far")}
    store.close()
    reasons = {item["key"]: item["reason"] for item in json.loads(lineage.skipped)}
    assert reasons["6.weight"] == "the target has shape (4, 2, 1, 1), the source (2, 2, 1, 1)"
    # The kernels of both other layers are swapped.
    assert {"W 1", "W 2"} <= swaps
    assert "W 3" not in swaps


def test_an_auto_encoder_needs_no_label_map(tmp_path: Path) -> None:
    bench = bench_with(tmp_path, None, task="autoencoder")

    assert bench.images("blood").classes == ("background", "blood")
    # As many outputs as the target has classes, so that its output layer can be swapped, too.
    assert outputs_of(bench) == 4


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            {"blod": "LV"},
            r"^data.blood.labels: cannot map labels: .* names the class 'blod', which does not "
            r"exist; expected one of \['background', 'blood'\]",
        ),
        (
            {"blood": "lv"},
            r"^data.blood.labels: cannot map labels: .* names the target 'lv', which does not "
            r"exist; expected one of \['background', 'RV', 'myocardium', 'LV'\]",
        ),
        ({}, r"^data.blood.labels: .* the classes \['blood'\] of the set are not mapped"),
    ],
)
def test_a_map_that_does_not_fit_is_named_before_anything_is_written(
    tmp_path: Path, labels: dict[str, str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        run_study(study_of(content_with(labels)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_target_that_cannot_be_read_is_not_blamed_on_the_map(tmp_path: Path) -> None:
    content = content_with({"blood": "LV"})
    content["data"]["cine"] = {"reader": "acdc", "root": str(tmp_path / "none"), "validation": 1}

    with pytest.raises(DataError, match=r"^data.cine: cannot read ACDC"):
        Workbench(study_of(content), tmp_path).image_set("blood")


def test_a_run_folder_notices_another_label_map(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run", study_of(content_with({"blood": "LV"})))

    assert holds_study(folder, study_of(content_with({"blood": "LV"})))
    for labels, told in (
        ({"blood": "RV"}, "data.blood.labels.blood was 'LV', is now 'RV'"),
        (None, "data.blood.labels was {'blood': 'LV'}, is now None"),
    ):
        with pytest.raises(StudyError, match=f"of another study: {told}. Give another folder"):
            holds_study(folder, study_of(content_with(labels)))
