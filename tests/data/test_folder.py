import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paramreuse.data.folder import read_folder
from paramreuse.errors import DataError
from samples.image_files import write_nifti, write_png

GREY = np.arange(20, dtype=np.uint8).reshape(4, 5)
CLASSES = {0: "background", 255: "LV"}
PATTERNS = {"images": "images/{subject}_{slice}.png", "masks": "masks/{subject}_{slice}_gt.png"}


def write_pictures(root: Path) -> None:
    for subject, number in (("b", 2), ("b", 10), ("a", 1)):
        write_png(root / f"images/{subject}_{number}.png", GREY + number)
        mask = np.where(GREY == 7, 255, 0).astype(np.uint8)
        write_png(root / f"masks/{subject}_{number}_gt.png", mask)


def test_pictures_are_paired_by_the_names_in_the_pattern(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    pictures = read_folder(tmp_path, **PATTERNS, classes=CLASSES, spacing_mm=0.5)
    pieces = pictures.read_subject("b")

    assert pictures.classes == ("background", "LV")
    assert pictures.subjects == ("a", "b")
    assert [piece.name for piece in pieces] == ["images/b_2.png", "images/b_10.png"]
    np.testing.assert_array_equal(pieces[1].image.numpy(), GREY[None] + 10)
    assert pieces[1].spacing_mm == (0.5, 0.5)
    assert pieces[1].labels is not None
    assert pieces[1].labels.nonzero().tolist() == [[1, 2]]
    assert int(pieces[1].labels.max()) == 1


def test_volumes_take_their_spacing_from_the_file(tmp_path: Path) -> None:
    image = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    write_nifti(tmp_path / "s1/image.nii.gz", image, (1.5, 1.25, 4.0))
    write_nifti(tmp_path / "s1/mask.nii.gz", (image > 20).astype(np.uint8), (1.5, 1.25, 4.0))
    volumes = read_folder(
        tmp_path,
        images="{subject}/image.nii.gz",
        masks="{subject}/mask.nii.gz",
        classes=["background", "organ"],
    )
    pieces = volumes.read_subject("s1")
    assert [piece.name for piece in pieces] == [f"s1/image.nii.gz slice {n}" for n in (1, 2, 3, 4)]
    assert pieces[3].spacing_mm == (1.5, 1.25)
    np.testing.assert_array_equal(pieces[3].image[0].numpy(), image[:, :, 3])
    assert pieces[3].labels is not None
    assert int(pieces[3].labels.sum()) == 1


def test_pictures_of_16_bits_and_colours_keep_their_values(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", GREY.astype(np.uint16) * 1000)
    write_png(tmp_path / "b.png", np.stack([GREY, GREY, GREY, GREY], axis=2))  # with transparency
    pictures = read_folder(tmp_path, images="{subject}.png", classes=["0", "1"], spacing_mm=1)
    np.testing.assert_array_equal(pictures.read_subject("a")[0].image[0].numpy(), GREY * 1000.0)
    assert pictures.read_subject("a")[0].labels is None
    assert pictures.read_subject("b")[0].image.shape == (3, 4, 5)


def test_masks_beside_images_are_not_taken_for_images(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", GREY)
    write_png(tmp_path / "a_mask.png", np.zeros((4, 5), dtype=np.uint8))
    pictures = read_folder(
        tmp_path,
        images="{subject}.png",
        masks="{subject}_mask.png",
        classes=CLASSES,
        spacing_mm=1.0,
    )
    assert pictures.subjects == ("a",)


def test_values_may_have_been_through_json(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    as_text = {str(value): name for value, name in CLASSES.items()}
    pictures = read_folder(tmp_path, **PATTERNS, classes=as_text, spacing_mm=1.0)
    assert pictures.read_subject("a")[0].labels.unique().tolist() == [0, 1]


def test_two_values_may_be_one_class(tmp_path: Path) -> None:
    write_png(tmp_path / "i/a.png", GREY)
    write_png(tmp_path / "m/a.png", GREY // 7)  # 0, 1, 2
    pictures = read_folder(
        tmp_path,
        images="i/{subject}.png",
        masks="m/{subject}.png",
        classes={0: "background", 2: "LV", 1: "background"},
        spacing_mm=1.0,
    )
    (piece,) = pictures.read_subject("a")
    assert piece.labels is not None
    np.testing.assert_array_equal(piece.labels.numpy(), GREY // 7 == 2)


def test_a_missing_mask_is_named(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    (tmp_path / "masks/b_10_gt.png").unlink()
    with pytest.raises(DataError, match=r"b_10\.png: its mask .*b_10_gt\.png is not there"):
        read_folder(tmp_path, **PATTERNS, classes=CLASSES, spacing_mm=1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": "images/{slice}.png"}, r"it has no \{subject\}"),
        ({"images": "../{subject}.png"}, "it leads out of the folder"),
        ({"images": "/x/{subject}.png"}, "it leads out of the folder"),
        ({"images": "images/*{subject}.png"}, r"it has a \*"),
        ({"images": "images/{subject.png"}, r"it has no \{subject\}"),
        ({"masks": "masks/{subject}_{frame}.png"}, r"has the names \['frame'\]"),
        ({"images": "pictures/{subject}_{slice}.png"}, "none fits the pattern"),
        ({"classes": ["background"]}, "expected two different names or more"),
        ({"classes": ["background", "LV", "LV"]}, "expected two different names or more"),
        ({"classes": {"none": "background", "255": "LV"}}, "whole numbers to names"),
    ],
)
def test_options_that_cannot_be_used_are_named(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    write_pictures(tmp_path)
    with pytest.raises(DataError, match=message):
        read_folder(tmp_path, **({"classes": CLASSES, "spacing_mm": 1.0} | PATTERNS | options))


def test_bad_pictures_are_named(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    pictures = read_folder(tmp_path, **PATTERNS, classes=CLASSES, spacing_mm=1.0)
    write_png(tmp_path / "masks/a_1_gt.png", np.full((4, 5), 128, dtype=np.uint8))
    with pytest.raises(DataError, match=r"labels \[128\], expected only 0 background, 255 LV"):
        pictures.read_subject("a")
    write_png(tmp_path / "masks/a_1_gt.png", np.zeros((5, 4), dtype=np.uint8))
    with pytest.raises(DataError, match=r"the labels have shape \(5, 4\), the image \(4, 5\)"):
        pictures.read_subject("a")
    whole = (tmp_path / "images/a_1.png").read_bytes()
    (tmp_path / "images/a_1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a_1\.png: it is not a complete PNG file"):
        pictures.read_subject("a")
    with pytest.raises(DataError, match=r"give their height and width in mm as spacing_mm"):
        read_folder(tmp_path, **PATTERNS, classes=CLASSES).read_subject("b")


AMBIGUOUS = ("patient_01_0", "patient_01_1", "patient_02_0", "patient_02_1")


def test_names_whose_subject_can_be_read_in_two_ways_are_asked_about(tmp_path: Path) -> None:
    for name in AMBIGUOUS:
        write_png(tmp_path / f"{name}.png", GREY)

    # Taken as they come, all four would be one subject called "patient".
    with pytest.raises(DataError, match=r"'patient_01_0\.png'.* may be read as .*'patient', 'sl"):
        read_folder(tmp_path, images="{subject}_{slice}.png", classes=["0", "1"], spacing_mm=1)
    with pytest.raises(DataError, match=r"say '\{subject\}_\{slice:d\}\.png', in which"):
        read_folder(tmp_path, images="{subject}_{slice}.png", classes=["0", "1"], spacing_mm=1)


@pytest.mark.parametrize(
    ("pattern", "subjects"),
    [
        ("{subject}_{slice:d}.png", ("patient_01", "patient_02")),
        ("patient_{subject}_{slice}.png", ("01", "02")),
        ("{kind}_{subject:d}_{slice:d}.png", ("01", "02")),
    ],
)
def test_a_pattern_that_says_more_tells_subjects_apart(
    tmp_path: Path, pattern: str, subjects: tuple[str, ...]
) -> None:
    for name in AMBIGUOUS:
        write_png(tmp_path / f"{name}.png", GREY)
    pictures = read_folder(tmp_path, images=pattern, classes=["0", "1"], spacing_mm=1)

    assert pictures.subjects == subjects
    assert [len(pictures.read_subject(name)) for name in subjects] == [2, 2]


def test_only_what_may_change_the_subject_is_asked_about(tmp_path: Path) -> None:
    write_png(tmp_path / "p1/a_b_c.png", GREY)
    pattern = "{subject}/{frame}_{slice}.png"

    assert read_folder(tmp_path, images=pattern, classes=["0", "1"]).subjects == ("p1",)
    write_png(tmp_path / "a_b_b_c.png", GREY)  # b, b_b or b, whatever stands before and after it
    with pytest.raises(DataError, match="may be read as"):
        read_folder(tmp_path, images="{site}_{subject}_{slice}.png", classes=["0", "1"])


def write_cine(root: Path) -> np.ndarray:
    image = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)
    write_nifti(root / "i/p.nii.gz", image, (1.5, 1.25, 4.0, 1.0))
    write_nifti(root / "m/p.nii.gz", (image % 2).astype(np.uint8), (1.5, 1.25, 4.0, 1.0))
    return image


VOLUMES = {"images": "i/{subject}.nii.gz", "masks": "m/{subject}.nii.gz", "classes": ["0", "1"]}


def test_a_fourth_axis_is_asked_about(tmp_path: Path) -> None:
    write_cine(tmp_path)

    with pytest.raises(DataError, match=r"i/p\.nii\.gz: its fourth axis has a length of 5.*frames"):
        read_folder(tmp_path, **VOLUMES).read_subject("p")
    with pytest.raises(DataError, match="fourth_axis is 'time', expected one of"):
        read_folder(tmp_path, **VOLUMES, fourth_axis="time")


def test_frames_become_slices_of_their_own(tmp_path: Path) -> None:
    image = write_cine(tmp_path)
    pieces = read_folder(tmp_path, **VOLUMES, fourth_axis="frames").read_subject("p")

    assert len(pieces) == 4 * 5
    assert pieces[4 * 3 + 2].name == "i/p.nii.gz frame 4 slice 3"
    np.testing.assert_array_equal(pieces[4 * 3 + 2].image[0].numpy(), image[:, :, 2, 3])
    assert pieces[4 * 3 + 2].labels is not None
    np.testing.assert_array_equal(pieces[4 * 3 + 2].labels.numpy(), image[:, :, 2, 3] % 2)


def test_channels_share_the_labels_of_their_slice(tmp_path: Path) -> None:
    image = write_cine(tmp_path)
    mask = np.zeros((2, 3, 4), dtype=np.uint8)
    mask[1, 1, 2] = 1
    write_nifti(tmp_path / "m/p.nii.gz", mask, (1.5, 1.25, 4.0))
    pieces = read_folder(tmp_path, **VOLUMES, fourth_axis="channels").read_subject("p")

    assert len(pieces) == 4
    np.testing.assert_array_equal(pieces[2].image.numpy(), image[:, :, 2].transpose(2, 0, 1))
    assert pieces[2].labels is not None
    assert pieces[2].labels.nonzero().tolist() == [[1, 1]]


def test_masks_of_0_and_255_name_the_cure(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    pictures = read_folder(tmp_path, **PATTERNS, classes=["background", "LV"], spacing_mm=1)

    with pytest.raises(DataError, match=r"labels \[255\].*classes=\{0: 'background', 255: 'LV'\}"):
        pictures.read_subject("a")


@pytest.mark.parametrize("spacing_mm", [0, -1, float("nan"), (1.0,), (1.0, 2.0, 3.0), ("a", "b")])
def test_a_spacing_that_is_none_is_refused(tmp_path: Path, spacing_mm: Any) -> None:
    write_pictures(tmp_path)
    with pytest.raises(DataError, match="expected one or two numbers above 0"):
        read_folder(tmp_path, **PATTERNS, classes=CLASSES, spacing_mm=spacing_mm)


def test_numbers_of_a_palette_are_classes_and_not_intensities(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    indices = Image.fromarray((GREY == 7).astype(np.uint8)).convert("P")
    indices.putpalette([0, 0, 0, 255, 0, 0])
    indices.save(tmp_path / "masks/a_1_gt.png")
    pictures = read_folder(tmp_path, **PATTERNS, classes=["background", "LV"], spacing_mm=1)
    (piece,) = pictures.read_subject("a")

    assert piece.labels is not None
    assert piece.labels.nonzero().tolist() == [[1, 2]]
    indices.save(tmp_path / "images/a_1.png")
    with pytest.raises(DataError, match=r"images/a_1\.png: its pixels are numbers of colours"):
        pictures.read_subject("a")


def test_a_picture_of_10_to_the_9_columns_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    path = tmp_path / "images/a_1.png"
    content = bytearray(path.read_bytes())
    content[16:20] = struct.pack(">I", 10**9)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)

    pictures = read_folder(tmp_path, **PATTERNS, classes=CLASSES, spacing_mm=1)
    with pytest.raises(DataError, match=r"a_1\.png: its \d+ bytes would become 3815 MiB in memory"):
        pictures.read_subject("a")
