"""Optimiser and schedule of a training: the package's by name, or functions of the caller's."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR

if TYPE_CHECKING:
    from paramreuse.training.settings import TrainingSettings

MakeOptimiser: TypeAlias = Callable[[Iterable[nn.Parameter], float, float], Optimizer]
"""``(parameters, learning_rate, weight_decay) -> optimiser``."""
MakeSchedule: TypeAlias = Callable[[Optimizer, int], LRScheduler]
"""``(optimiser, steps) -> schedule``, which is advanced after every step."""


def _adamw(parameters: Iterable[nn.Parameter], rate: float, weight_decay: float) -> Optimizer:
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=weight_decay)


def _sgd(parameters: Iterable[nn.Parameter], rate: float, weight_decay: float) -> Optimizer:
    return torch.optim.SGD(
        parameters, lr=rate, weight_decay=weight_decay, momentum=0.9, nesterov=True
    )


def _one_cycle(optimiser: Optimizer, steps: int) -> LRScheduler:
    highest = [group["lr"] for group in optimiser.param_groups]
    return OneCycleLR(optimiser, max_lr=highest, total_steps=steps)


def _constant(optimiser: Optimizer, steps: int) -> LRScheduler:
    return ConstantLR(optimiser, factor=1.0, total_iters=steps)


OPTIMISERS: Mapping[str, MakeOptimiser] = {"adamw": _adamw, "sgd": _sgd}
SCHEDULES: Mapping[str, MakeSchedule] = {"one-cycle": _one_cycle, "constant": _constant}


def optimiser_of(settings: "TrainingSettings", parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Make the optimiser that the settings name.

    Args:
        settings: How to train.
        parameters: Those that are trained.
    """
    chosen = settings.optimiser
    make = OPTIMISERS[chosen] if isinstance(chosen, str) else chosen
    return make(parameters, settings.learning_rate, settings.weight_decay)


def schedule_of(settings: "TrainingSettings", optimiser: Optimizer, steps: int) -> LRScheduler:
    """Make the learning-rate schedule that the settings name.

    Args:
        settings: How to train.
        optimiser: Whose learning rate changes.
        steps: Optimiser steps of the whole training.
    """
    chosen = settings.schedule
    return (SCHEDULES[chosen] if isinstance(chosen, str) else chosen)(optimiser, steps)
