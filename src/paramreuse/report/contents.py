"""What a report shows, every part of it optional: a report names what is missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from paramreuse.report.answer import Answer
from paramreuse.reuse.verdict import CONFIDENCE
from paramreuse.sites.matching import Site
from paramreuse.sweep.outcomes import Sweep
from paramreuse.sweep.stopping import TOLERANCE

Row: TypeAlias = Mapping[str, object]
"""One row of a table, by column name."""


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """How the values of one tensor are distributed, in target and source.

    Attributes:
        edges: Bin edges in units of the tensor, shape ``(num_bins + 1,)``.
        target: Share of the target's values per bin, shape ``(num_bins,)``.
        source: Share of the source's values per bin, shape ``(num_bins,)``.
    """

    edges: NDArray[np.float64]
    target: NDArray[np.float64]
    source: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class SourceReport:
    """What is known of one source.

    Attributes:
        name: Name of the source, e.g. ``"acdc-ae"``.
        sweep: What its swaps cost; None leaves map, verdict and curves out.
        tolerance: Largest drop that passes when the page is opened.
        confidence: Coverage of the intervals.
        comparison: Rows of ``compare_models(...).frame()``: ``layer path kind key elements rmse
            relative_rmse cosine``.
        lineage: ``shared``, ``independent`` or ``undecided``; empty when not tested.
        lineage_reason: Why, in one sentence.
        identical_share: Share of the values that source and target have in common, 0 to 1.
        batchnorm: Rows of ``compare_batchnorms(...).frame()``: ``layer path mrm mrv mrw
            mrw_median mrb``.
        plan: The plan at ``tolerance`` as text, e.g. the YAML file.
        plan_command: Command that makes or applies the plan; ``{tolerance}`` in it is replaced by
            the tolerance that the reader chose.
        histograms: Distribution of a site's values, by key of the site.
        notes: Remarks for the reader, e.g. the drop when the whole plan is swapped in at once.
        accept: Verdicts that the plan loads, as for ``plan_reuse``.
        joint_drop: What all that the plan at ``tolerance`` loads costs at once, NaN where outputs
            are not finite; None where it was not measured.
    """

    name: str
    sweep: Sweep | None = None
    tolerance: float = TOLERANCE
    confidence: float = CONFIDENCE
    comparison: Sequence[Row] = ()
    lineage: str = ""
    lineage_reason: str = ""
    identical_share: float | None = None
    batchnorm: Sequence[Row] = ()
    plan: str = ""
    plan_command: str = ""
    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    notes: Sequence[str] = ()
    accept: Sequence[str] = ("reusable", "identical")
    joint_drop: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ExampleImage:
    """One validation image with what the network says about it.

    Attributes:
        name: Where it came from, e.g. ``"patient001 frame01 slice 3"``.
        image: Intensities, shape ``(H, W)``.
        labels: Integer classes, shape ``(H, W)``; None where there are none.
        predictions: Integer classes, shape ``(H, W)`` each, by what was asked: ``"untouched"``,
            ``"worst swap: W 1 of acdc-ae"``, ...
        scores: Mean score of the subject under some of these, by the same words.
    """

    name: str
    image: NDArray[Any]
    labels: NDArray[Any] | None = None
    predictions: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class ReportData:
    """Everything the page shows.

    Attributes:
        study: Name of the study.
        network: Name of the network as it should be read, e.g. ``"PSPNet"``.
        score: Name of the score and unit of the drops, e.g. ``"Dice"``.
        baseline: Score of the untouched target by class and ``mean``; left out, that of the
            first sweep is shown.
        sources: The sources, the most interesting first.
        sites: All sites of the target, front to back; left out, those that were swept.
        edges: Connections between layers as pairs of paths (from, to), where known; None where
            they are not.
        transfer: One row per training: ``strategy num_subjects seed mean``, a column per class,
            and optionally ``source``, ``mean_twice`` and columns ``epochs_to_...`` and
            ``steps_to_...``, as for ``summarise_transfer``.
        depth: The depth curve, one row per source and cut: ``source num_subjects share gain
            gain_low gain_high``.
        rewind: One row per source and block of a rewind sweep: ``source num_subjects``, and those
            of ``BlockAudit.to_dict``.
        ranking: Rows of the ranking of sources, best first.
        claims: One row per claim that was checked.
        curves: Learning curves: ``model epoch train_loss validation_score``.
        transfer_curves: Those of the starts of the transfer, with the same columns.
        subject_scores: Rows ``model subject score`` of the starts of the transfer, that to use and
            the one it is compared with first.
        examples: Images to look at.
        provenance: Versions, seeds, commands, data split, times, warnings; values may be nested.
        missing: Why a part is not there, by name of the part: ``sweep``, ``transfer``, ...
        answer: What to load and what it gains; left out, it is computed from ``transfer``.
    """

    study: str
    network: str = ""
    score: str = "Dice"
    baseline: Mapping[str, float] | None = None
    sources: Sequence[SourceReport] = ()
    sites: Sequence[Site] = ()
    edges: Sequence[tuple[str, str]] | None = None
    transfer: Sequence[Row] = ()
    depth: Sequence[Row] = ()
    rewind: Sequence[Row] = ()
    ranking: Sequence[Row] = ()
    claims: Sequence[Row] = ()
    curves: Sequence[Row] = ()
    transfer_curves: Sequence[Row] = ()
    subject_scores: Sequence[Row] = ()
    examples: Sequence[ExampleImage] = ()
    provenance: Mapping[str, object] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    answer: Answer | None = None
