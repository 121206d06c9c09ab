from pathlib import Path

import numpy as np
import pytest

from paramreuse.data.formats.dicom import read_dicom
from paramreuse.errors import DataError
from samples.image_files import write_dicom

PIXELS = np.arange(12).reshape(3, 4)


def test_pixels_and_spacing_come_as_stored(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", PIXELS)
    pixels, spacing_mm = read_dicom(tmp_path / "a.dcm")
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(pixels, PIXELS)
    assert spacing_mm == (1.5, 1.25)  # PixelSpacing: rows first


def test_pixels_are_rescaled_where_the_file_says_so(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", PIXELS, RescaleSlope=2, RescaleIntercept=-5)
    np.testing.assert_array_equal(read_dicom(tmp_path / "a.dcm")[0], 2.0 * PIXELS - 5.0)


def test_a_compressed_file_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGLSLossless

    write_dicom(
        tmp_path / "a.dcm",
        PIXELS,
        TransferSyntaxUID=JPEGLSLossless,
        PixelData=encapsulate([b"\xff\xd8 no stream"]),
    )
    with pytest.raises(DataError, match=r"a\.dcm: its pixels are stored as 'JPEG-LS Lossless"):
        read_dicom(tmp_path / "a.dcm")


def test_an_encrypted_file_is_named(tmp_path: Path) -> None:
    import pydicom

    write_dicom(tmp_path / "a.dcm", None, EncryptedAttributesSequence=[pydicom.Dataset()])
    with pytest.raises(DataError, match=r"a\.dcm: its pixels are encrypted; decrypt it"):
        read_dicom(tmp_path / "a.dcm")


@pytest.mark.parametrize("content", [b"", b"\x8f\x01 salted", bytes(300)])
def test_what_is_no_dicom_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.dcm").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.dcm: it is not a complete DICOM file .*encrypted"):
        read_dicom(tmp_path / "a.dcm")


def test_a_file_cut_short_is_named(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", np.zeros((64, 64), dtype=int))
    whole = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a\.dcm"):
        read_dicom(tmp_path / "a.dcm")


def test_a_file_without_pixel_spacing_is_named(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", PIXELS, PixelSpacing=None)
    with pytest.raises(DataError, match=r"a\.dcm: its pixel spacing is None"):
        read_dicom(tmp_path / "a.dcm")


def test_a_file_of_several_frames_is_named(tmp_path: Path) -> None:
    frames = np.zeros((6, 4), dtype=int)
    write_dicom(tmp_path / "a.dcm", frames, Rows=3, NumberOfFrames=2)
    with pytest.raises(DataError, match=r"pixels have shape \(2, 3, 4\), expected one grey image"):
        read_dicom(tmp_path / "a.dcm")


def test_an_image_that_declares_far_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", PIXELS, Rows=60_000, Columns=60_000)
    with pytest.raises(DataError, match=r"a\.dcm: its \d+ bytes would become 6866 MiB in memory"):
        read_dicom(tmp_path / "a.dcm")


def test_a_file_that_is_deflated_as_a_whole_says_how_to_write_it(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", PIXELS, TransferSyntaxUID="1.2.840.10008.1.2.1.99")
    with pytest.raises(DataError, match=r"it is deflated as a whole; convert it with gdcmconv"):
        read_dicom(tmp_path / "a.dcm")


def test_a_value_that_is_not_a_number_is_named(tmp_path: Path) -> None:
    pixels = np.full((3, 4), np.nan, dtype=np.float32)
    write_dicom(
        tmp_path / "a.dcm",
        None,
        Rows=3,
        Columns=4,
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        BitsAllocated=32,
        FloatPixelData=pixels.tobytes(),
    )
    with pytest.raises(DataError, match=r"a\.dcm: 12 pixels are NaN or infinite"):
        read_dicom(tmp_path / "a.dcm")
