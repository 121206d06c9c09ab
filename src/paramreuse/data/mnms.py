"""M&Ms: short-axis cine MRI of several centres and vendors, end-diastole and end-systole.

Source: Campello et al. (2021), IEEE TMI 40(12). Layout as published::

    Training/Labeled/A0S9V9/{A0S9V9_sa.nii.gz, A0S9V9_sa_gt.nii.gz}, Training/Unlabeled/...
    Validation/..., Testing/...
    211230_M&Ms_Dataset_information_diagnosis_opendataset.csv

Volumes have four axes, the last one the frames. The table's ``ED`` and ``ES`` count frames from 0,
and only these frames are labelled: 1 LV, 2 myocardium, 3 RV, the reverse of ACDC. The labels are
renumbered here to ACDC's, so that the two sets have the same classes.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt

from paramreuse.data.formats.volumes import cut_slices, read_labels, read_volume
from paramreuse.data.slices import ImageSet, ImageSlice
from paramreuse.data.subjects import existing_folder, find_subject, leave_out
from paramreuse.errors import DataError

CLASSES = ("background", "RV", "myocardium", "LV")
LABELS = {0: 0, 1: 3, 2: 2, 3: 1}
"""Class number of each label in the files."""

_FRAMES = ("ED", "ES")
_CODE = "External code"
_FOLDS = {
    "train": ("Training/Labeled", "Training"),
    "validation": ("Validation",),
    "test": ("Testing",),
}


@dataclass(frozen=True, slots=True)
class _Patient:
    """The files of one patient and the frames to read, counted from 0."""

    image: Path
    labels: Path | None
    frames: Mapping[str, int]


def read_mnms(
    root: str | PathLike[str], *, frames: Sequence[str] = _FRAMES, exclude: Sequence[str] = ()
) -> ImageSet:
    """List the patients of M&Ms; images are read one patient at a time.

    Slices keep the orientation of the file. ``Training/Unlabeled`` is not read: its label files
    are there, but empty.

    Args:
        root: Folder that holds ``Training/``, ``Validation/`` and ``Testing/``, or the patients
            themselves; with the table in it, or in the folder above.
        frames: Which of ``"ED"`` (end-diastole) and ``"ES"`` (end-systole) to read, in this order.
        exclude: Patients to leave out.

    Returns:
        The set, with ACDC's classes background, RV, myocardium, LV. Its official split: ``train``
        is Training, ``validation`` Validation and ``test`` Testing, these two where all their
        patients have labels. A training patient may not lack labels.

    Raises:
        DataError: A folder, the table, one of its columns, a patient's line or a file is not
            there. Reading a patient raises it when image and labels do not fit together, are
            damaged, have no such frame, or hold no label in it.
        MissingExtraError: nibabel is not installed (on reading a patient).

    Examples:
        >>> mnms = read_mnms("data/OpenDataset")             # doctest: +SKIP
        >>> mnms.classes                                     # doctest: +SKIP
        ('background', 'RV', 'myocardium', 'LV')
    """
    chosen = (frames,) if isinstance(frames, str) else tuple(frames)
    if not chosen or not set(chosen) <= set(_FRAMES) or len(set(chosen)) < len(chosen):
        raise DataError(
            f"cannot read M&Ms frames {frames!r}: expected one or both of {_FRAMES}, each once"
        )
    folder = existing_folder(root, "M&Ms", expected="Training/, Validation/ and Testing/")
    table = _find_table(folder)
    numbers = _read_table(table, chosen)
    places = {
        fold: [path for name in names for path in _patient_folders(folder / name)]
        for fold, names in _FOLDS.items()
    }
    if not any(places.values()):
        places = {"train": _patient_folders(folder)}
    folds = {
        fold: {p.name: _patient(p, table, numbers, labels_needed=fold == "train") for p in paths}
        for fold, paths in places.items()
        if paths
    }
    everyone = {name: found for patients in folds.values() for name, found in patients.items()}
    if not everyone:
        raise DataError(
            f"cannot read M&Ms from {folder}: it holds no patient; expected folders like A0S9V9 "
            f"with A0S9V9_sa.nii.gz, in it or in Training/Labeled/"
        )
    patients = leave_out(everyone, exclude, "M&Ms") if exclude else everyone
    return ImageSet(
        classes=CLASSES,
        subjects=tuple(sorted(patients)),
        read_subject=partial(_read_patient, patients),
        split=_official_split(folds, patients),
    )


def _official_split(
    folds: Mapping[str, Mapping[str, _Patient]], kept: Mapping[str, _Patient]
) -> dict[str, tuple[str, ...]] | None:
    if "train" not in folds or len(folds) == 1:
        return None
    return {
        fold: tuple(sorted(set(patients) & set(kept)))
        for fold, patients in folds.items()
        if all(patient.labels for patient in patients.values())
    }


def _patient_folders(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("*/*_sa.nii.gz") if path.parent.is_dir())


def _find_table(folder: Path) -> Path:
    for place in (folder, folder.parent):
        tables = sorted(place.glob("*.csv"))
        named = [path for path in tables if _CODE in _columns(path)]
        if len(named or tables) == 1:
            return (named or tables)[0]
        if tables:
            raise DataError(
                f"cannot read M&Ms from {folder}: {place} holds the tables "
                f"{[path.name for path in tables[:10]]}, expected one with a column {_CODE!r}"
            )
    raise DataError(
        f"cannot read M&Ms from {folder}: no .csv table in it or above it; it says which frames "
        f"are ED and ES"
    )


def _columns(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
        return [name.strip() for name in next(csv.reader(stream), [])]


def _read_table(path: Path, frames: Sequence[str]) -> dict[str, tuple[int, dict[str, str]]]:
    """Return, per patient, the line of the table and the text of each frame's number."""
    columns = _columns(path)
    missing = [name for name in (_CODE, *frames) if name not in columns]
    if missing:
        raise DataError(
            f"cannot read {path}, line 1: it has no column {missing[0]!r} among {columns[:20]}; "
            f"expected {_CODE}, ED and ES, as in the table that comes with the set"
        )
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
        reader = csv.reader(stream)
        next(reader)
        rows = [(reader.line_num, dict(zip(columns, row, strict=False))) for row in reader]
    return {
        row[_CODE].strip(): (line, {frame: row.get(frame, "") for frame in frames})
        for line, row in rows
        if row.get(_CODE, "").strip()
    }


