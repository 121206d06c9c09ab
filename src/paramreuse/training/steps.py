"""Training that fits few subjects: a fixed number of steps, one complete schedule, last weights.

No subject is set aside: with five labelled subjects there are none to spare, and the epoch that
looks best on one of them is not the best on new ones.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from paramreuse.data.augmentation import augment_batch
from paramreuse.errors import ModelError, ParamReuseError, ScoreError
from paramreuse.reuse.freezing import (
    check_record,
    freeze_tensors,
    frozen_keys,
    record_tensors,
    trainable_parameters,
    unfreeze_tensors,
)
from paramreuse.reuse.plan import Plan
from paramreuse.sweep.batches import Batches, walk_batches
from paramreuse.sweep.recalibration import recalibrated
from paramreuse.training.processes import ALONE, Processes
from paramreuse.training.settings import TrainingSettings
from paramreuse.training.tasks import loss_of
from paramreuse.training.together import Together, joined_processes
from paramreuse.untouched import untouched_random_state


@dataclass(frozen=True, slots=True)
class StepSettings:
    """How each step is made: AdamW under a one-cycle learning rate.

    Source of the schedule: Smith and Topin (2019), arXiv 1708.07120.

    Attributes:
        batch_size: Images per step; fewer where there are not as many, but never one.
        learning_rate: The largest of the cycle, reached after 30 % of the steps.
        weight_decay: Of AdamW; decoupled from the gradient.
        augment: Whether 2-D images are turned, scaled, shifted and re-graded.
        devices: Processes on each machine, as of ``TrainingSettings``: each takes its part of
            every batch on the device of its model, and all end with the same weights.
        nodes: Machines.

    Raises:
        ParamReuseError: A value is out of range.
    """

    batch_size: int = 8
    learning_rate: float = 6e-3
    weight_decay: float = 1e-4
    augment: bool = True
    devices: int = 1
    nodes: int = 1

    def __post_init__(self) -> None:
        fits = self.batch_size >= 2 and self.weight_decay >= 0 and min(self.devices, self.nodes) > 0
        if not fits or not 0 < self.learning_rate < float("inf"):
            raise ParamReuseError(
                f"cannot train with {self}: expected at least 2 images per batch, a learning rate "
                "above 0 and a weight decay from 0 up"
            )


@dataclass(eq=False)
class StepWatch:
    """Looks at a network between two steps of its training, which it does not change.

    Attributes:
        steps: The steps after which it looks, counted from 1.
        look: Called with the number of steps taken and the network in evaluation mode.
        taken: Steps taken so far.
    """

    steps: frozenset[int]
    look: Callable[[int, nn.Module], object]
    taken: int = 0

    def follow(self, model: nn.Module) -> None:
        """Count a step, and look if it is due; the network is in training mode afterwards."""
        self.taken += 1
        if self.taken in self.steps:
            with untouched_random_state():
                self.look(self.taken, model.eval())
            model.train()


def train_steps(  # noqa: PLR0913 - the first five are what a training of one's own is called with
    model: nn.Module,
    labelled: Batches,
    plan: Plan | None,
    steps: int,
    seed: int,
    *,
    settings: StepSettings = StepSettings(),
    watch: StepWatch | None = None,
) -> nn.Module:
    """Train a model that a plan has been applied to, for segmentation; the plan's way, in place.

    Each entry's rate is a factor on the learning rate; the recipe's ``anchor`` pulls what was
    loaded back; ``head_first`` spends that share of the steps on the rest, with a schedule of its
    own. What is frozen is proven by hash to have stayed. The global random state is given back.

    Args:
        model: With the plan's tensors loaded and frozen; trained in place.
        labelled: Re-iterable of ``(inputs, labels, subjects)``, all samples of one size.
        plan: What was applied; None for a training from scratch.
        steps: Optimiser steps.
        seed: Of batches, augmentation and dropout.
        settings: How each step is made.
        watch: Looks at the model at some of the steps; None looks never.

    Returns:
        The model, with the weights of the last step, in evaluation mode.

    Raises:
        ParamReuseError: ``steps`` is below 1.
        ScoreError: The batches cannot be used, or samples differ in size.
        ModelError: The loss is not finite, or outputs and labels do not fit together.
        PlanError: Every parameter is frozen.
        MissingExtraError: MONAI is not installed.
    """
    if steps < 1:
        raise ParamReuseError(f"cannot train for {steps} steps: expected at least 1")
    images, labels = stack_batches(labelled)
    head_steps = 0 if plan is None else round(plan.recipe.head_first * steps)
    record = record_tensors(model, frozen_keys(model))
    with untouched_random_state(), torch.enable_grad():
        together = _together(model, settings)
        stream = _parts(draw_batches(images, labels, seed, settings), together.processes)
        torch.manual_seed(seed + together.processes.rank)
        way = _Way(settings, together, watch)
        if plan is not None and head_steps:
            with _body_frozen(model, plan):
                _run_schedule(model, stream, (None, head_steps), way)
        _run_schedule(model, stream, (plan, max(1, steps - head_steps)), way)
        together.processes.average_statistics(model, frozen_keys(model))
    check_record(model, record, when="in training")
    for parameter in model.parameters():
        parameter.grad = None
    return model.eval()


def finish_training(
    model: nn.Module, start: Mapping[str, Tensor], plan: Plan, inputs: Sequence[Tensor]
) -> nn.Module:
    """Do what a plan asks for once its model is trained: interpolate back, then recalibrate.

    Args:
        model: Trained; left as it is.
        start: The loaded tensors by key, as they were before training.
        plan: The plan.
        inputs: Images ``(N, C, H, W)`` to recompute running statistics on.

    Returns:
        A model in evaluation mode; the given one where nothing is asked for.
    """
    recipe = plan.recipe
    result = model
    if recipe.mix != 1.0:
        result = interpolated(model, start, recipe.mix)
    if recipe.recalibrate:
        result = _with_statistics(result, recalibrated(result, inputs))
    return result.eval()


def interpolated(model: nn.Module, start: Mapping[str, Tensor], mix: float) -> nn.Module:
    """Return a copy whose tensors lie between their values in ``start`` (0) and their own (1).

    Source: WiSE-FT, arXiv 2109.01903, equation 1.
    """
    twin = deepcopy(model)
    tensors = twin.state_dict(keep_vars=True)
    with torch.no_grad():
        for key, value in start.items():
            tensors[key].copy_(value.to(tensors[key]).lerp(tensors[key], mix))
    return twin


def _with_statistics(model: nn.Module, recalibrated_twin: nn.Module) -> nn.Module:
    """Give the twin back the frozen statistics of the model."""
    frozen = set(frozen_keys(model))
    own, new = model.state_dict(), recalibrated_twin.state_dict()
    with torch.no_grad():
        for key in frozen:
            new[key].copy_(own[key])
    return recalibrated_twin


def stack_batches(labelled: Batches) -> tuple[Tensor, Tensor]:
    """Take batches into memory: inputs and labels of all samples.

    Args:
        labelled: Re-iterable of ``(inputs, labels, subjects)``.

    Raises:
        ScoreError: The batches cannot be used, or samples differ in size.
    """
    batches = list(walk_batches(labelled))
    if len({(b.inputs.shape[1:], b.labels.shape[1:]) for b in batches}) != 1:
        raise ScoreError(
            "cannot train: samples differ in size between batches. Bring them to one size, or give "
            "a training of your own with train="
        )
    return torch.cat([b.inputs for b in batches]), torch.cat([b.labels for b in batches])


def draw_batches(
    images: Tensor, labels: Tensor, seed: int, settings: StepSettings
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches for ever; every image is seen once before any is seen again.

    Args:
        images: Shape ``(N, C, H, W)``, or whatever the network takes.
        labels: Shape ``(N, ...)``, integer classes.
        seed: Of order and augmentation.
        settings: Size of a batch, at least two images, and whether it is augmented.
    """
    rng = np.random.default_rng(seed)
    size = max(2, min(settings.batch_size, len(images)))
    flat = images.ndim == 4 and labels.ndim == 3
    waiting: list[int] = []
    while True:
        while len(waiting) < size:
            waiting += rng.permutation(len(images)).tolist()
        chosen, waiting = waiting[:size], waiting[size:]
        batch = images[chosen], labels[chosen]
        yield augment_batch(*batch, rng=rng) if settings.augment and flat else batch


