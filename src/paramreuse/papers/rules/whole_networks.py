"""Rules that compare whole networks by their kernels: claims C1, C6 and C10."""

from collections.abc import Callable, Hashable
from dataclasses import replace
from statistics import median

from paramreuse.papers.arms import lender_of, pspnet_arm, unet_arm
from paramreuse.papers.evidence import Arm, Evidence
from paramreuse.papers.rules.arms import kernel_sweep_of, kernels_of, shares_lost
from paramreuse.papers.rules.condition import Condition
from paramreuse.papers.rules.counting import Count, count_reusable
from paramreuse.papers.rules.distances import kernel_distances, rmse_words
from paramreuse.papers.rules.estimate import loses_more
from paramreuse.papers.rules.finding import Finding, Outcome, all_of
from paramreuse.reuse.network import REUSABLE_SHARE
from paramreuse.sites.swaps import Swap
from paramreuse.sweep.outcomes import MEAN

MAGNITUDE = 10
"""Largest ratio of two numbers of the same order of magnitude."""


def only_pspnet_is_reusable(evidence: Evidence, condition: Condition) -> Finding:
    """C1: at least half of PSPNet's kernels are reusable, fewer of UNet's."""
    pspnet = pspnet_arm(evidence, condition.start)
    unet = unet_arm(evidence, condition.start)
    finding = all_of(
        [
            _reusable_kernels(pspnet, condition).share_at_least(REUSABLE_SHARE, "PSPNet kernels"),
            _reusable_kernels(unet, condition).share_below(REUSABLE_SHARE, "UNet kernels"),
        ]
    )
    baselines = ", ".join(
        f"{name} {kernel_sweep_of(arm, condition).baseline_scores()[MEAN]:.3f}"
        for name, arm in (("PSPNet", pspnet), ("UNet", unet))
    )
    return replace(finding, numbers=f"baseline {baselines}; {finding.numbers}")


def _reusable_kernels(arm: Arm, condition: Condition) -> Count:
    sweep = kernel_sweep_of(arm, condition)
    return count_reusable(arm, sweep, kernels_of(arm, sweep), condition)


def unet_suffers_more(evidence: Evidence, condition: Condition) -> Finding:
    """C6: kernels cost UNet more than PSPNet, at RMSEs of the same order of magnitude."""
    unet = unet_arm(evidence, condition.start)
    pspnet = pspnet_arm(evidence, condition.start)
    loss = loses_more(
        _kernel_losses(unet, condition),
        _kernel_losses(pspnet, condition),
        "UNet's kernels minus PSPNet's",
        confidence=unet.confidence,
    )
    return all_of([loss, _same_magnitude(unet, pspnet, condition)])


def _any_kernel(_: Swap) -> bool:
    return True


def _kernel_losses(
    arm: Arm, condition: Condition, counts: Callable[[Swap], bool] = _any_kernel
) -> dict[Hashable, float]:
    sweep = kernel_sweep_of(arm, condition)
    return shares_lost(arm, sweep, [swap for swap in kernels_of(arm, sweep) if counts(swap)])


def _same_magnitude(unet: Arm, pspnet: Arm, condition: Condition) -> Finding:
    ours = median(kernel_distances(unet, lender_of(unet), condition).values())
    theirs = median(kernel_distances(pspnet, lender_of(pspnet), condition).values())
    words = rmse_words(condition)
    numbers = f"median {words} UNet {ours:.4g}, PSPNet {theirs:.4g}"
    if min(ours, theirs) == 0:
        reason = f"a median {words} is 0, which has no order of magnitude"
        return Finding(Outcome.CANNOT_TELL, numbers, reason)
    if max(ours, theirs) <= MAGNITUDE * min(ours, theirs):
        return Finding(Outcome.HOLDS, numbers)
    reason = f"the median {words}s differ by more than a factor of {MAGNITUDE}"
    return Finding(Outcome.DOES_NOT_HOLD, numbers, reason)


def short_connections_generalise(evidence: Evidence, condition: Condition) -> Finding:
    """C10: short connections make kernels cost less, also those that keep the feature number."""
    parts = []
    for long_skips, form in ((True, "with long connections"), (False, "without")):
        plain = unet_arm(evidence, condition.start, long_skips=long_skips)
        residual = unet_arm(evidence, condition.start, residual=True, long_skips=long_skips)
        for which, counts in (("kernels", _any_kernel), ("same-feature kernels", _keeps_features)):
            loss = loses_more(
                _kernel_losses(plain, condition, counts),
                _kernel_losses(residual, condition, counts),
                f"{form}, {which} of plain minus residual",
                confidence=plain.confidence,
            )
            parts.append(loss)
    return all_of(parts)


def _keeps_features(swap: Swap) -> bool:
    return swap.anchor.shape[0] == swap.anchor.shape[1]
