"""The verdict: measured drops turned into words, with the tolerance and the confidence stated.

Source: arXiv 2008.03411, "PR-RMSE": a network is reusable when swapping some layers' kernels leaves
the score almost unchanged. The tolerance, the controls, the intervals and "at least half of the
kernel layers" are ours, since the papers leave them open.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite, isnan
from typing import TYPE_CHECKING

from paramreuse.errors import ScoreError
from paramreuse.sites.swaps import SOURCE, Swap
from paramreuse.sweep.outcomes import MeanDrop, Sweep
from paramreuse.sweep.stopping import TOLERANCE

if TYPE_CHECKING:
    import pandas as pd

CONFIDENCE = 0.95
"""Coverage of the intervals that a verdict rests on."""

REUSABLE_SHARE = 0.5
"""Share of kernel layers from which on a network counts as reusable."""

ROUNDING = 1e-9
"""A drop may exceed the tolerance by so much and still equal it: ``0.9 - 0.88 > 0.02`` in float64,
while scores that differ at all differ by a pixel, which is more."""

VERDICT_COLUMNS = (
    *("swap", "family", "layer", "path", "kind"),
    *("drop", "drop_low", "drop_high", "control_drop", "paper", "verdict"),
)


class Word(StrEnum):
    """What a swap turned out to be."""

    REUSABLE = "reusable"
    """The source passes and no control does."""
    INDIFFERENT = "indifferent"
    """The source passes, but so does a control: anything would do there."""
    NOT_REUSABLE = "not reusable"
    """The drop is larger than the tolerance."""
    UNDECIDED = "undecided"
    """The interval of the source, or of a control, holds the tolerance."""
    IDENTICAL = "identical"
    """Source and target hold the same values."""
    NOT_FINITE = "not finite"
    """The source's values, or the outputs with them in place, are NaN or infinite."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one swap, on the mean of the foreground classes.

    Attributes:
        swap: What was judged.
        drop: Mean drop of the source.
        drop_low: Lower end of its interval, NaN where there is none.
        drop_high: Upper end of its interval, NaN where there is none.
        control_drop: Smallest mean drop among the controls, NaN without controls.
        paper: ``reusable`` or ``not reusable``: the point estimate against the tolerance.
        verdict: The same with interval and controls.
    """

    swap: Swap
    drop: float
    drop_low: float
    drop_high: float
    control_drop: float
    paper: Word
    verdict: Word

    @property
    def can_be_loaded(self) -> bool:
        """Whether the source's tensors are of worth there: reusable, or the same anyway."""
        return self.verdict in (Word.REUSABLE, Word.IDENTICAL)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of every swap, and of the network.

    Attributes:
        judgements: One per swap, in the order of the sweep.
        tolerance: Largest drop that passes, in units of the score.
        confidence: Coverage of the intervals.
        num_subjects: Subjects that the intervals rest on, 0 where none are known.
    """

    judgements: tuple[Judgement, ...]
    tolerance: float
    confidence: float
    num_subjects: int

    @property
    def kernel_judgements(self) -> tuple[Judgement, ...]:
        """Judgements of single kernels, the output layer aside, as in the papers."""
        return tuple(j for j in self.judgements if j.swap.is_kernel)

    @property
    def kernel_share(self) -> float:
        """Share of the kernel layers whose kernel can be reused; NaN if no kernel was swept."""
        return _share([j.can_be_loaded for j in self.kernel_judgements])

    @property
    def paper_kernel_share(self) -> float:
        """The same by the papers' rule: the point estimate, no control."""
        return _share([j.paper is Word.REUSABLE for j in self.kernel_judgements])

    @property
    def reusable_network(self) -> bool:
        """Whether at least half of the kernel layers can be reused."""
        return self.kernel_share >= REUSABLE_SHARE

    @property
    def paper_reusable_network(self) -> bool:
        """The same by the papers' rule."""
        return self.paper_kernel_share >= REUSABLE_SHARE

    def layers_of(self, kind: str, word: str) -> tuple[int, ...]:
        """Return the layer numbers of single swaps of a kind that were judged to be ``word``."""
        return tuple(
            j.swap.anchor.layer
            for j in self.judgements
            if j.swap.is_single and j.swap.kind == kind and j.verdict == word
        )

    def summary(self) -> str:
        """Say in one sentence what was found."""
        kernels = self.kernel_judgements
        if not kernels:
            return f"{len(self.judgements)} swaps judged, no single kernel among them"
        loadable = sum(j.can_be_loaded for j in kernels)
        words = [j.verdict for j in kernels]
        rest = ", ".join(
            f"{words.count(word)} {word}"
            for word in (Word.INDIFFERENT, Word.NOT_REUSABLE, Word.UNDECIDED, Word.NOT_FINITE)
            if word in words or word is not Word.NOT_FINITE
        )
        network = "a reusable network" if self.reusable_network else "not a reusable network"
        if all(isnan(j.control_drop) for j in kernels):
            network += " (without a control)"
        by_paper = sum(j.paper is Word.REUSABLE for j in kernels)
        return (
            f"{network}: {loadable} of {len(kernels)} kernel layers can be reused ({rest}; "
            f"{by_paper} by the papers' rule) at a tolerance of {self.tolerance:g}"
        )

    def rows(self) -> Iterator[dict[str, object]]:
        """Yield the rows of ``frame``."""
        for j in self.judgements:
            site = j.swap.anchor
            values = (
                *(j.swap.name, site.family, site.layer, site.path, j.swap.kind),
                *(j.drop, j.drop_low, j.drop_high, j.control_drop),
                *(j.paper.value, j.verdict.value),
            )
            yield dict(zip(VERDICT_COLUMNS, values, strict=True))

    def frame(self) -> "pd.DataFrame":
        """Return one row per swap.

        Returns:
            Columns ``swap family layer path kind drop drop_low drop_high control_drop paper
            verdict``; drops are those of the foreground mean.
        """
        import pandas as pd

        return pd.DataFrame(list(self.rows()), columns=list(VERDICT_COLUMNS))


