"""Sweeps made up from drops that were chosen by hand; no tests."""

from collections.abc import Mapping, Sequence

import numpy as np

from paramreuse.sites.layers import Kind
from paramreuse.sites.matching import Site
from paramreuse.sites.swaps import Swap
from paramreuse.sweep.outcomes import Sweep

BASELINE = 0.75
"""Score of the untouched target, for every subject."""


def kernel(layer: int, *, is_output: bool = False, family: str = "conv") -> Site:
    shape = (2, 2, 3, 3) if family == "conv" else (2, 2)
    path = f"{family}{layer}"
    return Site(layer, path, Kind.W, "weight", shape, family=family, is_output=is_output)


def made_up_sweep(
    drops: Mapping[Site, Mapping[str, Sequence[float]]],
    *,
    identical: Sequence[Site] = (),
    has_subjects: bool = True,
) -> Sweep:
    """A sweep of single sites with one foreground class.

    Args:
        drops: For each site and replacement the drop of every subject.
        identical: Sites at which source and target hold the same.
        has_subjects: Whether subjects are known, as they are not with ``evaluate``.
    """
    replacements = tuple(next(iter(drops.values())))
    swaps = {site: Swap(site.name, (site,), site) for site in drops}
    num_subjects = len(next(iter(next(iter(drops.values())).values())))
    return Sweep(
        swaps=tuple(swaps.values()),
        replacements=replacements,
        classes=("0", "1"),
        foreground=(False, True),
        subjects=tuple(f"p{n}" for n in range(num_subjects)) if has_subjects else (),
        baseline=np.tile([1.0, BASELINE], (num_subjects, 1)),
        scores={
            (site.name, name): np.column_stack(
                [np.ones(num_subjects), BASELINE - np.asarray(values, dtype=float)]
            )
            for site, by_name in drops.items()
            for name, values in by_name.items()
        },
        identical=frozenset((site.name, "source") for site in identical),
    )
