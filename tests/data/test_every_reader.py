"""What every reader does with files that are damaged, contradictory, foreign or closed to it."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from paramreuse.data.phantom import read_phantom
from paramreuse.errors import DataError
from paramreuse.study.named import READERS
from samples.image_files import write_dicom, write_nifti, write_png
from samples.permissions import without_privileges
from samples.reader_sets import SPACING, WRITERS, SmallSet, noise


@pytest.fixture(params=sorted(WRITERS))
def small(request: pytest.FixtureRequest, tmp_path: Path) -> SmallSet:
    return WRITERS[request.param](tmp_path)


def test_every_reader_that_has_a_name_is_here() -> None:
    assert {name.split()[0] for name in WRITERS} | {"phantom"} == set(READERS)


def test_what_is_whole_is_read(small: SmallSet) -> None:
    pieces = small.slices()

    assert small.read(small.root).subjects == (small.subject,)
    for piece in pieces:
        assert piece.image.dtype == torch.float32
        assert piece.labels is not None
        assert piece.labels.dtype == torch.int64
        assert piece.labels.shape == piece.image.shape[1:]
        assert piece.labels.any()
        assert piece.subject == small.subject


def test_a_flipped_bit_never_gives_other_values_in_silence(small: SmallSet) -> None:
    if not small.checked:
        pytest.skip("the format has no checksum")
    whole = [piece.image.clone() for piece in small.slices()]
    content = small.image.read_bytes()
    rng = np.random.default_rng(0)
    for place, bit in zip(
        rng.integers(len(content), size=40), rng.integers(8, size=40), strict=True
    ):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(bit)
        small.image.write_bytes(flipped)
        try:
            pieces = small.slices()
        except DataError:
            continue
        # Such as the date in gzip's header, on which nothing depends.
        for piece, before in zip(pieces, whole, strict=True):
            assert torch.equal(piece.image, before), f"bit {bit} of byte {place} flipped"


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_named(small: SmallSet, share: float) -> None:
    content = small.image.read_bytes()
    small.image.write_bytes(content[: int(share * len(content))])

    with pytest.raises(DataError, match=small.image.name.replace(".", r"\.")):
        small.slices()


@pytest.mark.parametrize("content", [b"<html>404 not found</html>", bytes(5000), b"\x1f\x8b\x08"])
def test_a_file_of_another_kind_is_named(small: SmallSet, content: bytes) -> None:
    small.image.write_bytes(content)

    with pytest.raises(DataError, match=small.image.name.replace(".", r"\.")):
        small.slices()


def write_again(small: SmallSet, values: np.ndarray) -> None:
    """Put other values into the image, in its own format."""
    if small.image.suffix == ".mat":
        import h5py

        with h5py.File(small.image, "r+") as file:
            del file["Dataset/Img"]
            file.create_dataset("Dataset/Img", data=values.T)
    else:
        write_nifti(small.image, values, (*SPACING, 1.0))


@pytest.mark.parametrize("kind", ["complex", "colours", "text"])
def test_values_that_are_not_real_numbers_are_refused(small: SmallSet, kind: str) -> None:
    if small.image.suffix in (".png", ".dcm"):
        pytest.skip("the format cannot hold them")
    shape = (9, 12, 2, 1) if small.image.suffix == ".mat" else (20, 24, 3)
    colours = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    if kind == "text" and small.image.suffix != ".mat":
        pytest.skip("the format cannot hold them")
    types = {"complex": np.complex64, "colours": colours, "text": "S3"}
    write_again(small, np.zeros(shape, dtype=types[kind]))

    with pytest.raises(DataError, match=r"expected (whole or floating-point|real) numbers"):
        small.slices()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_a_number_is_named(small: SmallSet, value: float) -> None:
    if small.image.suffix in (".png", ".dcm"):
        pytest.skip("the format holds whole numbers")
    shape = (9, 12, 2, 1) if small.image.suffix == ".mat" else (20, 24, 3)
    values = np.zeros((*shape, 2) if small.subject == "A0S9V9" else shape, dtype=np.float32)
    values[1, 2, 0] = value
    write_again(small, values)

    with pytest.raises(DataError, match="NaN or infinite") as caught:
        small.slices()
    assert str(small.image) in str(caught.value)


def test_image_and_labels_of_different_size_are_refused(small: SmallSet) -> None:
    if small.image.suffix == ".dcm":
        write_dicom(small.image, noise(18, 50))  # the contour's points reach row 24
    elif small.image.suffix == ".png":
        write_png(small.image, noise(20, 25).astype(np.uint16))
    elif small.image.suffix == ".mat":
        write_again(small, noise(5, 12, 2, 1).astype(np.float32))
    elif small.subject == "A0S9V9":
        write_nifti(small.image, noise(20, 25, 3, 2), (*SPACING, 1.0))
    else:
        write_nifti(small.image, noise(20, 25, 3), SPACING)

    with pytest.raises(DataError, match=r"shape|outside the image"):
        small.slices()


def test_a_label_that_is_no_class_is_refused(small: SmallSet) -> None:
    if small.labels.suffix in (".txt", ".mat"):
        pytest.skip("labels are drawn as contours")
    shape = (20, 24, 3)
    if small.labels.suffix == ".png":
        write_png(small.labels, np.full((20, 24), 255, dtype=np.uint8))
    elif small.subject == "A0S9V9":
        write_nifti(small.labels, np.full((*shape, 2), 255, dtype=np.uint8), (*SPACING, 1.0))
    else:
        write_nifti(small.labels, np.full(shape, 255, dtype=np.uint8), SPACING)

    with pytest.raises(DataError, match=r"it holds the labels \[255\], expected only 0 background"):
        small.slices()


@pytest.mark.parametrize("subject", ["", "nobody", "../p1", "p1\0", "\x1b[31mred"])
def test_an_unknown_subject_is_refused(small: SmallSet, subject: str) -> None:
    with pytest.raises(DataError, match="no such subject; there are 1, from"):
        small.read(small.root).read_subject(subject)
    with pytest.raises(DataError, match="no such subject; there are 2, from"):
        read_phantom(subjects=2).read_subject(subject)


@pytest.mark.parametrize("which", ["image", "labels", "folder of the image", "root"])
def test_what_may_not_be_read_is_named(small: SmallSet, which: str, tmp_path: Path) -> None:
    small.slices()  # all libraries are loaded while they may be
    places: dict[str, Callable[[], Path]] = {
        "image": lambda: small.image,
        "labels": lambda: small.labels,
        "folder of the image": lambda: small.image.parent,
        "root": lambda: small.root,
    }
    with (
        without_privileges(tmp_path, places[which]()),
        pytest.raises(DataError, match="cannot read") as caught,
    ):
        small.slices()
    assert str(small.root) in str(caught.value)


@pytest.mark.parametrize("which", ["image", "labels"])
def test_a_folder_under_the_name_of_a_file_is_named(small: SmallSet, which: str) -> None:
    place = small.image if which == "image" else small.labels
    place.unlink()
    place.mkdir()

    with pytest.raises(DataError, match="cannot read"):
        small.slices()


def test_a_table_or_list_in_another_encoding_is_named(small: SmallSet) -> None:
    texts = [
        path
        for path in small.root.rglob("*")
        if path.suffix in (".cfg", ".csv", ".json", ".txt") and "contour" not in path.name
    ]
    if not texts:
        pytest.skip("the set has no table")
    for path in texts:
        content = path.read_text(encoding="utf-8")
        for encoding in ("utf-16", "utf-16-le"):
            path.write_bytes(content.encode(encoding))
            with pytest.raises(DataError, match="UTF-8") as caught:
                small.slices()
            assert str(path) in str(caught.value)
        path.write_bytes(content.encode() + "\nÉcole,0,1".encode("cp1252"))
        with pytest.raises(DataError, match=r"line \d+: it is not UTF-8 text"):
            small.slices()
        path.write_text(content, encoding="utf-8")
    small.slices()


def test_a_gzip_of_many_bytes_is_refused_before_it_is_unpacked(small: SmallSet) -> None:
    if small.image.suffix != ".gz":
        pytest.skip("the format is not gzip")
    header = bytearray(gzip.decompress(small.image.read_bytes())[:352])
    header[42:48] = np.array([1024, 1024, 1024], "<i2").tobytes()
    small.image.write_bytes(gzip.compress(bytes(header) + bytes(1 << 20)))

    with pytest.raises(DataError, match=r"would become (2048|4096) MiB in memory"):
        small.slices()
