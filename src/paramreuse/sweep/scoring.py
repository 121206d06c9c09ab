"""The score of one model as it is, subject by subject."""

from collections.abc import Hashable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from paramreuse.engine.plain import checked_output, device_of, require_evaluation_mode
from paramreuse.errors import ScoreError
from paramreuse.sweep.batches import Batches, walk_batches
from paramreuse.sweep.scores import Score
from paramreuse.untouched import untouched_random_state

Array = NDArray[np.float64]


def score_subjects(
    model: nn.Module, batches: Batches, score: Score
) -> tuple[tuple[Hashable, ...], Array]:
    """Score a model on batches.

    Args:
        model: Network in evaluation mode; left as it is.
        batches: Re-iterable of ``(inputs, labels, subjects)``.
        score: ``Dice(num_classes=4)`` or another ``Score``.

    Returns:
        Subjects in order of appearance, and their scores, shape ``(P, K)``, NaN where a class does
        not count for a subject.

    Raises:
        ModelError: The model is in training mode, or does not return a tensor.
        ScoreError: The batches cannot be used, or an output is NaN.
    """
    require_evaluation_mode(model)
    device = device_of(model)
    sums: dict[Hashable, Array] = {}
    with untouched_random_state(), torch.no_grad():
        for batch in walk_batches(batches):
            outputs = checked_output(model(batch.inputs.to(device, copy=True)))
            if bool(torch.isnan(outputs).any()):
                raise ScoreError(
                    f"cannot score {type(model).__name__}: its outputs are NaN for subjects "
                    f"{sorted(set(map(str, batch.subjects)))[:10]}. Look at its weights"
                )
            statistics = score.statistics(outputs, batch.labels.to(device)).cpu().numpy()
            for subject, part in zip(batch.subjects, statistics, strict=True):
                sums[subject] = sums.get(subject, 0.0) + part
    return tuple(sums), score.score(np.stack(list(sums.values())))
