"""What a sweep is fed with: ``(inputs, labels, subjects)``, the same every time it is iterated."""

import hashlib
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from paramreuse.errors import ScoreError

Batches: TypeAlias = Iterable[tuple[Tensor, Tensor, Sequence[Hashable]]]
"""Re-iterable; yields inputs ``(N, C, H, W)``, labels ``(N, ...)`` and N hashable subject ids."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One batch that has been looked at.

    Attributes:
        inputs: Shape ``(N, C, H, W)``, or whatever the network takes.
        labels: Shape ``(N, ...)``.
        subjects: N hashable ids.
        digest: Checksum of all three, to notice when a second pass gives other data.
    """

    inputs: Tensor
    labels: Tensor
    subjects: tuple[Hashable, ...]
    digest: str


def walk_batches(batches: Batches) -> Iterator[Batch]:
    """Yield checked batches.

    Raises:
        ScoreError: A batch is not three parts of one length, a subject id is not hashable, an input
            is NaN, or the loader is empty or can be iterated only once.
    """
    if isinstance(batches, Iterator):
        raise ScoreError(
            "cannot walk the batches twice: expected something re-iterable such as a list or a "
            f"DataLoader, got {type(batches).__name__}. Put its items into a list"
        )
    empty = True
    for index, item in enumerate(batches):
        empty = False
        yield _checked(index, item)
    if empty:
        raise ScoreError("cannot score: the batches are empty. Expected at least one batch")


def _checked(index: int, item: object) -> Batch:
    if not isinstance(item, tuple | list) or len(item) != 3:
        raise ScoreError(
            f"batch {index} cannot be used: expected (inputs, labels, subjects), got "
            f"{_describe(item)}. Give every sample the id of its subject as the third part"
        )
    inputs, labels, subjects = item
    if not isinstance(inputs, Tensor) or not isinstance(labels, Tensor):
        raise ScoreError(
            f"batch {index} cannot be used: expected inputs and labels as tensors, got "
            f"{type(inputs).__name__} and {type(labels).__name__}"
        )
    ids = tuple(s.item() if isinstance(s, Tensor) else s for s in subjects)
    if not len(inputs) == len(labels) == len(ids) or not ids:
        raise ScoreError(
            f"batch {index} cannot be used: {len(inputs)} inputs, {len(labels)} labels and "
            f"{len(ids)} subject ids; expected the same number of each, at least one"
        )
    _check_ids(index, ids)
    if inputs.is_floating_point() and bool(torch.isnan(inputs).any()):
        raise ScoreError(f"batch {index} has NaN in its inputs (subjects {sorted(map(str, ids))})")
    return Batch(inputs, labels, ids, _digest(inputs, labels, ids))


def _describe(item: object) -> str:
    size = f" of {len(item)}" if isinstance(item, tuple | list) else ""
    return f"a {type(item).__name__}{size}"


def _check_ids(index: int, ids: tuple[Hashable, ...]) -> None:
    for subject in ids:
        try:
            hash(subject)
        except TypeError:
            raise ScoreError(
                f"batch {index} cannot be used: the subject id {subject!r} is a "
                f"{type(subject).__name__}, which is not hashable. Use a string or a number"
            ) from None


def _digest(inputs: Tensor, labels: Tensor, ids: tuple[Hashable, ...]) -> str:
    digest = hashlib.blake2b(repr((inputs.shape, labels.shape, ids)).encode(), digest_size=16)
    for tensor in (inputs, labels):
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_second_pass(batches: Batches, digests: Sequence[str]) -> None:
    """Walk the batches again and compare with the first pass.

    Args:
        batches: What was walked.
        digests: Digest of each batch of the first pass.

    Raises:
        ScoreError: The second pass gives other data, or another order.
    """
    again = [batch.digest for batch in walk_batches(batches)]
    if again == list(digests):
        return
    pairs = zip(digests, again, strict=False)
    first = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(digests), len(again)))
    raise ScoreError(
        f"the batches differ from one pass to the next, first in batch {first} of {len(digests)}: "
        "every swap has to be scored on the same data. Switch shuffling and augmentation off"
    )


def regrouped(batches: Sequence[Batch], *, seed: int) -> list[Batch]:
    """Put each subject's samples together, subjects in random order.

    Args:
        batches: Every batch, in order.
        seed: Seed of the order; the global random state is neither read nor moved.

    Returns:
        Batches of one subject each, of at most as many samples as the largest given batch. A
        subject whose samples differ in size has several.
    """
    rows: dict[Hashable, dict[object, list[tuple[Tensor, Tensor]]]] = {}
    for batch in batches:
        for image, label, subject in zip(batch.inputs, batch.labels, batch.subjects, strict=True):
            shapes = (image.shape, label.shape)
            rows.setdefault(subject, {}).setdefault(shapes, []).append((image, label))
    size = max(len(batch.inputs) for batch in batches)
    subjects = list(rows)
    order = np.random.default_rng(seed).permutation(len(subjects))
    groups: list[Batch] = []
    for subject in (subjects[index] for index in order):
        for samples in rows[subject].values():
            for start in range(0, len(samples), size):
                images, labels = zip(*samples[start : start + size], strict=True)
                ids = (subject,) * len(images)
                inputs, targets = torch.stack(images), torch.stack(labels)
                groups.append(Batch(inputs, targets, ids, _digest(inputs, targets, ids)))
    return groups
