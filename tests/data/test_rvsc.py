from pathlib import Path

import numpy as np
import pytest
import torch

from paramreuse.data.rvsc import read_rvsc
from paramreuse.errors import DataError
from samples.image_files import box, write_contour, write_dicom


def write_rvsc_patient(
    folder: Path,
    shape: tuple[int, int] = (216, 256),
    *,
    numbers: tuple[str, ...] = ("0080", "0100"),
    contours: Path | None = None,
) -> np.ndarray:
    """Write a patient as published; return the pixels of its images."""
    code = f"P{folder.name.removeprefix('patient')}"
    pixels = np.arange(shape[0] * shape[1]).reshape(shape) % 4096
    lines = []
    place = contours or folder / f"{code}contours-manual"
    for number in numbers:
        write_dicom(folder / f"{code}dicom" / f"{code}-{number}.dcm", pixels)
        for kind, corners in (("i", box(20, 30, 24, 32)), ("o", box(19, 29, 25, 33))):
            name = f"{code}-{number}-{kind}contour-manual.txt"
            write_contour(place / name, corners)
            lines.append(f".\\{folder.name}\\{code}contours-manual\\{name}")
    write_dicom(folder / f"{code}dicom" / f"{code}-0000.dcm", pixels)  # in no list
    (folder / f"{code}list.txt").write_bytes("\r\n".join([*lines, ""]).encode())
    return pixels


@pytest.mark.parametrize("shape", [(216, 256), (256, 216)])
def test_images_and_contours_are_read_as_stored(tmp_path: Path, shape: tuple[int, int]) -> None:
    pixels = write_rvsc_patient(tmp_path / "TrainingSet/patient01", shape)
    rvsc = read_rvsc(tmp_path)
    pieces = rvsc.read_subject("patient01")

    assert rvsc.classes == ("background", "RV", "RV wall")
    assert rvsc.subjects == ("patient01",)
    assert [piece.name for piece in pieces] == ["patient01 image 0080", "patient01 image 0100"]
    assert pieces[0].spacing_mm == (1.5, 1.25)
    assert pieces[0].image.dtype == torch.float32
    np.testing.assert_array_equal(pieces[0].image[0].numpy(), pixels)
    expected = np.zeros(shape, dtype=np.int64)
    expected[29:34, 19:26] = 2
    expected[30:33, 20:25] = 1  # rows are y, columns are x
    assert pieces[0].labels is not None
    np.testing.assert_array_equal(pieces[0].labels.numpy(), expected)


def test_the_official_split_takes_test_sets_with_contours(tmp_path: Path) -> None:
    write_rvsc_patient(tmp_path / "TrainingSet/patient01")
    apart = tmp_path / "Test1SetContours/P17contours-manual"
    write_rvsc_patient(tmp_path / "Test1Set/patient17", contours=apart)
    write_rvsc_patient(tmp_path / "Test2Set/patient33", contours=tmp_path / "elsewhere")
    rvsc = read_rvsc(tmp_path)

    assert rvsc.subjects == ("patient01", "patient17", "patient33")
    assert rvsc.split == {"train": ("patient01",), "validation": ("patient17",)}
    assert rvsc.read_subject("patient17")[0].labels is not None
    assert [piece.labels for piece in rvsc.read_subject("patient33")] == [None, None]


def test_listing_reads_no_image(tmp_path: Path) -> None:
    write_rvsc_patient(tmp_path / "TrainingSet/patient01")
    (tmp_path / "TrainingSet/patient01/P01dicom/P01-0080.dcm").write_bytes(b"no image")
    rvsc = read_rvsc(tmp_path)
    with pytest.raises(DataError, match=r"P01-0080\.dcm: it is not a complete DICOM file"):
        rvsc.read_subject("patient01")


def test_the_training_set_alone_is_read_too(tmp_path: Path) -> None:
    write_rvsc_patient(tmp_path / "TrainingSet/patient01")
    assert read_rvsc(tmp_path / "TrainingSet").split is None


def test_a_listed_contour_that_is_missing_is_named_with_its_line(tmp_path: Path) -> None:
    write_rvsc_patient(tmp_path / "TrainingSet/patient01")
    gone = "P01-0100-icontour-manual.txt"
    (tmp_path / "TrainingSet/patient01/P01contours-manual" / gone).unlink()
    with pytest.raises(DataError, match=rf"P01list\.txt, line 3: it asks for .*{gone}"):
        read_rvsc(tmp_path)


def test_a_listed_image_that_is_missing_is_named_with_its_line(tmp_path: Path) -> None:
    write_rvsc_patient(tmp_path / "TrainingSet/patient01")
    (tmp_path / "TrainingSet/patient01/P01dicom/P01-0080.dcm").unlink()
    with pytest.raises(DataError, match=r"P01list\.txt, line 1: it asks for .*P01-0080\.dcm"):
        read_rvsc(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("..\\..\\secret.txt\r\n", r"line 1: it is .*expected a contour like P01-0080"),
        (".\\patient01\\P01contours-manual\\P02-0080-icontour-manual.txt\r\n", "line 1"),
        ("P01-0080-icontour-manual.txt\r\n", "line 1: image 0080 has only an i contour"),
        ("\r\n", "it names no contour"),
    ],
)
def test_a_bad_list_is_named(tmp_path: Path, text: str, message: str) -> None:
    write_rvsc_patient(tmp_path / "TrainingSet/patient01")
    (tmp_path / "TrainingSet/patient01/P01list.txt").write_bytes(text.encode())
    with pytest.raises(DataError, match=message):
        read_rvsc(tmp_path)


def test_a_training_patient_needs_contours(tmp_path: Path) -> None:
    write_rvsc_patient(tmp_path / "TrainingSet/patient01", contours=tmp_path / "elsewhere")
    with pytest.raises(DataError, match="no P01contours-manual"):
        read_rvsc(tmp_path)


def test_a_patient_in_two_sets_is_an_error(tmp_path: Path) -> None:
    write_rvsc_patient(tmp_path / "TrainingSet/patient01")
    write_rvsc_patient(tmp_path / "Test1Set/patient01")
    with pytest.raises(DataError, match=r"patient01 is in TrainingSet and in Test1Set"):
        read_rvsc(tmp_path)


def test_a_folder_without_patients_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no patient"):
        read_rvsc(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read_rvsc(tmp_path / "missing")


def test_an_unknown_subject_is_an_error(tmp_path: Path) -> None:
    write_rvsc_patient(tmp_path / "TrainingSet/patient01")
    with pytest.raises(DataError, match="cannot read 'patient99': no such subject"):
        read_rvsc(tmp_path).read_subject("patient99")


def test_a_contour_of_the_other_orientation_is_outside_the_image(tmp_path: Path) -> None:
    write_rvsc_patient(tmp_path / "TrainingSet/patient01", (256, 216))
    path = tmp_path / "TrainingSet/patient01/P01contours-manual/P01-0080-icontour-manual.txt"
    write_contour(path, box(200, 30, 230, 40))
    with pytest.raises(DataError, match=r"line 2: the point x=230, y=30 is outside .* 216 columns"):
        read_rvsc(tmp_path).read_subject("patient01")