def _together(model: nn.Module, settings: StepSettings) -> Together:
    if settings.devices * settings.nodes == 1:
        return Together(ALONE, None, 1, True)
    on_cpu = next(model.parameters()).device.type == "cpu"
    together = joined_processes(settings.devices, settings.nodes, on_cpu=on_cpu)
    together.connect()
    return together


def _parts(
    stream: Iterator[tuple[Tensor, Tensor]], processes: Processes
) -> Iterator[tuple[Tensor, Tensor, float]]:
    """Yield this process's part of each batch, and what its mean loss weighs."""
    for inputs, labels in stream:
        yield processes.part(inputs, labels)


@contextmanager
def _body_frozen(model: nn.Module, plan: Plan) -> Iterator[None]:
    """Hold what was loaded, the output layer aside, and its statistics."""
    body = [site.key for site in plan.loaded if not site.is_output]
    frozen = freeze_tensors(model, body)
    try:
        trainable_parameters(model)
        yield
    finally:
        unfreeze_tensors(model, frozen)


@dataclass(frozen=True, slots=True, eq=False)
class _Way:
    """How every phase of a training goes: how a step is made, with whom, and who looks on."""

    settings: StepSettings
    together: Together
    watch: StepWatch | None


def _run_schedule(
    model: nn.Module,
    stream: Iterator[tuple[Tensor, Tensor, float]],
    phase: tuple[Plan | None, int],
    way: _Way,
) -> None:
    """Run one complete cycle of the learning rate: the steps of a phase, by its plan."""
    plan, steps = phase
    settings, together, watch = way.settings, way.together, way.watch
    groups = _parameter_groups(model, plan, settings.learning_rate)
    trainable_parameters(model)
    # Fused: on a network this small a step of the plain one takes as long as a convolution.
    optimiser = torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=[float(group["lr"]) for group in groups], total_steps=max(2, steps)
    )
    anchors = _anchors(model, plan)
    loss_function = loss_of("segmentation", TrainingSettings())
    device = next(model.parameters()).device
    network = together.wrapped(model.train())
    for _ in range(steps):
        images, wanted, share = next(stream)
        inputs, labels = images.to(device), wanted.to(device)
        loss = loss_function(network(inputs), inputs, labels) * share
        if not bool(loss.isfinite()):
            raise ModelError(
                f"training diverged: the loss is {loss.item()}. Try a smaller learning rate (now "
                f"{settings.learning_rate:g}), or look for weights or images that are not finite"
            )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if plan is not None:
            _pull_back(anchors, plan.recipe.anchor)
        optimiser.step()
        schedule.step()
        if watch is not None:
            watch.follow(model)


