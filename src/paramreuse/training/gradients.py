"""Auto-RGN: the learning rate of each block set by its relative gradient norm.

Source: Lee et al. (2022), Surgical Fine-Tuning, arXiv 2210.11466, section 4. There the norms are
taken per tensor and again in every epoch, and normalisations are not trained; here they are taken
once per block, its normalisations included, before the first step.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import islice

import torch
from torch import nn

from paramreuse.errors import ModelError
from paramreuse.reuse.blocks import Block
from paramreuse.reuse.plan import Plan
from paramreuse.reuse.starts import rated_plan
from paramreuse.sweep.batches import Batches
from paramreuse.training.settings import TrainingSettings
from paramreuse.training.steps import StepSettings, draw_batches, stack_batches
from paramreuse.training.tasks import loss_of
from paramreuse.untouched import untouched_random_state

_BATCHES = 5
"""Batches that the norms are averaged over, as in the paper's own code."""

SLOWEST = 0.01
"""Smallest rate: a block whose gradient is 0 now may be needed once others have moved."""


def relative_gradient_norms(
    model: nn.Module,
    labelled: Batches,
    blocks: Sequence[Block],
    *,
    seed: int = 0,
    settings: StepSettings | None = None,
) -> list[float]:
    """Return the norm of each block's gradient over that of its weights.

    Over the parameters ``w`` of a block and the gradient ``g`` of the segmentation loss of a batch,
    ``|g| / |w|``, averaged over five batches of the labelled samples. The model is left as it is.

    Args:
        model: Network with the source loaded.
        labelled: Re-iterable of ``(inputs, labels, subjects)``, all samples of one size.
        blocks: Blocks of the network, e.g. ``blocks_of(match_sites(model, source))``.
        seed: Of the batches.
        settings: How each step will be made; its batch size is taken, nothing is augmented.

    Returns:
        One number per block, 0 where it has no parameter that is trained.

    Raises:
        ScoreError: The batches cannot be used, or samples differ in size.
        ModelError: The loss is not finite, or outputs and labels do not fit together.
        MissingExtraError: MONAI is not installed.
    """
    twin = deepcopy(model).train()
    loss_function = loss_of("segmentation", TrainingSettings())
    device = next(twin.parameters()).device
    plain = replace(settings or StepSettings(), augment=False)
    totals = [0.0] * len(blocks)
    with untouched_random_state(), torch.enable_grad():
        torch.manual_seed(seed)
        stream = draw_batches(*stack_batches(labelled), seed, plain)
        for images, labels in islice(stream, _BATCHES):
            inputs = images.to(device)
            loss = loss_function(twin(inputs), inputs, labels.to(device))
            if not bool(loss.isfinite()):
                raise ModelError(
                    f"cannot set rates by the gradient: the loss is {loss.item()}. Look for "
                    "weights or images that are not finite"
                )
            twin.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            ratios = _ratios(dict(twin.named_parameters()), blocks)
            totals = [total + ratio for total, ratio in zip(totals, ratios, strict=True)]
    return [total / _BATCHES for total in totals]


def auto_rgn_plan(
    model: nn.Module,
    labelled: Batches,
    blocks: Sequence[Block],
    *,
    source: str = "",
    seed: int = 0,
    settings: StepSettings | None = None,
) -> Plan:
    """Load everything, and train each block at its relative gradient norm over the largest.

    Args:
        model: Network with the source loaded; left as it is.
        labelled: Re-iterable of ``(inputs, labels, subjects)``, all samples of one size.
        blocks: Blocks of the network.
        source: Name of the source, for the record.
        seed: Of the batches.
        settings: How each step will be made.

    Returns:
        Rates from 0.01 to 1; what is not in a block is trained at the full rate.

    Raises:
        ScoreError: The batches cannot be used, or samples differ in size.
        ModelError: The loss is not finite, no block has a gradient, or outputs and labels do not
            fit together.
        MissingExtraError: MONAI is not installed.
    """
    norms = relative_gradient_norms(model, labelled, blocks, seed=seed, settings=settings)
    largest = max(norms, default=0.0)
    if not largest > 0:
        raise ModelError(
            "cannot set rates by the gradient: it is 0 in every block. Is everything frozen, or "
            "does the output not depend on the weights?"
        )
    return rated_plan(blocks, [max(SLOWEST, norm / largest) for norm in norms], source=source)


def _ratios(parameters: dict[str, nn.Parameter], blocks: Sequence[Block]) -> list[float]:
    ratios = []
    for block in blocks:
        own = [parameters[site.key] for site in block.sites if site.key in parameters]
        gradients = [p.grad.double().square().sum() for p in own if p.grad is not None]
        weights = [p.detach().double().square().sum() for p in own if p.grad is not None]
        above, below = (float(sum(parts)) ** 0.5 for parts in (gradients, weights))
        ratios.append(above / below if below else 0.0)
    return ratios
