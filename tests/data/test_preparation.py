"""Splits, resampling, cropping, batches: images and labels stay together, nothing leaks."""

import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from paramreuse.data.augmentation import augment_batch
from paramreuse.data.phantom import read_phantom
from paramreuse.data.preparation import (
    UNLABELLED,
    PreparedSet,
    batches,
    prepare_subjects,
    split_subjects,
    training_batches,
)
from paramreuse.data.slices import ImageSet, ImageSlice
from paramreuse.errors import DataError

CLASSES = ("background", "thing")


def image_set(*slices: ImageSlice, classes=CLASSES) -> ImageSet:
    subjects = tuple(sorted({piece.subject for piece in slices}))
    return ImageSet(classes, subjects, lambda s: [piece for piece in slices if piece.subject == s])


def image_slice(
    image: Tensor, labels: Tensor | None, *, spacing_mm=(1.0, 1.0), subject: str = "p1"
) -> ImageSlice:
    return ImageSlice(image, labels, spacing_mm, subject, f"{subject} slice 1")


def empty_set(num_subjects: int, split=None) -> ImageSet:
    return ImageSet(CLASSES, tuple(f"p{i:02d}" for i in range(num_subjects)), lambda _: [], split)


def marked(shape: tuple[int, int], rows: slice, columns: slice, **options) -> ImageSlice:
    labels = torch.zeros(shape, dtype=torch.int64)
    labels[rows, columns] = 1
    return image_slice(100.0 * labels[None].float(), labels, **options)


def centre(mask: Tensor) -> list[float]:
    return mask.nonzero().double().mean(0).tolist()


# --- splits


def test_split_keeps_folds_apart_and_repeats_itself() -> None:
    split = split_subjects(empty_set(20), train=8, validation=5, seed=3)

    assert (len(split.train), len(split.validation)) == (8, 5)
    assert not set(split.train) & set(split.validation)
    assert split == split_subjects(empty_set(20), train=8, validation=5, seed=3)
    assert split != split_subjects(empty_set(20), train=8, validation=5, seed=4)


def test_fewer_training_subjects_are_a_part_of_more_and_validation_stays() -> None:
    few = split_subjects(empty_set(20), train=3, validation=5)
    many = split_subjects(empty_set(20), train=15, validation=5)

    assert set(few.train) < set(many.train)
    assert few.validation == many.validation
    assert split_subjects(empty_set(20), validation=5) == many


def test_split_draws_from_the_official_folds() -> None:
    official = {"train": ("p00", "p01", "p02"), "validation": ("p03", "p04")}
    split = split_subjects(empty_set(5, official), train=2)

    assert set(split.train) < set(official["train"])
    assert split.validation == official["validation"]


