"""ACDC: short-axis cine MRI, end-diastole and end-systole, with RV, myocardium and LV.

Source: Bernard et al. (2018), IEEE TMI 37(11). Layout as published::

    training/patient001/{Info.cfg, patient001_frame01.nii.gz, patient001_frame01_gt.nii.gz, ...}
    testing/patient101/...

Which frame is end-diastole and which end-systole is in ``Info.cfg`` alone: frame 1 usually is
end-diastole, but not always (patient090: ED 4, ES 11).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path

from paramreuse.data.formats.bounded import read_text
from paramreuse.data.formats.volumes import cut_slices, read_labels, read_volume
from paramreuse.data.slices import ImageSet, ImageSlice
from paramreuse.data.subjects import (
    FRAMES,
    checked_frames,
    existing_folder,
    find_subject,
    is_whole,
    merged_folds,
    reader,
)
from paramreuse.errors import DataError

CLASSES = ("background", "RV", "myocardium", "LV")
_PATIENTS = "patient*"


@dataclass(frozen=True, slots=True)
class _Frame:
    """A volume of one patient: its image, and its labels where there are any."""

    name: str
    image: Path
    labels: Path | None


@reader
def read_acdc(root: str | PathLike[str], *, frames: Sequence[str] = FRAMES) -> ImageSet:
    """List the patients of ACDC; images are read one patient at a time.

    Slices keep the orientation of the file: a row of the slice runs along the second axis of the
    NIfTI volume, a column along the first, and nothing is flipped or transposed.

    Args:
        root: Folder that holds ``training/`` and perhaps ``testing/``, or one that holds the
            patients themselves.
        frames: Which of ``"ED"`` (end-diastole) and ``"ES"`` (end-systole) to read, in this order.

    Returns:
        The set, with classes background, RV, myocardium, LV. With ``testing/`` beside ``training/``
        it has an official split: ``train`` and ``validation`` if all testing patients have labels,
        else ``train`` alone, so that both folds are drawn from the patients with labels. A testing
        patient may lack labels, a training patient may not.

    Raises:
        DataError: A folder or file is not there or cannot be opened, ``Info.cfg`` does not name the
            frames, or a patient is in both folders. Reading a patient raises it when image and
            labels differ in shape or place, are damaged, hold a value that is not a number or not
            a label, or hold a single slice.
        MissingExtraError: nibabel is not installed (on reading a patient).

    Examples:
        >>> acdc = read_acdc("data/acdc/training")           # doctest: +SKIP
        >>> acdc.read_subject("patient001")[0].image.shape   # doctest: +SKIP
        torch.Size([1, 216, 256])
    """
    frames = checked_frames(frames, "ACDC")
    folder = existing_folder(root, "ACDC", expected="training/, or the patients")
    training = folder / "training" if (folder / "training").is_dir() else folder
    train = _patients(training, frames, labels_needed=training.name != "testing")
    test: dict[str, list[_Frame]] = {}
    if training != folder and (folder / "testing").is_dir():
        test = _patients(folder / "testing", frames, labels_needed=False)
    patients = merged_folds({"training": train, "testing": test}, "ACDC")
    return ImageSet(
        classes=CLASSES,
        subjects=tuple(sorted(patients)),
        read_subject=partial(_read_patient, patients),
        split=_official_split(train, test),
    )


def _official_split(
    train: Mapping[str, list[_Frame]], test: Mapping[str, list[_Frame]]
) -> dict[str, tuple[str, ...]] | None:
    if not test:
        return None
    split = {"train": tuple(sorted(train))}
    if all(frame.labels for frames in test.values() for frame in frames):
        split["validation"] = tuple(sorted(test))
    return split


def _patients(
    folder: Path, frames: Sequence[str], *, labels_needed: bool
) -> dict[str, list[_Frame]]:
    """List the volumes of each patient of a folder, from names and ``Info.cfg`` alone."""
    patients = sorted(path for path in folder.glob(_PATIENTS) if path.is_dir())
    if not patients:
        raise DataError(
            f"cannot read ACDC from {folder}: it holds no patient; expected folders "
            f"patient001, patient002, ... in it, or in training/"
        )
    return {path.name: _frames_of(path, frames, labels_needed) for path in patients}


def _frames_of(patient: Path, frames: Sequence[str], labels_needed: bool) -> list[_Frame]:
    numbers = _read_info(patient)
    listed = []
    for frame in frames:
        if frame not in numbers:
            raise DataError(
                f"cannot read {patient.name}: {patient / 'Info.cfg'} names no {frame} frame; "
                f"expected a line like '{frame}: 1', got {sorted(numbers)}"
            )
        name = f"{patient.name}_frame{numbers[frame]:02d}"
        image, labels = _volume(patient / name), _volume(patient / f"{name}_gt")
        if image is None:
            raise DataError(
                f"cannot read {patient.name}: no {name}.nii.gz in {patient}, which its Info.cfg "
                f"names as {frame}; copy the patient again"
            )
        if labels is None and labels_needed:
            raise DataError(
                f"cannot read {patient.name}: no {name}_gt.nii.gz in {patient}, but every training "
                f"patient needs labels; copy the patient again, or take it out of the folder"
            )
        listed.append(_Frame(name.replace("_", " "), image, labels))
    return listed


def _volume(stem: Path) -> Path | None:
    paths = (stem.with_name(stem.name + end) for end in (".nii.gz", ".nii"))
    return next((path for path in paths if path.is_file()), None)


def _read_info(patient: Path) -> dict[str, int]:
    """Return the whole numbers of ``Info.cfg``; its other values (``Group``) are left out."""
    path = patient / "Info.cfg"
    if not path.is_file():
        raise DataError(
            f"cannot read {patient.name}: no Info.cfg in {patient}; it names the ED and ES frames, "
            f"which cannot be told from the file names"
        )
    pairs = (line.partition(":") for line in read_text(path).splitlines())
    return {key.strip(): int(value) for key, _, value in pairs if is_whole(value)}


def _read_patient(patients: Mapping[str, list[_Frame]], subject: str) -> list[ImageSlice]:
    frames = find_subject(patients, subject)
    return [piece for frame in frames for piece in _read_frame(frame, subject)]


def _read_frame(frame: _Frame, subject: str) -> list[ImageSlice]:
    volume = read_volume(frame.image)
    shape = volume.values.shape
    if shape[3] > 1 or shape[2] < 2:
        raise DataError(
            f"cannot read {frame.image}: its shape is {shape if shape[3] > 1 else shape[:3]}, "
            f"expected rows x columns x slices with two slices or more; a short-axis stack was "
            f"cut, copy the file again"
        )
    labels = None
    if frame.labels is not None:
        values = {number: number for number in range(len(CLASSES))}
        labels = read_labels(frame.labels, volume, values=values, classes=CLASSES)
    return cut_slices(volume, labels, subject=subject, name=frame.name)
