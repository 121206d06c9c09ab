"""Sunnybrook Cardiac Data: short-axis cine MRI with contours of the left ventricle.

Source: Radau et al. (2009), MIDAS Journal. Two layouts are read, the one published by the Cardiac
Atlas Project and a shorter one in use::

    SCD_IMAGES_01/SCD0000101/CINESAX_300/IM-0003-0048.dcm ..., SCD_IMAGES_02/...
    SCD_ManualContours/SC-HF-I-01/contours-manual/IRCCI-expert/IM-0001-0048-icontour-manual.txt
    scd_patientdata.csv                                   (PatientID, OriginalID, ...)

    dicoms/SCD0000101/48.dcm ...
    contourfiles/SC-HF-I-1/{i,o}-contours/IM-0001-0048-icontour-manual.txt
    link.csv                                              (patient_id, original_id)

Contour and image have the same last number. ``i`` is the endocardium, drawn at end-diastole and
end-systole; ``o`` the epicardium, drawn at end-diastole alone. The published tables write
``SC-HF-I-1`` where the folder is ``SC-HF-I-01``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path

import numpy as np
import torch

from paramreuse.data.formats.contours import Mask, fill_contour, read_contour
from paramreuse.data.formats.dicom import read_dicom
from paramreuse.data.formats.tables import read_table
from paramreuse.data.slices import ImageSet, ImageSlice
from paramreuse.data.subjects import existing_folder, find_subject, is_whole, leave_out, reader
from paramreuse.errors import DataError

LEAST_ENCLOSED = 0.9
"""Share of the cavity that must lie inside the epicardium, else the two are not of one image.