def test_split_stays_within_the_official_training_fold_without_a_validation_fold() -> None:
    split = split_subjects(empty_set(9, {"train": ("p00", "p01", "p02")}), train=2, validation=1)

    assert {*split.train, *split.validation} == {"p00", "p01", "p02"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": 9, "validation": 2}, "cannot train on 9 subjects: there are 8 beside the 2"),
        ({"train": 1, "validation": 11}, "cannot validate on 11 subjects: there are 10; ask"),
        ({"validation": 10}, "cannot train on 1 subjects: there are 0 beside the 10"),
        ({"train": 3}, "cannot split 10 subjects: the set has no official validation subjects"),
        ({"train": 0, "validation": 2}, "train is 0, expected a whole number from 1 up"),
    ],
)
def test_split_refuses_what_the_subjects_do_not_give(options, message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_subjects(empty_set(10), **options)


# --- preparation


def test_cropping_keeps_the_centre_of_image_and_labels() -> None:
    piece = marked((100, 80), slice(40, 44), slice(30, 36))
    prepared = prepare_subjects(image_set(piece), ["p1"], size=(96, 60))

    # 100 to 96 rows drops 2 at the top, 80 to 60 columns drops 10 on the left.
    expected = torch.zeros(96, 60, dtype=torch.int64)
    expected[38:42, 20:26] = 1
    assert torch.equal(prepared.labels[0], expected)
    assert torch.equal(prepared.images[0, 0] > 1, expected == 1)


def test_padding_is_mean_and_background() -> None:
    piece = marked((4, 4), slice(0, 4), slice(0, 2))
    prepared = prepare_subjects(image_set(piece), ["p1"], size=6)

    # Half the pixels 0, half 100: mean 0 and deviation 1 make them -1 and +1.
    assert prepared.images[0, 0, 1].tolist() == pytest.approx([0, 1, 1, -1, -1, 0], abs=1e-5)
    assert prepared.labels[0, 1].tolist() == [0, 1, 1, 0, 0, 0]


def test_resampling_moves_image_and_labels_alike() -> None:
    # A block of 30 x 40 mm: rows 20-49 of 1 mm, columns 10-29 of 2 mm.
    piece = marked((100, 60), slice(20, 50), slice(10, 30), spacing_mm=(1.0, 2.0))
    prepared = prepare_subjects(image_set(piece), ["p1"], size=(64, 80), spacing_mm=1.5)
    image = prepared.images[0, 0] > prepared.images.max() / 2 + prepared.images.min() / 2
    label = prepared.labels[0] == 1

    assert label.any(1).sum() == pytest.approx(30 / 1.5, abs=1)
    assert label.any(0).sum() == pytest.approx(40 / 1.5, abs=1)
    # Nearest and bilinear sampling may put an edge half a pixel apart.
    assert centre(image) == pytest.approx(centre(label), abs=0.51)
    # The block's centre is 15 mm above and 20 mm left of the centre of the slice.
    expected = [(64 - 1) / 2 - 15 / 1.5, (80 - 1) / 2 - 20 / 1.5]
    assert centre(label) == pytest.approx(expected, abs=1.0)


def test_no_label_arises_between_two_labels_under_resampling() -> None:
    # Every second pixel 3, the others 0: averaging makes 1 and 2.
    labels = 3 * (torch.arange(400).reshape(20, 20) % 2)
    piece = image_slice(labels[None].float(), labels)
    classes = ("background", "a", "b", "c")
    prepared = prepare_subjects(
        image_set(piece, classes=classes), ["p1"], size=12, spacing_mm=(1.3, 1.7)
    )

    assert prepared.labels.unique().tolist() == [0, 3]


def test_images_have_mean_0_and_variance_1_whatever_the_scanners_gain() -> None:
    torch.manual_seed(0)
    image = torch.rand(2, 20, 20)
    labels = torch.zeros(20, 20, dtype=torch.int64)
    pieces = (
        image_slice(image, labels, subject="p1"),
        image_slice(1000 * image + 7, labels, subject="p2"),
    )
    images = prepare_subjects(image_set(*pieces), ["p1", "p2"], size=20).images

    torch.testing.assert_close(images.mean((2, 3)), torch.zeros(2, 2), rtol=0, atol=1e-5)
    torch.testing.assert_close(images.std((2, 3), correction=0), torch.ones(2, 2))
    torch.testing.assert_close(images[0], images[1], rtol=1e-3, atol=1e-3)


def test_one_extreme_pixel_does_not_darken_the_rest() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 64, 64)
    image[0, 0, 0] = 1e6
    piece = image_slice(image, None)
    images = prepare_subjects(image_set(piece), ["p1"], size=64).images

    assert images.std() > 0.9
    assert images.max() < 3


@pytest.mark.parametrize("value", [0.0, 0.1, 300.7, -5.0])
@pytest.mark.parametrize("spacing_mm", [None, 1.3])
def test_a_constant_image_becomes_0(value: float, spacing_mm) -> None:
    piece = image_slice(torch.full((1, 33, 31), value), None)
    images = prepare_subjects(image_set(piece), ["p1"], size=24, spacing_mm=spacing_mm).images

    assert torch.equal(images, torch.zeros(1, 1, 24, 24))


def test_slices_keep_order_names_and_subjects_across_shapes() -> None:
    torch.manual_seed(0)
    shapes = [(20, 20), (20, 20), (24, 20), (20, 20)]
    pieces = [
        ImageSlice(
            torch.rand(1, *shape),
            None if index == 1 else torch.full(shape, index % 2),
            (1.0, 1.0),
            f"p{index // 2}",
            f"slice {index}",
        )
        for index, shape in enumerate(shapes)
    ]
    prepared = prepare_subjects(image_set(*pieces), ["p1", "p0"], size=20)

    assert prepared.names == ("slice 2", "slice 3", "slice 0", "slice 1")
    assert prepared.subjects == ("p1", "p1", "p0", "p0")
    assert prepared.labels[:, 10, 10].tolist() == [0, 1, 0, UNLABELLED]
    assert prepared.is_labelled.tolist() == [True, True, True, False]
    alone = prepare_subjects(image_set(*pieces[3:]), ["p1"], size=20)
    assert torch.equal(prepared.images[1], alone.images[0])


