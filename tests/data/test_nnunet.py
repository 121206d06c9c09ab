import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramreuse.data.nnunet import read_nnunet
from paramreuse.errors import DataError
from samples.image_files import write_nifti, write_png

SPACING = (0.6, 0.5, 3.0)


def write_nnunet(
    root: Path, cases: tuple[str, ...] = ("p_01", "p_02"), **changes: Any
) -> np.ndarray:
    """Write cases of two channels; return the second channel of a case."""
    image = np.arange(4 * 5 * 2, dtype=np.float32).reshape(4, 5, 2)
    for case in cases:
        write_nifti(root / f"imagesTr/{case}_0000.nii.gz", image, SPACING)
        write_nifti(root / f"imagesTr/{case}_0001.nii.gz", image + 100, SPACING)
        write_nifti(root / f"labelsTr/{case}.nii.gz", (image == 7).astype(np.uint8), SPACING)
    content = {
        "channel_names": {"0": "T2", "1": "ADC"},
        "labels": {"background": 0, "PZ": 1, "TZ": 2},
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(content | changes))
    return image + 100


def test_channels_come_in_their_order(tmp_path: Path) -> None:
    second = write_nnunet(tmp_path)
    prostate = read_nnunet(tmp_path)
    pieces = prostate.read_subject("p_01")

    assert prostate.classes == ("background", "PZ", "TZ")
    assert prostate.subjects == ("p_01", "p_02")
    assert prostate.split is None
    assert len(pieces) == 2
    assert pieces[1].image.shape == (2, 4, 5)
    np.testing.assert_array_equal(pieces[1].image[1].numpy(), second[:, :, 1])
    np.testing.assert_array_equal(pieces[1].image[0].numpy(), second[:, :, 1] - 100)
    assert pieces[1].spacing_mm == pytest.approx((0.6, 0.5))
    assert pieces[1].labels is not None
    assert pieces[1].labels.nonzero().tolist() == [[0, 3]]  # 7 = 0 * 10 + 3 * 2 + 1


def test_a_fold_of_splits_final_is_the_official_split(tmp_path: Path) -> None:
    write_nnunet(tmp_path)
    folds = [{"train": ["p_01"], "val": ["p_02"]}, {"train": ["p_02"], "val": ["p_01"]}]
    (tmp_path / "splits_final.json").write_text(json.dumps(folds))
    assert read_nnunet(tmp_path).split == {"train": ("p_01",), "validation": ("p_02",)}
    assert read_nnunet(tmp_path, fold=1).split == {"train": ("p_02",), "validation": ("p_01",)}
    apart = tmp_path / "preprocessed.json"
    apart.write_text(json.dumps(folds[1:]))
    assert read_nnunet(tmp_path, splits=apart).split == {
        "train": ("p_02",),
        "validation": ("p_01",),
    }
    with pytest.raises(DataError, match="fold is 5, expected 0 to 1"):
        read_nnunet(tmp_path, fold=5)
    with pytest.raises(DataError, match="no such file"):
        read_nnunet(tmp_path, splits=tmp_path / "missing.json")


@pytest.mark.parametrize(
    ("fold", "message"),
    [
        ({"train": ["p_01"], "val": ["p_09"]}, r"names \['p_09'\] in 'val'"),
        ({"train": ["p_01"], "val": ["p_01"]}, r"\['p_01'\] in 'train' and in 'val'"),
        ({"train": ["p_01"]}, "no list 'val'"),
    ],
)
def test_a_bad_fold_is_named(tmp_path: Path, fold: dict[str, Any], message: str) -> None:
    write_nnunet(tmp_path)
    (tmp_path / "splits_final.json").write_text(json.dumps([fold]))
    with pytest.raises(DataError, match=message):
        read_nnunet(tmp_path)


def test_files_may_be_listed(tmp_path: Path) -> None:
    write_nnunet(tmp_path)
    entry = {
        "images": ["imagesTr/p_02_0001.nii.gz", "./imagesTr/p_02_0000.nii.gz"],
        "label": "labelsTr/p_02.nii.gz",
    }
    write_nnunet(tmp_path, dataset={"mine": entry})
    prostate = read_nnunet(tmp_path)
    assert prostate.subjects == ("mine",)
    assert float(prostate.read_subject("mine")[0].image[0, 0, 0]) == 100.0
    write_nnunet(tmp_path, dataset={"mine": entry | {"label": "../../labels/p_02.nii.gz"}})
    with pytest.raises(DataError, match=r"dataset\.mine\.label is .*which points outside"):
        read_nnunet(tmp_path)


def test_png_files_need_a_spacing(tmp_path: Path) -> None:
    grey = np.arange(20, dtype=np.uint8).reshape(4, 5)
    write_png(tmp_path / "imagesTr/road_0000.png", np.stack([grey, grey + 1, grey + 2], axis=2))
    write_png(tmp_path / "labelsTr/road.png", (grey == 6).astype(np.uint8))
    content = {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": {"background": 0, "road": 1},
        "file_ending": ".png",
    }
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    (piece,) = read_nnunet(tmp_path, spacing_mm=(0.5, 0.25)).read_subject("road")
    assert piece.image.shape == (3, 4, 5)
    assert piece.name == "road"
    assert piece.spacing_mm == (0.5, 0.25)
    np.testing.assert_array_equal(piece.image[2].numpy(), grey + 2)
    assert piece.labels is not None
    assert piece.labels.nonzero().tolist() == [[1, 1]]
    with pytest.raises(DataError, match=r"road_0000\.png: a PNG file does not say .*spacing_mm"):
        read_nnunet(tmp_path).read_subject("road")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"background": 0, "whole": [1, 2], "core": 2}}, "regions of several numbers"),
        ({"labels": {"background": 0, "PZ": 1, "ignore": 2}}, "'ignore' label"),
        ({"labels": {"0": "background", "1": "PZ"}}, "as in the Decathlon"),
        ({"labels": {"background": 0, "PZ": 2}}, "without a gap"),
        ({"channel_names": None}, "channel_names is None"),
        ({"channel_names": {"0": "T2", "2": "ADC"}}, "without a gap"),
        ({"channel_names": {"0": "T2", "1": "ADC", "2": "DCE"}}, "p_01: it has 2 channels"),
        ({"file_ending": ".nrrd"}, r"file_ending is '\.nrrd'"),
        ({"file_ending": ".png"}, r"no imagesTr/CASE_0000\.png"),
        ({"dataset": {"a": "b"}}, r"dataset\.a is 'b'"),
    ],
)
def test_a_bad_dataset_json_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_nnunet(tmp_path, **changes)
    with pytest.raises(DataError, match=message):
        read_nnunet(tmp_path)


@pytest.mark.parametrize("gone", ["imagesTr/p_01_0000.nii.gz", "labelsTr/p_01.nii.gz"])
def test_a_missing_file_is_named(tmp_path: Path, gone: str) -> None:
    write_nnunet(tmp_path)
    (tmp_path / gone).unlink()
    with pytest.raises(DataError, match=f"p_01: .*{Path(gone).name} is not there"):
        read_nnunet(tmp_path)


def test_channels_of_different_shape_are_named(tmp_path: Path) -> None:
    write_nnunet(tmp_path)
    path = tmp_path / "imagesTr/p_01_0001.nii.gz"
    write_nifti(path, np.zeros((4, 5, 3), dtype=np.float32), SPACING)
    with pytest.raises(DataError, match=r"p_01_0001\.nii\.gz: its shape is \(4, 5, 3\)"):
        read_nnunet(tmp_path).read_subject("p_01")