def _anchors(model: nn.Module, plan: Plan | None) -> list[tuple[nn.Parameter, Tensor]]:
    """Return each loaded parameter that is trained, with the value it was loaded with."""
    if plan is None or not plan.recipe.anchor:
        return []
    loaded = {site.key for site in plan.loaded}
    return [
        (parameter, parameter.detach().clone())
        for key, parameter in model.named_parameters()
        if key in loaded and parameter.requires_grad
    ]


def _pull_back(anchors: Sequence[tuple[nn.Parameter, Tensor]], strength: float) -> None:
    """Add the gradient of ``strength / 2 * |w - w0|^2``, equation 2 of arXiv 1802.01483."""
    for parameter, value in anchors:
        if parameter.grad is not None:
            parameter.grad.add_(parameter.detach() - value, alpha=strength)


def _parameter_groups(
    model: nn.Module, plan: Plan | None, learning_rate: float
) -> list[dict[str, Any]]:
    rates = {} if plan is None else {entry.site.key: entry.rate for entry in plan.entries}
    by_rate: dict[float, list[nn.Parameter]] = {}
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            by_rate.setdefault(rates.get(key, 1.0), []).append(parameter)
    return [
        {"params": parameters, "lr": learning_rate * rate} for rate, parameters in by_rate.items()
    ]