def states() -> list[object]:
    torch_state = torch.get_rng_state().numpy().tobytes()
    return [random.getstate(), np.random.get_state()[1].tobytes(), torch_state]


def test_preparation_and_batches_leave_global_random_states_alone() -> None:
    phantom = read_phantom(subjects=2, slices=2, size=32)
    before = states()
    prepared = prepare_subjects(phantom, phantom.subjects, size=32, spacing_mm=4.0)
    list(batches(prepared, 3))
    list(training_batches(prepared, 3, seed=0, epoch=0, augment=True))

    assert states() == before


def test_a_reader_that_draws_random_numbers_leaves_them_as_they_were() -> None:
    def read(subject: str) -> list[ImageSlice]:
        values = torch.rand(1, 8, 8) + random.random() + np.random.rand()  # noqa: S311
        return [image_slice(values, None, subject=subject)]

    before = states()
    prepare_subjects(ImageSet(CLASSES, ("p1",), read), ["p1"], size=8)

    assert states() == before


ZEROS = torch.zeros(8, 8, dtype=torch.int64)


@pytest.mark.parametrize(
    ("piece", "message"),
    [
        (image_slice(torch.rand(8, 8), ZEROS), r"p1 slice 1: its image has shape \(8, 8\)"),
        (
            image_slice(torch.rand(1, 8, 9), ZEROS),
            r"labels have shape \(8, 8\), its image \(8, 9\)",
        ),
        (image_slice(torch.rand(1, 8, 8), ZEROS + 2), "labels run from 2 to 2, expected 0 to 1"),
        (image_slice(torch.rand(1, 8, 8) / 0, ZEROS), "holds NaN or infinite"),
        (
            image_slice(torch.rand(1, 8, 8), ZEROS, spacing_mm=(1.0, 0.0)),
            r"spacing is \(1.0, 0.0\)",
        ),
    ],
)
def test_an_inconsistent_slice_is_named(piece: ImageSlice, message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepare_subjects(image_set(piece), ["p1"], size=8)


def test_no_slice_mixed_channels_and_impossible_sizes_are_refused() -> None:
    grey = image_slice(torch.rand(1, 8, 8), ZEROS)
    colour = image_slice(torch.rand(3, 8, 8), ZEROS)
    with pytest.raises(DataError, match="cannot prepare 0 slices"):
        prepare_subjects(image_set(grey), [], size=8)
    with pytest.raises(DataError, match=r"p1 slice 1 has 1, p1 slice 1 has 3"):
        prepare_subjects(image_set(grey, colour), ["p1"], size=8)
    with pytest.raises(DataError, match="size is 0"):
        prepare_subjects(image_set(grey), ["p1"], size=0)
    with pytest.raises(DataError, match="spacing_mm is -1"):
        prepare_subjects(image_set(grey), ["p1"], size=8, spacing_mm=-1)


# --- batches


def numbered(num_slices: int, unlabelled: tuple[int, ...] = ()) -> PreparedSet:
    """A set whose images hold their own index."""
    images = torch.arange(num_slices).float()[:, None, None, None].expand(-1, 1, 4, 4)
    labels = torch.zeros(num_slices, 4, 4, dtype=torch.int64)
    labels[list(unlabelled)] = UNLABELLED
    subjects = tuple(f"p{index}" for index in range(num_slices))
    return PreparedSet(images, labels, subjects, subjects, CLASSES)


def order(walk) -> list[list[int]]:
    return [images[:, 0, 0, 0].int().tolist() for images, _, _ in walk]


def test_batches_keep_the_order_and_can_be_walked_again() -> None:
    walk = batches(numbered(5), 2)

    assert order(walk) == order(walk) == [[0, 1], [2, 3], [4]]
    assert [subjects for _, _, subjects in walk] == [("p0", "p1"), ("p2", "p3"), ("p4",)]
    assert len(walk) == 3


def test_slices_without_labels_are_left_out_unless_asked_for() -> None:
    prepared = numbered(4, unlabelled=(1,))

    assert order(batches(prepared, 4)) == [[0, 2, 3]]
    assert order(batches(prepared, 4, labelled_only=False)) == [[0, 1, 2, 3]]
    assert sorted(order(training_batches(prepared, 4, seed=0, epoch=0))[0]) == [0, 2, 3]


def test_training_batches_hold_every_slice_once_in_an_order_of_seed_and_epoch() -> None:
    prepared = numbered(9)
    first = order(training_batches(prepared, 3, seed=1, epoch=0))

    assert sorted(index for batch in first for index in batch) == list(range(9))
    assert first == order(training_batches(prepared, 3, seed=1, epoch=0, augment=True))
    others = [training_batches(prepared, 3, seed=s, epoch=e) for s, e in ((1, 1), (2, 0))]
    assert all(order(other) != first for other in others)


def test_a_last_batch_of_one_joins_the_one_before() -> None:
    sizes = [len(batch) for batch in order(training_batches(numbered(7), 3, seed=0, epoch=0))]

    # BatchNorm over one value per channel fails in training.
    assert sizes == [3, 4]
    assert len(order(training_batches(numbered(3), 1, seed=0, epoch=0))) == 3


def test_augmentation_repeats_itself_and_moves_labels_with_the_image() -> None:
    phantom = read_phantom(subjects=1, slices=4, size=48)
    prepared = prepare_subjects(phantom, phantom.subjects, size=48)
    bright = PreparedSet(
        (prepared.labels[:, None] == 3).float(), prepared.labels, prepared.subjects, (), CLASSES
    )
    walk = training_batches(bright, 4, seed=0, epoch=0, augment=True)
    (images, labels, _), (again, _, _) = *walk, *walk

    assert torch.equal(images, again)
    assert labels.unique().tolist() == [0, 1, 2, 3]
    assert not torch.equal(labels.sort(0).values, bright.labels.sort(0).values)
    # The image is the LV itself: bilinear and nearest differ along the rim alone.
    inside = labels == 3
    assert images[:, 0][inside].mean() > 0.9
    assert images[:, 0][~inside].mean() < 0.02


def test_augmentation_makes_no_label_between_two_labels() -> None:
    labels = 3 * (torch.arange(2 * 400).reshape(2, 20, 20) % 2)
    _, turned = augment_batch(labels[:, None].float(), labels, rng=np.random.default_rng(0))

    assert turned.unique().tolist() == [0, 3]


def test_augmentation_of_a_wide_image_is_no_shear() -> None:
    images = torch.zeros(40, 1, 40, 80)
    images[:, :, 10:30, 30:50] = 1.0
    turned, _ = augment_batch(
        images, torch.zeros(40, 40, 80, dtype=torch.int64), rng=np.random.default_rng(0)
    )
    for image in turned[:, 0]:
        spread = torch.cov((image > 0.5).nonzero().double().T).tolist()
        # A square has the same spread along every direction, however it is turned and scaled.
        assert spread[0][0] == pytest.approx(spread[1][1], rel=0.08)
        assert abs(spread[0][1]) < 0.08 * spread[0][0]


def test_batches_without_a_labelled_slice_or_size_are_refused() -> None:
    with pytest.raises(DataError, match="none of the 2 slices has labels"):
        batches(numbered(2, unlabelled=(0, 1)), 2)
    with pytest.raises(DataError, match="cannot make batches of 0 slices"):
        training_batches(numbered(2), 0, seed=0, epoch=0)


@pytest.mark.slow
def test_real_patients_come_out_at_one_size_with_their_hearts_inside() -> None:
    from paramreuse.data.acdc import read_acdc

    folder = os.environ.get("PARAMREUSE_DATA")
    if not folder or not (Path(folder) / "acdc").is_dir():
        pytest.skip("PARAMREUSE_DATA names no folder with acdc/ in it")
    acdc = read_acdc(Path(folder) / "acdc")
    prepared = prepare_subjects(acdc, acdc.subjects[:4], size=128, spacing_mm=1.5)

    assert prepared.images.shape[1:] == (1, 128, 128)
    assert prepared.labels.unique().tolist() == [0, 1, 2, 3]
    blood, muscle = (prepared.images[:, 0][prepared.labels == k].mean() for k in (3, 2))
    assert blood > muscle + 0.5
