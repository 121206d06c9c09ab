"""Single DICOM images as they are stored; shared by the readers of RVSC and Sunnybrook."""

import struct
import warnings
import zlib
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from paramreuse.data.formats.bounded import check_unpacked
from paramreuse.errors import DataError
from paramreuse.extras import missing_extra

MOST_BYTES = 128 << 20
"""Of a file of one grey image; the largest published here have 1 MB."""

_DEFLATED = "1.2.840.10008.1.2.1.99"
# Only these are read: the rest of a file, the patient's name in it, never gets into memory.
_TAGS = [
    *("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PlanarConfiguration"),
    *("PixelData", "FloatPixelData", "DoubleFloatPixelData", "PixelSpacing"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "EncryptedAttributesSequence"),
]


def read_dicom(path: Path) -> tuple[npt.NDArray[np.float32], tuple[float, float]]:
    """Read one grey image; it is neither turned nor flipped.

    Args:
        path: The file.

    Returns:
        Intensities ``(H, W)``, rescaled where the file says so, and the height and width of a pixel
        in mm.

    Raises:
        DataError: The file is not DICOM, is encrypted, is compressed in a way that cannot be
            decoded here, or would unpack to far more than it holds; it is not one grey image, holds
            values that are not numbers, or has no pixel spacing.
        MissingExtraError: pydicom is not installed.
    """
    with warnings.catch_warnings():
        # pydicom warns of each field that is not as the standard says; what is needed is checked.
        warnings.simplefilter("ignore")
        dataset = _opened(path)
        pixels = _decoded(path, dataset)
        spacing_mm = _spacing_mm(path, dataset)
    if pixels.ndim != 2:
        raise DataError(
            f"cannot read {path}: its pixels have shape {pixels.shape}, expected one grey image of "
            f"rows x columns; split it into single frames"
        )
    num_wrong = int((~np.isfinite(pixels)).sum())
    if num_wrong:
        raise DataError(
            f"cannot read {path}: {num_wrong} pixels are NaN or infinite, expected numbers; copy "
            f"the file again"
        )
    return pixels.astype(np.float32), spacing_mm


def _opened(path: Path) -> Any:
    try:
        import pydicom
        from pydicom.filereader import read_file_meta_info
    except ImportError as error:
        raise missing_extra("read DICOM files", "pydicom") from error
    if path.stat().st_size > MOST_BYTES:
        raise DataError(
            f"cannot read {path}: it has {path.stat().st_size >> 20} MiB, expected one image of at "
            f"most {MOST_BYTES >> 20} MiB; split it into single frames"
        )
    try:
        if read_file_meta_info(path).get("TransferSyntaxUID") == _DEFLATED:
            # pydicom inflates such a file whole, whatever becomes of it.
            raise ValueError("it is deflated as a whole; convert it with gdcmconv --raw")
        return pydicom.dcmread(path, specific_tags=_TAGS)
    except _damage() as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(
            f"cannot read {path}: it is not a complete DICOM file ({_first_line(error)}); if it is "
            f"encrypted, decrypt it, else copy it again"
        ) from error


def _decoded(path: Path, dataset: Any) -> npt.NDArray[Any]:
    from pydicom.pixels import apply_rescale

    if not {"PixelData", "FloatPixelData", "DoubleFloatPixelData"} & set(dataset.dir()):
        encrypted = "EncryptedAttributesSequence" in dataset
        reason = "its pixels are encrypted" if encrypted else "it holds no pixels"
        remedy = "decrypt it with the key of whoever sent it" if encrypted else "copy it again"
        raise DataError(f"cannot read {path}: {reason}; {remedy}")
    try:
        check_unpacked(path, _num_bytes(dataset))
        return np.asarray(apply_rescale(dataset.pixel_array, dataset))
    except DataError:
        raise
    except _damage() as error:
        raise DataError(
            f"cannot read {path}: its pixels are stored as {_syntax(dataset)} and cannot be "
            f"decoded ({_first_line(error)}); decompress the file (for example with gdcmconv "
            f"--raw), or install a decoder: pip install pylibjpeg[all]"
        ) from error


def _num_bytes(dataset: Any) -> int:
    """Return what the pixels take once they are decoded."""
    factors = ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames")
    counts = [int(dataset.get(name) or 1) for name in factors]
    return prod(counts) * max(1, int(dataset.get("BitsAllocated") or 8) // 8)


def _syntax(dataset: Any) -> str:
    try:
        return repr(dataset.file_meta.TransferSyntaxUID.name)
    except _damage():
        return "an unknown transfer syntax"


def _spacing_mm(path: Path, dataset: Any) -> tuple[float, float]:
    spacing = None
    try:  # PixelSpacing is the distance of rows, then that of columns
        spacing = dataset.get("PixelSpacing")
        height, width = (float(value) for value in spacing)
    except _damage():
        height = width = float("nan")
    if not (0 < height < float("inf") and 0 < width < float("inf")):
        raise DataError(
            f"cannot read {path}: its pixel spacing is {spacing!r}, expected two numbers above 0, "
            f"in mm; write PixelSpacing (0028,0030) into the file"
        )
    return height, width


def _damage() -> tuple[type[Exception], ...]:
    """Return what pydicom raises on damaged bytes, which can ask for anything."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    builtin = (
        *(RuntimeError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError),
        *(EOFError, MemoryError, OSError, AssertionError, struct.error, zlib.error),
    )
    return *builtin, BytesLengthException, InvalidDicomError


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
