"""Any folder of images and masks whose names say what belongs together: NIfTI and PNG.

A pattern is a path inside the folder with names in braces. ``{subject}`` is whose image it is; any
other name tells images of one subject apart, and ``{slice:d}`` takes digits alone. The pattern of
the masks has the same names::

    images = "images/{subject}_{slice}.png"
    masks  = "masks/{subject}_{slice}_mask.png"
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from paramreuse.data.formats.patterns import Pattern, natural_order
from paramreuse.data.formats.volumes import (
    Spacing,
    Volume,
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

FOURTH_AXES = ("channels", "frames")


@dataclass(frozen=True, slots=True)
class _Pair:
    """An image and its mask."""

    name: str
    image: Path
    mask: Path | None


@dataclass(frozen=True, slots=True)
class _Form:
    """How the files of a folder are to be understood."""

    values: Mapping[int, int]
    classes: tuple[str, ...]
    pixel: Spacing | None
    fourth_axis: str | None


@reader
def read_folder(
    root: str | PathLike[str],
    *,
    images: str,
    masks: str | None = None,
    classes: Sequence[str] | Mapping[int, str],
    spacing_mm: float | tuple[float, float] | None = None,
    fourth_axis: Literal["channels", "frames"] | None = None,
) -> ImageSet:
    """List the images of a folder by a pattern; they are read one subject at a time.

    A slice is a plane of the third axis of a volume, or a picture, as it is stored. Colours are
    channels.

    Args:
        root: The folder.
        images: Pattern of the images, relative to the folder, with ``{subject}`` in it.
        masks: Pattern of the masks, with the same names; None for images without labels.
        classes: Class names, background first. A list names the values 0, 1, 2, ... of the masks; a
            mapping names any values (``{0: "background", 255: "LV"}``), in this order.
        spacing_mm: Height and width of a pixel, for PNG files, which do not say it.
        fourth_axis: What the fourth axis of a volume holds, which the file does not say:
            ``"channels"`` of each slice, or ``"frames"``, each of which becomes slices of its own
            and is labelled in a mask of four axes.

    Returns:
        The set; subjects are named by ``{subject}``, their images are sorted by the other names,
        numbers as numbers.

    Raises:
        DataError: A pattern is not usable, no image fits it, it does not tell where the subject of
            a name ends, an image has no mask, a file cannot be opened, or there are fewer than two
            classes. Reading a subject raises it when an image and its mask differ in shape or
            place, are damaged, or hold another value, or a volume has a fourth axis and
            ``fourth_axis`` is None.
        MissingExtraError: nibabel or Pillow is not installed (on reading a subject).

    Examples:
        >>> cells = read_folder(                                       # doctest: +SKIP
        ...     "data/cells", images="{subject}.png", masks="{subject}_mask.png",
        ...     classes={0: "background", 255: "cell"}, spacing_mm=0.5,
        ... )
    """
    folder = existing_folder(root, "images", expected="the images")
    values, names = _numbered_classes(classes)
    patterns = Pattern(images), None if masks is None else Pattern(masks)
    unknown = sorted(set(patterns[1].names if patterns[1] else ()) - set(patterns[0].names))
    if unknown:
        raise DataError(
            f"cannot read {folder}: the masks' pattern {masks!r} has the names {unknown}, "
            f"expected only those of the images' pattern {images!r}"
        )
    if fourth_axis not in (None, *FOURTH_AXES):
        raise DataError(
            f"cannot read {folder}: fourth_axis is {fourth_axis!r}, expected one of {FOURTH_AXES}"
        )
    subjects = _list_pairs(folder, *patterns)
    form = _Form(
        values=values,
        classes=names,
        pixel=None if spacing_mm is None else checked_spacing(spacing_mm, "a folder"),
        fourth_axis=fourth_axis,
    )
    return ImageSet(
        classes=names,
        subjects=tuple(sorted(subjects)),
        read_subject=partial(_read_subject, subjects, form),
    )


def _numbered_classes(
    classes: Sequence[str] | Mapping[int, str],
) -> tuple[dict[int, int], tuple[str, ...]]:
    """Return the class number of each value, and the class names."""
    given = dict(classes) if isinstance(classes, Mapping) else dict(enumerate(classes))
    # The keys of a mapping that has been through JSON are text.
    named = {int(key) if is_whole(str(key)) else key: name for key, name in given.items()}
    names = tuple(dict.fromkeys(named.values()))
    are_whole = all(isinstance(value, int) for value in named)
    is_unique = isinstance(classes, Mapping) or len(names) == len(named)
    if isinstance(classes, str) or len(names) < 2 or not are_whole or not is_unique:
        raise DataError(
            f"cannot read a folder with classes {classes!r}: expected two different names or more, "
            f'background first, or whole numbers to names such as {{0: "background", 255: "LV"}}'
        )
    return {value: names.index(name) for value, name in named.items()}, names


def _list_pairs(folder: Path, images: Pattern, masks: Pattern | None) -> dict[str, list[_Pair]]:
    subjects: dict[str, list[_Pair]] = {}
    for path in sorted(images.files(folder), key=lambda path: natural_order(path.as_posix())):
        relative = path.relative_to(folder).as_posix()
        names = images.names_in(relative)
        mask = None if masks is None else folder / masks.filled(names)
        if mask is not None and not mask.is_file():
            if masks is not None and masks.fits(relative):  # "{subject}.png" fits "a_mask.png", too
                continue
            raise DataError(
                f"cannot read {path}: its mask {mask} is not there; expected one for every image "
                f"of {images.text!r}. Put it there, or move the image away"
            )
        images.check_single(relative)
        subjects.setdefault(names["subject"], []).append(_Pair(relative, path, mask))
    if not subjects:
        raise DataError(
            f"cannot read images from {folder}: none fits the pattern {images.text!r}; expected "
            f"the path inside the folder, with forward slashes"
        )
    return subjects


def _read_subject(
    subjects: Mapping[str, list[_Pair]], form: _Form, subject: str
) -> list[ImageSlice]:
    pairs = find_subject(subjects, subject)
    return [piece for pair in pairs for piece in _read_pair(pair, form, subject)]


def _read_pair(pair: _Pair, form: _Form, subject: str) -> list[ImageSlice]:
    volume = read_volume(pair.image, spacing_mm=form.pixel)
    length = volume.values.shape[3]
    is_picture = volume.affine is None and pair.image.suffix.lower() == ".png"
    if length > 1 and not is_picture and form.fourth_axis is None:
        raise DataError(
            f"cannot read {pair.image}: its fourth axis has a length of {length}, and the file "
            f"does not say what it holds; say fourth_axis='channels' (several values per voxel) or "
            f"fourth_axis='frames' (a cine, each frame an image)"
        )
    if length == 1 or is_picture or form.fourth_axis == "channels":
        labels = None if pair.mask is None else _read_mask(pair.mask, volume, form)
        return cut_slices(volume, labels, subject=subject, name=pair.name)
    frames = None if pair.mask is None else _read_mask(pair.mask, volume, form, range(length))
    return [
        piece
        for index in range(length)
        for piece in cut_slices(
            volume.picked(index),
            None if frames is None else frames[..., index],
            subject=subject,
            name=f"{pair.name} frame {index + 1}",
        )
    ]


def _read_mask(
    path: Path, volume: Volume, form: _Form, frames: Sequence[int] | None = None
) -> npt.NDArray[np.int64]:
    return read_labels(
        path,
        volume,
        values=form.values,
        classes=form.classes,
        frames=frames,
        cure="Name every value that is a class, such as classes={0: 'background', 255: "
        f"{form.classes[-1]!r}}}; several values may have one name",
    )
