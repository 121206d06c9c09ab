"""ACDC: short-axis cine MRI, end-diastole and end-systole, with RV, myocardium and LV.

Source: Bernard et al. (2018), IEEE TMI 37(11). Layout as published::

    training/patient001/{Info.cfg, patient001_frame01.nii.gz, patient001_frame01_gt.nii.gz, ...}
    testing/patient101/...

Which frame is end-diastole and which end-systole is in ``Info.cfg`` alone: frame 1 usually is
end-diastole, but not always (patient090: ED 4, ES 11).
"""

import gzip
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from paramreuse.data.slices import ImageSet, ImageSlice
from paramreuse.errors import DataError, MissingExtraError

CLASSES = ("background", "RV", "myocardium", "LV")
_FRAMES = ("ED", "ES")
_PATIENTS = "patient*"


@dataclass(frozen=True, slots=True)
class _Frame:
    """A volume of one patient: its image, and its labels where there are any."""

    name: str
    image: Path
    labels: Path | None


def read_acdc(root: str | PathLike[str], *, frames: Sequence[str] = _FRAMES) -> ImageSet:
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
        DataError: A folder or file is not there, or ``Info.cfg`` does not name the frames. Reading
            a patient raises it when image and labels do not fit together, are damaged, hold values
            that are no number or no label, or hold a single slice.
        MissingExtraError: nibabel is not installed (on reading a patient).

    Examples:
        >>> acdc = read_acdc("data/acdc/training")           # doctest: +SKIP
        >>> acdc.read_subject("patient001")[0].image.shape   # doctest: +SKIP
        torch.Size([1, 216, 256])
    """
    frames = _checked_frames(frames)
    folder = Path(root)
    if not folder.is_dir():
        raise DataError(
            f"cannot read ACDC from {folder}: no such folder; expected the folder that holds "
            f"training/, or the patients"
        )
    training = folder / "training" if (folder / "training").is_dir() else folder
    train = _patients(training, frames, labels_needed=training.name != "testing")
    test: dict[str, list[_Frame]] = {}
    if training != folder and (folder / "testing").is_dir():
        test = _patients(folder / "testing", frames, labels_needed=False)
    patients = train | test
    return ImageSet(
        classes=CLASSES,
        subjects=tuple(sorted(patients)),
        read_subject=partial(_read_patient, patients),
        split=_official_split(train, test),
    )


def _checked_frames(frames: Sequence[str]) -> tuple[str, ...]:
    chosen = (frames,) if isinstance(frames, str) else tuple(frames)
    if not chosen or not set(chosen) <= set(_FRAMES) or len(set(chosen)) < len(chosen):
        raise DataError(
            f"cannot read ACDC frames {frames!r}: expected one or both of {_FRAMES}, each once"
        )
    return chosen


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
    found = []
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
        found.append(_Frame(name.replace("_", " "), image, labels))
    return found


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
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): int(value) for key, _, value in pairs if value.strip().isdecimal()}


def _read_patient(patients: Mapping[str, list[_Frame]], subject: str) -> list[ImageSlice]:
    if subject not in patients:
        raise DataError(
            f"cannot read {subject!r}: no such patient; there are {len(patients)}, "
            f"from {min(patients)!r} to {max(patients)!r}"
        )
    return [piece for frame in patients[subject] for piece in _read_frame(frame, subject)]


def _read_frame(frame: _Frame, subject: str) -> list[ImageSlice]:
    volume, spacing_mm = _read_volume(frame.image)
    labels = None if frame.labels is None else _read_labels(frame.labels, volume.shape)
    if not np.isfinite(volume).all():
        raise DataError(
            f"cannot read {frame.image}: {int((~np.isfinite(volume)).sum())} voxels are NaN or "
            f"infinite, expected numbers; copy the file again"
        )
    images = torch.from_numpy(np.ascontiguousarray(np.moveaxis(volume, 2, 0), dtype=np.float32))
    planes = None if labels is None else torch.from_numpy(np.moveaxis(labels, 2, 0).copy())
    return [
        ImageSlice(
            image=image[None],
            labels=None if planes is None else planes[index],
            spacing_mm=spacing_mm,
            subject=subject,
            name=f"{frame.name} slice {index + 1}",
        )
        for index, image in enumerate(images)
    ]


def _read_labels(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    labels, _ = _read_volume(path)
    if labels.shape != shape:
        raise DataError(
            f"cannot read {path}: the labels have shape {labels.shape}, the image {shape}; "
            f"expected the same, copy both files again"
        )
    values = np.unique(labels)
    wrong = values[~np.isin(values, range(len(CLASSES)))]
    if wrong.size:
        raise DataError(
            f"cannot read {path}: it holds the labels {wrong[:10].tolist()}, expected only "
            f"{', '.join(f'{i} {name}' for i, name in enumerate(CLASSES))}"
        )
    return labels.astype(np.int64)


def _read_volume(path: Path) -> tuple[npt.NDArray[Any], tuple[float, float]]:
    """Return a volume ``(H, W, Z)`` and the height and width of its pixels in mm."""
    try:
        from nibabel.filebasedimages import ImageFileError
        from nibabel.nifti1 import Nifti1Image
        from nibabel.spatialimages import HeaderDataError
        from nibabel.wrapstruct import WrapStructError
    except ImportError as error:
        raise MissingExtraError(
            "reading NIfTI files needs nibabel: pip install 'paramreuse[train]'"
        ) from error
    broken = (OSError, EOFError, ValueError, zlib.error)
    try:
        # nibabel stops reading before gzip's checksum, so it would not notice a flipped bit.
        content = path.read_bytes()
        image = Nifti1Image.from_bytes(
            gzip.decompress(content) if path.suffix == ".gz" else content
        )
        volume = np.asarray(image.dataobj)
        zooms = tuple(float(zoom) for zoom in image.header.get_zooms()[:2])
    except (*broken, ImageFileError, HeaderDataError, WrapStructError) as error:
        raise DataError(
            f"cannot read {path}: it is no whole NIfTI file ({error}); copy the file again"
        ) from error
    if volume.ndim != 3 or volume.shape[2] < 2:
        raise DataError(
            f"cannot read {path}: its shape is {volume.shape}, expected rows x columns x slices "
            f"with two slices or more; a short-axis stack was cut, copy the file again"
        )
    if not all(np.isfinite(zooms)) or min(zooms) <= 0:
        raise DataError(
            f"cannot read {path}: its pixels measure {zooms} mm, expected positive numbers; "
            f"write the pixel spacing into the header"
        )
    return volume, (zooms[0], zooms[1])
