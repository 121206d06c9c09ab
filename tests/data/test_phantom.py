"""The phantom: reproducible subjects, a task that intensity alone does not solve."""

import random
import re

import numpy as np
import pytest
import torch
from torch import Tensor

from paramreuse.data.phantom import read_phantom
from paramreuse.data.slices import ImageSet
from paramreuse.errors import DataError

DOMAINS = ("cine", "t1", "rvsc")


def stacked(phantom: ImageSet, subject: str) -> tuple[Tensor, Tensor]:
    slices = phantom.read_subject(subject)
    labels = [piece.labels for piece in slices if piece.labels is not None]
    return torch.stack([piece.image for piece in slices]), torch.stack(labels)


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_subject_is_the_same_whatever_the_number_of_subjects(domain) -> None:
    few = read_phantom(domain=domain, subjects=2, slices=3, size=32)
    many = read_phantom(domain=domain, subjects=9, slices=3, size=32)

    alone, among = stacked(few, few.subjects[1]), stacked(many, few.subjects[1])
    assert torch.equal(alone[0], among[0])
    assert torch.equal(alone[1], among[1])


def test_subjects_seeds_and_domains_differ() -> None:
    images = [
        stacked(read_phantom(domain=domain, seed=seed, slices=2, size=32), f"{domain}-{i:04d}")[1]
        for domain in DOMAINS
        for seed in (0, 1)
        for i in (0, 1)
    ]

    assert len({image.numpy().tobytes() for image in images}) == 12


def test_domains_of_one_seed_hold_different_people() -> None:
    def lv_areas_mm2(domain) -> np.ndarray:
        phantom = read_phantom(domain=domain, subjects=6, slices=1)
        slices = [phantom.read_subject(subject)[0] for subject in phantom.subjects]
        return np.array(
            [float((piece.labels == 3).sum()) * piece.spacing_mm[0] ** 2 for piece in slices]
        )

    # The same people would measure the same in both fields of view, but for rounding.
    ratio = lv_areas_mm2("rvsc") / lv_areas_mm2("cine")
    assert (np.abs(ratio - 1) > 0.05).sum() >= 4


def test_reading_leaves_global_random_states_alone() -> None:
    before = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state()
    phantom = read_phantom(subjects=1, slices=2, size=32)
    phantom.read_subject(phantom.subjects[0])

    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tobytes() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_global_random_states_do_not_change_the_images() -> None:
    phantom = read_phantom(subjects=1, slices=2, size=32)
    first = stacked(phantom, phantom.subjects[0])
    np.random.seed(5)
    torch.manual_seed(5)

    assert torch.equal(first[0], stacked(phantom, phantom.subjects[0])[0])


@pytest.mark.parametrize("domain", DOMAINS)
def test_slices_are_what_every_reader_promises(domain) -> None:
    phantom = read_phantom(domain=domain, subjects=1, slices=5, size=(32, 48))
    slices = phantom.read_subject(phantom.subjects[0])

    assert phantom.classes == ("background", "RV", "myocardium", "LV")
    assert len(slices) == 5
    assert len({piece.name for piece in slices}) == 5
    for piece in slices:
        assert piece.image.shape == (1, 32, 48)
        assert piece.image.dtype == torch.float32
        assert (piece.image > 0).all()  # a magnitude image
        assert piece.labels.shape == (32, 48)
        assert piece.labels.dtype == torch.int64
        assert piece.subject == phantom.subjects[0]
        assert min(piece.spacing_mm) > 0


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_subject_has_every_class_and_the_lv_inside_the_myocardium(domain) -> None:
    phantom = read_phantom(domain=domain, subjects=6, slices=4, size=48)
    for subject in phantom.subjects:
        labels = stacked(phantom, subject)[1]
        assert labels.unique().tolist() == [0, 1, 2, 3]
        beside_lv = (labels[:, :, :-1] == 3) & (labels[:, :, 1:] != 3)
        assert set(labels[:, :, 1:][beside_lv].tolist()) <= {2}


def test_the_heart_tapers_to_the_apex_and_contracts() -> None:
    phantom = read_phantom(subjects=4, slices=10)
    for subject in phantom.subjects:
        areas = (stacked(phantom, subject)[1] == 3).sum((1, 2)).tolist()
        assert areas[:5] == sorted(areas[:5], reverse=True)
        # End-systole, base: the first slice of the second half.
        assert areas[5] < areas[0]


def test_anatomy_varies_between_subjects() -> None:
    phantom = read_phantom(subjects=12, slices=1, size=48)
    areas = [(stacked(phantom, subject)[1] == 2).sum().item() for subject in phantom.subjects]

    assert max(areas) > 1.5 * min(areas)


def test_blood_is_brighter_than_myocardium_in_cine_and_either_way_in_t1() -> None:
    def brighter(domain) -> list[bool]:
        phantom = read_phantom(domain=domain, subjects=1, slices=11, size=64)
        images, labels = stacked(phantom, phantom.subjects[0])
        return [
            bool(image[0][label == 3].mean() > image[0][label == 2].mean())
            for image, label in zip(images, labels, strict=True)
        ]

    assert all(brighter("cine"))
    assert set(brighter("t1")) == {True, False}


def test_intensity_alone_does_not_tell_the_classes() -> None:
    """The best class per grey level, chosen on the very same slice, stays far from the labels."""
    phantom = read_phantom(subjects=3, slices=4, size=64)
    dice = []
    for subject in phantom.subjects:
        for image, label in zip(*stacked(phantom, subject), strict=True):
            level = (image[0] / image.max() * 40).long()
            counts = torch.zeros(41, 4)
            counts.index_put_((level, label), torch.ones(1), accumulate=True)
            guess = counts.argmax(1)[level]
            for k in (1, 2, 3):
                both = ((guess == k) & (label == k)).sum()
                dice.append(float(2 * both / ((guess == k).sum() + (label == k).sum())))

    # A small UNet reaches above 0.8.
    assert float(np.nanmean(dice)) < 0.6


def test_field_of_view_does_not_depend_on_the_size() -> None:
    small, large = (read_phantom(subjects=1, slices=1, size=s) for s in (48, 96))
    pieces = [phantom.read_subject(phantom.subjects[0])[0] for phantom in (small, large)]

    assert pieces[0].spacing_mm == (3.0, 3.0)
    assert pieces[1].spacing_mm == (1.5, 1.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"domain": "ct"}, "domain is 'ct', expected one of ['cine', 't1', 'rvsc']"),
        ({"subjects": 0}, "subjects is 0, expected a whole number from 1 up"),
        ({"slices": 0}, "slices is 0"),
        ({"seed": -1}, "seed is -1, expected a whole number from 0 up"),
        ({"size": 8}, "size is 8, expected rows and columns from 16 up"),
        ({"size": (32, 32, 32)}, "size is (32, 32, 32)"),
    ],
)
def test_an_option_out_of_range_is_refused(options, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        read_phantom(**options)


def test_an_unknown_subject_is_refused() -> None:
    message = "cannot read 'cine-0002': no such subject; there are 2"
    with pytest.raises(DataError, match=message):
        read_phantom(subjects=2).read_subject("cine-0002")
