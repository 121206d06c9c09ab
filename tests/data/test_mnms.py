from pathlib import Path

import numpy as np
import pytest

from paramreuse.data.mnms import read_mnms
from paramreuse.errors import DataError
from samples.image_files import write_nifti

TABLE = "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv"
SHAPE = (6, 7, 3, 5)


def write_mnms_patient(folder: Path, ed: int, es: int) -> tuple[np.ndarray, np.ndarray]:
    """Write a patient whose labels are in two frames alone; return image and labels."""
    image = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[1, 1:4, :, ed] = [[1], [2], [3]]  # LV, myocardium, RV
    labels[2, 1:4, :, es] = [[3], [2], [1]]
    stem = folder / folder.name
    write_nifti(stem.with_name(f"{folder.name}_sa.nii.gz"), image, (1.25, 1.5, 10.0, 1.0))
    write_nifti(stem.with_name(f"{folder.name}_sa_gt.nii.gz"), labels, (1.25, 1.5, 10.0, 1.0))
    return image, labels


def write_mnms(root: Path) -> np.ndarray:
    image, _ = write_mnms_patient(root / "Training/Labeled/A0S9V9", ed=4, es=1)
    write_mnms_patient(root / "Training/Unlabeled/B9E0Q1", ed=0, es=1)
    write_mnms_patient(root / "Validation/C5C2D2", ed=0, es=2)
    write_mnms_patient(root / "Testing/D1K2P5", ed=0, es=3)
    (root / TABLE).write_text(
        ",External code,VendorName,Vendor,Centre,ED,ES,Age\n"
        "0,A0S9V9,Siemens,A,1,4,1,50\n1,C5C2D2,Philips,B,2,0.0,2.0,51\n"
        "2,D1K2P5,GE,C,3,0,3,52\n"
    )
    return image


def test_frames_count_from_0_and_labels_become_those_of_acdc(tmp_path: Path) -> None:
    image = write_mnms(tmp_path)
    mnms = read_mnms(tmp_path)
    pieces = mnms.read_subject("A0S9V9")

    assert mnms.classes == ("background", "RV", "myocardium", "LV")
    assert len(pieces) == 2 * SHAPE[2]
    assert pieces[0].name == "A0S9V9 ED frame 4 slice 1"
    assert pieces[5].name == "A0S9V9 ES frame 1 slice 3"
    assert pieces[0].spacing_mm == (1.25, 1.5)
    np.testing.assert_array_equal(pieces[5].image[0].numpy(), image[:, :, 2, 1])
    assert pieces[0].labels is not None
    # 1 LV, 2 myocardium, 3 RV in the file.
    assert pieces[0].labels[1].tolist() == [0, 3, 2, 1, 0, 0, 0]
    assert pieces[5].labels is not None
    assert pieces[5].labels[2].tolist() == [0, 1, 2, 3, 0, 0, 0]


def test_the_official_split_leaves_the_unlabelled_out(tmp_path: Path) -> None:
    write_mnms(tmp_path)
    mnms = read_mnms(tmp_path)
    assert mnms.subjects == ("A0S9V9", "C5C2D2", "D1K2P5")
    assert mnms.split == {
        "train": ("A0S9V9",),
        "validation": ("C5C2D2",),
        "test": ("D1K2P5",),
    }


def test_one_frame_and_one_folder_can_be_read_alone(tmp_path: Path) -> None:
    write_mnms(tmp_path)
    mnms = read_mnms(tmp_path / "Testing", frames=["ES"])  # the table is in the folder above
    assert mnms.split is None
    assert [piece.name[:14] for piece in mnms.read_subject("D1K2P5")] == ["D1K2P5 ES fram"] * 3


def test_a_test_patient_may_lack_labels(tmp_path: Path) -> None:
    write_mnms(tmp_path)
    (tmp_path / "Testing/D1K2P5/D1K2P5_sa_gt.nii.gz").unlink()
    mnms = read_mnms(tmp_path)
    assert mnms.split == {"train": ("A0S9V9",), "validation": ("C5C2D2",)}
    assert mnms.read_subject("D1K2P5")[0].labels is None
    (tmp_path / "Training/Labeled/A0S9V9/A0S9V9_sa_gt.nii.gz").unlink()
    with pytest.raises(DataError, match=r"A0S9V9: no A0S9V9_sa_gt\.nii\.gz"):
        read_mnms(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("External code,ES\nA0S9V9,1\n", r"\.csv, line 1: it has no column 'ED'"),
        ("External code,ED,ES\nA0S9V9,,1\n", r"\.csv, line 2: ED is '', expected the number"),
        ("External code,ED,ES\nA0S9V9,-1,1\n", r"line 2: ED is '-1'"),
        ("External code,ED,ES\nX,0,1\n", r"cannot read A0S9V9: .*\.csv has no line for it"),
    ],
)
def test_a_table_that_does_not_fit_is_named(tmp_path: Path, text: str, message: str) -> None:
    write_mnms_patient(tmp_path / "Training/Labeled/A0S9V9", ed=4, es=1)
    (tmp_path / TABLE).write_text(text)
    with pytest.raises(DataError, match=message):
        read_mnms(tmp_path)


def test_no_table_is_an_error(tmp_path: Path) -> None:
    write_mnms_patient(tmp_path / "set/Training/Labeled/A0S9V9", ed=4, es=1)
    with pytest.raises(DataError, match=r"no \.csv table"):
        read_mnms(tmp_path / "set")


def test_a_frame_without_labels_or_beyond_the_last_is_named(tmp_path: Path) -> None:
    write_mnms(tmp_path)
    table = (tmp_path / TABLE).read_text()
    (tmp_path / TABLE).write_text(table.replace("1,4,1,50", "1,3,1,50"))
    with pytest.raises(DataError, match=r"A0S9V9: .* holds no label in frame 3, its ED .*exclude"):
        read_mnms(tmp_path).read_subject("A0S9V9")
    (tmp_path / TABLE).write_text(table.replace("1,4,1,50", "1,5,1,50"))
    with pytest.raises(DataError, match=r"frames \{'ED': 5\}, counted from 0, but .* has 5"):
        read_mnms(tmp_path).read_subject("A0S9V9")
    assert read_mnms(tmp_path, exclude=["A0S9V9"]).subjects == ("C5C2D2", "D1K2P5")


def test_a_label_that_is_no_class_is_named(tmp_path: Path) -> None:
    write_mnms(tmp_path)
    labels = np.full(SHAPE, 7, dtype=np.uint8)
    path = tmp_path / "Training/Labeled/A0S9V9/A0S9V9_sa_gt.nii.gz"
    write_nifti(path, labels, (1.25, 1.5, 10.0, 1.0))
    with pytest.raises(DataError, match=r"labels \[7\], expected only 0 background, 1 LV"):
        read_mnms(tmp_path).read_subject("A0S9V9")


def test_a_folder_without_patients_and_an_unknown_frame_are_errors(tmp_path: Path) -> None:
    (tmp_path / TABLE).write_text("External code,ED,ES\n")
    with pytest.raises(DataError, match="holds no patient"):
        read_mnms(tmp_path)
    with pytest.raises(DataError, match="frames 'EX'"):
        read_mnms(tmp_path, frames="EX")
