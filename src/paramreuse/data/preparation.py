"""From slices as scanned to batches a network takes: split, resample, crop, normalise."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from paramreuse.data.augmentation import Augment, augment_batch
from paramreuse.data.slices import ImageSet, ImageSlice
from paramreuse.errors import DataError
from paramreuse.extras import missing_extra
from paramreuse.untouched import untouched_random_state

UNLABELLED = -1
"""Label of every pixel of a slice that nobody has labelled."""

CLIPPED_PERCENT = 0.1
"""Share of the darkest, and of the brightest, pixels of a slice that are clipped: hot pixels, but
not a small bright structure."""

Batch: TypeAlias = tuple[Tensor, Tensor, tuple[str, ...]]
Pair: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Split:
    """Subjects of the two folds, sorted; no subject is in both."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class PreparedSet:
    """Slices of some subjects, all of one size, in memory.

    Attributes:
        images: Shape ``(N, C, H, W)``, float32, mean 0 and variance 1 per slice and channel
            (padding aside).
        labels: Shape ``(N, H, W)``, int64; ``UNLABELLED`` all over where a slice has no labels.
        subjects: Subject of each slice.
        names: Where each slice came from, for messages.
        classes: Class names; the index is the label.
    """

    images: Tensor
    labels: Tensor
    subjects: tuple[str, ...]
    names: tuple[str, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.subjects)

    def select(self, indices: Sequence[int]) -> "PreparedSet":
        """Return the slices at these places, in this order."""
        picked = torch.tensor(list(indices), dtype=torch.int64)
        return replace(
            self,
            images=self.images[picked],
            labels=self.labels[picked],
            subjects=tuple(self.subjects[index] for index in indices),
            names=tuple(self.names[index] for index in indices),
        )

    @property
    def is_labelled(self) -> Tensor:
        """Whether each slice has labels, shape ``(N,)``, bool."""
        return self.labels[:, 0, 0] != UNLABELLED


def split_subjects(
    image_set: ImageSet, *, train: int | None = None, validation: int | None = None, seed: int = 0
) -> Split:
    """Draw the subjects to train on and those to validate on.

    A set with an official split is drawn from it, fold by fold. Else subjects are put in a random
    order, the validation subjects are the first and the training subjects the next ones. So for one
    seed and one number of validation subjects, they stay the same for any number of training
    subjects, and a smaller training fold is part of a larger one.

    Args:
        image_set: The set.
        train: Number of training subjects; None takes all (that are left).
        validation: Number of validation subjects; None takes all of the official fold.
        seed: Of the random order.

    Raises:
        DataError: There are not as many subjects, or without an official validation fold
            ``validation`` is None.
    """
    _check_numbers(train=train, validation=validation)
    order = np.random.default_rng(seed).permutation
    official = image_set.split or {}
    pool = [str(s) for s in order(sorted(official.get("train", image_set.subjects)))]
    if "validation" in official:
        held_out = [str(s) for s in order(sorted(official["validation"]))]
        folds = _take(pool, train, "train"), _take(held_out, validation, "validate")
    else:
        if validation is None:
            raise DataError(
                f"cannot split {len(pool)} subjects: the set has no official validation subjects; "
                f"say how many to hold out with validation=..."
            )
        held_out = _take(pool, validation, "validate")
        folds = _take(pool[validation:], train, "train", held_out=validation), held_out
    return Split(train=tuple(sorted(folds[0])), validation=tuple(sorted(folds[1])))


