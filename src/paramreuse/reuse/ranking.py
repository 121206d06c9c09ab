"""Many sources for one target: which lends most?

The order is by the CKA of each source's frozen features with the pilot's on the target's subjects,
which of all scores that are shown predicted best what loading a source gains
(docs/results/gain-scores.md). Beside it stand the papers' order, by the RMSE of kernels from those
of a pilot (arXiv 2008.03411, "PR-RMSE"), and measured swaps.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, isnan
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from paramreuse.compare.distance import compare_models
from paramreuse.compare.lineage import Lineage
from paramreuse.distribution.pool import Pool, in_order
from paramreuse.engine.plain import checked_output, device_of, require_evaluation_mode
from paramreuse.errors import ModelError, ParamReuseError, ScoreError, SiteMismatchError
from paramreuse.reuse.network import WHAT_CAN_TELL
from paramreuse.reuse.verdict import CONFIDENCE, Verdict, judge
from paramreuse.sites.lending import Weights, lend, tensors_of
from paramreuse.sites.matching import Site, match_sites
from paramreuse.sites.swaps import kernel_sites
from paramreuse.sweep.batches import Batches, walk_batches
from paramreuse.sweep.scores import Dice, Score
from paramreuse.sweep.stopping import TOLERANCE
from paramreuse.sweep.sweeping import sweep_sites
from paramreuse.transferability.features import frozen_features
from paramreuse.transferability.scoring import SCORE_NAMES, load_source, score_source
from paramreuse.untouched import untouched_random_state

if TYPE_CHECKING:
    import pandas as pd

RANKING_COLUMNS = (
    *("rank", "source", "lineage", "kernel_share", "paper_kernel_share"),
    *("mean_drop", "rmse", "relative_rmse", "rmse_rank"),
    *(*SCORE_NAMES, "note"),
)

ACROSS_STARTS = (
    "kernel_share, mean_drop and rmse measure nearness to a common start, so they say nothing here"
)


@dataclass(frozen=True, slots=True)
class FeatureScores:
    """What the frozen features of a source are worth.

    Attributes:
        values: What ``score_source`` found, by name; empty where it could not be asked.
        reason: Why not; empty where it could.
    """

    values: Mapping[str, float]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RankedSource:
    """What is known of one source.

    Attributes:
        name: Name of the source.
        lineage: ``shared``, ``independent`` or ``undecided``; ``not compared`` where nobody looked.
        verdict: Judgement of its kernels, swapped one at a time.
        rmse: Mean RMSE of its kernels from the pilot's, output layer aside; NaN if none is known.
        relative_rmse: The same of the relative RMSE.
        scores: Scores of its features.
    """

    name: str
    lineage: str
    verdict: Verdict
    rmse: float
    relative_rmse: float
    scores: FeatureScores

    def score(self, name: str) -> float:
        """Return a score of ``SCORE_NAMES``; NaN where it is not known."""
        return self.scores.values.get(name, float("nan"))

    @property
    def note(self) -> str:
        """What to know before the numbers are believed; empty where there is nothing."""
        across = "" if self.lineage == Lineage.SHARED else ACROSS_STARTS
        return "; ".join(part for part in (across, self.scores.reason) if part)

    @property
    def mean_drop(self) -> float:
        """Mean over the kernel layers of the drop that swapping each causes, where it has one."""
        return _finite_mean([j.drop for j in self.verdict.kernel_judgements])


class KernelDistance(Protocol):
    """How far one kernel of a source is from the pilot's."""

    @property
    def rmse(self) -> float:
        """Root of the mean squared difference."""

    @property
    def relative_rmse(self) -> float:
        """The same over the root of the summed mean squares."""


def ranked_source(
    name: str,
    verdict: Verdict,
    kernels: Sequence[KernelDistance],
    *,
    lineage: str,
    scores: FeatureScores,
) -> RankedSource:
    """Bring together what is known of one source.

    Args:
        name: Name of the source.
        verdict: Judgement of its kernels, swapped one at a time.
        kernels: Distances of those kernels from the pilot's.
        lineage: Whether the two share a start.
        scores: Scores of its features.
    """
    rmse = _finite_mean([kernel.rmse for kernel in kernels])
    relative = _finite_mean([kernel.relative_rmse for kernel in kernels])
    return RankedSource(name, lineage, verdict, rmse, relative, scores)


