"""NIfTI: what the header may say, where image and labels lie, and what is never unpacked."""

import gzip
import os
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from paramreuse.data.formats import bounded
from paramreuse.data.formats.nifti import open_nifti
from paramreuse.data.formats.volumes import Volume, read_labels, read_volume
from paramreuse.errors import DataError
from samples.image_files import write_nifti

SPACING = (1.25, 1.5, 8.0)
VOXELS = np.arange(4 * 5 * 3, dtype=np.int16).reshape(4, 5, 3)
VALUES = {0: 0, 1: 1}
CLASSES = ("background", "LV")

# Offsets of nifti1.h.
DIM, DATATYPE, BITPIX, PIXDIM, VOX_OFFSET, SLOPE, UNITS = 40, 70, 72, 76, 108, 112, 123


def patched(path: Path, *changes: tuple[int, str, Any]) -> Path:
    """Write a volume with some fields of its header overwritten."""
    write_nifti(path, VOXELS, SPACING)
    content = bytearray(gzip.decompress(path.read_bytes()))
    for offset, form, value in changes:
        struct.pack_into(form, content, offset, value)
    path.write_bytes(gzip.compress(bytes(content)))
    return path


def placed(path: Path, affine: np.ndarray, values: np.ndarray | None = None) -> Path:
    """Write a volume at a place in space; its pixel size is that of the affine."""
    voxels = np.zeros((4, 5, 3), dtype=np.uint8) if values is None else values
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


def labels_on(image: Volume, path: Path) -> np.ndarray:
    return read_labels(path, image, values=VALUES, classes=CLASSES)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    "dtype", ["u1", "i1", "<i2", ">i2", "u2", ">i4", "u4", "i8", "u8", "<f4", ">f4", "f8"]
)
def test_voxels_are_those_that_nibabel_reads(
    tmp_path: Path, kind: Any, ending: str, dtype: str
) -> None:
    path = tmp_path / f"a{ending}"
    order = ">" if dtype.startswith(">") else "<"
    header = kind.header_class(endianness=order)
    header.set_data_dtype(dtype)
    nib.save(kind(VOXELS.astype(dtype), np.diag([*SPACING, 1.0]), header), path)
    volume = read_volume(path)

    np.testing.assert_array_equal(volume.values[..., 0], VOXELS)
    np.testing.assert_array_equal(volume.values[..., 0], np.asarray(nib.load(path).dataobj))
    assert volume.spacing_mm == (1.25, 1.5)
    np.testing.assert_array_equal(volume.affine, nib.load(path).affine)


