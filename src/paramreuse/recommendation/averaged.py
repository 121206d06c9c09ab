"""Several trained networks as one: the mean of their class probabilities."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class AveragedModel(nn.Module):
    """The mean of several networks' class probabilities, of the shape of one network's output.

    Where two trainings are too close to choose between, their mean is rarely worse than either
    (Lakshminarayanan et al., 2017, arXiv 1612.01474).

    Args:
        members: Networks that return ``(N, K, ...)`` logits, or ``(N, 1, ...)`` for two classes.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logarithms of the mean probabilities, logits for a single channel."""
        outputs = [member(inputs) for member in self.members]
        if outputs[0].shape[1] == 1:
            mean = torch.stack([output.sigmoid() for output in outputs]).mean(0)
            return torch.logit(mean, eps=1e-6)
        mean = torch.stack([output.softmax(1) for output in outputs]).mean(0)
        return mean.clamp_min(1e-12).log()
