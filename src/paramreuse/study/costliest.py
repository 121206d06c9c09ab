"""Which swap of a sweep costs most, in the words of a summary."""

from collections.abc import Iterable

import numpy as np

from paramreuse.sites.swaps import Swap, kernel_sites
from paramreuse.sweep.outcomes import Sweep


def mean_drop(sweep: Sweep, swap: str) -> float:
    """Return the drop of the foreground mean of one swap of the source, over all its subjects.

    Args:
        sweep: What was measured.
        swap: Name of the swap, e.g. ``"W 6"``.
    """
    return float(np.nanmean(sweep.drops(swap)[:, -1]))


def costliest_swap(sweep: Sweep) -> str:
    """Name the swap that costs most and what it costs, e.g. ``0.512 at W 6``.

    Args:
        sweep: What was measured, one swap at least.
    """
    return _costliest(sweep, sweep.swaps)


def costliest_kernel(sweep: Sweep) -> str:
    """Name the single kernel that costs most, the output layer's aside, as in the papers.

    Args:
        sweep: What was measured.

    Returns:
        E.g. ``0.512 at W 6``, or ``not measured``.
    """
    kernels = [swap for swap in sweep.swaps if swap.is_single and kernel_sites(swap.sites)]
    return _costliest(sweep, kernels) if kernels else "not measured"


def _costliest(sweep: Sweep, swaps: Iterable[Swap]) -> str:
    drops = {swap.name: mean_drop(sweep, swap.name) for swap in swaps}
    worst = max(drops, key=lambda name: drops[name])
    return f"{drops[worst]:.3f} at {worst}"
