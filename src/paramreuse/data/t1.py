"""T1: cardiac inversion-recovery MRI, 5 slices x 11 times per patient, with the LV myocardium.

Source: El-Rewaidy et al. (2018), Magnetic Resonance in Medicine 80(3); Harvard Dataverse,
doi:10.7910/DVN/DHEUAV. One MATLAB v7.3 file, ``T1Dataset210.mat``, which is HDF5 with all axes in
reverse order. Its struct array ``Dataset`` is a group of fields, each an array of references, one
per patient:

======================================== ===================================================
``Img``                                  ``(H, W, 11, 5)``: rows, columns, times, slices
``EndoContours``, ``EpiContours``        ``(N, 2, 11, 5)``: points, (x, y), times, slices
``TriggerTime``                          ``(11, 5)`` in ms
======================================== ===================================================
"""

from collections.abc import Mapping
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from paramreuse.data.formats.contours import Points, fill_contour
from paramreuse.data.formats.matlab import count_elements, read_element
from paramreuse.data.slices import ImageSet, ImageSlice
from paramreuse.data.subjects import checked_spacing, find_subject, reader
from paramreuse.errors import DataError

CLASSES = ("background", "myocardium")
FILE_NAME = "T1Dataset210.mat"
NOMINAL_SPACING_MM = (2.1, 2.1)
"""In-plane resolution of the acquisition; the file itself holds no pixel size."""

_STRUCT = "Dataset"
_FIELDS = ("Img", "EndoContours", "EpiContours", "TriggerTime")

Array = npt.NDArray[Any]


@reader
def read_t1(
    root: str | PathLike[str],
    *,
    contour_origin: int = 1,
    spacing_mm: float | tuple[float, float] = NOMINAL_SPACING_MM,
    train: int = 60,
    validation: int = 30,
) -> ImageSet:
    """List the patients of the T1 set; images are read one patient at a time.

    A slice is one image: all times of the first slice, then those of the next. Myocardium is what
    lies inside the epicardium and not inside the endocardium; pixels on the endocardium are not
    myocardium.

    Args:
        root: ``T1Dataset210.mat``, or the folder that holds it.
        contour_origin: Coordinate of the first pixel's centre in the contours. It is not
            documented: 1 as MATLAB counts, or 0.
        spacing_mm: Height and width of a pixel, which the file does not hold.
        train: Number of first patients in the official training fold.
        validation: Number of last patients in the official validation fold.

    Returns:
        The set, with classes background and myocardium, and patients named ``patient001``, ... in
        the order of the file. A set with fewer patients than both folds together has no official
        split. An image without contours (none or NaN) has no labels.

    Raises:
        DataError: The file is not there, cannot be opened or is not a MATLAB v7.3 file, it lacks a
            field, or an option is out of its range. Reading a patient raises it when the fields do
            not fit together, are not numbers, or a contour does not fit the image.
        MissingExtraError: h5py is not installed.

    Examples:
        >>> t1 = read_t1("data/T1Dataset210.mat")            # doctest: +SKIP
        >>> len(t1.read_subject("patient001"))               # doctest: +SKIP
        55
    """
    if contour_origin not in (0, 1):
        raise DataError(f"cannot read T1: contour_origin is {contour_origin!r}, expected 0 or 1")
    pixel = checked_spacing(spacing_mm, "T1")
    path = Path(root) / FILE_NAME if Path(root).is_dir() else Path(root)
    if not path.is_file():
        raise DataError(
            f"cannot read T1 from {path}: no such file; expected {FILE_NAME} or its folder"
        )
    num_patients = count_elements(path, _STRUCT, _FIELDS)
    subjects = {f"patient{index + 1:03d}": index for index in range(num_patients)}
    names = tuple(subjects)
    has_split = min(train, validation) > 0 and train + validation <= num_patients
    return ImageSet(
        classes=CLASSES,
        subjects=names,
        read_subject=partial(
            _read_patient, path, subjects, origin=contour_origin, spacing_mm=pixel
        ),
        split={"train": names[:train], "validation": names[-validation:]} if has_split else None,
    )


def _read_patient(
    path: Path,
    subjects: Mapping[str, int],
    subject: str,
    *,
    origin: int,
    spacing_mm: tuple[float, float],
) -> list[ImageSlice]:
    index = find_subject(subjects, subject)
    fields = read_element(path, _STRUCT, _FIELDS, index)
    where = f"{path}, {subject}"
    _check_fields(fields, where)
    images = fields["Img"].astype(np.float32)
    height, width, num_times, num_slices = images.shape
    pieces = []
    for z in range(num_slices):
        for time in range(num_times):
            name = f"{subject} slice {z + 1} time {time + 1}"
            endo, epi = (
                _contour(fields[key][:, :, time, z], origin)
                for key in ("EndoContours", "EpiContours")
            )
            labels = _labels(endo, epi, (height, width), f"{where} slice {z + 1} time {time + 1}")
            pieces.append(
                ImageSlice(
                    image=torch.from_numpy(images[None, :, :, time, z].copy()),
                    labels=labels,
                    spacing_mm=spacing_mm,
                    subject=subject,
                    name=f"{name} ({fields['TriggerTime'][time, z]:g} ms)",
                )
            )
    return pieces


def _check_fields(fields: Mapping[str, Array], where: str) -> None:
    shapes = {name: tuple(value.shape) for name, value in fields.items()}
    stack = shapes["Img"][2:]
    fits = len(shapes["Img"]) == 4 and shapes["TriggerTime"] == stack
    for name in ("EndoContours", "EpiContours"):
        fits = fits and len(shapes[name]) == 4 and shapes[name][1:] == (2, *stack)
    if not fits:
        raise DataError(
            f"cannot read {where}: its fields have the shapes {shapes}, expected Img (H, W, 11, 5),"
            f" EndoContours and EpiContours (N, 2, 11, 5), TriggerTime (11, 5)"
        )
    if not np.isfinite(fields["Img"]).all():
        raise DataError(
            f"cannot read {where}: Img holds NaN or infinite values; copy the file again"
        )


def _contour(points: Array, origin: int) -> Points:
    """Return the points that were drawn, without the NaN that fills up shorter contours."""
    drawn = points[~np.isnan(points).all(axis=1)]
    return np.asarray(drawn, dtype=np.float64) - origin


def _labels(endo: Points, epi: Points, shape: tuple[int, int], name: str) -> torch.Tensor | None:
    if not len(endo) and not len(epi):
        return None
    inside = fill_contour(epi, shape, name=f"{name}, EpiContours")
    cavity = fill_contour(endo, shape, name=f"{name}, EndoContours")
    return torch.from_numpy((inside & ~cavity).astype(np.int64))
