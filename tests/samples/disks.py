"""Discs on noise, and networks small enough to learn them in a second; no tests."""

from typing import Any

import torch
from torch import Tensor, nn


def disk_network() -> nn.Module:
    """Two convolutions with normalisations, then two classes."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 2, 1),
    )


def disks(
    subjects: int, *, seed: int = 0, slices: int = 3
) -> list[tuple[Tensor, Tensor, tuple[Any, ...]]]:
    """One batch per subject: a bright disc somewhere on noise, 16 x 16."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    batches = []
    for subject in range(subjects):
        centre = 5 + 6 * torch.rand(slices, 2, generator=generator)
        distance = (y - centre[:, :1, None]) ** 2 + (x - centre[:, 1:, None]) ** 2
        labels = (distance < 12).long()
        noise = 0.7 * torch.randn(slices, 1, 16, 16, generator=generator)
        batches.append((labels[:, None] + noise, labels, (f"s{subject}",) * slices))
    return batches