def test_scaled_voxels_are_those_that_nibabel_reads(tmp_path: Path) -> None:
    path = patched(tmp_path / "a.nii.gz", (SLOPE, "<f", 0.25), (SLOPE + 4, "<f", -3.0))
    values = read_volume(path).values[..., 0]

    np.testing.assert_array_equal(values, 0.25 * VOXELS - 3.0)
    assert values.dtype == np.asarray(nib.load(path).dataobj).dtype


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((DATATYPE, "<h", 32), r"complex numbers \(datatype 32\), expected whole or floating"),
        ((DATATYPE, "<h", 128), r"RGB colours \(datatype 128\)"),
        ((DATATYPE, "<h", 77), r"a type that NIfTI does not know \(datatype 77\)"),
        ((BITPIX, "<h", 8), "datatype 4 has 16 bits, its bitpix is 8"),
        ((DIM, "<h", 1), "its header gives 1 axes of"),
        ((DIM, "<h", 7), "its header gives 7 axes of"),
        ((DIM, "<h", -3), "its header gives -3 axes of"),
        ((DIM + 2, "<h", 0), "3 axes of .0, 5, 3, "),
        ((DIM + 2, "<h", -4), "3 axes of .-4, 5, 3, "),
        ((DIM + 2, "<h", 32767), "it is not a complete NIfTI file .it ends after 472 bytes"),
        ((PIXDIM + 4, "<f", 0.0), r"its pixels measure \(0\.0, 1\.5\) mm, expected positive"),
        ((PIXDIM + 8, "<f", -1.5), r"its pixels measure \(1\.25, -1\.5\) mm"),
        ((PIXDIM + 4, "<f", float("nan")), r"its pixels measure \(nan, 1\.5\) mm"),
        ((UNITS, "<B", 1), r"pixels of \(1\.25, 1\.5\) in metres, expected mm"),
        ((UNITS, "<B", 3), "in micrometres, expected mm"),
        ((UNITS, "<B", 6), "in the unknown unit 6"),
        ((VOX_OFFSET, "<f", float("nan")), "its voxels are said to begin at byte nan"),
        ((VOX_OFFSET, "<f", 0.0), "its voxels are said to begin at byte 0"),
        ((VOX_OFFSET, "<f", 1e30), r"begin at byte 1e\+30"),
        ((SLOPE + 4, "<f", float("nan")), "it is not a complete NIfTI file"),
        ((344, "<4s", b"ni1\0"), "it lacks the mark of a NIfTI file that holds its voxels"),
        ((0, "<i", 349), "it does not begin with a NIfTI header"),
    ],
)
def test_what_a_header_may_not_say_is_told(
    tmp_path: Path, change: tuple[int, str, Any], message: str
) -> None:
    changes = [change, (SLOPE, "<f", 1.0)] if change[0] == SLOPE + 4 else [change]
    path = patched(tmp_path / "a.nii.gz", *changes)

    with pytest.raises(DataError, match=message) as caught:
        read_volume(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("code", [0, 2, 2 + 8, 8])
def test_a_unit_of_mm_or_none_is_taken(tmp_path: Path, code: int) -> None:
    # 8 is the unit of time, seconds.
    assert read_volume(patched(tmp_path / "a.nii.gz", (UNITS, "<B", code))).spacing_mm == (
        1.25,
        1.5,
    )


AFFINE = np.array([[1.25, 0, 0, -90.0], [0, 1.5, 0, -126.0], [0, 0, 8.0, -72.0], [0, 0, 0, 1.0]])


def test_flipped_labels_are_refused_with_both_places(tmp_path: Path) -> None:
    image = read_volume(placed(tmp_path / "a.nii.gz", AFFINE))
    labels = placed(tmp_path / "b.nii.gz", np.diag([-1.0, 1.0, 1.0, 1.0]) @ AFFINE)

    # Voxel 3 of the first axis is at -90 + 3 * 1.25 and at 90 - 3 * 1.25; voxel 0 is farther off.
    with pytest.raises(DataError, match=r"voxel \(0, 0, 0\) lies at \(90\.0, -126\.0, -72\.0\) mm"):
        labels_on(image, labels)
    with pytest.raises(DataError, match=r"by that of .*a\.nii\.gz at \(-90\.0, -126\.0, -72\.0\)"):
        labels_on(image, labels)


def test_labels_of_another_pixel_size_are_refused_with_both_sizes(tmp_path: Path) -> None:
    image = read_volume(placed(tmp_path / "a.nii.gz", AFFINE))
    labels = placed(tmp_path / "b.nii.gz", AFFINE @ np.diag([1.0, 1.1, 1.0, 1.0]))

    with pytest.raises(DataError, match=r"\(1\.25, 1\.65\) mm, .*a\.nii\.gz \(1\.25, 1\.5\)"):
        labels_on(image, labels)


@pytest.mark.parametrize(
    ("row", "column", "change", "is_taken"),
    [
        (0, 3, 0.12, True),  # a tenth of a pixel is 0.125 mm
        (0, 3, 0.13, False),
        (2, 3, 1e-3, True),  # rounded to thousandths
        (0, 0, 1e-6, True),  # float32
        (2, 2, 0.5, False),  # slices 0.5 mm apart: the last is 1 mm off
        (1, 0, 0.1, False),  # turned
    ],
)
def test_rounding_is_taken_and_what_moves_a_picture_is_not(
    tmp_path: Path, row: int, column: int, change: float, is_taken: bool
) -> None:
    image = read_volume(placed(tmp_path / "a.nii.gz", AFFINE))
    moved = AFFINE.copy()
    moved[row, column] += change
    path = placed(tmp_path / "b.nii.gz", moved)

    if is_taken:
        assert labels_on(image, path).shape == (4, 5, 3)
    else:
        with pytest.raises(DataError, match=r"expected the same"):
            labels_on(image, path)


def test_where_a_file_does_not_say_its_place_the_pixel_size_alone_counts(tmp_path: Path) -> None:
    image = read_volume(placed(tmp_path / "a.nii.gz", AFFINE))
    path = placed(tmp_path / "b.nii.gz", np.diag([1.25, 1.5, 8.0, 1.0]))
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<hh", content, 252, 0, 0)  # qform_code, sform_code
    path.write_bytes(gzip.compress(bytes(content)))

    assert open_nifti(path).affine is None
    assert labels_on(image, path).shape == (4, 5, 3)


def test_real_labels_lie_where_their_images_do() -> None:
    root = Path(os.environ.get("PARAMREUSE_DATA", "")) / "acdc/training"
    if "PARAMREUSE_DATA" not in os.environ or not root.is_dir():
        pytest.skip("PARAMREUSE_DATA names no folder with acdc/")
    path = sorted(root.glob("*/*_gt.nii.gz"))[0]
    image = open_nifti(path.with_name(path.name.replace("_gt", "")))

    np.testing.assert_allclose(open_nifti(path).affine, image.affine, atol=1e-6)


@pytest.mark.parametrize("packed", [True, False])
def test_a_file_that_declares_1024_cubed_voxels_is_refused_at_once(
    tmp_path: Path, packed: bool
) -> None:
    path = patched(tmp_path / "a.nii.gz", *((DIM + 2 * axis, "<h", 1024) for axis in (1, 2, 3)))
    header = gzip.decompress(path.read_bytes())[:352]
    if packed:  # 2 MB that do hold the voxels: 64 MiB of zeros, 32 times
        member = gzip.compress(bytes(64 << 20), 1)
        path.write_bytes(gzip.compress(header) + 32 * member)
    else:
        path = tmp_path / "a.nii"
        path.write_bytes(header + bytes(1 << 20))
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises(DataError, match=r"a\.nii.*would become 2048 MiB|it ends after"):
        read_volume(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert time.process_time() - started < 1.0
    assert most < 100 << 20


def test_labels_that_shrink_a_thousandfold_are_measured_by_their_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "UNPACKED_AT_LEAST", 1 << 20)
    empty = np.zeros((256, 256, 32), dtype=np.uint8)  # 2 MiB in a file of 2 KB
    path = placed(tmp_path / "b.nii.gz", AFFINE, empty)
    image = Volume(tmp_path / "a.nii.gz", empty[..., None], (1.25, 1.5), AFFINE)

    with pytest.raises(DataError, match="would become 2 MiB in memory, expected at most 1 MiB"):
        read_volume(path)
    assert not read_labels(path, image, values=VALUES, classes=CLASSES).any()
