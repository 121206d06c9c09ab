"""How a training runs, and what comes out of it."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from paramreuse.data.augmentation import Augment
from paramreuse.errors import ParamReuseError
from paramreuse.training.choices import OPTIMISERS, SCHEDULES, MakeOptimiser, MakeSchedule

if TYPE_CHECKING:
    import pandas as pd

Task: TypeAlias = Literal["segmentation", "autoencoder"]
"""What a network is trained for; the papers' auto-encoder has the segmentation network's shape."""

Loss: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``(outputs, inputs, labels) -> loss``, a mean over the images of the batch."""

TASKS: tuple[Task, ...] = ("segmentation", "autoencoder")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "64-true")
CHOICES = {"optimiser": tuple(OPTIMISERS), "schedule": tuple(SCHEDULES), "loss": ("dice-ce",)}
"""What may be named instead of given as a function."""
_AT_LEAST_ONE = ("epochs", "batch_size", "validate_every", "devices", "nodes")
_NOT_NEGATIVE = ("weight_decay", "cross_entropy_weight", "dice_weight")
_RANGES = {
    **dict.fromkeys(_AT_LEAST_ONE, "at least 1"),
    **dict.fromkeys(
        ("learning_rate", *_NOT_NEGATIVE),
        "a positive number, or one of the two loss weights positive",
    ),
    "precision": f"one of {PRECISIONS}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """How to train: AdamW with a one-cycle learning rate, or functions of one's own.

    Source of the schedule: Smith and Topin (2019), arXiv 1708.07120.

    Attributes:
        epochs: Passes over the training set.
        batch_size: Images per step.
        learning_rate: The largest of the schedule; one-cycle reaches it after 30 % of the steps.
        weight_decay: Of the optimiser; AdamW's is decoupled from the gradient.
        optimiser: ``"adamw"``, ``"sgd"`` (Nesterov momentum 0.9), or ``(parameters, learning_rate,
            weight_decay) -> optimiser``.
        schedule: ``"one-cycle"``, ``"constant"``, or ``(optimiser, steps) -> schedule``, which is
            advanced after every step.
        loss: ``"dice-ce"`` or ``(outputs, inputs, labels) -> loss``, of segmentation; an
            auto-encoder is always trained on the squared error.
        cross_entropy_weight: Weight of the cross-entropy in segmentation.
        dice_weight: Weight of the Dice loss over the foreground classes in segmentation.
        augment: Whether training images are augmented; or ``(images, labels, *, rng) -> (images,
            labels)`` of a batch.
        validate_every: Epochs between validations; the last epoch is always validated.
        seed: Of batches, augmentation and dropout. The same seed on the same machine gives the
            same weights, bit for bit; on a GPU as far as its kernels have a deterministic version.
        device: ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or
            ``"mps"``.
        precision: ``"32-true"``, ``"bf16-mixed"`` or ``"16-mixed"`` (AMP), ``"64-true"``.
        folder: Where ``last.ckpt`` is kept, written after every epoch. None keeps nothing.
        resume: Whether to go on from ``last.ckpt`` where the folder has one.
        devices: Processes on each machine, each with a device of its own. More than one are
            started with ``torchrun`` or ``srun``, and every process trains with the same
            arguments: each takes its part of every batch, and all return the same result.
        nodes: Machines.
        progress: Whether a line on stderr says how far the training is, where somebody watches.

    Raises:
        ParamReuseError: A value is out of range.
    """

    epochs: int = 40
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    optimiser: str | MakeOptimiser = "adamw"
    schedule: str | MakeSchedule = "one-cycle"
    loss: str | Loss = "dice-ce"
    cross_entropy_weight: float = 1.0
    dice_weight: float = 1.0
    augment: bool | Augment = True
    validate_every: int = 1
    seed: int = 0
    device: str = "auto"
    precision: str = "32-true"
    folder: Path | None = None
    resume: bool = True
    devices: int = field(default=1, repr=False)
    nodes: int = field(default=1, repr=False)
    # Not in repr, which a half-done training is recognised by.
    progress: bool = field(default=True, repr=False)

    @property
    def processes(self) -> int:
        """How many processes train together."""
        return self.devices * self.nodes

    def __post_init__(self) -> None:
        _check_choices(self)
        wrong = _out_of_range(self)
        if wrong:
            raise ParamReuseError(
                f"cannot train with {wrong}={getattr(self, wrong)!r}: expected {_RANGES[wrong]}"
            )


def _check_choices(settings: TrainingSettings) -> None:
    for name, known in CHOICES.items():
        chosen = getattr(settings, name)
        if not callable(chosen) and chosen not in known:
            raise ParamReuseError(
                f"cannot train with {name}={chosen!r}: expected one of {list(known)}, or a function"
            )


def _out_of_range(settings: TrainingSettings) -> str:
    """Return the name of the first setting that is out of range, empty where none is."""
    wrong = [name for name in _AT_LEAST_ONE if getattr(settings, name) < 1]
    wrong += [name for name in _NOT_NEGATIVE if not getattr(settings, name) >= 0]
    if not 0 < settings.learning_rate < math.inf:
        wrong.append("learning_rate")
    if settings.cross_entropy_weight + settings.dice_weight == 0:
        wrong.append("cross_entropy_weight")
    if settings.precision not in PRECISIONS:
        wrong.append("precision")
    return wrong[0] if wrong else ""


def optimiser_of(settings: TrainingSettings, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Make the optimiser that the settings name.

    Args:
        settings: How to train.
        parameters: Those that are trained.
    """
    chosen = settings.optimiser
    make = OPTIMISERS[chosen] if isinstance(chosen, str) else chosen
    return make(parameters, settings.learning_rate, settings.weight_decay)


def schedule_of(settings: TrainingSettings, optimiser: Optimizer, steps: int) -> LRScheduler:
    """Make the learning-rate schedule that the settings name.

    Args:
        settings: How to train.
        optimiser: Whose learning rate changes.
        steps: Optimiser steps of the whole training.
    """
    chosen = settings.schedule
    return (SCHEDULES[chosen] if isinstance(chosen, str) else chosen)(optimiser, steps)


def recognisable(settings: TrainingSettings) -> dict[str, object]:
    """Return the settings by name, a function by where it is defined and not by its address."""
    by_name = {part.name: getattr(settings, part.name) for part in fields(settings) if part.repr}
    return {
        name: f"{value.__module__}:{value.__qualname__}"
        if hasattr(value, "__qualname__")
        else value
        for name, value in by_name.items()
    }


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One epoch of a training.

    Attributes:
        epoch: Number of the epoch, from 1.
        train_loss: Mean loss per image of the training set, while it was trained.
        validation_score: Mean over subjects of the mean foreground Dice (segmentation) or of minus
            the mean squared error (auto-encoder); None where the epoch was not validated.
        seconds: Wall time of the epoch, validation included.
    """

    epoch: int
    train_loss: float
    validation_score: float | None
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class TrainingResult:
    """A trained model and how it came about.

    Attributes:
        model: With the weights of the best epoch, in evaluation mode, on the device of the model
            that was given.
        history: One row per epoch, those before an interruption included.
        best_epoch: Epoch with the highest validation score; the first of several.
        best_score: That score.
    """

    model: nn.Module
    history: tuple[EpochRow, ...]
    best_epoch: int
    best_score: float

    def frame(self) -> "pd.DataFrame":
        """Return the history with columns ``epoch train_loss validation_score seconds``."""
        import pandas as pd

        rows = [
            (row.epoch, row.train_loss, row.validation_score, row.seconds) for row in self.history
        ]
        columns = ["epoch", "train_loss", "validation_score", "seconds"]
        return pd.DataFrame(rows, columns=columns).astype({"validation_score": float})
