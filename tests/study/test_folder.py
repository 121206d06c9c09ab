"""A run folder: whose it is, what may change in it, and what was found before it was made."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paramreuse.checkpoint import write_checkpoint
from paramreuse.errors import ParamReuseError, StudyError
from paramreuse.study import run
from paramreuse.study.config import Study
from paramreuse.study.run import run_study
from paramreuse.study.run_folder import holds_study, read_run, require_outside
from paramreuse.study.store import Store
from paramreuse.study.unchanged import check_unchanged
from paramreuse.study.workbench import Workbench
from samples.acdc_files import write_patient, write_volume
from samples.studies import (
    PHANTOM,
    begun,
    checkpoint,
    given_content,
    status_of,
    study_of,
    trained_content,
    write_study,
)

# What may change in a run folder.


def test_a_run_folder_holds_the_study_it_was_made_for(tmp_path: Path) -> None:
    study = study_of(trained_content())
    folder = begun(tmp_path / "run", study)

    assert holds_study(folder, study)
    assert read_run(folder) == study
    assert not holds_study(tmp_path / "other", study)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"seed": 1}, "seed was 0, is now 1"),
        ({"network": {"name": "unet"}}, "network.name was 'samples.studies:little', is now 'unet'"),
        ({"data": {"cine": PHANTOM | {"train": 1}}}, "data.cine.train was 2, is now 1"),
        ({"data": {"cine": PHANTOM, "t1": PHANTOM}}, "data.t1 was None, is now {'reader'"),
        ({"sweep": {"swaps": ["pair"]}}, r"sweep.swaps was \['single'\], is now \['pair'\]"),
    ],
)
def test_a_run_folder_of_another_study_is_refused(
    tmp_path: Path, changes: dict[str, Any], difference: str
) -> None:
    folder = begun(tmp_path / "run", study_of(trained_content()))

    with pytest.raises(
        StudyError, match=f"is the run folder of another study: {difference}.* with --out"
    ):
        holds_study(folder, study_of(trained_content(**changes)))


@pytest.mark.parametrize(
    "changes",
    [
        {"judge": {"tolerance": 0.1}},
        {"transfer": {"subjects": [1]}},
        {"sweep": {"batch_size": 3, "engine": "full", "memory_limit_gb": 1.0}},
        {"data": {"cine": PHANTOM | {"root": "/moved"}}},
    ],
)
def test_what_no_measured_fact_depends_on_may_change(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = begun(tmp_path / "run", study_of(trained_content()))

    assert holds_study(folder, study_of(trained_content(**changes)))


def test_a_sweep_that_stopped_when_decided_is_bound_to_its_tolerance(tmp_path: Path) -> None:
    stop = {"stop": "decided"}
    folder = begun(tmp_path / "run", study_of(trained_content(sweep=stop)))

    other = study_of(trained_content(sweep=stop, judge={"tolerance": 0.1}))
    with pytest.raises(StudyError, match=r"judge.tolerance was 0.02, is now 0.1"):
        holds_study(folder, other)
    accepting = study_of(trained_content(sweep=stop, judge={"accept": ["indifferent"]}))
    assert holds_study(folder, accepting)


def test_a_folder_that_is_no_run_folder_is_refused(tmp_path: Path) -> None:
    study = study_of(trained_content())
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(
        StudyError, match=r"as a run folder: it holds something else, such as 'notes.txt'. Give"
    ):
        holds_study(tmp_path, study)
    with pytest.raises(StudyError, match=r"is not a run folder: expected study.yaml and results"):
        read_run(tmp_path)
    with pytest.raises(StudyError, match=r"notes.txt' as a run folder: it is a file. Give another"):
        holds_study(tmp_path / "notes.txt", study)


def test_the_folder_of_a_study_file_is_not_taken_for_a_run_folder(tmp_path: Path) -> None:
    # Else the study that somebody wrote were replaced by the resolved one.
    path = write_study(tmp_path / "study.yaml", trained_content())
    before = path.read_text()

    assert status_of("run", path, "--out", tmp_path) == 2
    assert path.read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study.yaml"]


def test_a_run_killed_while_it_made_its_folder_can_be_begun_again(tmp_path: Path) -> None:
    study = study_of(trained_content())
    folder = begun(tmp_path / "run", study)
    (folder / "study.yaml").unlink()

    assert not holds_study(folder, study)
    assert holds_study(begun(folder, study), study)


@pytest.mark.parametrize("content", ["[]", "name: [", "name: x"])
def test_a_run_folder_with_a_spoilt_study_is_refused(tmp_path: Path, content: str) -> None:
    folder = begun(tmp_path / "run", study_of(trained_content()))
    (folder / "study.yaml").write_text(content)

    with pytest.raises(StudyError, match=r"study.yaml"):
        read_run(folder)


# Files that have changed since.


def test_other_images_under_a_new_root_are_noticed(tmp_path: Path) -> None:
    def acdc(root: Path) -> Study:
        data = {"reader": "acdc", "root": str(root), "train": 1, "validation": 1, "size": [8, 8]}
        return study_of(trained_content(data={"cine": data}))

    roots = [tmp_path / name for name in ("here", "moved", "other")]
    for root, frame in zip(roots, (1, 1, 2), strict=True):
        for name in ("patient001", "patient002"):
            write_patient(root / name, ed=frame)
    study = acdc(roots[0])
    folder = tmp_path / "run"
    with run.open_job(Workbench(study, folder)) as job:
        run.run_data(job)

    # patient001 of "other" holds another frame as ED, so other labels beside it are not needed.
    spoil = roots[2] / "patient001" / "patient001_frame02.nii.gz"
    write_volume(spoil, np.random.default_rng(0).integers(0, 9, (5, 7, 3)).astype(np.int16))
    check_unchanged(Workbench(acdc(roots[1]), folder), study)
    with pytest.raises(StudyError, match=r"data.cine: '.*other' holds other images than '.*here'"):
        check_unchanged(Workbench(acdc(roots[2]), folder), study)


def test_a_checkpoint_that_was_written_anew_is_noticed(tmp_path: Path) -> None:
    study = study_of(given_content(tmp_path))
    folder = run_study(study, tmp_path / "run", until="train")
    run_study(study, folder, until="train")

    checkpoint(tmp_path / "ae.safetensors", seed=9)
    with pytest.raises(StudyError, match=r"models.ae: '.*ae.safetensors' has changed since .*run'"):
        run_study(study, folder, until="train")


# What is noticed before anything is written: status 2, one message, no run folder.


def refused(tmp_path: Path, content: dict[str, Any], message: str, *more: object) -> None:
    """Run a study that cannot be run, by the command line and then for its message."""
    path = write_study(tmp_path / "study.yaml", content)
    folder = tmp_path / "runs" / "run"

    assert status_of("run", path, "--out", folder, *more) == 2
    assert not (tmp_path / "runs").exists()
    with pytest.raises(ParamReuseError, match=message):
        run_study(study_of(content), folder)
    assert not (tmp_path / "runs").exists()


def acdc_content(root: Path, **changes: Any) -> dict[str, Any]:
    data = {"reader": "acdc", "root": str(root), "train": 1, "validation": 1, "size": [8, 8]}
    return trained_content(data={"cine": data | changes})


def no_info(patient: Path) -> None:
    (patient / "Info.cfg").unlink()


def no_labels(patient: Path) -> None:
    (patient / "patient001_frame04_gt.nii.gz").unlink()


def other_shape(patient: Path) -> None:
    write_volume(patient / "patient001_frame01_gt.nii.gz", np.zeros((5, 6, 3), dtype=np.uint8))


def other_label(patient: Path) -> None:
    write_volume(patient / "patient001_frame01_gt.nii.gz", np.full((5, 7, 3), 4, dtype=np.uint8))


def not_a_number(patient: Path) -> None:
    volume = np.full((5, 7, 3), np.nan, dtype=np.float32)
    write_volume(patient / "patient001_frame01.nii.gz", volume)


def one_slice(patient: Path) -> None:
    for end in ("", "_gt"):
        write_volume(patient / f"patient001_frame01{end}.nii.gz", np.zeros((5, 7, 1), np.uint8))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_info, "data.cine: cannot read patient001: no Info.cfg"),
        (no_labels, r"data.cine: cannot read patient001: no patient001_frame04_gt.nii.gz"),
        (other_shape, r"frame01_gt.nii.gz: the labels have shape \(5, 6, 3\), the image \(5, 7"),
        (other_label, r"frame01_gt.nii.gz: it holds the labels \[4\], expected only 0 background"),
        (not_a_number, r"frame01.nii.gz: 105 voxels are NaN or infinite"),
        (one_slice, r"its shape is \(5, 7, 1\), expected .* two slices or more"),
    ],
)
def test_a_spoilt_patient_is_noticed_before_anything_is_written(
    tmp_path: Path, spoil: Any, message: str
) -> None:
    for name in ("patient001", "patient002"):
        write_patient(tmp_path / "acdc" / name)
    spoil(tmp_path / "acdc" / "patient001")

    refused(tmp_path, acdc_content(tmp_path / "acdc"), message)


def test_missing_images_are_noticed_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    refused(tmp_path, acdc_content(tmp_path / "empty"), r"data.cine: .*: it holds no patient; exp")
    refused(tmp_path, acdc_content(tmp_path / "none"), r"data.cine: .*none: no such folder; expec")
    content = acdc_content(tmp_path)
    content["data"]["cine"].pop("root")
    refused(tmp_path, content, "data.cine has no root: the reader 'acdc' needs a folder. Set root")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"train": 50}, "data.cine: cannot train on 50 subjects: there are 2 beside the 2 valid"),
        ({"validation": 5}, "data.cine: cannot validate on 5 subjects: there are 4; ask for fewer"),
        ({"validation": None}, "data.cine: cannot split 4 subjects: .* say how many to hold out"),
        ({"train": 0, "validation": 9}, "data.cine: cannot validate on 9 subjects: there are 4"),
        (
            {"reader": "acdcc"},
            r"unknown reader 'acdcc': did you mean 'acdc'\? Expected one of \['acdc', 'decathlon'",
        ),
        (
            {"reader": "nowhere:read"},
            "reader 'nowhere:read': no module 'nowhere'. Run this in the folder",
        ),
        ({"reader": "samples.studies:read"}, "module 'samples.studies' has no 'read'"),
        (
            {"reader": "samples.studies:little", "root": "x"},
            "data.cine.options has 'subjects': it takes",
        ),
        ({"reader": "samples.studies:PHANTOM"}, "cannot use the reader .*: it is not callable"),
        (
            {"options": {"slices": 2, "colour": 1}},
            "cannot read data.cine: data.cine.options has 'colour'",
        ),
        ({"options": {"slices": 0}}, "data.cine: cannot make a phantom: slices is 0, expected a"),
    ],
)
def test_images_that_are_not_there_are_noticed_before_anything_is_written(
    tmp_path: Path, data: dict[str, Any], message: str
) -> None:
    content = given_content(tmp_path, data={"cine": PHANTOM | data})

    refused(tmp_path, content, message)


def test_a_missing_set_is_noticed_before_anything_is_written_though_no_model_needs_it(
    tmp_path: Path,
) -> None:
    spare = {"reader": "acdc", "root": str(tmp_path / "none"), "validation": 1}
    content = given_content(tmp_path, data={"cine": PHANTOM, "spare": spare})

    refused(tmp_path, content, "data.spare: .*none: no such folder")


def test_more_training_subjects_than_there_are_are_noticed_before_anything_is_written(
    tmp_path: Path,
) -> None:
    transfer = {"subjects": [1, 3], "strategies": ["scratch"]}
    refused(
        tmp_path,
        trained_content(transfer=transfer),
        r"transfer.subjects, data.cine: cannot train on 3 subjects: the training fold has 2 with",
    )
    models = trained_content()["models"]
    models["ae"] = models["ae"] | {"subjects": 3}
    refused(
        tmp_path,
        trained_content(models=models),
        "models.ae.subjects, data.cine: cannot train on 3 subjects: the training fold has 2; ask",
    )


def test_a_checkpoint_of_the_wrong_network_is_noticed_before_anything_is_written(
    tmp_path: Path,
) -> None:
    content = given_content(tmp_path)
    checkpoint(tmp_path / "target.safetensors", 0, width=3)
    refused(tmp_path, content, r"target.safetensors.*(shape|loaded)")

    content = given_content(tmp_path)
    (tmp_path / "ae.safetensors").unlink()
    refused(tmp_path, content, r"cannot read '.*ae.safetensors'")

    content = given_content(tmp_path)
    (tmp_path / "ae.safetensors").write_text("<html>not found</html>")
    refused(tmp_path, content, r"ae.safetensors")


def test_a_source_of_which_nothing_fits_is_noticed_before_anything_is_written(
    tmp_path: Path,
) -> None:
    content = given_content(tmp_path)
    write_checkpoint(tmp_path / "ae.safetensors", {"other.weight": torch.ones(7, 7)})

    refused(tmp_path, content, "models.ae does not fit the target: ")


def test_a_wrong_option_is_noticed_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_study(tmp_path / "study.yaml", trained_content())

    for option, value, message in (
        ("--device", "quantum", "cannot use the device 'quantum': expected auto, cpu, cuda"),
        ("--device", "meta", "cannot use the device 'meta': expected auto, cpu, cuda"),
        ("--device", "cuda:99", "cannot use the device 'cuda:99': .*PyTorch sees [0-9]+ CUDA"),
        ("--until", "sweeps", r"unknown stage 'sweeps': expected one of \['data', 'train', 'com"),
        ("--data", "acdc=x", r"root of 'acdc' with --data: .*expected one of \['cine'\]"),
    ):
        assert status_of("run", path, "--out", tmp_path / "run", option, value) == 2
        told = capsys.readouterr().err
        assert len(told.strip().splitlines()) == 1
        assert re.search(message, told)
        assert not (tmp_path / "run").exists()


def test_a_run_folder_below_a_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_study(tmp_path / "study.yaml", given_content(tmp_path))

    assert status_of("run", path, "--out", path / "run") == 2

    told = capsys.readouterr().err
    assert "cannot make the run folder" in told
    assert f"'{path}' is a file. Give another one with --out" in told


def test_a_store_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results.sqlite").write_bytes(b"no store at all, but long enough to be told" * 9)

    with pytest.raises(StudyError, match=r"cannot use '.*results.sqlite' as a store of results"):
        Store(tmp_path / "results.sqlite")


def test_the_fold_that_is_only_validated_on_cannot_be_trained_on(tmp_path: Path) -> None:
    study = study_of(given_content(tmp_path, data={"cine": PHANTOM | {"train": 0}}))

    with pytest.raises(StudyError, match=r"no training subjects aside \(train: 0\)"):
        _ = Workbench(study, tmp_path).images("cine").trainable
    assert len(Workbench(study, tmp_path).images("cine").split.validation) == 2


@pytest.mark.parametrize("name", ["study.yaml", "results.sqlite", "models/target.safetensors"])
def test_nothing_is_written_over_what_a_run_folder_rests_on(tmp_path: Path, name: str) -> None:
    with pytest.raises(StudyError, match="the study's results rest on that file"):
        require_outside(tmp_path / "run" / name, tmp_path / "run")

    require_outside(tmp_path / "run" / "plan.yaml", tmp_path / "run")