It is 0.996 or more in all 37 images of the first four patients; with the epicardium of another
image of the same patient it falls as low as 0.18, though not always below this share.
"""

_STRUCTURES = ("myocardium", "LV")
_CONTOUR_NAME = re.compile(r"IM-\d+-(\d+)-([io])contour-manual\.txt")
_IMAGE_NUMBER = re.compile(r"(?:.*-)?(\d+)\.dcm", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Frame:
    """One image with the contour of the endocardium and perhaps of the epicardium."""

    name: str
    image: Path
    inner: Path
    outer: Path | None


@reader
def read_sunnybrook(
    root: str | PathLike[str],
    *,
    structures: Sequence[str] = ("LV",),
    exclude: Sequence[str] = (),
) -> ImageSet:
    """List the patients of Sunnybrook; images are read one patient at a time.

    Only images with contours are read. Where the epicardium was not drawn nobody knows which pixels
    are myocardium, so the set is read either for the cavity alone, from all its images, or for both
    structures, from the images with both contours.

    Args:
        root: Folder of one of the two layouts. Patients of the table whose images are not there are
            left out, so that a part of the download will do.
        structures: ``("LV",)`` or ``("myocardium", "LV")``.
        exclude: Patients to leave out, such as ``"SCD0000501"``, whose epicardium is wrong in the
            published set.

    Returns:
        The set, with classes background and the structures; patients are named as their images
        are. A patient without any image to read is left out.

    Raises:
        DataError: A folder, table, image or contour is not there or cannot be opened, an image is
            not the only one with its number, or an option is out of its range. Reading a patient
            raises it when an image cannot be decoded, a contour does not fit it, or the cavity is
            not inside the epicardium.
        MissingExtraError: pydicom is not installed (on reading a patient).

    Examples:
        >>> heart = read_sunnybrook("data/sunnybrook")                 # doctest: +SKIP
        >>> heart.read_subject("SCD0000101")[0].image.shape            # doctest: +SKIP
        torch.Size([1, 256, 256])
    """
    chosen = (structures,) if isinstance(structures, str) else tuple(structures)
    if chosen not in (("LV",), _STRUCTURES):
        raise DataError(
            f"cannot read Sunnybrook for structures {structures!r}: expected ['LV'] or "
            f"{list(_STRUCTURES)}"
        )
    folder = existing_folder(root, "Sunnybrook", expected="SCD_ManualContours/ or contourfiles/")
    patients = _patients(folder, exclude=exclude, needs_outer=len(chosen) > 1)
    return ImageSet(
        classes=("background", *chosen),
        subjects=tuple(sorted(patients)),
        read_subject=partial(_read_patient, patients, classes=("background", *chosen)),
    )


def _patients(
    folder: Path, *, exclude: Sequence[str], needs_outer: bool
) -> dict[str, list[_Frame]]:
    images = {path.name: path for path in _image_folders(folder)}
    images = leave_out(images, exclude, "Sunnybrook") if exclude else images
    contours = {_plain(path.name): path for path in _contour_folders(folder)}
    patients = {}
    for subject, original in _read_table(folder).items():
        if subject not in images:
            continue
        if _plain(original) not in contours:
            raise DataError(
                f"cannot read {subject}: no contours of {original} in {folder}; copy them, or "
                f"leave it out with exclude=[{subject!r}]"
            )
        frames = _frames_of(subject, images[subject], contours[_plain(original)])
        kept = [frame for frame in frames if frame.outer or not needs_outer]
        if kept:
            patients[subject] = kept
    if not patients:
        raise DataError(
            f"cannot read Sunnybrook from {folder}: no patient of its table has both images and "
            f"contours; expected SCD_IMAGES_01/SCD0000101 or dicoms/SCD0000101"
        )
    return patients


def _image_folders(folder: Path) -> list[Path]:
    places = ("dicoms/SCD*", "SCD_IMAGES_*/SCD*", "SCD_IMAGES_*/SCD_IMAGES_*/SCD*", "SCD*")
    return [
        path
        for place in places
        for path in sorted(folder.glob(place))
        if path.is_dir() and re.fullmatch(r"SCD\d+", path.name)
    ]


def _contour_folders(folder: Path) -> list[Path]:
    places = ("contourfiles/SC-*", "SCD_ManualContours/SC-*", "*/SCD_ManualContours/SC-*")
    return [path for place in places for path in sorted(folder.glob(place)) if path.is_dir()]


def _plain(original: str) -> str:
    """Return an original id without leading zeros: SC-HF-I-01 and SC-HF-I-1 are one patient."""
    head, _, number = original.strip().rpartition("-")
    return f"{head}-{int(number)}" if is_whole(number) else original.strip()


def _read_table(folder: Path) -> dict[str, str]:
    """Return the original id of each patient."""
    columns = {
        "link.csv": ("patient_id", "original_id"),
        "scd_patientdata.csv": ("PatientID", "OriginalID"),
    }
    path = next((folder / name for name in columns if (folder / name).is_file()), None)
    if path is None:
        raise DataError(
            f"cannot read Sunnybrook from {folder}: neither scd_patientdata.csv nor link.csv is in "
            f"it; the table says which contours belong to which images"
        )
    key, value = columns[path.name]
    rows = read_table(path, key, value)
    return {name: row.cells[value] for name, row in rows.items() if row.cells.get(value)}


def _frames_of(subject: str, images: Path, contours: Path) -> list[_Frame]:
    drawn: dict[int, dict[str, Path]] = {}
    for path in sorted(contours.rglob("*contour-manual.txt")):
        match = _CONTOUR_NAME.fullmatch(path.name)
        if match:  # p1 and p2 are papillary muscles
            drawn.setdefault(int(match[1]), {})[match[2]] = path
    numbered = _numbered_images(images)
    frames = []
    for number, kinds in sorted(drawn.items()):
        if "i" not in kinds:
            continue
        candidates = numbered.get(number, [])
        if len(candidates) != 1:
            raise DataError(
                f"cannot read {subject}: {kinds['i']} belongs to image {number}, of which there "
                f"are {len(candidates)} in {images}, expected one; copy the patient again, or move "
                f"the series that is not short-axis cine out of the folder"
            )
        name = f"{subject} image {number}"
        frames.append(_Frame(name, candidates[0], kinds["i"], kinds.get("o")))
    if not frames:
        raise DataError(f"cannot read {subject}: no i contour in {contours}; copy it again")
    return frames


def _numbered_images(folder: Path) -> dict[int, list[Path]]:
    """Return images by number, of short-axis cine series where a patient has several series."""
    series = sorted(path for path in folder.glob("CINESAX*") if path.is_dir())
    numbered: dict[int, list[Path]] = {}
    for place in series or [folder]:
        for path in sorted(place.iterdir()):
            match = _IMAGE_NUMBER.fullmatch(path.name)
            if match and path.is_file():
                numbered.setdefault(int(match[1]), []).append(path)
    return numbered


def _read_patient(
    patients: Mapping[str, list[_Frame]], subject: str, *, classes: tuple[str, ...]
) -> list[ImageSlice]:
    return [_read_frame(frame, subject, classes) for frame in find_subject(patients, subject)]


def _read_frame(frame: _Frame, subject: str, classes: tuple[str, ...]) -> ImageSlice:
    pixels, spacing_mm = read_dicom(frame.image)
    shape = (pixels.shape[0], pixels.shape[1])
    cavity = fill_contour(read_contour(frame.inner, shape), shape, name=str(frame.inner))
    labels = np.zeros(shape, dtype=np.int64)
    if "myocardium" in classes and frame.outer is not None:
        enclosed = fill_contour(read_contour(frame.outer, shape), shape, name=str(frame.outer))
        _check_enclosed(cavity, enclosed, frame, subject)
        labels[enclosed] = classes.index("myocardium")
    labels[cavity] = classes.index("LV")
    return ImageSlice(
        image=torch.from_numpy(pixels)[None],
        labels=torch.from_numpy(labels),
        spacing_mm=spacing_mm,
        subject=subject,
        name=frame.name,
    )


def _check_enclosed(cavity: Mask, enclosed: Mask, frame: _Frame, subject: str) -> None:
    share = float((cavity & enclosed).sum() / max(1, cavity.sum()))
    if share < LEAST_ENCLOSED:
        raise DataError(
            f"cannot read {frame.name}: only {share:.0%} of the cavity lies inside the epicardium "
            f"of {frame.outer}, expected {LEAST_ENCLOSED:.0%} or more, so it belongs to another "
            f"image; leave the patient out with exclude=[{subject!r}]"
        )
