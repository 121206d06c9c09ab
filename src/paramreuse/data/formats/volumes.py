"""Volumes and pictures on disk as arrays and slices: NIfTI and PNG.

Shared by the readers whose sets are made of such files. Nothing is turned or flipped: a column of a
slice runs along the first axis of a NIfTI volume, a row along the second.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from paramreuse.data.formats.bounded import check_unpacked
from paramreuse.data.formats.nifti import NiftiFile, open_nifti
from paramreuse.data.formats.png import PngFile, open_png
from paramreuse.data.slices import ImageSlice
from paramreuse.errors import DataError

Array: TypeAlias = npt.NDArray[Any]
Spacing: TypeAlias = tuple[float, float]

NIFTI_ENDINGS = (".nii.gz", ".nii")

LARGEST_SHIFT_PX = 0.1
"""How far apart the same voxel of two files may lie in space. Headers in float32, or rounded to
thousandths of a mm, differ by less than a hundredth; what is drawn is not seen below a tenth."""
_SPACING_RTOL = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """A volume, or a picture as a volume of one slice.

    Attributes:
        path: Where it was read.
        values: Shape ``(H, W, Z, C)``, where C are channels or frames (the fourth axis of a NIfTI
            file, the colours of a picture).
        spacing_mm: Height and width of a pixel.
        affine: Shape ``(4, 4)``: indices of a voxel to mm in space; None where the file does not
            say.
    """

    path: Path
    values: Array
    spacing_mm: Spacing
    affine: Array | None

    def picked(self, channel: int) -> "Volume":
        """Return one channel or frame, counted from 0, as a volume of its own."""
        return replace(self, values=self.values[..., channel, None])


def read_volume(path: Path, *, spacing_mm: Spacing | None = None) -> Volume:
    """Read a NIfTI volume or a PNG picture.

    Args:
        path: The file; its ending says what it is.
        spacing_mm: Height and width of a pixel of a PNG, which does not say it itself.

    Raises:
        DataError: The file is damaged, of another kind, would unpack to far more than it holds, or
            its pixel size is not known; or a picture's pixels are numbers of a palette.
        MissingExtraError: nibabel or Pillow is not installed.
    """
    file = _opened(path)
    check_unpacked(path, file.num_bytes)
    if isinstance(file, NiftiFile):
        return Volume(path, _unpacked(file), file.spacing_mm, file.affine)
    if spacing_mm is None:
        raise DataError(
            f"cannot read {path}: a PNG file does not say how large its pixels are; give their "
            f"height and width in mm as spacing_mm"
        )
    if file.is_palette:
        raise DataError(
            f"cannot read {path}: its pixels are numbers of colours in a palette, which are not "
            f"intensities; save it in grey or in RGB"
        )
    return Volume(path, _unpacked(file), spacing_mm, None)


def read_labels(
    path: Path,
    image: Volume,
    *,
    values: Mapping[int, int],
    classes: Sequence[str],
    frames: Sequence[int] | None = None,
    cure: str = "",
) -> npt.NDArray[np.int64]:
    """Read the labels of a volume and number them as the set's classes.

    Args:
        path: The file.
        image: The volume they were drawn on. Labels have its shape and place in space, channels
            aside; with ``frames``, the fourth axis too.
        values: Class number of each value the file may hold.
        classes: Class names, for the message.
        frames: Which frames of the fourth axis to return; None for a volume without frames.
        cure: What to do about other values, for the message.

    Returns:
        Class numbers, of shape ``(H, W, Z)``, or ``(H, W, Z, len(frames))``.

    Raises:
        DataError: The file is damaged, of another shape or pixel size, lies elsewhere in space, or
            holds another value.
        MissingExtraError: nibabel or Pillow is not installed.
    """
    file = _opened(path)
    expected = image.values.shape if frames is not None else (*image.values.shape[:3], 1)
    if _axes(file) != expected:
        raise DataError(
            f"cannot read {path}: the labels have shape {_trimmed(_axes(file))}, the image "
            f"{_trimmed(expected)}; expected the same, copy both files again"
        )
    if isinstance(file, NiftiFile):
        check_same_place(file, image)
    stored = _unpacked(file)
    stored = stored[..., 0] if frames is None else stored[..., list(frames)]
    present = np.unique(stored).tolist()
    unknown = [value for value in present if value not in values]
    if unknown:
        known = ", ".join(f"{value} {classes[number]}" for value, number in values.items())
        more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
        raise DataError(
            f"cannot read {path}: it holds the labels {unknown[:10]}{more}, expected only {known}"
            + (f". {cure}" if cure else "")
        )
    numbers = np.zeros(stored.shape, dtype=np.int64)
    for value in present:
        numbers[stored == value] = values[value]
    return numbers


def check_same_place(volume: Volume | NiftiFile, image: Volume) -> None:
    """Refuse two volumes of one shape whose headers put the same voxel at different places.

    Args:
        volume: One of them, for example the labels.
        image: The image they belong to.

    Raises:
        DataError: Pixel sizes differ, or a corner of the one lies more than ``LARGEST_SHIFT_PX``
            from that of the other; where one of them does not give its place, sizes alone count.
    """
    if not np.allclose(volume.spacing_mm, image.spacing_mm, rtol=_SPACING_RTOL, atol=0):
        raise DataError(
            f"cannot read {volume.path}: its pixels measure {_numbers(volume.spacing_mm)} mm, "
            f"those of {image.path} {_numbers(image.spacing_mm)} mm; expected the same. Save it "
            f"with the header of the image it was drawn on"
        )
    if volume.affine is None or image.affine is None:
        return
    last = np.array(image.values.shape[:3]) - 1
    corners = np.array([[*corner, 1] for corner in product(*((0, end) for end in last))])
    with np.errstate(all="ignore"):
        here, there = (corners @ affine[:3].T for affine in (volume.affine, image.affine))
        shifts = np.linalg.norm(here - there, axis=1)
    # NaN is not a place either.
    if not (shifts <= LARGEST_SHIFT_PX * min(image.spacing_mm)).all():
        worst = int(np.argmax(shifts))
        raise DataError(
            f"cannot read {volume.path}: by its header voxel {tuple(corners[worst, :3].tolist())} "
            f"lies at {_numbers(here[worst])} mm, by that of {image.path} at "
            f"{_numbers(there[worst])} mm; expected the same place. One of the two may be flipped "
            f"or moved: look at both in a viewer, then save them with one header"
        )


def cut_slices(
    volume: Volume, labels: npt.NDArray[np.int64] | None, *, subject: str, name: str
) -> list[ImageSlice]:
    """Cut a volume into slices along its third axis.

    Args:
        volume: The image.
        labels: Shape ``(H, W, Z)``, or None.
        subject: Whose volume it is.
        name: Of the volume, for messages; the number of the slice is added where there are several.

    Raises:
        DataError: A value is NaN or infinite.
    """
    num_wrong = int((~np.isfinite(volume.values)).sum())
    if num_wrong:
        raise DataError(
            f"cannot read {volume.path}: {num_wrong} voxels are NaN or infinite, expected numbers; "
            f"copy the file again"
        )
    planes = torch.from_numpy(volume.values.transpose(2, 3, 0, 1).astype(np.float32, order="C"))
    drawn = None if labels is None else torch.from_numpy(labels.transpose(2, 0, 1).copy())
    return [
        ImageSlice(
            image=plane,
            labels=None if drawn is None else drawn[index],
            spacing_mm=volume.spacing_mm,
            subject=subject,
            name=f"{name} slice {index + 1}" if len(planes) > 1 else name,
        )
        for index, plane in enumerate(planes)
    ]


def _opened(path: Path) -> NiftiFile | PngFile:
    name = path.name.lower()
    if name.endswith(".png"):
        return open_png(path)
    if name.endswith(NIFTI_ENDINGS):
        return open_nifti(path)
    raise DataError(
        f"cannot read {path}: expected a file that ends in .nii.gz, .nii or .png; convert it"
    )


def _axes(file: NiftiFile | PngFile) -> tuple[int, ...]:
    """Return rows, columns, slices and channels."""
    if isinstance(file, PngFile):
        height, width, colours = file.shape
        return height, width, 1, colours
    return *file.shape, *(1,) * (4 - len(file.shape))


def _unpacked(file: NiftiFile | PngFile) -> Array:
    return file.unpack().reshape(_axes(file))


def _trimmed(shape: Sequence[int]) -> tuple[int, ...]:
    """Return a shape without the axes of length 1 that were added to make four."""
    kept = tuple(shape)
    while len(kept) > 2 and kept[-1] == 1:
        kept = kept[:-1]
    return kept


def _numbers(values: Sequence[float] | Array) -> tuple[float, ...]:
    """Return numbers as short as they are read."""
    return tuple(float(f"{value:.6g}") for value in values)
