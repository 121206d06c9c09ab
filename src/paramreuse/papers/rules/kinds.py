"""Rules about the kinds of tensors: claims C2, C3, C4 and C7."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from paramreuse.papers.arms import biased_pspnet_arm, pspnet_arm, unet_arm
from paramreuse.papers.evidence import Arm, Evidence, NotMeasuredError
from paramreuse.papers.rules.arms import (
    kernel_sweep_of,
    kernels_of,
    mean_by_subject,
    shares_lost,
    swaps_of,
    sweep_of,
)
from paramreuse.papers.rules.condition import Condition
from paramreuse.papers.rules.counting import count_reusable
from paramreuse.papers.rules.estimate import (
    Estimate,
    estimate_gap,
    estimate_mean,
    loses_more,
    require_subjects,
    resampled_means,
)
from paramreuse.papers.rules.finding import Finding, Outcome, all_of

Array = NDArray[np.float64]

AFFINE_SHARE = 0.9
"""Smallest share of reusable RW and RB that counts as "almost entirely"."""

_OTHER_KINDS = ("B", "RM", "RV", "RW", "RB")
_FEWEST_LAYERS = 3
"""Two layers have a rank correlation of 1 or -1, whatever they are."""
_DECIMALS = 9
"""Mean drops that differ by less are equal: they differ by rounding alone."""


def _in_both(
    evidence: Evidence, condition: Condition, rule: Callable[[str, Arm, Condition], list[Finding]]
) -> Finding:
    pspnet = pspnet_arm(evidence, condition.start)
    unet = unet_arm(evidence, condition.start)
    return all_of([*rule("UNet", unet, condition), *rule("PSPNet", pspnet, condition)])


def first_mean_matters(evidence: Evidence, condition: Condition) -> Finding:
    """C2: the running mean of the first normalisation costs more than the tolerance, in both."""
    return _in_both(evidence, condition, _first_mean_costs)


def _first_mean_costs(network: str, arm: Arm, _: Condition) -> list[Finding]:
    sweep = sweep_of(arm)
    first = [swap for swap in swaps_of(arm, sweep, "RM") if swap.anchor.layer == 1]
    if not first:
        raise NotMeasuredError(f"the arm {arm.name} has no swap of RM 1")
    beyond = [drop - arm.tolerance for drop in mean_by_subject(sweep, first).values()]
    require_subjects(len(beyond), f"{network} RM 1")
    cost = estimate_mean(beyond, confidence=arm.confidence)
    return [cost.above_zero(f"{network} drop of RM 1 minus the tolerance")]


def statistics_matter_more(evidence: Evidence, condition: Condition) -> Finding:
    """C3: RM and RV cost more than RW and RB, which are almost entirely reusable, in both."""
    return _in_both(evidence, condition, _statistics_cost_more)


def _statistics_cost_more(network: str, arm: Arm, condition: Condition) -> list[Finding]:
    sweep = sweep_of(arm)
    statistics, affine = swaps_of(arm, sweep, "RM", "RV"), swaps_of(arm, sweep, "RW", "RB")
    gap = estimate_gap(
        mean_by_subject(sweep, statistics),
        mean_by_subject(sweep, affine),
        confidence=arm.confidence,
    )
    count = count_reusable(arm, sweep, affine, condition)
    return [
        gap.above_zero(f"{network} mean drop of RM, RV minus RW, RB"),
        count.share_at_least(AFFINE_SHARE, f"{network} RW, RB"),
    ]


def kernels_matter_most(evidence: Evidence, condition: Condition) -> Finding:
    """C4: every B behind the first layer is reusable, W costs more than each other kind."""
    unet = unet_arm(evidence, condition.start)
    pspnet = biased_pspnet_arm(evidence, condition.start)
    parts = []
    for network, arm in (("UNet", unet), ("PSPNet", pspnet)):
        parts += _biases_are_reusable(network, arm, condition)
        parts += _kernels_cost_most(network, arm, condition)
    return all_of(parts)


def _biases_are_reusable(network: str, arm: Arm, condition: Condition) -> list[Finding]:
    sweep = sweep_of(arm)
    behind = [swap for swap in swaps_of(arm, sweep, "B") if swap.anchor.layer > 1]
    if not behind:
        raise NotMeasuredError(f"the arm {arm.name} has no swap of B behind the first layer")
    count = count_reusable(arm, sweep, behind, condition)
    return [count.share_at_least(1, f"{network} B behind layer 1")]


def _kernels_cost_most(network: str, arm: Arm, condition: Condition) -> list[Finding]:
    sweep, kernel_sweep = sweep_of(arm), kernel_sweep_of(arm, condition)
    kernels = shares_lost(arm, kernel_sweep, kernels_of(arm, kernel_sweep))
    findings = []
    for kind in _OTHER_KINDS:
        others = shares_lost(arm, sweep, swaps_of(arm, sweep, kind))
        what = f"{network} W minus {kind}"
        findings.append(loses_more(kernels, others, what, confidence=arm.confidence))
    return findings


def deeper_means_matter_less(evidence: Evidence, condition: Condition) -> Finding:
    """C7: in UNet the drop of RM falls with depth, by rank."""
    arm = unet_arm(evidence, condition.start)
    sweep = sweep_of(arm)
    swaps = swaps_of(arm, sweep, "RM")
    if len(swaps) < _FEWEST_LAYERS:
        raise NotMeasuredError(
            f"the arm {arm.name} has swaps of RM at {len(swaps)} layers, too few to rank"
        )
    drops = sweep.foreground_drops(swaps)
    drops = drops[np.isfinite(drops).all(axis=1)]
    require_subjects(len(drops), "UNet RM")
    what = "UNet rank correlation of RM's drop with the layer"
    if not np.ptp(drops.mean(axis=0).round(_DECIMALS)):
        return Finding(Outcome.CANNOT_TELL, f"{what} not known", "every RM drops alike")
    layers = np.array([swap.anchor.layer for swap in swaps], dtype=np.float64)
    return _correlation(drops, layers, arm.confidence, sweep.seed).below_zero(what)


def _correlation(drops: Array, layers: Array, confidence: float, seed: int) -> Estimate:
    """Return Spearman's correlation of the mean drops with the layers, subjects resampled.

    Args:
        drops: Shape ``(P, L)``.
        layers: Shape ``(L,)``.
        confidence: Coverage of the interval.
        seed: Seed of the resampling.
    """
    value = float(_spearman(drops.mean(axis=0, keepdims=True), layers)[0])
    resampled = _spearman(resampled_means(drops, seed=seed), layers)
    tail = 50 * (1 - confidence)
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return Estimate(value, float(low), float(high))


def _spearman(rows: Array, layers: Array) -> Array:
    """Return each row's rank correlation with the layers, 0 for a row of equal values."""
    from scipy.stats import rankdata

    ranks = rankdata(rows.round(_DECIMALS), axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    depth = rankdata(layers) - (len(layers) + 1) / 2
    spread = np.sqrt((ranks**2).sum(axis=1) * (depth**2).sum())
    correlations: Array = np.divide(
        ranks @ depth, spread, out=np.zeros(len(rows)), where=spread > 0
    )
    return correlations
