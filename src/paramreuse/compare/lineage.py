"""Do two models share an initialisation? Told from how near their kernels are to a shuffled pair.

Raw distances between models that were started independently measure how their channels are
permuted and scaled, not what they know (Git Re-Basin, arXiv 2209.04836; Neyshabur et al., arXiv
2008.11687), so this is asked before any distance is believed.

A kernel's *null* is the relative RMSE expected if the source's values were shuffled: shuffling
keeps mean and size, and takes away what training from a common start leaves in common. With the
means m and m', and averages over a kernel's n elements::

    null   = sqrt(1 - 2 m m' / (mean(p^2) + mean(p'^2)))
    spread = std(p) std(p') / (sqrt(n - 1) (mean(p^2) + mean(p'^2)) null)

(the variance of a sum of products under a random permutation is exact, Hoeffding 1951). A kernel
is *below* the null when its relative RMSE is lower by more than 0.10 and by more than four
spreads, *at* the null when it is within 0.05 or four spreads and a gap of 0.10 would have been
seen, and *between* otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import sqrt

import torch
from torch import Tensor

from paramreuse.compare.pair_sums import PairSums

_CLEAR_GAP = 0.10  # fine-tuned pairs lie at 0.12-0.75, independent ones at 0.98-1.02
_SMALL_GAP = 0.05
_SPREADS = 4.0
_RUNS, _RUN = 16, 1024  # the means are taken from this many runs of this many elements


class Lineage(StrEnum):
    """Whether two models come from one initialisation."""

    SHARED = "shared"
    INDEPENDENT = "independent"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class KernelEvidence:
    """What one kernel says about lineage.

    Attributes:
        elements: Number of weights of the kernel.
        relative_rmse: Relative RMSE between target and source.
        null: The same, expected if the source's values were shuffled.
        spread: Standard deviation of the latter over shufflings.
    """

    elements: int
    relative_rmse: float
    null: float
    spread: float

    @property
    def gap(self) -> float:
        """How far the kernel lies below the null."""
        return self.null - self.relative_rmse

    @property
    def is_below(self) -> bool:
        """Whether the kernels are clearly more alike than shuffled ones."""
        return self.gap > max(_CLEAR_GAP, _SPREADS * self.spread)

    @property
    def is_telling(self) -> bool:
        """Whether the kernel has enough elements for a clear gap to be seen."""
        return self.is_below or _SPREADS * self.spread <= _CLEAR_GAP

    @property
    def is_at(self) -> bool:
        """Whether the kernels are no more alike than shuffled ones."""
        near = abs(self.gap) <= max(_SMALL_GAP, _SPREADS * self.spread)
        return self.is_telling and not self.is_below and near


def kernel_evidence(target: Tensor, source: Tensor, sums: PairSums) -> KernelEvidence | None:
    """Hold one pair of kernels against its null.

    The two means are taken from at most 16384 elements, evenly spread runs of neighbours.

    Args:
        target: Kernel of the target.
        source: Kernel of the source, of the same shape.
        sums: Their sums, from ``pair_sums``.

    Returns:
        None where nothing can be said: a value is not finite, or one side does not vary.
    """
    n = sums.elements
    if sums.non_finite or n < 2:
        return None
    mean, other_mean = _mean(target), _mean(source)
    square, other_square = sums.squares_target / n, sums.squares_source / n
    variance, other_variance = square - mean**2, other_square - other_mean**2
    size = square + other_square
    if variance <= 1e-9 * square or other_variance <= 1e-9 * other_square:
        return None
    null = sqrt(max(1 - 2 * mean * other_mean / size, 0.0))
    if not null:
        return None
    spread = sqrt(variance * other_variance / (n - 1)) / (size * null)
    return KernelEvidence(n, sums.relative_rmse, null, spread)


def _mean(kernel: Tensor) -> float:
    values = kernel.detach().reshape(-1)
    length = values.numel()
    if length <= _RUNS * _RUN:
        return float(values.double().mean())
    starts = torch.linspace(0, length - _RUN, _RUNS, dtype=torch.float64).long().tolist()
    return float(torch.stack([values[at : at + _RUN].double().mean() for at in starts]).mean())


def judge_lineage(
    kernels: Sequence[KernelEvidence], *, identical_share: float
) -> tuple[Lineage, str]:
    """Say whether two models share their start, and why.

    Shared: every element is identical, or more than half of the telling kernels are below the null.
    Independent: at least four in five are at the null and at most one in ten is below.

    Args:
        kernels: Evidence of each kernel that has some.
        identical_share: Share of the elements that are identical.

    Returns:
        The lineage, and the reason in words.
    """
    if identical_share == 1:
        return Lineage.SHARED, "every compared element is identical in both models"
    telling = [kernel for kernel in kernels if kernel.is_telling]
    if not telling:
        return Lineage.UNDECIDED, (
            f"none of the {len(kernels)} kernels compared has enough elements (about 400) to tell "
            "a common start from chance"
        )
    below = sum(kernel.is_below for kernel in telling)
    at = sum(kernel.is_at for kernel in telling)
    counted = (
        f"{below} of {len(telling)} kernels are clearly nearer to the source than the same values "
        f"shuffled, {at} are not nearer at all"
    )
    if below > len(telling) / 2:
        return Lineage.SHARED, f"{counted}: the models come from one start"
    if at >= 0.8 * len(telling) and below <= 0.1 * len(telling):
        return Lineage.INDEPENDENT, (
            f"{counted}: the models were started independently. Between such models raw RMSE "
            "measures permutation and scale of the channels, not knowledge; compare them after "
            "align_models, or by a sweep"
        )
    return Lineage.UNDECIDED, f"{counted}: neither a common start nor independent ones"
