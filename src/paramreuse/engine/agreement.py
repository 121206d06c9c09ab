"""When two ways to compute one output agree, and tensors to try them with."""

import torch
from torch import Tensor

AGREEMENT = 1e-4
"""Largest difference between two ways to compute an output, in units of its largest value, that is
taken for rounding."""

_PATTERN = 997
"""A prime, so that the pattern falls on other places in every channel."""


def difference(outputs: Tensor, reference: Tensor) -> float:
    """Return the largest difference in units of the largest reference value; NaN equals NaN."""
    if outputs.shape != reference.shape or outputs.dtype != reference.dtype:
        return float("inf")
    if not outputs.numel() or torch.equal(outputs, reference):
        return 0.0
    known = torch.isfinite(reference)
    if not torch.equal(known, torch.isfinite(outputs)):
        return float("inf")
    outputs, reference = outputs[known].double(), reference[known].double()
    if not outputs.numel():
        return 0.0
    largest = float(reference.abs().max())
    return float((outputs - reference).abs().max()) / max(largest, torch.finfo(torch.float32).tiny)


def nudged(tensor: Tensor) -> Tensor:
    """Move every value by up to a twentieth, in a pattern that fits no number of channels."""
    if not tensor.is_floating_point():
        return tensor
    pattern = torch.arange(_PATTERN, device=tensor.device, dtype=torch.float64).cos()
    repeats = -(-tensor.numel() // _PATTERN)
    waves = (1 + 0.05 * pattern).to(tensor.dtype).repeat(repeats)[: tensor.numel()]
    moved = tensor * waves.view(tensor.shape)
    # A zero would stay, and hide whatever is behind it.
    return torch.where(tensor == 0, waves.abs().view(tensor.shape) / 2, moved)
