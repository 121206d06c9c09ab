"""RVSC: short-axis cine MRI of the right ventricle, end-diastole and end-systole.

Source: Petitjean et al. (2015), Medical Image Analysis 19(1). Layout as published::

    TrainingSet/patient01/{P01list.txt, P01dicom/P01-0000.dcm ..., P01contours-manual/...}
    Test1Set/patient17/..., Test2Set/patient33/...
    Test1SetContours/P17contours-manual/..., Test2SetContours/...     (a download of its own)

``P01list.txt`` names the frames that were drawn, two lines each: ``i`` for the endocardium, ``o``
for the epicardium. It was written on Windows: CRLF, and backslashes in the paths. Images are stored
as 256 x 216 or 216 x 256 pixels and contours fit them as stored, so neither is turned.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path, PureWindowsPath

import numpy as np
import torch

from paramreuse.data.formats.bounded import read_text
from paramreuse.data.formats.contours import fill_contour, read_contour
from paramreuse.data.formats.dicom import read_dicom
from paramreuse.data.slices import ImageSet, ImageSlice
from paramreuse.data.subjects import existing_folder, find_subject, merged_folds, reader
from paramreuse.errors import DataError

CLASSES = ("background", "RV", "RV wall")
_FOLDS = {"train": "TrainingSet", "validation": "Test1Set", "test": "Test2Set"}
_CONTOUR_NAME = re.compile(r"(P\d+)-(\d+)-([io])contour-manual\.txt")


@dataclass(frozen=True, slots=True)
class _Frame:
    """One image of a patient with its two contours, or with none where nobody shipped any."""

    name: str
    image: Path
    contours: tuple[Path, Path] | None


@reader
def read_rvsc(root: str | PathLike[str]) -> ImageSet:
    """List the patients of RVSC; images are read one patient at a time.

    Only the frames that a patient's list names are read: all slices of end-diastole and
    end-systole.

    Args:
        root: Folder that holds ``TrainingSet/`` and perhaps ``Test1Set/`` and ``Test2Set/``, or one
            of these.

    Returns:
        The set, with classes background, RV (the cavity) and RV wall (between endocardium and
        epicardium). Its official split: ``train`` is TrainingSet, ``validation`` Test1Set and
        ``test`` Test2Set, these two where all their patients have contours. A patient of a test set
        may lack contours (the slices then have no labels), one of the training set may not.

    Raises:
        DataError: A folder or file is not there or cannot be opened, a patient is in two sets, a
            list names a contour that is not there, or only one of the two contours of a frame.
            Reading a patient raises it when an image cannot be decoded or a contour does not fit
            it.
        MissingExtraError: pydicom is not installed (on reading a patient).

    Examples:
        >>> rvsc = read_rvsc("data/rvsc")                    # doctest: +SKIP
        >>> rvsc.read_subject("patient01")[0].image.shape    # doctest: +SKIP
        torch.Size([1, 216, 256])
    """
    folder = existing_folder(root, "RVSC", expected="TrainingSet/, Test1Set/, Test2Set/")
    folds = {
        fold: _patients(folder / name) for fold, name in _FOLDS.items() if (folder / name).is_dir()
    }
    named = {_FOLDS[fold]: members for fold, members in folds.items()}
    patients = merged_folds(named, "RVSC") if folds else _patients(folder)
    return ImageSet(
        classes=CLASSES,
        subjects=tuple(sorted(patients)),
        read_subject=partial(_read_patient, patients),
        split=_official_split(folds),
    )


def _official_split(
    folds: Mapping[str, Mapping[str, list[_Frame]]],
) -> dict[str, tuple[str, ...]] | None:
    if "train" not in folds or len(folds) == 1:
        return None
    return {
        fold: tuple(sorted(patients))
        for fold, patients in folds.items()
        if all(frame.contours for frames in patients.values() for frame in frames)
    }


def _patients(folder: Path) -> dict[str, list[_Frame]]:
    """List the frames of each patient of one set, from the names of its files alone."""
    patients = sorted(path for path in folder.glob("patient*") if path.is_dir())
    if not patients:
        raise DataError(
            f"cannot read RVSC from {folder}: it holds no patient; expected folders patient01, "
            f"patient02, ... in it, or in TrainingSet/"
        )
    needed = not folder.name.startswith("Test")
    return {path.name: _frames_of(path, contours_needed=needed) for path in patients}


def _frames_of(patient: Path, *, contours_needed: bool) -> list[_Frame]:
    code = f"P{patient.name.removeprefix('patient')}"
    contours = _contour_folder(patient, code)
    if contours is None and contours_needed:
        raise DataError(
            f"cannot read {patient.name}: no {code}contours-manual in {patient}, but every "
            f"training patient needs contours; copy the patient again"
        )
    path = patient / f"{code}list.txt"
    listed = _read_list(path, code)
    frames = []
    for number, lines in sorted(listed.items()):
        image = patient / f"{code}dicom" / f"{code}-{number}.dcm"
        files = {kind: name for kind, (_, name) in lines.items()}
        needed = [(line, image) for line, _ in lines.values()]
        if contours is not None:
            needed += [(line, contours / name) for line, name in lines.values()]
        for line, file in needed:
            if not file.is_file():
                raise DataError(
                    f"cannot read {path}, line {line}: it asks for {file}, which is not there; "
                    f"copy the patient again"
                )
        pair = None if contours is None else (contours / files["i"], contours / files["o"])
        frames.append(_Frame(f"{patient.name} image {number}", image, pair))
    return frames


def _contour_folder(patient: Path, code: str) -> Path | None:
    name, apart = (
        f"{code}contours-manual",
        patient.parent.with_name(f"{patient.parent.name}Contours"),
    )
    places = (patient / name, apart / name, apart / patient.name / name)
    return next((place for place in places if place.is_dir()), None)


def _read_list(path: Path, code: str) -> dict[str, dict[str, tuple[int, str]]]:
    """Return, per frame number and kind of contour (i, o), its line and the name of its file."""
    if not path.is_file():
        raise DataError(
            f"cannot read {path.parent.name}: no {path.name} in {path.parent}; it says which "
            f"images have contours"
        )
    frames: dict[str, dict[str, tuple[int, str]]] = {}
    lines = read_text(path).splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name = PureWindowsPath(line.strip()).name  # takes slashes as well as backslashes
        match = _CONTOUR_NAME.fullmatch(name)
        if match is None or match[1] != code:
            raise DataError(
                f"cannot read {path}, line {number}: it is {line.strip()[:80]!r}, expected a "
                f"contour like {code}-0080-icontour-manual.txt"
            )
        frames.setdefault(match[2], {})[match[3]] = (number, name)
    for frame, kinds in frames.items():
        if set(kinds) != {"i", "o"}:
            ((kind, (number, _)),) = kinds.items()
            raise DataError(
                f"cannot read {path}, line {number}: image {frame} has only an {kind} contour, "
                f"expected an i (endocardium) and an o (epicardium) line; copy the patient again"
            )
    if not frames:
        raise DataError(f"cannot read {path}: it names no contour; copy the patient again")
    return frames


def _read_patient(patients: Mapping[str, list[_Frame]], subject: str) -> list[ImageSlice]:
    return [_read_frame(frame, subject) for frame in find_subject(patients, subject)]


def _read_frame(frame: _Frame, subject: str) -> ImageSlice:
    pixels, spacing_mm = read_dicom(frame.image)
    labels = None
    if frame.contours is not None:
        shape = (pixels.shape[0], pixels.shape[1])
        inner, outer = (
            fill_contour(read_contour(path, shape), shape, name=str(path))
            for path in frame.contours
        )
        drawn = np.zeros(shape, dtype=np.int64)
        drawn[outer] = CLASSES.index("RV wall")
        drawn[inner] = CLASSES.index("RV")
        labels = torch.from_numpy(drawn)
    return ImageSlice(
        image=torch.from_numpy(pixels)[None],
        labels=labels,
        spacing_mm=spacing_mm,
        subject=subject,
        name=frame.name,
    )
