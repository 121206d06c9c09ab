import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramreuse.data.decathlon import read_decathlon
from paramreuse.errors import DataError
from samples.image_files import write_nifti


def write_task(root: Path, **changes: Any) -> np.ndarray:
    """Write two training volumes and one for test; return the image of the first."""
    image = np.arange(4 * 5 * 3, dtype=np.float32).reshape(4, 5, 3)
    labels = np.zeros((4, 5, 3), dtype=np.uint8)
    labels[1, 2, 1] = 2
    for number in (1, 3):
        write_nifti(root / f"imagesTr/organ_{number:03d}.nii.gz", image, (1.5, 1.25, 3.0))
        write_nifti(root / f"labelsTr/organ_{number:03d}.nii.gz", labels, (1.5, 1.25, 3.0))
    write_nifti(root / "imagesTs/organ_002.nii.gz", image, (1.5, 1.25, 3.0))
    pairs = [
        {"image": f"./imagesTr/organ_{n:03d}.nii.gz", "label": f"./labelsTr/organ_{n:03d}.nii.gz"}
        for n in (1, 3)
    ]
    content = {
        "labels": {"0": "background", "1": "liver", "2": "tumour"},
        "training": pairs,
        "test": ["./imagesTs/organ_002.nii.gz"],
    }
    (root / "dataset.json").write_text(json.dumps(content | changes))
    return image


def test_volumes_are_cut_along_the_third_axis(tmp_path: Path) -> None:
    image = write_task(tmp_path)
    task = read_decathlon(tmp_path)
    pieces = task.read_subject("organ_001")

    assert task.classes == ("background", "liver", "tumour")
    assert [piece.name for piece in pieces] == [f"organ_001 slice {n}" for n in (1, 2, 3)]
    assert pieces[1].spacing_mm == (1.5, 1.25)
    np.testing.assert_array_equal(pieces[1].image.numpy(), image[None, :, :, 1])
    assert pieces[1].labels is not None
    assert pieces[1].labels.shape == (4, 5)
    assert pieces[1].labels.nonzero().tolist() == [[1, 2]]
    assert int(pieces[1].labels[1, 2]) == 2


def test_test_volumes_are_plain_strings_and_have_no_labels(tmp_path: Path) -> None:
    write_task(tmp_path)
    task = read_decathlon(tmp_path)
    assert task.subjects == ("organ_001", "organ_002", "organ_003")
    assert task.split == {"train": ("organ_001", "organ_003")}
    assert task.read_subject("organ_002")[0].labels is None


def test_test_volumes_that_were_not_downloaded_are_left_out(tmp_path: Path) -> None:
    write_task(tmp_path, test=["./imagesTs/organ_009.nii.gz"])
    task = read_decathlon(tmp_path)
    assert task.subjects == ("organ_001", "organ_003")
    assert task.split is None


def test_the_fourth_axis_holds_channels(tmp_path: Path) -> None:
    write_task(tmp_path)
    image = np.arange(4 * 5 * 3 * 2, dtype=np.float32).reshape(4, 5, 3, 2)
    write_nifti(tmp_path / "imagesTr/organ_001.nii.gz", image, (1.5, 1.25, 3.0, 1.0))
    piece = read_decathlon(tmp_path).read_subject("organ_001")[2]
    np.testing.assert_array_equal(piece.image.numpy(), image[:, :, 2].transpose(2, 0, 1))


