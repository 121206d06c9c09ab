"""The ACDC reader: frames from Info.cfg, labels at their place, messages that name the file."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from paramreuse.data.acdc import read_acdc
from paramreuse.errors import DataError
from samples.acdc_files import SHAPE, write_patient, write_volume


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_patient(tmp_path / "training" / "patient001")
    write_patient(tmp_path / "training" / "patient090", ed=4, es=11)
    return tmp_path


def read_all(root: Path) -> None:
    acdc = read_acdc(root)
    for subject in acdc.subjects:
        acdc.read_subject(subject)


def test_frames_come_from_info_cfg(root: Path) -> None:
    slices = read_acdc(root).read_subject("patient090")

    # ED 4 and ES 11: a reader that takes frame 1 for ED, or sorts by name alone, gets others.
    assert [piece.image[0, 0, 0].item() for piece in slices] == [4, 4, 4, 11, 11, 11]
    assert slices[0].name == "patient090 frame04 slice 1"
    assert slices[5].name == "patient090 frame11 slice 3"


def test_end_diastole_may_come_after_end_systole(root: Path) -> None:
    write_patient(root / "training" / "patient002", ed=12, es=3)
    slices = read_acdc(root, frames=("ED",)).read_subject("patient002")

    assert [piece.image[0, 0, 0].item() for piece in slices] == [12, 12, 12]


def test_slices_are_as_stored_with_labels_at_their_place(root: Path) -> None:
    piece = read_acdc(root).read_subject("patient001")[0]

    assert piece.image.shape == (1, 5, 7)
    assert piece.image.dtype == torch.float32
    assert piece.labels.dtype == torch.int64
    assert piece.image[0, 1, 2] == 900
    assert piece.labels.nonzero().tolist() == [[1, 2]]
    assert piece.labels[1, 2] == 3
    assert piece.spacing_mm == (1.25, 1.5)
    assert piece.subject == "patient001"


@pytest.mark.parametrize("place", [".", "training"])
def test_root_may_be_the_set_or_the_folder_of_patients(root: Path, place: str) -> None:
    acdc = read_acdc(root / place)

    assert acdc.subjects == ("patient001", "patient090")
    assert acdc.classes == ("background", "RV", "myocardium", "LV")
    assert acdc.split is None


def test_labelled_testing_patients_are_the_official_validation(root: Path) -> None:
    write_patient(root / "testing" / "patient101")

    assert read_acdc(root).split == {
        "train": ("patient001", "patient090"),
        "validation": ("patient101",),
    }


def test_testing_patients_without_labels_are_read_and_kept_out_of_the_split(root: Path) -> None:
    write_patient(root / "testing" / "patient101", labelled=False)
    acdc = read_acdc(root)

    assert acdc.split == {"train": ("patient001", "patient090")}
    assert [piece.labels for piece in acdc.read_subject("patient101")] == [None] * 6


def test_listing_reads_no_image(root: Path) -> None:
    for path in root.rglob("*.nii.gz"):
        path.write_bytes(b"")

    assert len(read_acdc(root).subjects) == 2


def test_text_under_the_name_of_an_uncompressed_volume_is_refused(root: Path) -> None:
    patient = root / "training" / "patient001"
    path = patient / "patient001_frame01.nii.gz"
    path.unlink()
    for content in (b"", b"not found", b"x" * 5000):
        path.with_suffix("").write_bytes(content)
        with pytest.raises(
            DataError, match=r"patient001_frame01\.nii: it is not a complete NIfTI file"
        ):
            read_all(root)


def test_slices_of_an_uncompressed_volume_are_read(root: Path) -> None:
    patient = root / "training" / "patient001"
    path = patient / "patient001_frame01.nii.gz"
    write_volume(path.with_suffix(""), np.full(SHAPE, 5, dtype=np.int16))
    path.unlink()

    assert read_acdc(root).read_subject("patient001")[0].image[0, 0, 0] == 5


def spoil_info(patient: Path) -> None:
    (patient / "Info.cfg").unlink()


def spoil_frames(patient: Path) -> None:
    (patient / "Info.cfg").write_text("ED: 1\nGroup: NOR\n")


def spoil_image(patient: Path) -> None:
    (patient / "patient001_frame04.nii.gz").unlink()


def spoil_labels(patient: Path) -> None:
    (patient / "patient001_frame04_gt.nii.gz").unlink()


def spoil_shape(patient: Path) -> None:
    write_volume(patient / "patient001_frame01_gt.nii.gz", np.zeros((5, 6, 3), dtype=np.uint8))


def spoil_label(patient: Path) -> None:
    write_volume(patient / "patient001_frame01_gt.nii.gz", np.full(SHAPE, 4, dtype=np.uint8))


def spoil_fraction(patient: Path) -> None:
    write_volume(patient / "patient001_frame01_gt.nii.gz", np.full(SHAPE, 0.5, dtype=np.float32))


def spoil_nan(patient: Path) -> None:
    volume = np.zeros(SHAPE, dtype=np.float32)
    volume[0, 0, 0] = np.nan
    write_volume(patient / "patient001_frame01.nii.gz", volume)


def spoil_depth(patient: Path) -> None:
    for end in ("", "_gt"):
        write_volume(patient / f"patient001_frame01{end}.nii.gz", np.zeros((5, 7, 1), np.uint8))


def noisy(patient: Path) -> Path:
    """A volume that gzip cannot shorten to less than a block."""
    path = patient / "patient001_frame01.nii.gz"
    values = np.random.default_rng(0).integers(0, 1000, (40, 40, 3))
    write_volume(path, values.astype(np.int16))
    return path


def spoil_header(patient: Path) -> None:
    path = noisy(patient)
    path.write_bytes(path.read_bytes()[:60])


def spoil_end(patient: Path) -> None:
    path = noisy(patient)
    path.write_bytes(path.read_bytes()[:-3000])


def spoil_middle(patient: Path) -> None:
    path = noisy(patient)
    content = bytearray(path.read_bytes())
    content[3000:3400] = bytes(400)
    path.write_bytes(content)


def spoil_checksum(patient: Path) -> None:
    path = noisy(patient)
    path.write_bytes(path.read_bytes()[:-8] + bytes(8))


def spoil_bytes(patient: Path) -> None:
    (patient / "patient001_frame01.nii.gz").write_bytes(b"<html>not found</html>")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_info, "cannot read patient001: no Info.cfg in .*names the ED and ES frames"),
        (spoil_frames, r"patient001: .*Info.cfg names no ES frame; .*got \['ED'\]"),
        (spoil_image, "patient001: no patient001_frame04.nii.gz in .*names as ES; copy"),
        (spoil_labels, "patient001: no patient001_frame04_gt.nii.gz in .*every training patient"),
        (spoil_shape, r"frame01_gt.nii.gz: the labels have shape \(5, 6, 3\), the image \(5, 7, 3"),
        (spoil_label, r"frame01_gt.nii.gz: it holds the labels \[4\], expected only 0 background"),
        (spoil_fraction, r"it holds the labels \[0.5\]"),
        (spoil_nan, "patient001_frame01.nii.gz: 1 voxels are NaN or infinite"),
        (spoil_depth, r"its shape is \(5, 7, 1\), expected .* two slices or more"),
        (
            spoil_header,
            r"frame01.nii.gz: it is not a complete NIfTI file \(.+\); copy the file again",
        ),
        (spoil_end, r"patient001_frame01.nii.gz: it is not a complete NIfTI file"),
        (spoil_middle, r"patient001_frame01.nii.gz: it is not a complete NIfTI file"),
        (spoil_checksum, r"patient001_frame01.nii.gz: it is not a complete NIfTI file"),
        (spoil_bytes, r"patient001_frame01.nii.gz: it is not a complete NIfTI file"),
    ],
)
def test_a_spoilt_patient_is_named_with_what_is_wrong(root: Path, spoil, message: str) -> None:
    spoil(root / "training" / "patient001")

    with pytest.raises(DataError, match=message):
        read_all(root)


def test_a_missing_folder_and_an_empty_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder; expected the folder that holds training/"):
        read_acdc(tmp_path / "nowhere")
    with pytest.raises(DataError, match="it holds no patient; expected folders patient001"):
        read_acdc(tmp_path)


def test_unknown_frames_and_subjects_are_refused(root: Path) -> None:
    with pytest.raises(DataError, match=r"frames \('MD',\): expected one or both"):
        read_acdc(root, frames=("MD",))
    with pytest.raises(DataError, match="cannot read 'patient007': no such subject; there are 2"):
        read_acdc(root).read_subject("patient007")


def real_root() -> Path:
    folder = os.environ.get("PARAMREUSE_DATA")
    if not folder or not (Path(folder) / "acdc").is_dir():
        pytest.skip("PARAMREUSE_DATA names no folder with acdc/ in it")
    return Path(folder) / "acdc"


def test_the_real_set_has_40_patients_with_end_diastole_and_end_systole() -> None:
    acdc = read_acdc(real_root())

    assert len(acdc.subjects) == 40
    slices = acdc.read_subject(acdc.subjects[0])
    assert len({piece.name.split(" slice")[0] for piece in slices}) == 2


@pytest.mark.slow
def test_the_real_labels_lie_on_the_real_hearts() -> None:
    acdc = read_acdc(real_root())
    for subject in acdc.subjects:
        slices = acdc.read_subject(subject)
        images = torch.stack([piece.image[0] for piece in slices])
        labels = torch.stack([piece.labels for piece in slices])
        assert labels.unique().tolist() == [0, 1, 2, 3]
        # In cine MRI blood is brighter than muscle; shifted labels lose that.
        assert images[labels == 3].mean() > 1.2 * images[labels == 2].mean()
