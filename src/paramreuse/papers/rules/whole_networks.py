"""Rules that compare whole networks by their kernels: claims C1, C6 and C10."""

from collections.abc import Callable, Hashable
from statistics import median

from paramreuse.papers.evidence import Arm, Evidence
from paramreuse.papers.rules.arms import (
    kernel_sweep_of,
    kernels_of,
    lender_of,
    mean_by_subject,
    pspnet_arm,
    unet_arm,
)
from paramreuse.papers.rules.condition import Condition
from paramreuse.papers.rules.counting import Count, count_reusable
from paramreuse.papers.rules.distances import kernel_distances
from paramreuse.papers.rules.estimate import estimate_gap
from paramreuse.papers.rules.finding import Finding, Outcome, all_of
from paramreuse.swaps import Swap
from paramreuse.verdict import REUSABLE_SHARE

MAGNITUDE = 10
"""Largest ratio of two numbers of the same order of magnitude."""


def only_pspnet_is_reusable(evidence: Evidence, condition: Condition) -> Finding:
    """C1: at least half of PSPNet's kernels are reusable, fewer of UNet's."""
    pspnet = _reusable_kernels(pspnet_arm(evidence, condition.start), condition)
    unet = _reusable_kernels(unet_arm(evidence, condition.start), condition)
    return all_of(
        [
            pspnet.share_at_least(REUSABLE_SHARE, "PSPNet kernels"),
            unet.share_below(REUSABLE_SHARE, "UNet kernels"),
        ]
    )


def _reusable_kernels(arm: Arm, condition: Condition) -> Count:
    sweep = kernel_sweep_of(arm, condition)
    return count_reusable(arm, sweep, kernels_of(arm, sweep), condition)


def unet_suffers_more(evidence: Evidence, condition: Condition) -> Finding:
    """C6: kernels cost UNet more than PSPNet, at RMSEs of the same order of magnitude."""
    unet = unet_arm(evidence, condition.start)
    pspnet = pspnet_arm(evidence, condition.start)
    gap = estimate_gap(
        _kernel_drops(unet, condition),
        _kernel_drops(pspnet, condition),
        confidence=unet.confidence,
        seed=kernel_sweep_of(unet, condition).seed,
    )
    return all_of(
        [
            gap.above_zero("mean drop of UNet's kernels minus PSPNet's"),
            _same_magnitude(unet, pspnet, condition),
        ]
    )


def _any_kernel(_: Swap) -> bool:
    return True


def _kernel_drops(
    arm: Arm, condition: Condition, counts: Callable[[Swap], bool] = _any_kernel
) -> dict[Hashable, float]:
    sweep = kernel_sweep_of(arm, condition)
    return mean_by_subject(sweep, [swap for swap in kernels_of(arm, sweep) if counts(swap)])


def _same_magnitude(unet: Arm, pspnet: Arm, condition: Condition) -> Finding:
    ours = median(kernel_distances(unet, lender_of(unet), condition).values())
    theirs = median(kernel_distances(pspnet, lender_of(pspnet), condition).values())
    numbers = f"median RMSE UNet {ours:.4g}, PSPNet {theirs:.4g}"
    if min(ours, theirs) == 0:
        reason = "a median RMSE is 0, which has no order of magnitude"
        return Finding(Outcome.CANNOT_TELL, numbers, reason)
    if max(ours, theirs) <= MAGNITUDE * min(ours, theirs):
        return Finding(Outcome.HOLDS, numbers)
    reason = f"the median RMSEs differ by more than a factor of {MAGNITUDE}"
    return Finding(Outcome.DOES_NOT_HOLD, numbers, reason)


def short_connections_generalise(evidence: Evidence, condition: Condition) -> Finding:
    """C10: short connections make kernels cost less, also those that keep the feature number."""
    parts = []
    for long_skips, form in ((True, "with long connections"), (False, "without")):
        plain = unet_arm(evidence, condition.start, long_skips=long_skips)
        residual = unet_arm(evidence, condition.start, residual=True, long_skips=long_skips)
        for which, counts in (("kernels", _any_kernel), ("same-feature kernels", _keeps_features)):
            gap = estimate_gap(
                _kernel_drops(plain, condition, counts),
                _kernel_drops(residual, condition, counts),
                confidence=plain.confidence,
                seed=kernel_sweep_of(plain, condition).seed,
            )
            parts.append(gap.above_zero(f"{form}, {which}: mean drop of plain minus residual"))
    return all_of(parts)


def _keeps_features(swap: Swap) -> bool:
    return swap.anchor.shape[0] == swap.anchor.shape[1]
