"""The depth curve: what is gained against how much of the network is loaded, front to back."""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

from torch import Tensor

from paramreuse.report.ends import trials_at_end
from paramreuse.report.starts import FULL, SCRATCH, Interval, Trial, gain_of
from paramreuse.reuse.blocks import Block
from paramreuse.reuse.plan import Plan
from paramreuse.sites.matching import Site, match_sites, sites_of
from paramreuse.study.config import TARGET
from paramreuse.study.job import Job, opened
from paramreuse.study.transfer.starts import PLANS, Lender
from paramreuse.study.transfer.strategy import Strategy

CUTS = (
    *(Strategy.PREFIX_QUARTER, Strategy.PREFIX, Strategy.PREFIX_THREE_QUARTERS),
    *(Strategy.BODY, Strategy.RECALIBRATED, Strategy.FULL),
)
"""Strategies that load the network up to a cut and train all of it. Where everything was trained
both ways the recalibrated one counts, since the cuts are recalibrated too."""

_PREFIXES = CUTS[:3]


def depth_rows(
    job: Job, trials: Sequence[Trial], long_trials: Sequence[Trial]
) -> list[dict[str, Any]]:
    """Return the depth curve of every source of which a prefix was trained.

    Args:
        job: The study's.
        trials: Trainings of the transfer table.
        long_trials: The same made twice as long, where that was measured; they count then.

    Returns:
        Rows with ``source num_subjects strategy share gain gain_low gain_high over``: the share of
        the target's kernel layers that is loaded, from 0 (scratch), and the gain over scratch with
        its 95 % interval.
    """
    prefixed = {t.source for t in trials if t.strategy in _PREFIXES and isfinite(t.mean)}
    if not prefixed:
        return []
    target = job.bench.factory(TARGET)()
    whole = sites_of(target)
    rows: list[dict[str, Any]] = []
    for source in sorted(prefixed):
        lent = opened(job, source)
        sites = match_sites(target, lent)
        shares = {cut: share_loaded(cut, sites, lent, whole) for cut in CUTS}
        for number in sorted({trial.num_subjects for trial in trials}):
            once = [t for t in trials if t.num_subjects == number]
            longer = [t for t in long_trials if t.num_subjects == number]
            curve = list(_curve(trials_at_end(once, longer), source, shares))
            if any(row["strategy"] in _PREFIXES for row in curve):
                rows += [{"source": source, "num_subjects": number} | row for row in curve]
    return rows


def share_loaded(
    strategy: Strategy, sites: Sequence[Site], source: Mapping[str, Tensor], whole: Sequence[Site]
) -> float:
    """Return the share of the target's kernel layers that a strategy loads.

    Args:
        strategy: One of ``CUTS``.
        sites: Sites that the source can fill.
        source: Tensors of the source.
        whole: All sites of the target.
    """
    plan: Plan = PLANS[strategy](sites, Lender(source, None, 0))
    # The output layer counts too: it is what everything has and all but the head has not.
    loaded, all_of_it = (Block("", tuple(sites)) for sites in (plan.loaded, whole))
    return loaded.num_kernels / all_of_it.num_kernels


def _curve(
    trials: Sequence[Trial], source: str, shares: Mapping[Strategy, float]
) -> Iterator[dict[str, Any]]:
    """Yield the points of one curve, those of scratch and of everything at its ends."""
    gains = {cut: gain_of(trials, (cut.value, source), (SCRATCH, "")) for cut in CUTS}
    if not any(gains.values()):
        return
    yield _row(SCRATCH, 0.0, Interval(0.0, 0.0, 0.0))
    for cut, gain in gains.items():
        is_doubled = cut == FULL and gains[Strategy.RECALIBRATED] is not None
        if gain is not None and not is_doubled:
            yield _row(cut.value, shares[cut], gain)


def _row(strategy: str, share: float, gain: Interval) -> dict[str, Any]:
    return {
        "strategy": strategy,
        "share": share,
        "gain": gain.mean,
        "gain_low": gain.low,
        "gain_high": gain.high,
        "over": gain.over,
    }
