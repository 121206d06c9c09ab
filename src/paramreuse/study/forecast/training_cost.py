"""What one training takes, by training on two batches a few times over."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from torch import nn

from paramreuse.data.preparation import PreparedSet
from paramreuse.errors import DataError
from paramreuse.training import TrainingSettings, train_model
from paramreuse.training.settings import Task

Clock = Callable[[], float]
COPIES_WHILE_TRAINING = 4
"""Sizes of a model on disk while it is trained: weights, best weights, two moments of AdamW."""
_NUM_BATCHES = 2
_ENOUGH_SECONDS = 1.5
_MOST_EPOCHS = 10


@dataclass(frozen=True, slots=True)
class TrainingCost:
    """What the parts of a training take, in seconds.

    Attributes:
        start: Everything before the first step.
        step: One optimiser step on a full batch.
        validation: Scoring one batch in evaluation mode.
        save: Writing the checkpoint of an epoch.
        first: What the first training of a process takes besides, such as importing libraries.
    """

    start: float
    step: float
    validation: float
    save: float
    first: float

    def seconds(self, *, epochs: int, steps: float, validations: int, batches: int) -> float:
        """Return the time of a training.

        Args:
            epochs: Passes over the training set.
            steps: Steps of an epoch; a batch that is not full counts for its share.
            validations: How often it is validated.
            batches: Batches of the validation set.
        """
        an_epoch = steps * self.step + self.save
        return self.start + epochs * an_epoch + validations * batches * self.validation


def training_cost(
    model: nn.Module,
    train: PreparedSet,
    validation: PreparedSet,
    *,
    task: Task,
    settings: TrainingSettings,
    clock: Clock = time.perf_counter,
) -> TrainingCost:
    """Measure a training on two batches of each set.

    Args:
        model: Where training starts; left as it is.
        train: Slices to train on.
        validation: Slices to validate on.
        task: What is trained.
        settings: How; epochs, folder and resume are not heeded.
        clock: Tells the time in seconds.

    Raises:
        DataError: No slice has labels.
        ModelError: The network does not take the images, or its outputs do not fit the labels.
    """
    few = _few(train, settings.batch_size, task), _few(validation, settings.batch_size, task)

    def timed(epochs: int) -> list[float]:
        """Return when a training of two batches began, and when each epoch was over."""
        times = [clock()]
        train_model(
            model,
            *few,
            task=task,
            settings=replace(
                settings, epochs=epochs, validate_every=epochs + 1, folder=None, progress=False
            ),
            on_epoch=lambda row: times.append(clock()),
        )
        return times

    warm = timed(2)
    epoch = max(warm[2] - warm[1], 1e-4)
    times = timed(min(_MOST_EPOCHS, max(3, round(_ENOUGH_SECONDS / epoch))))
    lasted = [later - earlier for earlier, later in pairwise(times)]
    typical = median(lasted[1:-1])
    start = max(0.0, lasted[0] - typical)
    num_validated = -(-len(few[1]) // settings.batch_size)
    return TrainingCost(
        start=start,
        step=typical / max(1, round(len(few[0]) / settings.batch_size)),
        validation=max(0.0, lasted[-1] - typical) / num_validated,
        save=_save_seconds(model, clock),
        first=max(0.0, warm[1] - warm[0] - start - typical),
    )


def _few(prepared: PreparedSet, batch_size: int, task: Task) -> PreparedSet:
    labelled = prepared.is_labelled.tolist()
    usable = [i for i in range(len(prepared)) if labelled[i] or task == "autoencoder"]
    if not usable:
        raise DataError("cannot train: no slice has labels. Choose other subjects")
    # Evenly over the set: slices of one subject follow each other.
    step = max(1, len(usable) // (_NUM_BATCHES * batch_size))
    kept = usable[::step][: _NUM_BATCHES * batch_size]
    picked = torch.tensor(kept)
    return replace(
        prepared,
        images=prepared.images[picked],
        labels=prepared.labels[picked],
        subjects=tuple(prepared.subjects[index] for index in kept),
        names=tuple(prepared.names[index] for index in kept),
    )


def _save_seconds(model: nn.Module, clock: Clock) -> float:
    """Return the time to write weights, two moments of the optimiser and the best weights."""
    states = [
        {key: value.clone() for key, value in model.state_dict().items()}
        for _ in range(COPIES_WHILE_TRAINING)
    ]
    with tempfile.TemporaryDirectory() as folder:
        before = clock()
        torch.save(states, Path(folder) / "last.ckpt")
        return clock() - before
