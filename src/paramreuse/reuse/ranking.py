"""Many sources for one target: which lends most?

Source: arXiv 2008.03411, "PR-RMSE": candidate sources are ranked by the RMSE of their kernels from
a pilot model's. Measured swaps stand beside it, since a small RMSE need not mean a small drop.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, isnan
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from paramreuse.compare.distance import Comparison, compare_models
from paramreuse.engine.plain import checked_output, device_of, require_evaluation_mode
from paramreuse.errors import ParamReuseError, SiteMismatchError
from paramreuse.reuse.verdict import CONFIDENCE, Verdict, judge
from paramreuse.sites.lending import Weights, lend, tensors_of
from paramreuse.sites.matching import Site, match_sites
from paramreuse.sites.swaps import kernel_sites
from paramreuse.sweep.batches import Batches, walk_batches
from paramreuse.sweep.scores import Dice, Score
from paramreuse.sweep.stopping import TOLERANCE
from paramreuse.sweep.sweeping import sweep_sites
from paramreuse.untouched import untouched_random_state

if TYPE_CHECKING:
    import pandas as pd

RANKING_COLUMNS = (
    *("rank", "source", "lineage", "kernel_share", "paper_kernel_share"),
    *("mean_drop", "rmse", "relative_rmse", "rmse_rank"),
)


@dataclass(frozen=True, slots=True)
class RankedSource:
    """What is known of one source.

    Attributes:
        name: Name of the source.
        comparison: Its distances from the pilot.
        verdict: Judgement of its kernels, swapped one at a time.
    """

    name: str
    comparison: Comparison
    verdict: Verdict

    @property
    def kernel_distances(self) -> tuple[float, float]:
        """RMSE and relative RMSE of the kernels, output layer aside: means over finite ones."""
        kernels = {site.key for site in kernel_sites(row.site for row in self.comparison.rows)}
        rows = [row for row in self.comparison.rows if row.site.key in kernels]
        return (
            finite_mean([row.rmse for row in rows]),
            finite_mean([row.relative_rmse for row in rows]),
        )

    @property
    def mean_drop(self) -> float:
        """Mean over the kernel layers of the drop that swapping each causes, where it has one."""
        return finite_mean([j.drop for j in self.verdict.kernel_judgements])


def finite_mean(values: Sequence[float]) -> float:
    """Return the mean of those values that are finite; NaN if none is."""
    finite = [value for value in values if isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


def last_if_nan(value: float) -> tuple[bool, float]:
    """Return what to sort by, so that a value that is not known comes last."""
    return isnan(value), value


@dataclass(frozen=True, slots=True)
class Ranking:
    """Sources, the one whose kernels can be reused in most layers first.

    Attributes:
        sources: In order of rank; ties go to the smaller mean drop.
    """

    sources: tuple[RankedSource, ...]

    def frame(self) -> "pd.DataFrame":
        """Return one row per source.

        Returns:
            Columns ``rank source lineage kernel_share paper_kernel_share mean_drop rmse
            relative_rmse rmse_rank``; ``rmse_rank`` is the papers' order, smallest mean RMSE first.
        """
        import pandas as pd

        by_rmse = sorted(self.sources, key=lambda s: last_if_nan(s.kernel_distances[0]))
        rows = [
            (
                *(rank, source.name, str(source.comparison.lineage)),
                *(source.verdict.kernel_share, source.verdict.paper_kernel_share),
                *(source.mean_drop, *source.kernel_distances, by_rmse.index(source) + 1),
            )
            for rank, source in enumerate(self.sources, start=1)
        ]
        return pd.DataFrame(rows, columns=list(RANKING_COLUMNS))


def _order(source: RankedSource) -> tuple[float, tuple[bool, float]]:
    return -source.verdict.kernel_share, last_if_nan(source.mean_drop)


def rank_sources(
    pilot: nn.Module,
    sources: Mapping[str, Weights],
    batches: Batches,
    score: Score | None = None,
    *,
    tolerance: float = TOLERANCE,
    confidence: float = CONFIDENCE,
) -> Ranking:
    """Rank sources by how many of their kernel layers can be reused in a pilot of the target.

    Each kernel is swapped singly, with the shuffled control; see ``sweep_sites`` and ``judge``.

    Args:
        pilot: Target trained on part of its data, in evaluation mode; left as it is.
        sources: Model, state dict or checkpoint path by name.
        batches: Re-iterable of ``(inputs, labels, subjects)``.
        score: How a swap is scored; Dice over as many classes as the pilot has output channels if
            not given.
        tolerance: As for ``judge``.
        confidence: As for ``judge``.

    Raises:
        ParamReuseError: There is no source.
        SiteMismatchError: Nothing of a source fits the pilot; the message names the source.
        ModelError: The pilot is in training mode, or does not return a tensor.
    """
    if not sources:
        raise ParamReuseError("cannot rank: there is no source. Give at least one by name")
    require_evaluation_mode(pilot)
    with untouched_random_state(), torch.no_grad():
        example = next(walk_batches(batches)).inputs.to(device_of(pilot))
        num_classes = checked_output(pilot(example)).shape[1]
    chosen = score or Dice(num_classes=num_classes)
    ranked: list[RankedSource] = []
    for name, weights in sources.items():
        lent = lend(pilot, tensors_of(weights))
        try:
            comparison = compare_models(pilot, lent, names=("pilot", name), example_input=example)
        except SiteMismatchError as error:
            raise SiteMismatchError(f"source {name!r}: {error}") from error
        kernels: list[Site] = kernel_sites(match_sites(pilot, lent, example_input=example))
        if not kernels:
            raise SiteMismatchError(
                f"source {name!r}: cannot rank it, since no kernel of it fits the pilot, the "
                "output layer aside. `paramreuse compare` says what fits"
            )
        sweep = sweep_sites(pilot, lent, batches, chosen, swaps=kernels)
        verdict = judge(sweep, tolerance=tolerance, confidence=confidence)
        ranked.append(RankedSource(name, comparison, verdict))
    ranked.sort(key=_order)
    return Ranking(tuple(ranked))
