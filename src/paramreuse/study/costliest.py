"""Which swap of a sweep costs most, in the words of a summary."""

from collections.abc import Iterable
from math import isfinite

from paramreuse.sites.swaps import Swap, kernel_sites
from paramreuse.sweep.outcomes import Sweep, column_means


def mean_drop(sweep: Sweep, swap: str) -> float:
    """Return the drop of the foreground mean of one swap of the source, over all its subjects.

    Args:
        sweep: What was measured.
        swap: Name of the swap, e.g. ``"W 6"``.

    Returns:
        NaN for a swap that is not finite.
    """
    return float(column_means(sweep.drops(swap))[-1])


def costliest_swap(sweep: Sweep) -> str:
    """Name the swap that costs most and what it costs, e.g. ``0.512 at W 6``.

    Args:
        sweep: What was measured, one swap at least.

    Returns:
        ``not measured`` if no swap is finite.
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
    return _costliest(sweep, kernels)


def _costliest(sweep: Sweep, swaps: Iterable[Swap]) -> str:
    drops = {swap.name: mean_drop(sweep, swap.name) for swap in swaps}
    drops = {name: drop for name, drop in drops.items() if isfinite(drop)}
    if not drops:
        return "not measured"
    worst = max(drops, key=lambda name: drops[name])
    return f"{drops[worst]:.3f} at {worst}"
