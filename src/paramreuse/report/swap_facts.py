"""What the page needs to know of each swap to judge it again at any tolerance."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from paramreuse.report.contents import SourceReport
from paramreuse.report.plain_values import short
from paramreuse.reuse.verdict import judge
from paramreuse.sites.swaps import SOURCE, Swap
from paramreuse.sweep.intervals import mean_interval
from paramreuse.sweep.outcomes import Sweep, column_means

Array = NDArray[np.float64]

_MOST_CLASS_COLUMNS = 8000
"""Columns of class drops beyond which their intervals are left out: each takes 0.3 ms."""

_SETS = ("layer", "block", "prefix", "suffix")


def swap_facts(source: SourceReport, sweep: Sweep, site_index: Mapping[str, int]) -> list[object]:
    """Return one mapping per swap of a sweep.

    Args:
        source: Gives the confidence of the intervals.
        sweep: What was measured.
        site_index: Number of each site on the page, by key.

    Returns:
        Per swap its place, what judging needs (``drop``, ``low``, ``high`` and how sure they are,
        of the source and of each control, in full precision), and what is drawn (by class and by
        subject, six digits).
    """
    verdict = judge(sweep, tolerance=source.tolerance, confidence=source.confidence)
    kernels = {j.swap.name for j in verdict.kernel_judgements}
    drops = sweep.mean_drops(confidence=source.confidence)
    by_class = _class_drops(sweep, source.confidence)
    facts: list[object] = []
    for swap in sweep.swaps:
        measured = [drops[swap.name, name] for name in sweep.replacements]
        facts.append(
            {
                **_place(swap, site_index),
                "kernel": swap.name in kernels,
                "identical": (swap.name, SOURCE) in sweep.identical,
                "notFinite": [(swap.name, name) in sweep.not_finite for name in sweep.replacements],
                "alike": [(swap.name, control) in sweep.alike for control in sweep.controls],
                "draws": [_draws(sweep, swap, control) for control in sweep.controls],
                "judged": [[drop.mean, drop.low, drop.high] for drop in measured],
                "spread": [[drop.error, drop.skew, drop.subjects] for drop in measured],
                "classes": [by_class[swap.name, name] for name in sweep.replacements],
                "subjects": _subject_drops(sweep, swap),
            }
        )
    return facts


def _place(swap: Swap, site_index: Mapping[str, int]) -> dict[str, object]:
    alone = len(swap.sites) == 1
    return {
        "name": swap.name,
        "set": _set_of(swap),
        "family": swap.anchor.family,
        "layer": swap.anchor.layer,
        "path": swap.anchor.path,
        "kind": swap.kind,
        "site": site_index.get(swap.sites[0].key, -1) if alone else -1,
        "count": len(swap.sites),
    }


def _set_of(swap: Swap) -> str:
    """Name the family of swaps that one belongs to, by how such swaps are named."""
    if swap.is_single:
        return "single"
    first = swap.name.split(" ", 1)[0]
    if first in _SETS:
        return first
    return "pair" if len(swap.sites) == 2 and first == swap.kind else "other"


def _class_drops(sweep: Sweep, confidence: float) -> dict[tuple[str, str], list[object]]:
    """Return ``[drop, low, high]`` per class by trial; no ends where there are too many columns."""
    names = [(swap.name, replacement) for swap in sweep.swaps for replacement in sweep.replacements]
    num_classes = len(sweep.classes)
    drops = np.concatenate([sweep.drops(*name)[:, :num_classes] for name in names], axis=1)
    low, high = np.full((2, drops.shape[1]), np.nan)
    if sweep.subjects and drops.shape[1] <= _MOST_CLASS_COLUMNS:
        low, high = mean_interval(drops, confidence=confidence)
    means = column_means(drops)
    triples = [[short(v) for v in column] for column in zip(means, low, high, strict=True)]
    return {
        name: list(triples[index * num_classes : (index + 1) * num_classes])
        for index, name in enumerate(names)
    }


def _draws(sweep: Sweep, swap: Swap, control: str) -> list[object]:
    """Return the drop of each draw of a control; nothing where a single one was made."""
    if (swap.name, control) not in sweep.draws:
        return []
    return [short(drop) for drop in sweep.draw_drops(swap.name, control)]


def _subject_drops(sweep: Sweep, swap: Swap) -> Sequence[object]:
    if not sweep.subjects:
        return []
    return [
        [None if np.isnan(v) else round(float(v), 6) for v in sweep.drops(swap.name, name)[:, -1]]
        for name in sweep.replacements
    ]
