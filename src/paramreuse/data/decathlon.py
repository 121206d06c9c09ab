"""Medical Segmentation Decathlon: volumes of any organ, listed in ``dataset.json``.

Source: Antonelli et al. (2022), Nature Communications 13. Layout as published::

    Task04_Hippocampus/{dataset.json, imagesTr/, labelsTr/, imagesTs/}

``dataset.json`` names the classes (``"labels": {"0": "background", ...}``), the training volumes
(``{"image": "./imagesTr/...", "label": "./labelsTr/..."}``) and the test volumes, these as plain
strings. Volumes with several modalities have them on the fourth axis.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from paramreuse.data.formats.dataset_json import (
    check_classes,
    listed_file,
    read_dataset_json,
    strip_ending,
)
from paramreuse.data.formats.volumes import NIFTI_ENDINGS, cut_slices, read_labels, read_volume
from paramreuse.data.slices import ImageSet, ImageSlice
from paramreuse.data.subjects import existing_folder, find_subject, is_whole, reader
from paramreuse.errors import DataError

_CURE = "Name each of them under labels in dataset.json"


@dataclass(frozen=True, slots=True)
class _Case:
    """One volume, with its labels where it has any."""

    image: Path
    labels: Path | None


@reader
def read_decathlon(root: str | PathLike[str]) -> ImageSet:
    """List the volumes of a Decathlon task; they are read one at a time.

    A slice is a plane of the third axis of the volume, as it is stored.

    Args:
        root: Folder that holds ``dataset.json``.

    Returns:
        The set, with the classes of ``dataset.json`` and one subject per volume, named after its
        image. Test volumes have no labels; with them, the set has a split with ``train`` alone, so
        that both folds are drawn from the training volumes. A test list of which no file is there
        counts as not downloaded.

    Raises:
        DataError: ``dataset.json`` is not there, is no JSON, lacks an entry, points outside its
            folder, or lists a file that is not there or cannot be opened. Reading a volume raises
            it when image and labels differ in shape or place, are damaged, or hold a label that is
            not listed.
        MissingExtraError: nibabel is not installed (on reading a volume).

    Examples:
        >>> hippocampus = read_decathlon("data/Task04_Hippocampus")    # doctest: +SKIP
        >>> hippocampus.classes                                        # doctest: +SKIP
        ('background', 'Anterior', 'Posterior')
    """
    folder = existing_folder(root, "the Decathlon", expected="dataset.json")
    content = read_dataset_json(folder)
    classes = _classes(folder, content)
    train = _training_cases(folder, content)
    test = _test_cases(folder, content)
    both = sorted(set(train) & set(test))
    if both:
        raise DataError(
            f"cannot read {folder / 'dataset.json'}: it lists {both[:10]} for training and for "
            f"test; expected different names"
        )
    cases = train | test
    return ImageSet(
        classes=classes,
        subjects=tuple(sorted(cases)),
        read_subject=partial(_read_case, cases, classes),
        split={"train": tuple(sorted(train))} if test else None,
    )


def _classes(folder: Path, content: Mapping[str, Any]) -> tuple[str, ...]:
    labels = content.get("labels")
    if not isinstance(labels, dict) or not all(is_whole(key) for key in labels):
        raise DataError(
            f"cannot read {folder / 'dataset.json'}: labels is {labels!r}, expected "
            f'{{"0": "background", "1": ...}}; a set in the form of nnU-Net is read by read_nnunet'
        )
    return check_classes(
        folder / "dataset.json", {int(label): name for label, name in labels.items()}
    )


def _entries(folder: Path, content: Mapping[str, Any], key: str) -> list[Any]:
    entries = content.get(key, [])
    if not isinstance(entries, list):
        raise DataError(
            f"cannot read {folder / 'dataset.json'}: {key} is a {type(entries).__name__}, expected "
            f"a list"
        )
    return entries


def _training_cases(folder: Path, content: Mapping[str, Any]) -> dict[str, _Case]:
    cases: dict[str, _Case] = {}
    for index, entry in enumerate(_entries(folder, content, "training")):
        key = f"training[{index}]"
        pair = entry if isinstance(entry, dict) else {}
        image = listed_file(folder, pair.get("image"), key=f"{key}.image")
        labels = listed_file(folder, pair.get("label"), key=f"{key}.label")
        for path in (image, labels):
            _check_there(folder, path, key)
        cases[_new_name(folder, image, cases, key)] = _Case(image, labels)
    if not cases:
        raise DataError(
            f"cannot read {folder / 'dataset.json'}: it lists no training volume; expected "
            f'"training": [{{"image": ..., "label": ...}}]'
        )
    return cases


def _test_cases(folder: Path, content: Mapping[str, Any]) -> dict[str, _Case]:
    paths = []
    for index, entry in enumerate(_entries(folder, content, "test")):
        image = entry.get("image") if isinstance(entry, dict) else entry
        paths.append(listed_file(folder, image, key=f"test[{index}]"))
    if not any(path.is_file() for path in paths):
        return {}
    cases: dict[str, _Case] = {}
    for index, path in enumerate(paths):
        _check_there(folder, path, f"test[{index}]")
        cases[_new_name(folder, path, cases, f"test[{index}]")] = _Case(path, None)
    return cases


def _check_there(folder: Path, path: Path, key: str) -> None:
    if not path.is_file():
        raise DataError(
            f"cannot read {folder / 'dataset.json'}: {key} lists {path}, which is not there; copy "
            f"the set again, or take the entry out"
        )


def _new_name(folder: Path, image: Path, cases: Mapping[str, _Case], key: str) -> str:
    name = strip_ending(image.name, NIFTI_ENDINGS)
    if name in cases:
        raise DataError(
            f"cannot read {folder / 'dataset.json'}: {key} lists {name} a second time; expected "
            f"each volume once"
        )
    return name


def _read_case(
    cases: Mapping[str, _Case], classes: tuple[str, ...], subject: str
) -> list[ImageSlice]:
    case = find_subject(cases, subject)
    volume = read_volume(case.image)
    labels = None
    if case.labels is not None:
        values = {label: label for label in range(len(classes))}
        labels = read_labels(case.labels, volume, values=values, classes=classes, cure=_CURE)
    return cut_slices(volume, labels, subject=subject, name=subject)
