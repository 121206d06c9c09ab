"""The frozen features of each source, scored on some of the target's validation subjects."""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from paramreuse.reuse.ranking import FeatureScores, feature_scores
from paramreuse.study.config import TARGET
from paramreuse.study.job import Job
from paramreuse.sweep.batches import Batches

SUBJECTS = 10
"""Subjects that are looked at: features of all would not fit into memory in a large study."""


def score_features(job: Job, source: str) -> FeatureScores:
    """Return the scores of a source's features, or why they cannot be scored."""
    some = of_first_subjects(job.bench.validation_batches(), SUBJECTS)
    return feature_scores(job.bench.model(TARGET), job.bench.tensors(source), some)


def of_first_subjects(
    batches: Batches, number: int
) -> list[tuple[Tensor, Tensor, Sequence[Hashable]]]:
    """Return the samples of the subjects that come first.

    Args:
        batches: Batches ``(inputs, labels, subjects)``.
        number: How many subjects.
    """
    chosen: dict[Hashable, None] = {}
    found: list[tuple[Tensor, Tensor, Sequence[Hashable]]] = []
    for inputs, labels, subjects in batches:
        for subject in subjects:
            if len(chosen) < number:
                chosen.setdefault(subject)
        kept = [index for index, subject in enumerate(subjects) if subject in chosen]
        if kept:
            rows = torch.tensor(kept)
            found.append((inputs[rows], labels[rows], [subjects[index] for index in kept]))
    return found