def _finite_mean(values: Sequence[float]) -> float:
    finite = [value for value in values if isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


@dataclass(frozen=True, slots=True)
class Ranking:
    """Sources, the one whose features are most like the pilot's first.

    Attributes:
        sources: In order of rank: by ``cka_pilot``, then by ``kernel_share``, then by the smaller
            ``mean_drop``. A source whose kernels are the pilot's own comes first, one without a
            kernel that fits last.
    """

    sources: tuple[RankedSource, ...]

    def rows(self) -> list[dict[str, object]]:
        """Return the rows of ``frame``."""
        by_rmse = sorted(self.sources, key=lambda source: _last_if_nan(source.rmse))
        return [
            dict(
                zip(
                    RANKING_COLUMNS,
                    (
                        *(rank, source.name, source.lineage),
                        *(source.verdict.kernel_share, source.verdict.paper_kernel_share),
                        *(source.mean_drop, source.rmse, source.relative_rmse),
                        by_rmse.index(source) + 1,
                        *(source.score(name) for name in SCORE_NAMES),
                        source.note,
                    ),
                    strict=True,
                )
            )
            for rank, source in enumerate(self.sources, start=1)
        ]

    @property
    def note(self) -> str:
        """Of which sources single swaps cannot tell anything; empty where they can of all."""
        blind = [source.name for source in self.sources if source.verdict.cannot_tell]
        if not blind:
            return ""
        return (
            f"single swaps cannot tell of {', '.join(blind)}: a small share or a large drop is no "
            f"evidence against them; {WHAT_CAN_TELL}"
        )

    def frame(self) -> "pd.DataFrame":
        """Return one row per source.

        Returns:
            Columns ``rank source lineage kernel_share paper_kernel_share mean_drop rmse
            relative_rmse rmse_rank``, where ``rmse_rank`` is the papers' order, smallest mean RMSE
            first; then the scores of ``score_source``, NaN where they cannot be computed, and
            ``note``, which warns where source and pilot do not share a start.
        """
        import pandas as pd

        return pd.DataFrame(self.rows(), columns=list(RANKING_COLUMNS))


def order_sources(sources: Iterable[RankedSource]) -> Ranking:
    """Put sources in order, as ``Ranking`` says."""
    return Ranking(tuple(sorted(sources, key=_place)))


def _place(source: RankedSource) -> tuple[tuple[bool, float], ...]:
    # Rounded: what only rounding errors tell apart is a tie, such as a source and its scaled copy.
    cka = round(source.score("cka_pilot"), 6)
    share = source.verdict.kernel_share
    return (
        (isnan(share), 0.0),
        (source.rmse != 0, 0.0),
        _last_if_nan(-cka),
        _last_if_nan(-share),
        _last_if_nan(source.mean_drop),
    )


def _last_if_nan(value: float) -> tuple[bool, float]:
    return isnan(value), value


def rank_sources(  # noqa: PLR0913 - the agreed surface; everything after batches has a default
    pilot: nn.Module,
    sources: Mapping[str, Weights],
    batches: Batches,
    score: Score | None = None,
    *,
    tolerance: float = TOLERANCE,
    confidence: float = CONFIDENCE,
    pool: Pool | None = None,
) -> Ranking:
    """Rank sources by how much gain they promise.

    Each source is scored by its frozen features (``score_source``), and each of its kernels is
    swapped into the pilot singly, with the shuffled control; see ``sweep_sites`` and ``judge``.

    Args:
        pilot: Target trained on part of its data, in evaluation mode; left as it is.
        sources: Model, state dict or checkpoint path by name.
        batches: Re-iterable of ``(inputs, labels, subjects)``.
        score: How a swap is scored; Dice over as many classes as the pilot has output channels if
            not given.
        tolerance: As for ``judge``.
        confidence: As for ``judge``.
        pool: Workers, each of which takes a source (``ray_pool``); the ranking is the same.

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
        num_classes = checked_output(pilot(example.clone())).shape[1]
    chosen = score or Dice(num_classes=num_classes)
    look = _Look(pilot, batches, chosen, example, tolerance, confidence)
    if pool is None:
        return order_sources(look.rank(name, weights) for name, weights in sources.items())
    named = ((name, dict(tensors_of(weights))) for name, weights in sources.items())
    return order_sources(in_order(pool.map(_prepare, look, named)))


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """What every source is ranked by."""

    pilot: nn.Module
    batches: Batches
    score: Score
    example: Tensor
    tolerance: float
    confidence: float

    def rank(self, name: str, weights: Weights) -> RankedSource:
        """Measure one source."""
        pilot, example = self.pilot, self.example
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
        sweep = sweep_sites(pilot, lent, self.batches, self.score, swaps=kernels)
        verdict = judge(sweep, tolerance=self.tolerance, confidence=self.confidence)
        keys = {site.key for site in kernels}
        distances = [row for row in comparison.rows if row.site.key in keys]
        scores = feature_scores(pilot, lent, self.batches)
        return ranked_source(
            name, verdict, distances, lineage=str(comparison.lineage), scores=scores
        )


def _prepare(look: _Look) -> Callable[[tuple[str, Weights]], RankedSource]:
    return lambda named: look.rank(*named)


def feature_scores(pilot: nn.Module, source: Weights, batches: Batches) -> FeatureScores:
    """Score the features of a source on labelled subjects.

    Args:
        pilot: Network trained on the target.
        source: Model, state dict or checkpoint path.
        batches: Re-iterable of ``(inputs, labels, subjects)``.

    Returns:
        No values, and the reason, where labels are not classes (as of an auto-encoder), or what
        enters the output layer is not one vector for each label.
    """
    try:
        of_pilot = frozen_features(pilot, batches)
        values = score_source(load_source(pilot, source), batches, pilot=of_pilot)
    except (ModelError, ScoreError) as error:
        return FeatureScores({}, str(error))
    return FeatureScores(values)