def _patient(
    folder: Path,
    table: Path,
    numbers: Mapping[str, tuple[int, dict[str, str]]],
    *,
    labels_needed: bool,
) -> _Patient:
    name = folder.name
    if name not in numbers:
        raise DataError(
            f"cannot read {name}: {table} has no line for it; expected one with its {_CODE}"
        )
    line, texts = numbers[name]
    labels = folder / f"{name}_sa_gt.nii.gz"
    if labels_needed and not labels.is_file():
        raise DataError(
            f"cannot read {name}: no {labels.name} in {folder}, but every training patient needs "
            f"labels; copy the patient again, or take it out of the folder"
        )
    return _Patient(
        image=folder / f"{name}_sa.nii.gz",
        labels=labels if labels.is_file() else None,
        frames={
            frame: _whole(text, frame, f"{table}, line {line}") for frame, text in texts.items()
        },
    )


def _whole(text: str, frame: str, where: str) -> int:
    whole = text.strip().removesuffix(".0")  # a column with gaps is saved as fractions
    if not whole.isdecimal():
        raise DataError(
            f"cannot read {where}: {frame} is {text!r}, expected the number of a frame, from 0"
        )
    return int(whole)


def _read_patient(patients: Mapping[str, _Patient], subject: str) -> list[ImageSlice]:
    patient = find_subject(patients, subject)
    image, spacing_mm = read_volume(patient.image)
    num_frames = image.shape[3]
    late = {frame: number for frame, number in patient.frames.items() if number >= num_frames}
    if late:
        raise DataError(
            f"cannot read {subject}: its table asks for frames {late}, counted from 0, but "
            f"{patient.image} has {num_frames}; expected a volume of four axes, copy it again"
        )
    labels = None if patient.labels is None else _read_frames(patient, image.shape, subject)
    return [
        piece
        for index, (frame, number) in enumerate(patient.frames.items())
        for piece in cut_slices(
            image[..., number, None],
            None if labels is None else labels[..., index],
            spacing_mm=spacing_mm,
            subject=subject,
            name=f"{subject} {frame} frame {number}",
        )
    ]


def _read_frames(patient: _Patient, shape: tuple[int, ...], subject: str) -> npt.NDArray[np.int64]:
    """Return the labels of the frames to read, shape ``(H, W, Z, frames)``."""
    assert patient.labels is not None
    labels = read_labels(
        patient.labels,
        shape,
        values=LABELS,
        classes=CLASSES,
        frames=list(patient.frames.values()),
    )
    for index, (frame, number) in enumerate(patient.frames.items()):
        if not labels[..., index].any():
            raise DataError(
                f"cannot read {subject}: {patient.labels} holds no label in frame {number}, its "
                f"{frame} counted from 0; expected the labelled frame, check the table, or leave "
                f"the patient out with exclude=[{subject!r}]"
            )
    return labels
