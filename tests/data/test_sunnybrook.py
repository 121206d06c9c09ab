import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from paramreuse.data.formats.contours import fill_contour, read_contour
from paramreuse.data.sunnybrook import read_sunnybrook
from paramreuse.errors import DataError
from samples.image_files import box, write_contour, write_dicom

PIXELS = np.arange(20 * 24).reshape(20, 24)
INNER, OUTER = box(8, 6, 12, 9)[:4], box(6, 4, 14, 11)[:4]


def write_official(root: Path) -> None:
    """Two patients in the published layout; the second has no epicardium."""
    expert = root / "SCD_ManualContours/SC-HF-I-01/contours-manual/IRCCI-expert"
    write_contour(expert / "IM-0001-0048-icontour-manual.txt", INNER, end="\n")
    write_contour(expert / "IM-0001-0059-icontour-manual.txt", INNER, end="\n")
    write_contour(expert / "IM-0001-0059-ocontour-manual.txt", OUTER, end="\n")
    write_contour(expert / "IM-0001-0059-p1contour-manual.txt", INNER, end="\n")
    other = root / "SCD_ManualContours/SC-HF-NI-12/contours-manual/IRCCI-expert"
    write_contour(other / "IM-0001-0007-icontour-manual.txt", INNER, end="\n")
    series = root / "SCD_IMAGES_01/SCD0000101/CINESAX_300"
    for number in (48, 59, 60):
        write_dicom(series / f"IM-0003-{number:04d}.dcm", PIXELS + number)
    # Another series has the same numbers.
    write_dicom(root / "SCD_IMAGES_01/SCD0000101/CINELAX_301/IM-0004-0048.dcm", PIXELS)
    write_dicom(root / "SCD_IMAGES_02/SCD0001301/CINESAX_5/IM-0002-0007.dcm", PIXELS)
    (root / "scd_patientdata.csv").write_text(
        "PatientID,OriginalID,Gender,Age,PathologyID,Pathology\n"
        "SCD0000101,SC-HF-I-1,Male,51,1,Heart failure\n"
        "SCD0001301,SC-HF-NI-12,Female,60,2,Heart failure\n"
        "SCD0004501,SC-N-11,Female,60,4,Healthy\n"  # not downloaded
    )


def write_short(root: Path) -> None:
    """The first of the two patients in the shorter layout."""
    for number in (48, 59):
        write_dicom(root / f"dicoms/SCD0000101/{number}.dcm", PIXELS + number)
        for kind, points in (("i", INNER), ("o", OUTER)):
            if (number, kind) != (48, "o"):
                name = f"IM-0001-{number:04d}-{kind}contour-manual.txt"
                place = root / f"contourfiles/SC-HF-I-1/{kind}-contours"
                write_contour(place / name, points, end="\n")
    (root / "link.csv").write_text("patient_id,original_id\nSCD0000101,SC-HF-I-1\n")


