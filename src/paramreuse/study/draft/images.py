"""The images of a folder: which of the package's readers reads them, and what it finds."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paramreuse.data.formats.patterns import Pattern
from paramreuse.data.formats.volumes import read_volume
from paramreuse.data.slices import ImageSet, ImageSlice
from paramreuse.errors import DataError, StudyError
from paramreuse.study.draft.pairs import Pairs, guess_pairs, image_files
from paramreuse.study.named import READERS, load_named

_MAX_MASKS = 200
"""Most masks whose values are looked at."""


@dataclass(frozen=True, slots=True)
class FoundImages:
    """An image set, read as far as a first study needs.

    Attributes:
        reader: Name of the reader.
        root: Folder or file that it reads.
        options: Its options.
        image_set: What it lists.
        example: Slices of the first subject.
        questions: What a person would have to be asked.
    """

    reader: str
    root: Path
    options: Mapping[str, Any]
    image_set: ImageSet
    example: tuple[ImageSlice, ...]
    questions: tuple[str, ...]


def find_images(folder: Path) -> FoundImages:
    """Find images that one of the package's readers reads, in a folder or up to two below it.

    Args:
        folder: The folder.

    Raises:
        StudyError: There is no such folder, it cannot be read, or no reader reads what is in it;
            the message says what was tried.
    """
    tried: list[str] = []
    for place in _folders(folder):
        for reader, looks_like in _MARKS.items():
            if not looks_like(place):
                continue
            try:
                return _read(reader, place, {}, ())
            except DataError as error:
                tried.append(f"{place} looks like {reader}, but: {error}")
    pairs = guess_pairs(folder)
    if pairs is not None:
        return _read_pairs(folder, pairs)
    raise StudyError(_nothing_found(folder, tried))


def _folders(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise StudyError(
            f"cannot look for images in {str(folder)!r}: "
            f"{'it is a file' if folder.exists() else 'no such folder'}. Give the folder that "
            "holds your images"
        )
    level = [folder]
    for _ in range(3):
        yield from level
        level = [below for above in level for below in _below(above)]


def _below(folder: Path) -> list[Path]:
    try:
        return sorted(
            path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
        )[:50]
    except OSError as error:
        raise StudyError(
            f"cannot look for images in {str(folder)!r}: {error.strerror}. Give a folder that you "
            "may read"
        ) from error


def _dataset_labels(folder: Path) -> object:
    try:
        content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content.get("labels") if isinstance(content, dict) else None


def _is_decathlon(folder: Path) -> bool:
    labels = _dataset_labels(folder)
    return isinstance(labels, dict) and all(str(key).isdecimal() for key in labels)


def _is_nnunet(folder: Path) -> bool:
    labels = _dataset_labels(folder)
    return isinstance(labels, dict) and not all(str(key).isdecimal() for key in labels)


def _holds(*patterns: str) -> Callable[[Path], bool]:
    return lambda folder: any(next(folder.glob(pattern), None) for pattern in patterns)


_MARKS: Mapping[str, Callable[[Path], bool]] = {
    "decathlon": _is_decathlon,
    "nnunet": _is_nnunet,
    "acdc": _holds("patient*/Info.cfg", "training/patient*/Info.cfg"),
    "sunnybrook": _holds("SCD_ManualContours", "contourfiles"),
    "t1": _holds("T1Dataset210.mat"),
    "rvsc": _holds("TrainingSet/patient*", "patient*/P*list.txt"),
    "mnms": _holds("Training/Labeled", "*_sa_gt.nii.gz", "*/*_sa_gt.nii.gz"),
}
"""What a folder holds that a reader reads."""


def _read(
    reader: str, root: Path, options: Mapping[str, Any], questions: tuple[str, ...]
) -> FoundImages:
    image_set: ImageSet = load_named(reader, READERS, "reader")(root, **options)
    example = tuple(image_set.read_subject(image_set.subjects[0]))
    if len(image_set.subjects) < 4:
        questions += (
            f"There are {len(image_set.subjects)} subjects, too few to say how sure an answer is. "
            "Are there more?",
        )
    return FoundImages(reader, root, options, image_set, example, questions)


def _read_pairs(folder: Path, pairs: Pairs) -> FoundImages:
    values = _mask_values(folder, pairs)
    classes = {value: _class_name(value, values) for value in values}
    options: dict[str, Any] = {"images": pairs.images, "masks": pairs.masks, "classes": classes}
    questions = [f"What are the mask values {values[1:]} called? Name them under classes"]
    if pairs.images.lower().endswith(".png"):
        options["spacing_mm"] = 1.0
        questions.append("How large is a pixel in mm? PNG files do not say; spacing_mm is 1.0 now")
    number = _fourth_axis(folder, pairs)
    if number > 1:
        options["fourth_axis"] = "channels"
        questions.append(
            f"Are the {number} values on the fourth axis channels of one image, as is written now, "
            "or frames of a film? fourth_axis takes either"
        )
    if pairs.by_slice:
        questions.append(
            f"Is what stands before the last number the subject ({pairs.images})? Subjects must "
            "not be split between training and validation"
        )
    if pairs.alone:
        questions.append(
            f"What is with the {len(pairs.alone)} files that belong to no pair, such as "
            f"{pairs.alone[0].relative_to(folder)}?"
        )
    return _read("folder", folder, options, tuple(questions))


def _fourth_axis(folder: Path, pairs: Pairs) -> int:
    """Return the length of the fourth axis of the first image; 1 for pictures."""
    if pairs.images.lower().endswith(".png"):
        return 1
    first = next(Pattern(pairs.images).files(folder))
    return int(read_volume(first).values.shape[3])


def _class_name(value: int, values: list[int]) -> str:
    if value == values[0]:
        return "background"
    return "foreground" if len(values) == 2 else f"class-{value}"


def _mask_values(folder: Path, pairs: Pairs) -> list[int]:
    levels: set[float] = set()
    step = max(1, len(pairs.mask_files) // _MAX_MASKS)
    for path in pairs.mask_files[::step]:
        values = read_volume(path, spacing_mm=(1.0, 1.0)).values
        levels |= set(map(float, np.unique(values).tolist()))
        if len(levels) > 64 or any(value != int(value) for value in levels):
            raise StudyError(
                f"cannot take {str(path)!r} for a mask: it has {len(levels)} different values or "
                "more, expected a whole number per class. Masks need a folder of their own or a "
                "word such as mask in their names"
            )
    if len(levels) < 2:
        raise StudyError(
            f"cannot learn from the masks of {str(folder)!r}: all pixels of {pairs.masks!r} are "
            f"{sorted(levels)}, expected a background and at least one class"
        )
    return sorted(map(int, levels))


def _nothing_found(folder: Path, tried: list[str]) -> str:
    if tried:
        return f"cannot write a study for {str(folder)!r}: {'; '.join(tried[:3])}"
    first = next(image_files(folder), None)
    if first is not None:
        return (
            f"cannot write a study for {str(folder)!r}: it holds images such as {str(first)!r}, "
            "but no masks to go with them. Put masks of the same names into a folder masks/, or "
            "beside the images with _mask at the end"
        )
    return (
        f"cannot write a study for {str(folder)!r}: no images found. Expected one of the sets "
        f"{sorted(set(READERS) - {'phantom', 'folder'})}, or PNG or NIfTI files in images/ and "
        "masks/. Two checkpoints without images are compared by `paramreuse compare`"
    )
