"""nnU-Net: data in the raw format of its second version.

Source: Isensee et al. (2021), Nature Methods 18; nnU-Net's ``dataset_format.md``. Layout::

    Dataset004_Hippocampus/{dataset.json, imagesTr/, labelsTr/}
    imagesTr/hippocampus_001_0000.nii.gz        case, channel
    labelsTr/hippocampus_001.nii.gz

``dataset.json`` names the channels (``"channel_names": {"0": "T2", ...}``), the classes
(``"labels": {"background": 0, ...}``) and the ``"file_ending"``; in later versions it may list the
files itself (``"dataset"``). ``imagesTs/`` is not read, as nnU-Net does not read it either. The
folds are in ``splits_final.json``, which nnU-Net writes into its folder of preprocessed data.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from paramreuse.data.formats.dataset_json import (
    check_classes,
    listed_file,
    read_dataset_json,
    read_json,
)
from paramreuse.data.formats.volumes import (
    Spacing,
    Volume,
    check_same_place,
    cut_slices,
    read_labels,
    read_volume,
)
from paramreuse.data.slices import ImageSet, ImageSlice
from paramreuse.data.subjects import (
    checked_spacing,
    existing_folder,
    find_subject,
    is_whole,
    reader,
)
from paramreuse.errors import DataError

_READABLE = (".nii.gz", ".nii", ".png")
_CURE = "Number the classes of the files as in dataset.json, 0, 1, 2, ..., as nnU-Net needs it too"


@dataclass(frozen=True, slots=True)
class _Case:
    """One case: a file per channel, and its labels."""

    images: tuple[Path, ...]
    labels: Path


@reader
def read_nnunet(
    root: str | PathLike[str],
    *,
    fold: int = 0,
    splits: str | PathLike[str] | None = None,
    spacing_mm: float | tuple[float, float] | None = None,
) -> ImageSet:
    """List the training cases of an nnU-Net set; they are read one at a time.

    A slice is a plane of the third axis of the volume, as it is stored; its channels come in the
    order of ``channel_names``.

    Args:
        root: Folder that holds ``dataset.json``.
        fold: Which fold of ``splits_final.json`` is the official split.
        splits: Where ``splits_final.json`` is, if not beside ``dataset.json``.
        spacing_mm: Height and width of a pixel, for PNG files, which do not say it.

    Returns:
        The set, with the classes of ``dataset.json`` and one subject per case; with the official
        split ``train`` and ``validation`` where there is a ``splits_final.json``.

    Raises:
        DataError: ``dataset.json`` is not there, is no JSON, lacks an entry, points outside its
            folder, has regions or an ignore label, or names a file ending that cannot be read; a
            case lacks a channel or its labels; a fold names a case that is not there; a file
            cannot be opened. Reading a case raises it when its files differ in shape or place, are
            damaged, have a fourth axis, or hold a label that is not listed.
        MissingExtraError: nibabel or Pillow is not installed (on reading a case).

    Examples:
        >>> prostate = read_nnunet("nnUNet_raw/Dataset005_Prostate")   # doctest: +SKIP
        >>> prostate.classes                                           # doctest: +SKIP
        ('background', 'PZ', 'TZ')
    """
    folder = existing_folder(root, "an nnU-Net set", expected="dataset.json")
    content = read_dataset_json(folder)
    classes = _classes(folder, content)
    channels = _channels(folder, content)
    cases = _listed_cases(folder, content) or _found_cases(folder, content)
    for name, case in cases.items():
        _check_case(name, case, channels)
    pixel = None if spacing_mm is None else checked_spacing(spacing_mm, "nnU-Net")
    path = folder / "splits_final.json" if splits is None else Path(splits)
    return ImageSet(
        classes=classes,
        subjects=tuple(sorted(cases)),
        read_subject=partial(_read_case, cases, classes, pixel),
        split=None if splits is None and not path.is_file() else _read_split(path, fold, cases),
    )


def _classes(folder: Path, content: Mapping[str, Any]) -> tuple[str, ...]:
    where, labels = folder / "dataset.json", content.get("labels")
    if not isinstance(labels, dict) or not labels:
        raise DataError(
            f'cannot read {where}: labels is {labels!r}, expected {{"background": 0, ...}}'
        )
    if all(is_whole(key) for key in labels):
        raise DataError(
            f"cannot read {where}: labels is {labels!r}, number to name, as in the Decathlon; "
            f'expected {{"background": 0, ...}}, or read the set with read_decathlon'
        )
    if "ignore" in labels:
        raise DataError(
            f"cannot read {where}: it has an 'ignore' label, and partly labelled images are not "
            f"supported; expected every pixel to have a class"
        )
    regions = [name for name, label in labels.items() if not isinstance(label, int)]
    if regions:
        raise DataError(
            f"cannot read {where}: the labels {regions[:10]} are regions of several numbers, which "
            f"overlap; expected one number per class"
        )
    return check_classes(where, {label: name for name, label in labels.items()})


def _channels(folder: Path, content: Mapping[str, Any]) -> tuple[str, ...]:
    names = content.get("channel_names")
    keys = sorted(int(key) for key in names if is_whole(key)) if isinstance(names, dict) else []
    if not keys or keys != list(range(len(names or {}))):
        raise DataError(
            f"cannot read {folder / 'dataset.json'}: channel_names is {names!r}, expected "
            f'{{"0": ..., "1": ...}} without a gap'
        )
    return tuple(str((names or {})[str(key)]) for key in keys)


def _listed_cases(folder: Path, content: Mapping[str, Any]) -> dict[str, _Case]:
    """Return the cases that ``dataset.json`` lists itself, if it does."""
    listed = content.get("dataset", {})
    cases = {}
    for name, entry in listed.items() if isinstance(listed, dict) else ():
        images = entry.get("images") if isinstance(entry, dict) else None
        if not isinstance(images, list):
            raise DataError(
                f"cannot read {folder / 'dataset.json'}: dataset.{name} is {entry!r}, expected "
                f'{{"images": [...], "label": ...}}'
            )
        cases[str(name)] = _Case(
            tuple(listed_file(folder, image, key=f"dataset.{name}.images") for image in images),
            listed_file(folder, entry.get("label"), key=f"dataset.{name}.label"),
        )
    return cases


def _found_cases(folder: Path, content: Mapping[str, Any]) -> dict[str, _Case]:
    ending = content.get("file_ending")
    if not isinstance(ending, str) or ending.lower() not in _READABLE:
        raise DataError(
            f"cannot read {folder / 'dataset.json'}: file_ending is {ending!r}, expected one of "
            f"{list(_READABLE)}; convert the files"
        )
    images: dict[str, list[Path]] = {}
    for path in sorted((folder / "imagesTr").glob(f"*_[0-9][0-9][0-9][0-9]{ending}")):
        images.setdefault(path.name.removesuffix(ending)[:-5], []).append(path)
    if not images:
        raise DataError(
            f"cannot read nnU-Net's {folder}: no imagesTr/CASE_0000{ending} in it; expected the "
            f"training images, with the number of the channel at the end"
        )
    for name, paths in images.items():
        first = [folder / "imagesTr" / f"{name}_{n:04d}{ending}" for n in range(len(paths))]
        if paths != first:
            raise DataError(
                f"cannot read {name}: {sorted(set(first) - set(paths))[0]} is not there; expected "
                f"channels without a gap, copy the set again"
            )
    return {
        name: _Case(tuple(paths), folder / "labelsTr" / f"{name}{ending}")
        for name, paths in images.items()
    }


def _check_case(name: str, case: _Case, channels: tuple[str, ...]) -> None:
    missing = [path for path in (*case.images, case.labels) if not path.is_file()]
    if missing:
        raise DataError(
            f"cannot read {name}: {missing[0]} is not there; expected images and labels of every "
            f"case, copy the set again"
        )
    # One colour picture holds all its channels.
    is_picture = len(case.images) == 1 and case.images[0].name.lower().endswith(".png")
    if not is_picture and len(case.images) != len(channels):
        raise DataError(
            f"cannot read {name}: it has {len(case.images)} channels, "
            f"{[path.name for path in case.images]}, expected {len(channels)}, "
            f"{', '.join(channels)}; copy the set again"
        )


def _read_split(path: Path, fold: int, cases: Mapping[str, _Case]) -> dict[str, tuple[str, ...]]:
    folds = read_json(path)
    if not isinstance(folds, list) or not 0 <= fold < len(folds):
        number = len(folds) if isinstance(folds, list) else 0
        raise DataError(f"cannot read {path}: fold is {fold}, expected 0 to {number - 1}")
    chosen = folds[fold] if isinstance(folds[fold], dict) else {}
    split = {}
    for name, key in (("train", "train"), ("validation", "val")):
        listed = chosen.get(key)
        if not isinstance(listed, list) or not listed:
            raise DataError(
                f"cannot read {path}: fold {fold} has no list {key!r}; expected cases in 'train' "
                f"and 'val'"
            )
        unknown = sorted({str(case) for case in listed} - set(cases))
        if unknown:
            raise DataError(
                f"cannot read {path}: fold {fold} names {unknown[:10]} in {key!r}, which the set "
                f"does not hold; it belongs to another set"
            )
        split[name] = tuple(sorted(str(case) for case in listed))
    both = sorted(set(split["train"]) & set(split["validation"]))
    if both:
        raise DataError(f"cannot read {path}: fold {fold} has {both[:10]} in 'train' and in 'val'")
    return split


def _read_case(
    cases: Mapping[str, _Case],
    classes: tuple[str, ...],
    pixel: Spacing | None,
    subject: str,
) -> list[ImageSlice]:
    case = find_subject(cases, subject)
    volumes = [read_volume(path, spacing_mm=pixel) for path in case.images]
    first = volumes[0]
    for volume in volumes:
        _check_channel(volume, first)
    image = replace(first, values=np.concatenate([volume.values for volume in volumes], axis=3))
    values = {label: label for label in range(len(classes))}
    labels = read_labels(case.labels, image, values=values, classes=classes, cure=_CURE)
    return cut_slices(image, labels, subject=subject, name=subject)


def _check_channel(volume: Volume, first: Volume) -> None:
    shape, expected = volume.values.shape, first.values.shape
    if shape != expected:
        raise DataError(
            f"cannot read {volume.path}: its shape is {shape[:3]}, that of {first.path.name} "
            f"{expected[:3]}; expected the same for all channels"
        )
    is_picture = volume.path.name.lower().endswith(".png")
    if shape[3] > 1 and not is_picture:
        raise DataError(
            f"cannot read {volume.path}: it has a fourth axis of {shape[3]}, expected rows x "
            f"columns x slices; nnU-Net has a file per channel, CASE_0000, CASE_0001 and so on"
        )
    check_same_place(volume, first)