@pytest.mark.parametrize("write", [write_official, write_short])
def test_both_layouts_give_the_cavity_of_every_image(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    write(tmp_path)
    heart = read_sunnybrook(tmp_path)
    pieces = heart.read_subject("SCD0000101")

    assert heart.classes == ("background", "LV")
    assert heart.subjects[0] == "SCD0000101"
    assert [piece.name for piece in pieces] == ["SCD0000101 image 48", "SCD0000101 image 59"]
    np.testing.assert_array_equal(pieces[1].image[0].numpy(), PIXELS + 59)
    assert pieces[0].spacing_mm == (1.5, 1.25)
    expected = np.zeros(PIXELS.shape, dtype=np.int64)
    expected[6:10, 8:13] = 1
    assert pieces[0].labels is not None
    np.testing.assert_array_equal(pieces[0].labels.numpy(), expected)


@pytest.mark.parametrize("write", [write_official, write_short])
def test_myocardium_takes_only_images_with_both_contours(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    write(tmp_path)
    heart = read_sunnybrook(tmp_path, structures=["myocardium", "LV"])
    (piece,) = heart.read_subject("SCD0000101")

    assert heart.classes == ("background", "myocardium", "LV")
    assert heart.subjects == ("SCD0000101",)
    assert piece.name == "SCD0000101 image 59"
    expected = np.zeros(PIXELS.shape, dtype=np.int64)
    expected[4:12, 6:15] = 1
    expected[6:10, 8:13] = 2
    assert piece.labels is not None
    np.testing.assert_array_equal(piece.labels.numpy(), expected)


def test_patients_that_were_not_downloaded_are_left_out(tmp_path: Path) -> None:
    write_official(tmp_path)
    assert read_sunnybrook(tmp_path).subjects == ("SCD0000101", "SCD0001301")


def test_a_cavity_outside_the_epicardium_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    write_official(tmp_path)
    expert = tmp_path / "SCD_ManualContours/SC-HF-I-01/contours-manual/IRCCI-expert"
    write_contour(expert / "IM-0001-0059-ocontour-manual.txt", box(9, 4, 14, 11), end="\n")
    heart = read_sunnybrook(tmp_path, structures=["myocardium", "LV"])
    with pytest.raises(
        DataError, match=r"image 59: only 80% of the cavity .*exclude=\['SCD0000101"
    ):
        heart.read_subject("SCD0000101")
    left = read_sunnybrook(tmp_path, exclude=["SCD0000101"])
    assert left.subjects == ("SCD0001301",)


def test_an_unknown_patient_cannot_be_left_out(tmp_path: Path) -> None:
    write_short(tmp_path)
    with pytest.raises(DataError, match=r"cannot leave \['SCD9'\] out of Sunnybrook"):
        read_sunnybrook(tmp_path, exclude="SCD9")


def test_a_contour_without_its_image_is_named(tmp_path: Path) -> None:
    write_short(tmp_path)
    (tmp_path / "dicoms/SCD0000101/48.dcm").unlink()
    with pytest.raises(DataError, match=r"IM-0001-0048-icontour-manual\.txt belongs to image 48"):
        read_sunnybrook(tmp_path)


def test_two_images_with_one_number_are_an_error(tmp_path: Path) -> None:
    write_official(tmp_path)
    again = tmp_path / "SCD_IMAGES_01/SCD0000101/CINESAX_301/IM-0009-0048.dcm"
    write_dicom(again, PIXELS)
    with pytest.raises(DataError, match="image 48, of which there are 2"):
        read_sunnybrook(tmp_path)


def test_missing_contours_tables_and_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither scd_patientdata\.csv nor link\.csv"):
        read_sunnybrook(tmp_path)
    write_short(tmp_path)
    (tmp_path / "link.csv").write_text("patient,original\nSCD0000101,SC-HF-I-1\n")
    with pytest.raises(
        DataError,
        match=r"link\.csv, line 1: it has no column 'patient_id' .*expected patient_id",
    ):
        read_sunnybrook(tmp_path)
    (tmp_path / "link.csv").write_text("patient_id,original_id\nSCD0000101,SC-HF-I-3\n")
    with pytest.raises(DataError, match="SCD0000101: no contours of SC-HF-I-3"):
        read_sunnybrook(tmp_path)


def test_other_structures_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="structures 'RV'"):
        read_sunnybrook(tmp_path, structures="RV")


@pytest.fixture(scope="module")
def real() -> Path:
    root = Path(os.environ.get("PARAMREUSE_DATA", "")) / "sunnybrook"
    if "PARAMREUSE_DATA" not in os.environ or not root.is_dir():
        pytest.skip("PARAMREUSE_DATA names no folder with sunnybrook/")
    return root


@pytest.mark.slow
def test_the_real_sample_has_96_images_of_5_patients_37_with_myocardium(real: Path) -> None:
    cavity = read_sunnybrook(real)
    both = read_sunnybrook(real, structures=["myocardium", "LV"])
    assert len(cavity.subjects) == 5
    assert sum(len(cavity.read_subject(s)) for s in cavity.subjects) == 96
    assert len(both.subjects) == 4
    assert sum(len(both.read_subject(s)) for s in both.subjects) == 37


def test_real_masks_are_the_filled_contours_and_blood_is_bright(real: Path) -> None:
    both = read_sunnybrook(real, structures=["myocardium", "LV"])
    for piece in both.read_subject("SCD0000301"):
        assert piece.labels is not None
        number = int(piece.name.rsplit(" ", 1)[1])
        contour = real / "contourfiles/SC-HF-I-4"
        inner, outer = (
            fill_contour(
                read_contour(
                    contour / f"{kind}-contours/IM-0001-{number:04d}-{kind}contour-manual.txt",
                    (256, 256),
                ),
                (256, 256),
            )
            for kind in ("i", "o")
        )
        labels, image = piece.labels.numpy(), piece.image[0].numpy()
        np.testing.assert_array_equal(labels == 2, inner)  # Dice 1.0
        np.testing.assert_array_equal(labels == 1, outer & ~inner)
        # 1.79 at least over all 37 images; transposed labels give about 1.
        assert image[labels == 2].mean() > 1.5 * image[labels == 1].mean()
        assert piece.spacing_mm == pytest.approx((1.2891, 1.2891))