def _check_numbers(**numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and (not isinstance(number, int) or number < 1):
            raise DataError(
                f"cannot split: {name} is {number!r}, expected a whole number from 1 up"
            )


def _take(
    subjects: Sequence[str], number: int | None, purpose: str, *, held_out: int = 0
) -> list[str]:
    wanted = max(1, len(subjects)) if number is None else number
    if wanted > len(subjects):
        beside = f" beside the {held_out} validation subjects" if held_out else ""
        raise DataError(
            f"cannot {purpose} on {wanted} subjects: there are {len(subjects)}{beside}; "
            f"ask for fewer"
        )
    return list(subjects[:wanted])


def prepare_subjects(
    image_set: ImageSet,
    subjects: Iterable[str],
    *,
    size: int | tuple[int, int],
    spacing_mm: float | Pair | None = None,
) -> PreparedSet:
    """Read subjects and bring their slices to one size.

    Per slice and channel: resample to ``spacing_mm`` (images bilinear, labels nearest), crop around
    the centre, clip the darkest and brightest 0.1 percent, subtract the mean and divide by the
    standard deviation (a constant image becomes 0), pad around the centre. Padding is 0: the mean
    in images, background in labels.

    Args:
        image_set: Where they are read from.
        subjects: Identifiers; slices come in this order.
        size: Rows and columns of the result.
        spacing_mm: Height and width of a pixel of the result; None leaves pixels as they are.

    Raises:
        DataError: There is no slice, slices differ in their channels, or one is inconsistent:
            shapes of image and labels, labels that are no class, values that are no number, a
            spacing that is not positive.
        MissingExtraError: MONAI is not installed.
    """
    shape = _pair("size", size)
    spacing = None if spacing_mm is None else _pair("spacing_mm", spacing_mm)
    parts: list[tuple[Tensor, Tensor]] = []
    slices: list[ImageSlice] = []
    # Importing MONAI moves Python's random state.
    with untouched_random_state():
        transform = _transform((int(shape[0]), int(shape[1])), spacing)
        for subject in subjects:
            pieces = [
                _checked(piece, image_set.classes) for piece in image_set.read_subject(subject)
            ]
            parts += [_prepare_alike(list(group), transform) for _, group in groupby(pieces, _kind)]
            slices += pieces
    _check_channels(slices)
    return PreparedSet(
        images=torch.cat([images for images, _ in parts]),
        labels=torch.cat([labels for _, labels in parts]),
        subjects=tuple(piece.subject for piece in slices),
        names=tuple(piece.name for piece in slices),
        classes=image_set.classes,
    )


def _check_channels(slices: Sequence[ImageSlice]) -> None:
    first = {piece.image.shape[0]: piece.name for piece in reversed(slices)}
    if not first:
        raise DataError("cannot prepare 0 slices: expected one or more; check the subjects' names")
    if len(first) > 1:
        told = ", ".join(f"{first[number]} has {number}" for number in sorted(first))
        raise DataError(
            f"cannot prepare slices with different numbers of channels: {told}; expected the same "
            f"for all. Convert the images, grey or in colours alike"
        )


def _pair(name: str, value: float | Sequence[float]) -> Pair:
    pair = (value, value) if isinstance(value, int | float) else tuple(value)
    if len(pair) != 2 or not all(side > 0 for side in pair):
        raise DataError(f"cannot prepare slices: {name} is {value!r}, expected one or two above 0")
    return pair[0], pair[1]


def _checked(piece: ImageSlice, classes: Sequence[str]) -> ImageSlice:
    """Return the slice if it is what its reader promises."""
    problem = ""
    if piece.image.ndim != 3:
        problem = f"its image has shape {tuple(piece.image.shape)}, expected (C, H, W)"
    elif not piece.image.isfinite().all():
        problem = "its image holds NaN or infinite values"
    elif not all(0 < side < float("inf") for side in piece.spacing_mm):
        problem = f"its spacing is {piece.spacing_mm} mm, expected two numbers above 0"
    elif piece.labels is not None:
        problem = _label_problem(piece.labels, piece.image.shape[1:], len(classes))
    if problem:
        raise DataError(f"cannot prepare {piece.name}: {problem}; check the file or its reader")
    return piece


def _label_problem(labels: Tensor, shape: Sequence[int], num_classes: int) -> str:
    if labels.shape != shape:
        return f"its labels have shape {tuple(labels.shape)}, its image {tuple(shape)}"
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        return f"its labels run from {low} to {high}, expected 0 to {num_classes - 1}"
    return ""


def _kind(piece: ImageSlice) -> tuple[object, ...]:
    return tuple(piece.image.shape), piece.spacing_mm, piece.labels is None


def _transform(size: tuple[int, int], spacing: Pair | None) -> Callable[..., Mapping[str, Any]]:
    try:
        from monai import transforms
    except ImportError as error:
        raise missing_extra("prepare images", "monai") from error
    keys = ("images", "labels")
    resample = transforms.Spacingd(
        keys, pixdim=spacing or (-1, -1), mode=("bilinear", "nearest"), allow_missing_keys=True
    )
    low, high = CLIPPED_PERCENT, 100.0 - CLIPPED_PERCENT
    steps = [
        transforms.CenterSpatialCropd(keys, size, allow_missing_keys=True),
        transforms.ClipIntensityPercentilesd("images", low, high, channel_wise=True),
        # A constant image becomes exactly 0 here; its standard deviation might be a rounding error.
        transforms.ScaleIntensityd("images", minv=0.0, maxv=1.0, channel_wise=True),
        transforms.NormalizeIntensityd("images", channel_wise=True),
        transforms.SpatialPadd(keys, size, allow_missing_keys=True),
    ]
    return transforms.Compose(steps if spacing is None else [resample, *steps])


def _prepare_alike(
    pieces: Sequence[ImageSlice], transform: Callable[..., Mapping[str, Any]]
) -> tuple[Tensor, Tensor]:
    """Transform slices of one shape and spacing at once, as the channels of one image."""
    from monai.data import MetaTensor

    affine = torch.diag(torch.tensor([*pieces[0].spacing_mm, 1.0], dtype=torch.float64))
    stacks = {"images": torch.cat([piece.image.float() for piece in pieces])}
    labels = [piece.labels for piece in pieces if piece.labels is not None]
    if labels:
        stacks["labels"] = torch.stack(labels).float()
    done = transform({key: MetaTensor(stack, affine=affine) for key, stack in stacks.items()})
    images = done["images"].as_tensor().unflatten(0, (len(pieces), -1)).contiguous()
    if not labels:
        shape = (len(pieces), *images.shape[-2:])
        return images, torch.full(shape, UNLABELLED, dtype=torch.int64)
    return images, done["labels"].as_tensor().round().long()


@dataclass(frozen=True, slots=True, eq=False)
class PreparedBatches:
    """Batches of a prepared set; every walk gives the same ones.

    Attributes:
        prepared: Where the slices are.
        indices: Slices of each batch.
        augmentation: Seed of the random changes; None for none.
        augment: What changes a batch.
    """

    prepared: PreparedSet
    indices: tuple[tuple[int, ...], ...]
    augmentation: tuple[int, ...] | None = None
    augment: Augment = augment_batch

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Batch]:
        rng = None if self.augmentation is None else np.random.default_rng(self.augmentation)
        for indices in self.indices:
            picked = torch.tensor(indices)
            images, labels = self.prepared.images[picked], self.prepared.labels[picked]
            if rng is not None:
                images, labels = self.augment(images, labels, rng=rng)
            yield images, labels, tuple(self.prepared.subjects[index] for index in indices)


