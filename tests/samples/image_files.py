"""Small image files for the tests of the readers."""

from pathlib import Path
from typing import Any

import numpy as np


def write_dicom(path: Path, pixels: np.ndarray | None, **tags: Any) -> None:
    """Write a grey uint16 DICOM with a pixel of 1.5 (rows) x 1.25 (columns) mm."""
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.PixelSpacing = [1.5, 1.25]
    if pixels is not None:
        dataset.Rows, dataset.Columns = pixels.shape
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit = 15
        dataset.PixelRepresentation = 0
        dataset.PixelData = pixels.astype("<u2").tobytes()
    for name, value in tags.items():
        if name == "TransferSyntaxUID":
            dataset.file_meta.TransferSyntaxUID = value
        else:
            setattr(dataset, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def write_nifti(path: Path, volume: np.ndarray, spacing_mm: tuple[float, ...]) -> None:
    """Write a NIfTI file with the spacing of its axes."""
    import nibabel as nib

    image = nib.Nifti1Image(volume, np.diag([*spacing_mm[:3], 1.0]))
    image.header.set_zooms(spacing_mm[: volume.ndim])
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write a PNG of 8 or 16 bits, grey or in colours."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_contour(path: Path, points: list[tuple[float, float]], *, end: str = "\r\n") -> None:
    """Write a contour, one "x y" per line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{x:.2f} {y:.2f}" for x, y in points]
    path.write_text(end.join([*lines, ""]), encoding="ascii", newline="")


def box(left: float, top: float, right: float, bottom: float) -> list[tuple[float, float]]:
    """Return the corners of a box as a closed contour."""
    return [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
