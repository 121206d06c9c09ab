"""What every reader returns: slices of subjects, read one subject at a time.

A reader is a function ``(root, **options) -> ImageSet``. Writing one is all it takes to bring a new
image set: list the subjects, and return a function that reads one of them.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from paramreuse.errors import DataError
from paramreuse.plain_text import plain_text

_NOT_TEXT = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True, eq=False)
class ImageSlice:
    """One image plane with its labels.

    Attributes:
        image: Intensities, shape ``(C, H, W)``, float32, scanner units.
        labels: Class per pixel, shape ``(H, W)``, int64, as indices of the set's class names; None
            where nobody has drawn any.
        spacing_mm: Height (row) and width (column) of a pixel.
        subject: Identifier to split by, so that no subject is in two folds.
        name: Where it came from, for messages: ``"patient001 frame01 slice 3"``.
    """

    image: Tensor
    labels: Tensor | None
    spacing_mm: tuple[float, float]
    subject: str
    name: str


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Subjects of one image set, each read when it is asked for.

    Attributes:
        classes: Class names; the index is the label, the background comes first.
        subjects: Sorted identifiers.
        read_subject: Reads the slices of one subject.
        split: Official split where the set has one, by fold: ``"train"``, ``"validation"``. A set
            that has only ``"train"`` is split within it.

    Raises:
        DataError: A subject is there twice, is in two folds, or is in a fold and not in the set;
            or a name is not text.
    """

    classes: tuple[str, ...]
    subjects: tuple[str, ...]
    read_subject: Callable[[str], list[ImageSlice]]
    split: Mapping[str, tuple[str, ...]] | None = None

    def __post_init__(self) -> None:
        """Refuse subjects that are there twice or in two folds, and names that are not text."""
        _check_names(self)
        _check_folds(self)


def _check_names(image_set: ImageSet) -> None:
    odd = [name for name in image_set.classes if plain_text(name) != name]
    odd += [name for name in image_set.subjects if _NOT_TEXT.search(name)]
    if odd:
        raise DataError(
            f"cannot use the names {odd[:10]} of an image set: they hold characters that are "
            f"not text, such as control characters or broken UTF-8; rename them"
        )


def _check_folds(image_set: ImageSet) -> None:
    folds = image_set.split or {}
    named = [subject for subjects in folds.values() for subject in subjects]
    counts = [Counter(image_set.subjects), Counter(named)]
    twice = sorted({name for count in counts for name, number in count.items() if number > 1})
    strangers = sorted(set(named) - set(image_set.subjects))
    if twice or strangers:
        what = "more than once" if twice else "without being subjects of the set"
        raise DataError(
            f"cannot use an image set: {(twice or strangers)[:10]} are in it {what}; expected "
            f"each subject once, and in one of the folds {list(folds)} at most"
        )
