"""The optimisers and schedules that settings may name, and the form of the caller's own."""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR

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
