"""Single DICOM images as they are stored; shared by the readers of RVSC and Sunnybrook."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from paramreuse.errors import DataError, MissingExtraError


def read_dicom(path: Path) -> tuple[npt.NDArray[np.float32], tuple[float, float]]:
    """Read one grey image; it is neither turned nor flipped.

    Args:
        path: The file.

    Returns:
        Intensities ``(H, W)``, rescaled where the file says so, and the height and width of a pixel
        in mm.

    Raises:
        DataError: The file is no DICOM, is encrypted, or is compressed in a way that cannot be
            decoded here; it is not one grey image, or has no pixel spacing.
        MissingExtraError: pydicom is not installed.
    """
    try:
        import pydicom
    except ImportError as error:
        raise MissingExtraError(
            "reading DICOM files needs pydicom: pip install 'paramreuse[readers]'"
        ) from error
    try:
        dataset = pydicom.dcmread(path)
    except (OSError, EOFError, ValueError, struct.error, pydicom.errors.InvalidDicomError) as error:
        raise DataError(
            f"cannot read {path}: it is no whole DICOM file ({_first_line(error)}); if it is "
            f"encrypted, decrypt it, else copy it again"
        ) from error
    pixels = _decoded(path, dataset)
    if pixels.ndim != 2:
        raise DataError(
            f"cannot read {path}: its pixels have shape {pixels.shape}, expected one grey image of "
            f"rows x columns; split it into single frames"
        )
    return pixels.astype(np.float32), _spacing_mm(path, dataset)


def _decoded(path: Path, dataset: Any) -> npt.NDArray[Any]:
    from pydicom.pixels import apply_rescale

    if "PixelData" not in dataset:
        encrypted = "EncryptedAttributesSequence" in dataset
        reason = "its pixels are encrypted" if encrypted else "it holds no pixels"
        remedy = "decrypt it with the key of whoever sent it" if encrypted else "copy it again"
        raise DataError(f"cannot read {path}: {reason}; {remedy}")
    try:
        return np.asarray(apply_rescale(dataset.pixel_array, dataset))
    except (RuntimeError, NotImplementedError, ValueError, AttributeError, KeyError) as error:
        syntax = dataset.file_meta.get("TransferSyntaxUID") if dataset.get("file_meta") else None
        name = "an unknown transfer syntax" if syntax is None else f"{syntax.name!r}"
        raise DataError(
            f"cannot read {path}: its pixels are stored as {name} and cannot be decoded "
            f"({_first_line(error)}); decompress the file (for example with gdcmconv --raw), or "
            f"install a decoder: pip install pylibjpeg[all]"
        ) from error


def _spacing_mm(path: Path, dataset: Any) -> tuple[float, float]:
    spacing = dataset.get("PixelSpacing")
    try:  # PixelSpacing is the distance of rows, then that of columns
        height, width = (float(value) for value in spacing)
    except (TypeError, ValueError):
        height = width = float("nan")
    if not (0 < height < float("inf") and 0 < width < float("inf")):
        raise DataError(
            f"cannot read {path}: its pixel spacing is {spacing!r}, expected two numbers above 0, "
            f"in mm; write PixelSpacing (0028,0030) into the file"
        )
    return height, width


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
