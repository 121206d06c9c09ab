"""The labelled subjects in memory, and how they are held out in turn."""

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from paramreuse.errors import DataError
from paramreuse.sweep.batches import Batches, walk_batches

MAX_FOLDS = 4


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSet:
    """Samples of some subjects, all of one size.

    Attributes:
        inputs: Shape ``(N, C, H, W)``, or whatever the network takes.
        labels: Shape ``(N, ...)``, integer classes.
        owners: Subject of each sample.
    """

    inputs: Tensor
    labels: Tensor
    owners: tuple[Hashable, ...]

    @property
    def subjects(self) -> tuple[Hashable, ...]:
        """The subjects in order of appearance."""
        return tuple(dict.fromkeys(self.owners))

    def of(self, subjects: Collection[Hashable]) -> "LabelledSet":
        """Return the samples of some subjects."""
        kept = [index for index, owner in enumerate(self.owners) if owner in subjects]
        picked = torch.tensor(kept)
        return LabelledSet(
            self.inputs[picked], self.labels[picked], tuple(self.owners[index] for index in kept)
        )

    def batches(self, size: int = 32) -> list[tuple[Tensor, Tensor, tuple[Hashable, ...]]]:
        """Cut the samples into batches ``(inputs, labels, subjects)``, in order.

        All of nearly one size, since a BatchNorm cannot be recalibrated on a last batch of one.
        """
        number = -(-len(self.owners) // size)
        ends = [len(self.owners) * k // number for k in range(number + 1)]
        return [(self.inputs[i:j], self.labels[i:j], self.owners[i:j]) for i, j in pairwise(ends)]


def gather_labelled(batches: Batches) -> LabelledSet:
    """Take batches into memory.

    Raises:
        ScoreError: The batches cannot be used.
        DataError: Samples differ in size.
    """
    walked = list(walk_batches(batches))
    shapes = sorted({(tuple(b.inputs.shape[1:]), tuple(b.labels.shape[1:])) for b in walked})
    if len(shapes) != 1:
        raise DataError(
            f"cannot compare starts on samples of different sizes, such as {shapes[:3]}: expected "
            "one size. Resample or crop them first"
        )
    return LabelledSet(
        torch.cat([b.inputs for b in walked]),
        torch.cat([b.labels for b in walked]),
        tuple(subject for b in walked for subject in b.subjects),
    )


def held_out_folds(subjects: Sequence[Hashable], *, seed: int) -> tuple[tuple[Hashable, ...], ...]:
    """Return which subjects each fold holds out: every subject once, in at most four folds.

    Args:
        subjects: At least two.
        seed: Of the order in which subjects are dealt out.
    """
    order = np.random.default_rng(seed).permutation(len(subjects))
    folds = min(len(subjects), MAX_FOLDS)
    return tuple(tuple(subjects[i] for i in order[k::folds]) for k in range(folds))