@pytest.mark.parametrize(
    "outside", ["../other/a.nii.gz", "/etc/passwd", "imagesTr/../../a.nii.gz", "C:\\a.nii.gz"]
)
def test_an_entry_outside_the_folder_is_named(tmp_path: Path, outside: str) -> None:
    write_task(tmp_path, training=[{"image": outside, "label": "labelsTr/organ_001.nii.gz"}])
    with pytest.raises(DataError, match=r"training\[0\]\.image is .*which points outside"):
        read_decathlon(tmp_path)
    write_task(tmp_path, test=[outside])
    with pytest.raises(DataError, match=r"dataset\.json: test\[0\] is .*points outside"):
        read_decathlon(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"0": "background", "2": "tumour"}}, "without a gap"),
        ({"labels": {"background": 0, "tumour": 1}}, "read by read_nnunet"),
        ({"labels": ["background", "tumour"]}, "labels is"),
        ({"training": []}, "lists no training volume"),
        ({"training": {"image": "a"}}, "training is a dict, expected a list"),
        ({"training": ["./imagesTr/organ_001.nii.gz"]}, r"training\[0\]\.image is None"),
        ({"test": ["./imagesTr/organ_001.nii.gz"]}, "for training and for test"),
    ],
)
def test_a_bad_dataset_json_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_task(tmp_path, **changes)
    with pytest.raises(DataError, match=message) as caught:
        read_decathlon(tmp_path)
    assert str(tmp_path / "dataset.json") in str(caught.value)


def test_a_broken_dataset_json_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset\.json: no such file"):
        read_decathlon(tmp_path)
    (tmp_path / "dataset.json").write_text('{\n "labels": }\n')
    with pytest.raises(DataError, match=r"dataset\.json, line 2"):
        read_decathlon(tmp_path)


def test_a_listed_file_that_is_missing_is_named(tmp_path: Path) -> None:
    write_task(tmp_path)
    (tmp_path / "labelsTr/organ_003.nii.gz").unlink()
    with pytest.raises(DataError, match=r"training\[1\] lists .*organ_003\.nii\.gz.* not there"):
        read_decathlon(tmp_path)


def test_labels_that_do_not_fit_are_named(tmp_path: Path) -> None:
    write_task(tmp_path)
    path = tmp_path / "labelsTr/organ_001.nii.gz"
    write_nifti(path, np.zeros((4, 5, 2), dtype=np.uint8), (1.5, 1.25, 3.0))
    task = read_decathlon(tmp_path)
    with pytest.raises(
        DataError, match=r"the labels have shape \(4, 5, 2\), the image \(4, 5, 3\)"
    ):
        task.read_subject("organ_001")
    write_nifti(path, np.full((4, 5, 3), 0.5, dtype=np.float32), (1.5, 1.25, 3.0))
    with pytest.raises(DataError, match=r"labels \[0\.5\], expected only 0 background, 1 liver"):
        task.read_subject("organ_001")


def test_damaged_images_are_named(tmp_path: Path) -> None:
    write_task(tmp_path)
    task = read_decathlon(tmp_path)
    path = tmp_path / "imagesTr/organ_001.nii.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"organ_001\.nii\.gz: it is not a complete NIfTI file"):
        task.read_subject("organ_001")
    write_nifti(path, np.full((4, 5, 3), np.nan, dtype=np.float32), (1.5, 1.25, 3.0))
    with pytest.raises(DataError, match=r"organ_001\.nii\.gz: 60 voxels are NaN or infinite"):
        task.read_subject("organ_001")


def test_the_real_sample_has_120_volumes_with_two_parts() -> None:
    root = Path(os.environ.get("PARAMREUSE_DATA", "")) / "Task04_Hippocampus"
    if "PARAMREUSE_DATA" not in os.environ or not root.is_dir():
        pytest.skip("PARAMREUSE_DATA names no folder with Task04_Hippocampus/")
    task = read_decathlon(root)
    assert task.classes == ("background", "Anterior", "Posterior")
    assert len(task.subjects) == 120
    assert task.split is None
    pieces = task.read_subject("hippocampus_001")
    assert len(pieces) == 35
    assert pieces[0].image.shape == (1, 35, 51)
    assert pieces[0].spacing_mm == (1.0, 1.0)
    seen = {int(v) for piece in pieces if piece.labels is not None for v in piece.labels.unique()}
    assert seen == {0, 1, 2}