def _share(passed: Sequence[bool]) -> float:
    return sum(passed) / len(passed) if passed else float("nan")


def judge(sweep: Sweep, *, tolerance: float = TOLERANCE, confidence: float = CONFIDENCE) -> Verdict:
    """Turn measured drops into a verdict per swap, and on the network.

    A swap passes when the upper end of its drop's interval is at most the tolerance, and fails when
    the lower end is above it. It is *reusable* when the source passes and every control fails,
    *indifferent* when a control passes as well, *not reusable* when the source fails, *undecided*
    when an interval in question holds the tolerance, *identical* when source and target hold the
    same values, *not finite* when the source's values, or the outputs with them in place, are NaN
    or infinite; a control that is not finite fails. With one subject nothing is decided; where
    ``evaluate`` gave one number for all subjects the point estimate stands in for the interval.

    Args:
        sweep: What was measured.
        tolerance: Largest drop that still counts as almost unchanged, in units of the score.
        confidence: Coverage of the bootstrap interval over subjects.

    Raises:
        ScoreError: The tolerance is negative or the confidence is not between 0 and 1.
    """
    if not (isfinite(tolerance) and tolerance >= 0):
        raise ScoreError(f"tolerance is {tolerance!r}: expected a number of at least 0, e.g. 0.02")
    if not 0 < confidence < 1:
        raise ScoreError(f"confidence is {confidence!r}: expected more than 0 and less than 1")
    drops = sweep.mean_drops(confidence=confidence)
    judgements = tuple(_judge_swap(sweep, swap, drops, tolerance) for swap in sweep.swaps)
    return Verdict(judgements, tolerance, confidence, len(sweep.subjects))


def _judge_swap(
    sweep: Sweep, swap: Swap, drops: Mapping[tuple[str, str], MeanDrop], tolerance: float
) -> Judgement:
    source = drops[swap.name, SOURCE]
    names = [name for name in sweep.controls if (swap.name, name) not in sweep.not_finite]
    controls = [drops[swap.name, name] for name in names]
    return Judgement(
        swap=swap,
        drop=source.mean,
        drop_low=source.low if sweep.subjects else float("nan"),
        drop_high=source.high if sweep.subjects else float("nan"),
        control_drop=min((c.mean for c in controls), default=float("nan")),
        paper=Word.REUSABLE if source.mean <= tolerance + ROUNDING else Word.NOT_REUSABLE,
        verdict=_fixed_word(sweep, swap) or _word(source, controls, tolerance),
    )


def _fixed_word(sweep: Sweep, swap: Swap) -> Word | None:
    """Return the verdict that holds at any tolerance, if there is one."""
    if (swap.name, SOURCE) in sweep.identical:
        return Word.IDENTICAL
    return Word.NOT_FINITE if (swap.name, SOURCE) in sweep.not_finite else None


def _passes(drop: MeanDrop, tolerance: float) -> bool:
    return drop.high <= tolerance + ROUNDING


def _fails(drop: MeanDrop, tolerance: float) -> bool:
    return drop.low > tolerance + ROUNDING


def _word(source: MeanDrop, controls: Sequence[MeanDrop], tolerance: float) -> Word:
    if _fails(source, tolerance):
        return Word.NOT_REUSABLE
    if not _passes(source, tolerance):
        return Word.UNDECIDED
    if any(_passes(control, tolerance) for control in controls):
        return Word.INDIFFERENT
    if all(_fails(control, tolerance) for control in controls):
        return Word.REUSABLE
    return Word.UNDECIDED


def share_curve(
    sweep: Sweep, tolerances: Sequence[float], *, confidence: float = CONFIDENCE
) -> list[dict[str, float]]:
    """Return the share of reusable kernel layers at several tolerances.

    Args:
        sweep: What was measured.
        tolerances: Tolerances to judge at.
        confidence: As for ``judge``.

    Returns:
        One row per tolerance: ``tolerance``, ``kernel_share`` and ``paper_kernel_share``.
    """
    verdicts = [judge(sweep, tolerance=t, confidence=confidence) for t in tolerances]
    return [
        {
            "tolerance": v.tolerance,
            "kernel_share": v.kernel_share,
            "paper_kernel_share": v.paper_kernel_share,
        }
        for v in verdicts
    ]
