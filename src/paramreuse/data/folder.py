"""Any folder of images and masks whose names say what belongs together: NIfTI and PNG.

A pattern is a path inside the folder with names in braces. ``{subject}`` is whose image it is; any
other name tells images of one subject apart. The pattern of the masks has the same names::

    images = "images/{subject}_{slice}.png"
    masks  = "masks/{subject}_{slice}_mask.png"
"""

import glob
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path

from paramreuse.data.formats.volumes import Spacing, cut_slices, read_labels, read_volume
from paramreuse.data.slices import ImageSet, ImageSlice
from paramreuse.data.subjects import existing_folder, find_subject
from paramreuse.errors import DataError

_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class _Pair:
    """An image and its mask."""

    name: str
    image: Path
    mask: Path | None


def read_folder(
    root: str | PathLike[str],
    *,
    images: str,
    masks: str | None = None,
    classes: Sequence[str] | Mapping[int, str],
    spacing_mm: float | tuple[float, float] | None = None,
) -> ImageSet:
    """List the images of a folder by a pattern; they are read one subject at a time.

    A slice is a plane of the third axis of a volume, or a picture, as it is stored. Colours and a
    volume's fourth axis are channels.

    Args:
        root: The folder.
        images: Pattern of the images, relative to the folder, with ``{subject}`` in it.
        masks: Pattern of the masks, with the same names; None for images without labels.
        classes: Class names, background first. A list names the values 0, 1, 2, ... of the masks; a
            mapping names any values (``{0: "background", 255: "LV"}``), in this order.
        spacing_mm: Height and width of a pixel, for PNG files, which do not say it.

    Returns:
        The set; subjects are named by ``{subject}``, their images are sorted by the other names,
        numbers as numbers.

    Raises:
        DataError: A pattern is not usable, no image fits it, an image has no mask, or there are
            fewer than two classes. Reading a subject raises it when an image and its mask do not
            fit together, are damaged, or hold another value.
        MissingExtraError: nibabel or Pillow is not installed (on reading a subject).

    Examples:
        >>> cells = read_folder(                                       # doctest: +SKIP
        ...     "data/cells", images="{subject}.png", masks="{subject}_mask.png",
        ...     classes={0: "background", 255: "cell"}, spacing_mm=0.5,
        ... )
    """
    folder = existing_folder(root, "images", expected="the images")
    values, names = _numbered_classes(classes)
    _check_pattern(images)
    if masks is not None:
        _check_pattern(masks)
        unknown = sorted(set(_FIELD.findall(masks)) - set(_FIELD.findall(images)))
        if unknown:
            raise DataError(
                f"cannot read {folder}: the masks' pattern {masks!r} has the names {unknown}, "
                f"expected only those of the images' pattern {images!r}"
            )
    pixel = (spacing_mm, spacing_mm) if isinstance(spacing_mm, int | float) else spacing_mm
    subjects = _list_pairs(folder, images, masks)
    return ImageSet(
        classes=names,
        subjects=tuple(sorted(subjects)),
        read_subject=partial(_read_pairs, subjects, values=values, classes=names, pixel=pixel),
    )


def _numbered_classes(
    classes: Sequence[str] | Mapping[int, str],
) -> tuple[dict[int, int], tuple[str, ...]]:
    """Return the class number of each value, and the class names."""
    given = dict(classes) if isinstance(classes, Mapping) else dict(enumerate(classes))
    # The keys of a mapping that has been through JSON are text.
    named = {int(key) if str(key).isdecimal() else key: name for key, name in given.items()}
    names = tuple(dict.fromkeys(named.values()))
    is_whole = all(isinstance(value, int) for value in named)
    is_unique = isinstance(classes, Mapping) or len(names) == len(named)
    if isinstance(classes, str) or len(names) < 2 or not is_whole or not is_unique:
        raise DataError(
            f"cannot read a folder with classes {classes!r}: expected two different names or more, "
            f'background first, or whole numbers to names such as {{0: "background", 255: "LV"}}'
        )
    return {value: names.index(name) for value, name in named.items()}, names


def _check_pattern(pattern: str) -> None:
    problem = ""
    if "subject" not in _FIELD.findall(pattern):
        problem = "it has no {subject}"
    elif pattern.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", pattern):
        problem = "it leads out of the folder"
    elif re.search(r"[*?{}]", _FIELD.sub("", pattern)):
        problem = "it has a *, a ? or a single brace"
    if problem:
        raise DataError(
            f"cannot read a folder by the pattern {pattern!r}: {problem}; expected a path inside "
            f"it with names in braces, such as 'images/{{subject}}_{{slice}}.png'"
        )


def _list_pairs(folder: Path, images: str, masks: str | None) -> dict[str, list[_Pair]]:
    parts = _FIELD.split(images)  # text, name, text, name, ..., text
    seen: set[str] = set()
    expression = ""
    for index, part in enumerate(parts):
        if index % 2 == 0:
            expression += re.escape(part)
        else:
            expression += f"(?P={part})" if part in seen else f"(?P<{part}>[^/]+?)"
            seen.add(part)
    anything = "".join("*" if i % 2 else glob.escape(part) for i, part in enumerate(parts))
    subjects: dict[str, list[_Pair]] = {}
    for path in sorted(folder.glob(anything), key=lambda path: _natural(path.as_posix())):
        relative = path.relative_to(folder).as_posix()
        match = re.fullmatch(expression, relative)
        if match is None or not path.is_file():
            continue
        mask = None if masks is None else folder / masks.format(**match.groupdict())
        if mask is not None and not mask.is_file():
            if _is_mask(relative, masks):  # "{subject}.png" fits "a_mask.png", too
                continue
            raise DataError(
                f"cannot read {path}: its mask {mask} is not there; expected one for every image "
                f"of {images!r}"
            )
        subjects.setdefault(match["subject"], []).append(_Pair(relative, path, mask))
    if not subjects:
        raise DataError(
            f"cannot read images from {folder}: none fits the pattern {images!r}; expected the "
            f"path inside the folder, with forward slashes"
        )
    return subjects


def _is_mask(relative: str, masks: str | None) -> bool:
    """Tell whether a file is itself a mask of the pattern."""
    parts = _FIELD.split(masks or "")
    expression = "".join("[^/]+?" if i % 2 else re.escape(part) for i, part in enumerate(parts))
    return re.fullmatch(expression, relative) is not None


def _natural(text: str) -> list[tuple[bool, int, str]]:
    """Return a key that sorts numbers in a text as numbers: 2 before 10."""
    return [
        (word.isdecimal(), int(word) if word.isdecimal() else 0, word)
        for word in re.split(r"(\d+)", text)
        if word
    ]


def _read_pairs(
    subjects: Mapping[str, list[_Pair]],
    subject: str,
    *,
    values: Mapping[int, int],
    classes: tuple[str, ...],
    pixel: Spacing | None,
) -> list[ImageSlice]:
    pieces = []
    for pair in find_subject(subjects, subject):
        image, spacing_mm = read_volume(pair.image, spacing_mm=pixel)
        labels = None
        if pair.mask is not None:
            labels = read_labels(pair.mask, image.shape[:3], values=values, classes=classes)
        pieces += cut_slices(image, labels, spacing_mm=spacing_mm, subject=subject, name=pair.name)
    return pieces
