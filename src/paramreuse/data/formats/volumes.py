"""Volumes and pictures on disk as arrays and slices: NIfTI and PNG.

Shared by the readers whose sets are made of such files. Nothing is turned or flipped: a column of a
slice runs along the first axis of a NIfTI volume, a row along the second.
"""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from paramreuse.data.slices import ImageSlice
from paramreuse.errors import DataError, MissingExtraError

Array = npt.NDArray[Any]
Spacing = tuple[float, float]

NIFTI_ENDINGS = (".nii.gz", ".nii")


def read_volume(path: Path, *, spacing_mm: Spacing | None = None) -> tuple[Array, Spacing]:
    """Read a NIfTI volume or a PNG picture.

    Args:
        path: The file; its ending says what it is.
        spacing_mm: Height and width of a pixel of a PNG, which does not say it itself.

    Returns:
        Values ``(H, W, Z, C)``, where C are channels or frames (the fourth axis of a NIfTI file,
        the colours of a picture), and the height and width of a pixel in mm.

    Raises:
        DataError: The file is damaged, of another kind, or its pixel size is not known.
        MissingExtraError: nibabel or Pillow is not installed.
    """
    if path.name.lower().endswith(".png"):
        if spacing_mm is None:
            raise DataError(
                f"cannot read {path}: a PNG file does not say how large its pixels are; give their "
                f"height and width in mm as spacing_mm"
            )
        return _read_png(path), spacing_mm
    if path.name.lower().endswith(NIFTI_ENDINGS):
        return _read_nifti(path)
    raise DataError(
        f"cannot read {path}: expected a file that ends in .nii.gz, .nii or .png; convert it"
    )


def _read_nifti(path: Path) -> tuple[Array, Spacing]:
    try:
        import nibabel as nib
        from nibabel.filebasedimages import ImageFileError
    except ImportError as error:
        raise MissingExtraError(
            "reading NIfTI files needs nibabel: pip install 'paramreuse[train]'"
        ) from error
    try:
        image = nib.load(path)
        volume = np.asarray(image.dataobj)
        zooms = tuple(float(zoom) for zoom in image.header.get_zooms()[:2])
    except (OSError, EOFError, ValueError, zlib.error, ImageFileError) as error:
        raise DataError(
            f"cannot read {path}: it is no whole NIfTI file ({error}); copy the file again"
        ) from error
    if volume.ndim not in (2, 3, 4) or 0 in volume.shape:
        raise DataError(
            f"cannot read {path}: its shape is {volume.shape}, expected rows x columns x slices, "
            f"perhaps x channels or frames"
        )
    if len(zooms) != 2 or not all(np.isfinite(zooms)) or min(zooms) <= 0:
        raise DataError(
            f"cannot read {path}: its pixels measure {zooms} mm, expected positive numbers; "
            f"write the pixel spacing into the header"
        )
    return volume.reshape(*volume.shape, *(1,) * (4 - volume.ndim)), (zooms[0], zooms[1])


def _read_png(path: Path) -> Array:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("reading PNG files needs Pillow: pip install pillow") from error
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            # Transparency is no channel; the indices of a palette are kept, they are classes.
            opaque = {"LA": "L", "RGBA": "RGB"}.get(picture.mode)
            values = np.asarray(picture.convert(opaque) if opaque else picture)
    except (OSError, SyntaxError, ValueError, zlib.error, Image.DecompressionBombError) as error:
        raise DataError(
            f"cannot read {path}: it is no whole PNG file ({error}); copy the file again"
        ) from error
    return values[:, :, None, None] if values.ndim == 2 else values[:, :, None, :]


def read_labels(
    path: Path,
    shape: tuple[int, ...],
    *,
    values: Mapping[int, int],
    classes: Sequence[str],
    frames: Sequence[int] | None = None,
) -> npt.NDArray[np.int64]:
    """Read the labels of a volume and number them as the set's classes.

    Args:
        path: The file.
        shape: Of the image, ``(H, W, Z)`` or ``(H, W, Z, T)``; the labels' has to be the same.
        values: Class number of each value the file may hold.
        classes: Class names, for the message.
        frames: Which frames of the fourth axis to return; None for a volume without frames.

    Returns:
        Class numbers, of shape ``(H, W, Z)``, or ``(H, W, Z, len(frames))``.

    Raises:
        DataError: The file is damaged, of another shape, or holds another value.
        MissingExtraError: nibabel or Pillow is not installed.
    """
    stored, _ = read_volume(path, spacing_mm=(1.0, 1.0))
    if stored.shape != (*shape, *(1,) * (4 - len(shape))):
        raise DataError(
            f"cannot read {path}: the labels have shape {_trimmed(stored.shape)}, the image "
            f"{_trimmed(shape)}; expected the same, copy both files again"
        )
    stored = stored[..., 0] if frames is None else stored[..., list(frames)]
    found, places = np.unique(stored, return_inverse=True)
    unknown = [value for value in found.tolist() if value not in values]
    if unknown:
        known = ", ".join(f"{value} {classes[number]}" for value, number in values.items())
        raise DataError(
            f"cannot read {path}: it holds the labels {unknown[:10]}, expected only {known}"
        )
    numbers = np.array([values[value] for value in found.tolist()], dtype=np.int64)
    return numbers[places].reshape(stored.shape)


def _trimmed(shape: Sequence[int]) -> tuple[int, ...]:
    """Return a shape without the axes of length 1 that ``read_volume`` may have added."""
    kept = tuple(shape)
    while len(kept) > 2 and kept[-1] == 1:
        kept = kept[:-1]
    return kept


def cut_slices(
    image: Array,
    labels: npt.NDArray[np.int64] | None,
    *,
    spacing_mm: Spacing,
    subject: str,
    name: str,
) -> list[ImageSlice]:
    """Cut a volume into slices along its third axis.

    Args:
        image: Shape ``(H, W, Z, C)``.
        labels: Shape ``(H, W, Z)``, or None.
        spacing_mm: Height and width of a pixel.
        subject: Whose volume it is.
        name: Of the volume, for messages; the number of the slice is added where there are several.

    Raises:
        DataError: A value is NaN or infinite.
    """
    num_wrong = int((~np.isfinite(image)).sum())
    if num_wrong:
        raise DataError(
            f"cannot read {name}: {num_wrong} voxels are NaN or infinite, expected numbers; copy "
            f"the file again"
        )
    planes = torch.from_numpy(image.transpose(2, 3, 0, 1).astype(np.float32, order="C"))
    drawn = None if labels is None else torch.from_numpy(labels.transpose(2, 0, 1).copy())
    return [
        ImageSlice(
            image=plane,
            labels=None if drawn is None else drawn[index],
            spacing_mm=spacing_mm,
            subject=subject,
            name=f"{name} slice {index + 1}" if len(planes) > 1 else name,
        )
        for index, plane in enumerate(planes)
    ]
