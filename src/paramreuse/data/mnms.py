"""M&Ms: short-axis cine MRI of several centres and vendors, end-diastole and end-systole.

Source: Campello et al. (2021), IEEE TMI 40(12). Layout as published::

    Training/Labeled/A0S9V9/{A0S9V9_sa.nii.gz, A0S9V9_sa_gt.nii.gz}, Training/Unlabeled/...
    Validation/..., Testing/...
    211230_M&Ms_Dataset_information_diagnosis_opendataset.csv

Volumes have four axes, the last one the frames. The table's ``ED`` and ``ES`` count frames from 0,
and only these frames are labelled: 1 LV, 2 myocardium, 3 RV, the reverse of ACDC. The labels are
renumbered here to ACDC's, so that the two sets have the same classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt

from paramreuse.data.formats.tables import Row, column_names, read_table
from paramreuse.data.formats.volumes import Volume, cut_slices, read_labels, read_volume
from paramreuse.data.slices import ImageSet, ImageSlice
from paramreuse.data.subjects import (
    FRAMES,
    checked_frames,
    existing_folder,
    find_subject,
    is_whole,
    leave_out,
    merged_folds,
    reader,
)
from paramreuse.errors import DataError

CLASSES = ("background", "RV", "myocardium", "LV")
LABELS = {0: 0, 1: 3, 2: 2, 3: 1}
"""Class number of each label in the files."""

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


@reader
def read_mnms(
    root: str | PathLike[str], *, frames: Sequence[str] = FRAMES, exclude: Sequence[str] = ()
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
            there or cannot be opened, or a patient is in two folders. Reading a patient raises it
            when image and labels differ in shape or place, are damaged, have no such frame, or hold
            no label in it.
        MissingExtraError: nibabel is not installed (on reading a patient).

    Examples:
        >>> mnms = read_mnms("data/OpenDataset")             # doctest: +SKIP
        >>> mnms.classes                                     # doctest: +SKIP
        ('background', 'RV', 'myocardium', 'LV')
    """
    chosen = checked_frames(frames, "M&Ms")
    folder = existing_folder(root, "M&Ms", expected="Training/, Validation/ and Testing/")
    table = _find_table(folder)
    rows = read_table(table, _CODE, *chosen)
    places = {
        fold: [path for name in names for path in _patient_folders(folder / name)]
        for fold, names in _FOLDS.items()
    }
    if not any(places.values()):
        places = {"train": _patient_folders(folder)}
    folds = {
        fold: {p.name: _patient(p, table, rows, chosen, fold) for p in paths}
        for fold, paths in places.items()
        if paths
    }
    everyone = merged_folds(
        {_FOLDS[fold][-1]: patients for fold, patients in folds.items()}, "M&Ms"
    )
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
        tables = sorted(path for path in place.glob("*.csv") if path.is_file())
        named = [path for path in tables if _CODE in column_names(path)]
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


def _patient(
    folder: Path,
    table: Path,
    rows: Mapping[str, Row],
    frames: Sequence[str],
    fold: str,
) -> _Patient:
    name = folder.name
    if name not in rows:
        raise DataError(
            f"cannot read {name}: {table} has no line for it; expected one with its {_CODE}"
        )
    labels = folder / f"{name}_sa_gt.nii.gz"
    if fold == "train" and not labels.is_file():
        raise DataError(
            f"cannot read {name}: no {labels.name} in {folder}, but every training patient needs "
            f"labels; copy the patient again, or take it out of the folder"
        )
    return _Patient(
        image=folder / f"{name}_sa.nii.gz",
        labels=labels if labels.is_file() else None,
        frames={frame: _frame_number(rows[name], frame, table) for frame in frames},
    )


def _frame_number(row: Row, frame: str, table: Path) -> int:
    text = row.cells.get(frame, "")
    whole = text.removesuffix(".0")  # a column with gaps is saved as fractions
    if not is_whole(whole):
        raise DataError(
            f"cannot read {table}, line {row.line}: {frame} is {text[:40]!r}, expected the number "
            f"of a frame, from 0"
        )
    return int(whole)


def _read_patient(patients: Mapping[str, _Patient], subject: str) -> list[ImageSlice]:
    patient = find_subject(patients, subject)
    volume = read_volume(patient.image)
    num_frames = volume.values.shape[3]
    late = {frame: number for frame, number in patient.frames.items() if number >= num_frames}
    if late:
        raise DataError(
            f"cannot read {subject}: its table asks for frames {late}, counted from 0, but "
            f"{patient.image} has {num_frames}; expected a volume of four axes, copy it again"
        )
    labels = None if patient.labels is None else _read_frames(patient, volume, subject)
    return [
        piece
        for index, (frame, number) in enumerate(patient.frames.items())
        for piece in cut_slices(
            volume.picked(number),
            None if labels is None else labels[..., index],
            subject=subject,
            name=f"{subject} {frame} frame {number}",
        )
    ]


def _read_frames(patient: _Patient, volume: Volume, subject: str) -> npt.NDArray[np.int64]:
    """Return the labels of the frames to read, shape ``(H, W, Z, frames)``."""
    assert patient.labels is not None
    labels = read_labels(
        patient.labels,
        volume,
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