def batches(
    prepared: PreparedSet, batch_size: int, *, labelled_only: bool = True
) -> PreparedBatches:
    """Cut a prepared set into batches, in its own order, for evaluation.

    Args:
        prepared: The slices.
        batch_size: Slices per batch; the last batch may hold fewer.
        labelled_only: Whether to leave out slices without labels.

    Returns:
        Batches ``(images, labels, subjects)``: ``(N, C, H, W)``, ``(N, H, W)``, N names.

    Raises:
        DataError: No slice is left, or ``batch_size`` is below 1.
    """
    chosen = _chosen(prepared, batch_size, labelled_only)
    return PreparedBatches(prepared, _cut(chosen, batch_size))


def training_batches(
    prepared: PreparedSet,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    augment: bool | Augment = False,
    labelled_only: bool = True,
) -> PreparedBatches:
    """Cut a prepared set into shuffled batches for one epoch of training.

    Order and random changes depend on ``seed`` and ``epoch`` alone; the order is the same with and
    without ``augment``. A last batch of one slice joins the batch before it, since BatchNorm cannot
    be trained on one value per channel.

    Args:
        prepared: The slices.
        batch_size: Slices per batch.
        seed: Of the training run.
        epoch: From 0.
        augment: Whether images are turned, scaled, shifted and re-graded (see ``augment_batch``),
            or a function that changes a batch.
        labelled_only: Whether to leave out slices without labels.

    Raises:
        DataError: No slice is left, or ``batch_size`` is below 1.
    """
    chosen = _chosen(prepared, batch_size, labelled_only)
    order = np.random.default_rng((seed, epoch, 0)).permutation(len(chosen))
    cut = _cut([chosen[index] for index in order], batch_size)
    if batch_size > 1 and len(cut) > 1 and len(cut[-1]) == 1:
        cut = (*cut[:-2], cut[-2] + cut[-1])
    return PreparedBatches(
        prepared,
        cut,
        augmentation=(seed, epoch, 1) if augment else None,
        augment=augment_batch if isinstance(augment, bool) else augment,
    )


def _chosen(prepared: PreparedSet, batch_size: int, labelled_only: bool) -> list[int]:
    if not isinstance(batch_size, int) or batch_size < 1:
        raise DataError(f"cannot make batches of {batch_size!r} slices: expected 1 or more")
    labelled = prepared.is_labelled.tolist()
    chosen = [index for index in range(len(prepared)) if labelled[index] or not labelled_only]
    if not chosen:
        raise DataError(
            f"cannot make batches: none of the {len(prepared)} slices has labels; "
            f"choose subjects with labels, or take all slices with labelled_only=False"
        )
    return chosen


def _cut(chosen: Sequence[int], batch_size: int) -> tuple[tuple[int, ...], ...]:
    starts = range(0, len(chosen), batch_size)
    return tuple(tuple(chosen[start : start + batch_size]) for start in starts)
