"""Plans made from a verdict: by blocks, by its words, by the papers' rule, or by hand.

Source: arXiv 2008.03414, "transfer learning experiments", for the papers' rule.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np

from paramreuse.errors import PlanError
from paramreuse.reuse.blocks import Block, blocks_of
from paramreuse.reuse.judgement import Judgement, Word
from paramreuse.reuse.plan import Action, Plan, PlanEntry
from paramreuse.reuse.verdict import Verdict
from paramreuse.sites.layers import KERNEL_FAMILIES, Kind
from paramreuse.sites.matching import Site

Chosen = tuple[bool, str]
"""Whether a site is loaded, and why."""


def plan_reuse(
    verdict: Verdict, *, source: str = "", accept: Collection[str] | None = None
) -> Plan:
    """Plan to load everything but the blocks for which the sweep speaks against the source.

    A block is left where its kernels matter (some control costs more than the tolerance) and the
    source's cost on average no less than the control's. Between networks of different starts a
    sweep of single tensors cannot tell (``Verdict.cannot_tell``), so everything is loaded. What is
    not finite is left in any case. To load what costs nothing to swap is a rule that loses to
    loading everything (docs/results/gain.md); it is still there with ``accept``.

    Args:
        verdict: Judgement of a sweep that swapped sites singly.
        source: Name of the source, for the record.
        accept: Words to go by instead, tensor by tensor, e.g. ``("reusable", "identical")``;
            ``"undecided"`` takes in what has too few subjects.

    Raises:
        PlanError: The verdict has no single swap, or ``accept`` names no word.
    """
    if accept is None:
        singles = {j.swap.sites[0]: j for j in verdict.judgements if j.swap.is_single}
        chosen = {
            site: choice
            for block in blocks_of(list(singles))
            for site, choice in _choose_block(block, singles, verdict).items()
        }
        return _planned(verdict, source, lambda j: chosen[j.swap.sites[0]])
    unknown = sorted(set(accept) - set(Word))
    if unknown:
        raise PlanError(f"unknown verdicts {unknown}: expected some of {[w.value for w in Word]}")
    accepted = {*accept, *([Word.TOO_FEW] if Word.UNDECIDED in accept else [])}
    return _planned(verdict, source, lambda j: (j.verdict in accepted, j.verdict.value))


def _choose_block(
    block: Block, singles: Mapping[Site, Judgement], verdict: Verdict
) -> dict[Site, Chosen]:
    loaded, reason = _judge_block(block, singles, verdict)
    broken = {site for site in block.sites if singles[site].verdict is Word.NOT_FINITE}
    return {
        site: (False, Word.NOT_FINITE.value) if site in broken else (loaded, reason)
        for site in block.sites
    }


def _judge_block(block: Block, singles: Mapping[Site, Judgement], verdict: Verdict) -> Chosen:
    """Tell whether a block is loaded, by the drops of its kernels and their controls."""
    if verdict.cannot_tell:
        return True, "single swaps cannot tell, so everything is loaded"
    kernels = [
        singles[site]
        for site in block.sites
        if site.kind is Kind.W and site.family in KERNEL_FAMILIES
    ]
    told = [k for k in kernels if np.isfinite(k.drop) and np.isfinite(k.control_drop)]
    if not any(kernel.control_drop > verdict.tolerance for kernel in told):
        return True, f"{block.name}: no control costs more than the tolerance"
    drop, control = (
        float(np.mean([getattr(kernel, name) for kernel in told]))
        for name in ("drop", "control_drop")
    )
    if drop < control:
        return True, f"{block.name}: the source costs {drop:.3f}, its control {control:.3f}"
    return False, f"{block.name}: the source does no better than its control ({control:.3f})"


def plan_by_papers(verdict: Verdict, *, source: str = "") -> Plan:
    """Plan by the papers' rule: everything whose point estimate stays within the tolerance.

    Args:
        verdict: Judgement of a sweep that swapped sites singly.
        source: Name of the source, for the record.

    Raises:
        PlanError: The verdict has no single swap.
    """
    return _planned(
        verdict, source, lambda j: (j.paper is Word.REUSABLE, f"{j.paper} by the papers' rule")
    )


def _planned(
    verdict: Verdict, source: str, choose: Callable[[Judgement], tuple[bool, str]]
) -> Plan:
    entries: list[PlanEntry] = []
    for judgement in verdict.judgements:
        if judgement.swap.is_single:
            chosen, reason = choose(judgement)
            action = Action.LOAD if chosen else Action.LEAVE
            entries.append(PlanEntry(judgement.swap.sites[0], action, reason))
    if not entries:
        raise PlanError(
            "cannot plan: the verdict judges no site by itself. Sweep with swaps='single'"
        )
    return Plan(tuple(entries), source, verdict.tolerance, verdict.confidence)


def plan_leaving(sites: Sequence[Site], left: Iterable[str], *, source: str = "") -> Plan:
    """Plan to load all sites but those named, as the papers give their list.

    Args:
        sites: Sites that target and source share; the output layer is left as well.
        left: Names of the sites to leave, e.g. ``["W 1", "RM 17"]``.
        source: Name of the source, for the record.

    Raises:
        PlanError: A name is not that of a site.
    """
    names = set(left)
    unknown = sorted(names - {site.name for site in sites})
    if unknown:
        raise PlanError(
            f"cannot leave {unknown[:10]}: no such site. Names look like 'W 6' or 'RM 17'; "
            "`paramreuse layers` lists them"
        )
    entries = tuple(
        PlanEntry(site, Action.LEAVE, "named")
        if site.name in names
        else PlanEntry(site, Action.LEAVE, "output layer")
        if site.is_output
        else PlanEntry(site, Action.LOAD, "not named")
        for site in sites
    )
    return Plan(entries, source)
