"""Batches: three parts of one length, the same every time they are iterated."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from paramreuse.errors import ScoreError
from paramreuse.sweep.batches import check_second_pass, walk_batches
from samples.networks import small_batches

IMAGES, LABELS = torch.zeros(2, 1, 3, 3), torch.zeros(2, 3, 3).long()


def test_batches_come_as_they_are_with_their_subjects() -> None:
    given = small_batches()

    walked = list(walk_batches(given))

    assert [batch.subjects for batch in walked] == [("p0", "p0", "p1", "p1", "p2", "p2")] * 2
    assert walked[0].inputs is given[0][0]
    assert walked[0].labels is given[0][1]


def test_a_data_loader_works_with_numbers_and_with_names_as_subjects() -> None:
    items = [(torch.zeros(1, 2, 2), 0, 5), (torch.zeros(1, 2, 2), 1, 6)]
    named = [(image, label, f"p{subject}") for image, label, subject in items]

    assert next(walk_batches(DataLoader(items, batch_size=2))).subjects == (5, 6)
    assert next(walk_batches(DataLoader(named, batch_size=2))).subjects == ("p5", "p6")


def test_ids_that_are_tensors_are_known_by_their_value() -> None:
    # A tensor is hashed by its address, so that each sample were a subject of its own.
    (batch,) = walk_batches([(IMAGES, LABELS, [torch.tensor(4), torch.tensor(4)])])

    assert batch.subjects == (4, 4)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (IMAGES, r"expected \(inputs, labels, subjects\), got a Tensor\. Give every sample"),
        ((IMAGES, LABELS), r"batch 0 cannot be used.*got a tuple of 2"),
        ({"image": IMAGES}, "got a dict"),
        (([1, 2], LABELS, "ab"), "expected inputs and labels as tensors, got list and Tensor"),
        ((IMAGES, LABELS, ["a"]), "2 inputs, 2 labels and 1 subject ids"),
        ((IMAGES, LABELS[:1], ["a", "b"]), "2 inputs, 1 labels and 2 subject ids"),
        ((IMAGES[:0], LABELS[:0], []), "0 inputs, 0 labels.*at least one"),
        ((IMAGES, LABELS, [["a"], ["b"]]), r"subject id \['a'\] is a list, which is not hashable"),
        ((IMAGES / 0, LABELS, ["b", "a"]), r"NaN in its inputs \(subjects \['a', 'b'\]\)"),
    ],
)
def test_a_batch_that_cannot_be_used_is_refused(item: Any, message: str) -> None:
    with pytest.raises(ScoreError, match=message):
        list(walk_batches([item]))


def test_the_number_of_the_batch_is_told() -> None:
    with pytest.raises(ScoreError, match="batch 1 cannot be used"):
        list(walk_batches([(IMAGES, LABELS, "ab"), (IMAGES, LABELS, "abc")]))


def test_no_batches_are_refused() -> None:
    with pytest.raises(ScoreError, match="the batches are empty"):
        list(walk_batches([]))


def test_a_generator_is_refused_before_it_is_walked() -> None:
    def once() -> Iterator[Any]:
        raise AssertionError
        yield

    with pytest.raises(ScoreError, match=r"twice.*got generator\. Put its items into a list"):
        list(walk_batches(once()))


def test_a_loader_is_asked_for_one_walk_at_a_time() -> None:
    class Counting:
        walks = 0

        def __iter__(self) -> Iterator[Any]:
            # A DataLoader starts its workers here.
            self.walks += 1
            return iter(small_batches())

    loader = Counting()

    list(walk_batches(loader))

    assert loader.walks == 1


def test_the_digest_is_of_images_labels_and_subjects() -> None:
    def digest(images: torch.Tensor, labels: torch.Tensor, subjects: str) -> str:
        (batch,) = walk_batches([(images, labels, subjects)])
        return batch.digest

    same = digest(IMAGES.clone(), LABELS.clone(), "ab")

    assert digest(IMAGES, LABELS, "ab") == same
    assert len({same, digest(IMAGES + 1, LABELS, "ab"), digest(IMAGES, LABELS, "ba")}) == 3
    assert digest(IMAGES, LABELS + 1, "ab") != same
    assert digest(IMAGES.transpose(0, 1).reshape(2, 1, 3, 3).half(), LABELS, "ab") != same


def test_the_digest_does_not_depend_on_how_a_tensor_lies_in_memory() -> None:
    images = torch.randn(2, 3, 4, 4)
    strided = images.to(memory_format=torch.channels_last)

    (one,) = walk_batches([(images, LABELS, "ab")])
    (other,) = walk_batches([(strided, LABELS, "ab")])

    assert one.digest == other.digest


def test_a_second_pass_that_gives_the_same_passes() -> None:
    batches = small_batches()

    check_second_pass(batches, [batch.digest for batch in walk_batches(batches)])


@pytest.mark.parametrize(
    ("again", "first"), [([0, 2, 1], 1), ([0, 1], 2), ([0, 1, 2, 2], 3), ([2, 1, 0], 0)]
)
def test_a_second_pass_that_differs_is_refused_with_the_first_batch(
    again: list[int], first: int
) -> None:
    batches = small_batches(3)
    digests = [batch.digest for batch in walk_batches(batches)]

    with pytest.raises(ScoreError, match=rf"first in batch {first} of 3.*Switch shuffling"):
        check_second_pass([batches[i] for i in again], digests)
