"""The image sets of a study: read, split and prepared."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np

from paramreuse.data.preparation import PreparedSet, Split, prepare_subjects, split_subjects
from paramreuse.data.slices import ImageSet, ImageSlice
from paramreuse.data.subjects import unreadable
from paramreuse.errors import DataError, StudyError
from paramreuse.study.config import DataSpec
from paramreuse.study.named import READERS, load_named
from paramreuse.study.own_functions import check_options, first_parameter
from paramreuse.study.talk import Step


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """One image set of a study, prepared.

    Attributes:
        classes: Class names, background first.
        split: Subjects of the two folds.
        train: Slices to train on; None for a set that is only validated on.
        validation: Slices to validate on.
    """

    classes: tuple[str, ...]
    split: Split
    train: PreparedSet | None
    validation: PreparedSet

    @property
    def trainable(self) -> PreparedSet:
        """Slices to train on.

        Raises:
            StudyError: The set is only validated on.
        """
        if self.train is None:
            raise StudyError("cannot train: the study sets no training subjects aside (train: 0)")
        return self.train


@dataclass
class Shelf:
    """Prepared image sets, so that studies with the same ones read them once.

    Attributes:
        images: By all that they depend on.
    """

    images: dict[tuple[str, ...], Images] = field(default_factory=dict)


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Say which part of the study the images are of that cannot be used."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{place}: {error}") from error
    except OSError as error:  # of a reader of the user's own
        raise DataError(f"{place}: {unreadable(error)}") from error


def prepare_images(image_set: ImageSet, spec: DataSpec, seed: int, step: Step) -> Images:
    """Split an image set into its folds and prepare both.

    Args:
        image_set: The subjects.
        spec: How many of them, and how they are prepared.
        seed: Of the split.
        step: Told how many subjects have been read.

    Raises:
        DataError: The set is incomplete, or has too few subjects.
    """
    split = _split(image_set, spec, seed)
    counted = _counted(image_set, len(split.train) + len(split.validation), step)
    train, validation = (
        prepare_subjects(counted, fold, size=spec.size, spacing_mm=spec.spacing_mm)
        if fold
        else None
        for fold in (split.train, split.validation)
    )
    assert validation is not None, "a split has validation subjects"
    if train is not None and train.images.shape[1] != validation.images.shape[1]:
        raise DataError(
            f"cannot train and validate on images of different kinds: {train.names[0]} has "
            f"{train.images.shape[1]} channels, {validation.names[0]} has "
            f"{validation.images.shape[1]}; expected the same. Convert the images, grey or in "
            f"colours alike"
        )
    return Images(image_set.classes, split, train, validation)


def _counted(image_set: ImageSet, total: int, step: Step) -> ImageSet:
    """Return the set with a reader that says how many subjects it has read."""
    numbers = count(1)

    def read_subject(subject: str) -> list[ImageSlice]:
        pieces = image_set.read_subject(subject)
        step(next(numbers), total)
        return pieces

    return replace(image_set, read_subject=read_subject)


def _split(image_set: ImageSet, spec: DataSpec, seed: int) -> Split:
    if spec.train == 0:
        official = (image_set.split or {}).get("validation", image_set.subjects)
        number = spec.validation or len(official)
        if number > len(official):
            raise DataError(
                f"cannot validate on {number} subjects: there are {len(official)}; ask for fewer"
            )
        order = np.random.default_rng(seed).permutation(sorted(official))
        return Split(train=(), validation=tuple(sorted(map(str, order[:number]))))
    return split_subjects(image_set, train=spec.train, validation=spec.validation, seed=seed)


def read_images(name: str, spec: DataSpec) -> ImageSet:
    """List the subjects of an image set.

    Args:
        name: Its name in the study, for messages.
        spec: Reader, root and options.

    Raises:
        DataError: The set cannot be read.
        StudyError: There is no such reader, or it does not take the options.
    """
    reader = load_named(spec.reader, READERS, "reader")
    if spec.root is None and spec.reader != "phantom":
        raise StudyError(
            f"data.{name} has no root: the reader {spec.reader!r} needs a folder. "
            f"Set root, or give --data {name}=PATH"
        )
    check_options(
        reader,
        spec.options,
        given=(first_parameter(reader),),
        task=f"read data.{name}",
        place=f"data.{name}.options",
    )
    try:
        image_set = reader(spec.root, **spec.options)
    except TypeError as error:
        raise StudyError(
            f"cannot read data.{name} with the options {sorted(spec.options)}: {error}"
        ) from error
    if not isinstance(image_set, ImageSet):
        raise StudyError(
            f"the reader {spec.reader!r} gave {type(image_set).__name__}, expected an ImageSet"
        )
    return image_set
