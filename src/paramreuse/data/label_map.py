"""Label maps between sets, by class name: what one set calls LV, another calls left ventricle."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from paramreuse.data.slices import ImageSet, ImageSlice
from paramreuse.errors import DataError


def map_labels(image_set: ImageSet, mapping: Mapping[str, str], classes: Sequence[str]) -> ImageSet:
    """Give a set the classes of another one.

    Every class of the set has to be mapped, so that none is lost in silence: a class that the other
    set does not have is mapped to its background by name. Only the background of the set maps to
    the first of ``classes`` by itself. Several classes may become one.

    Args:
        image_set: The set.
        mapping: Class name of the set -> name out of ``classes``.
        classes: Class names of the result, background first.

    Returns:
        The same subjects, images and official split, with the labels renumbered as they are read.
        Slices without labels stay without.

    Raises:
        DataError: A name is not a class of the set or not one of ``classes``, a class of the set is
            not mapped, or ``classes`` are fewer than two or not all different.

    Examples:
        >>> from paramreuse.data.phantom import read_phantom
        >>> phantom = read_phantom(subjects=1)
        >>> ventricle = map_labels(
        ...     phantom,
        ...     {"RV": "background", "myocardium": "background", "LV": "left ventricle"},
        ...     ("background", "left ventricle"),
        ... )
        >>> ventricle.classes
        ('background', 'left ventricle')
    """
    targets = tuple(classes)
    if isinstance(classes, str) or len(targets) < 2 or len(set(targets)) < len(targets):
        raise DataError(
            f"cannot map labels to the classes {classes!r}: expected two different names or more, "
            f"background first"
        )
    complete = {image_set.classes[0]: targets[0], **mapping}
    _check_known("class", sorted(set(complete) - set(image_set.classes)), image_set.classes)
    _check_known("target", sorted(set(complete.values()) - set(targets)), targets)
    missing = [name for name in image_set.classes if name not in complete]
    if missing:
        raise DataError(
            f"cannot map labels: the classes {missing[:10]} of the set are not mapped; say what "
            f"becomes of each, for example {missing[0]}: {targets[0]}"
        )
    table = torch.tensor([targets.index(complete[name]) for name in image_set.classes])
    return replace(image_set, classes=targets, read_subject=partial(_read_mapped, image_set, table))


def _check_known(role: str, unknown: Sequence[str], known: Sequence[str]) -> None:
    if unknown:
        raise DataError(
            f"cannot map labels: the label map names the {role} {unknown[0]!r}, which does not "
            f"exist; expected one of {list(known)}"
        )


def _read_mapped(image_set: ImageSet, table: Tensor, subject: str) -> list[ImageSlice]:
    return [
        piece if piece.labels is None else replace(piece, labels=table[piece.labels])
        for piece in image_set.read_subject(subject)
    ]
