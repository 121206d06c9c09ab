"""What a network is trained for: the loss of a batch and the score of a validation set."""

from collections.abc import Hashable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paramreuse.errors import ModelError, ScoreError
from paramreuse.extras import missing_extra
from paramreuse.sweep.batches import Batches
from paramreuse.sweep.scores import Dice, NegativeMSE, subject_means
from paramreuse.training.processes import ALONE, Processes
from paramreuse.training.settings import Loss, Task, TrainingSettings


def loss_of(task: Task, settings: TrainingSettings) -> Loss:
    """Return the loss of a task.

    Segmentation: cross-entropy over all classes plus Dice loss over the foreground classes, whose
    sums run over the whole batch, since many slices lack a class. Auto-encoder: mean squared error
    between every output channel and the image (arXiv 2008.03411: "each channel of the output is
    the input image").

    Raises:
        MissingExtraError: MONAI is not installed.
    """
    if task == "autoencoder":
        return lambda outputs, inputs, labels: F.mse_loss(
            outputs.float(), reconstruction_target(inputs, outputs.shape[1])
        )
    if not isinstance(settings.loss, str):
        return settings.loss
    try:
        from monai.losses import DiceCELoss
    except ImportError as error:
        raise missing_extra("train", "monai") from error
    dice_and_cross_entropy = DiceCELoss(
        include_background=False,
        to_onehot_y=True,
        softmax=True,
        batch=True,
        lambda_ce=settings.cross_entropy_weight,
        lambda_dice=settings.dice_weight,
    )

    def segmentation_loss(outputs: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        _check_segmentation(outputs, labels)
        loss: Tensor = dice_and_cross_entropy(outputs.float(), labels.unsqueeze(1))
        return loss

    return segmentation_loss


def reconstruction_target(inputs: Tensor, num_outputs: int) -> Tensor:
    """Repeat the image over the output channels: output ``k`` shall be input ``k mod C``.

    Args:
        inputs: Shape ``(N, C, H, W)``.
        num_outputs: Channels K of the network's output.

    Returns:
        Shape ``(N, K, H, W)``.
    """
    return inputs[:, torch.arange(num_outputs, device=inputs.device) % inputs.shape[1]]


@torch.no_grad()
def validation_score(
    network: nn.Module, batches: Batches, task: Task, processes: Processes = ALONE
) -> float:
    """Score a network in evaluation mode on the device it is on.

    Segmentation: the mean foreground Dice of each subject over the classes that its labels
    contain, then the mean over subjects. Auto-encoder: minus the mean squared error per subject,
    then the mean.

    Args:
        network: In evaluation mode.
        batches: ``(inputs, labels, subjects)``; an auto-encoder ignores the labels.
        task: What the network is trained for.
        processes: Who validate together: each takes every so many-th batch, and the sums of all
            are added up before anything is divided.

    Raises:
        ScoreError: There is no batch, or no subject with a foreground class.
    """
    device = next(network.parameters()).device
    score: Any = None
    sums: dict[Hashable, Any] = {}
    own = islice(iter(batches), processes.rank, None, processes.number)
    for inputs, labels, subjects in own:
        images = inputs.to(device)
        outputs = network(images)
        if task == "segmentation":
            score = score or Dice(outputs.shape[1])
            wanted = labels.to(device)
        else:
            score = score or NegativeMSE()
            wanted = reconstruction_target(images, outputs.shape[1])
        statistics = score.statistics(outputs.float(), wanted).cpu().numpy()
        for subject, statistic in zip(subjects, statistics, strict=True):
            sums[subject] = sums.get(subject, 0.0) + statistic
    score, sums = _joined(processes.gathered((score, sums)))
    if score is None:
        raise ScoreError("cannot validate: the validation set has no batch. Give it subjects")
    means = subject_means(score.score(np.stack(list(sums.values()))), score.foreground)
    if np.isnan(means).all():
        raise ScoreError(
            "cannot validate: no subject of the validation set has a foreground class in its "
            "labels. Choose other validation subjects"
        )
    return float(np.nanmean(means))


def _joined(
    parts: Sequence[tuple[Any, dict[Hashable, Any]]],
) -> tuple[Any, dict[Hashable, Any]]:
    """Add up what several processes have counted; the score is that of any with a batch."""
    if len(parts) == 1:
        return parts[0]
    totals: dict[Hashable, Any] = {}
    for _, sums in parts:
        for subject, statistic in sums.items():
            totals[subject] = totals.get(subject, 0.0) + statistic
    return next((score for score, _ in parts if score is not None), None), totals


def _check_segmentation(outputs: Tensor, labels: Tensor) -> None:
    fits = outputs.ndim == labels.ndim + 1 and outputs.shape[2:] == labels.shape[1:]
    if not fits or outputs.shape[1] < 2:
        raise ModelError(
            f"cannot train segmentation with outputs of shape {tuple(outputs.shape)} and labels of "
            f"shape {tuple(labels.shape)}: expected (N, K, H, W) with at least two classes K, and "
            "(N, H, W). Build the network with num_classes, background included"
        )
