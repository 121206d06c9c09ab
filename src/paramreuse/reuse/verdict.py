"""The verdict: measured drops turned into words, with the tolerance and the confidence stated.

Source: arXiv 2008.03411, "PR-RMSE": a network is reusable when swapping some layers' kernels leaves
the score almost unchanged. The tolerance, the controls, the intervals and "at least half of the
kernel layers" are ours, since the papers leave them open.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, isnan, nan
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from paramreuse.errors import ScoreError
from paramreuse.reuse.control_notes import control_notes
from paramreuse.reuse.judgement import Judgement, Word
from paramreuse.reuse.network import REUSABLE_SHARE, share_of_reusable, why_blind, why_useless
from paramreuse.reuse.verdict_map import html_verdict
from paramreuse.sites.swaps import SOURCE, Swap
from paramreuse.sweep.intervals import FEWEST_SUBJECTS, Means
from paramreuse.sweep.outcomes import MeanDrop, Sweep
from paramreuse.sweep.stopping import TOLERANCE, Side

if TYPE_CHECKING:
    import pandas as pd

CONFIDENCE = 0.95
"""Coverage of the intervals that a verdict rests on."""

ROUNDING = 1e-9
"""A drop may exceed the tolerance by so much and still equal it: ``0.9 - 0.88 > 0.02`` in float64,
while scores that differ at all differ by a pixel, which is more."""

_Trial: TypeAlias = tuple[str, str]
_Drops: TypeAlias = Mapping[_Trial, MeanDrop]

_DECIDED = (Word.REUSABLE, Word.INDIFFERENT, Word.NOT_REUSABLE)

VERDICT_COLUMNS = (
    *("swap", "family", "layer", "path", "kind"),
    *("drop", "drop_low", "drop_high", "control_drop", "paper", "verdict"),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of every swap, and of the network.

    Attributes:
        judgements: One per swap, in the order of the sweep.
        tolerance: Largest drop that passes, in units of the score.
        confidence: Coverage of the intervals.
        num_subjects: Subjects that the intervals rest on, 0 where none are known.
        lineage: Whether source and target share a start; empty where it is not known.
        useless: Why the target is too poor for a verdict; empty where it is not.
        notes: What else the reader should know, e.g. of controls that cannot differ.
    """

    judgements: tuple[Judgement, ...]
    tolerance: float
    confidence: float
    num_subjects: int
    lineage: str = ""
    useless: str = ""
    notes: tuple[str, ...] = ()

    @property
    def kernel_judgements(self) -> tuple[Judgement, ...]:
        """Judgements of single kernels, the output layer aside, as in the papers."""
        return tuple(j for j in self.judgements if j.swap.is_kernel)

    @property
    def kernel_share(self) -> float:
        """Share of kernels that can be reused among those where the control fails, or identical.

        0 where no control fails, NaN if no kernel was swept.
        """
        return share_of_reusable(self.kernel_judgements)[0]

    @property
    def kernel_share_interval(self) -> tuple[float, float]:
        """Smallest and largest share that kernels leave possible which are undecided."""
        return share_of_reusable(self.kernel_judgements)[1:]

    @property
    def expected_wrong(self) -> float:
        """How many of all the words are expected to be wrong, by the intervals of the drops."""
        return sum(j.doubt for j in self.judgements)

    @property
    def cannot_tell(self) -> str:
        """Why single swaps cannot tell whether the source is of use; empty where they can."""
        return "" if self.reusable_network else why_blind(self.kernel_judgements, self.lineage)

    @property
    def paper_kernel_share(self) -> float:
        """Share of all kernels that pass by the papers' rule: the point estimate, no control."""
        passed = [j.paper is Word.REUSABLE for j in self.kernel_judgements]
        return sum(passed) / len(passed) if passed else nan

    @property
    def reusable_network(self) -> bool:
        """Whether at least half of the kernels where the control fails can be reused.

        Of a useless target it means nothing: see ``useless``. False does not mean that the network
        is of no use: see ``cannot_tell``.
        """
        return self.kernel_share >= REUSABLE_SHARE

    @property
    def paper_reusable_network(self) -> bool:
        """The papers' rule: at least half of all kernels pass, by the point estimate."""
        return self.paper_kernel_share >= REUSABLE_SHARE

    def layers_of(self, kind: str, word: str) -> tuple[int, ...]:
        """Return the layer numbers of single swaps of a kind that were judged to be ``word``."""
        return tuple(
            j.swap.anchor.layer
            for j in self.judgements
            if j.swap.is_single and j.swap.kind == kind and j.verdict == word
        )

    def summary(self) -> str:
        """Say in a few words what was judged; what stands in the way of a verdict comes first."""
        kernels = self.kernel_judgements
        if not kernels:
            counted = f"{len(self.judgements)} swaps judged, no single kernel among them"
            return f"{self.useless}; {counted}" if self.useless else counted
        loadable = sum(j.can_be_loaded for j in kernels)
        words = [j.verdict for j in kernels]
        named = [Word.INDIFFERENT, Word.NOT_REUSABLE, Word.UNDECIDED]
        named += [word for word in (Word.TOO_FEW, Word.NOT_FINITE) if word in words]
        rest = ", ".join(f"{words.count(word)} {word}" for word in named)
        by_paper = sum(j.paper is Word.REUSABLE for j in kernels)
        parts = [
            f"{self._network()}: {loadable} of {len(kernels)} kernel layers can be reused ({rest}; "
            f"{by_paper} by the papers' rule) at a tolerance of {self.tolerance:g}",
            *self._shares(),
        ]
        return "; ".join(parts)

    def _network(self) -> str:
        """Say what the network is."""
        if self.useless:
            return self.useless
        kernels = self.kernel_judgements
        if any(j.has_too_few for j in kernels):
            return (
                f"too few subjects: {self.num_subjects} were scored, {FEWEST_SUBJECTS} or more are "
                "needed for intervals that keep their promise"
            )
        if self.cannot_tell:
            return self.cannot_tell
        if not any(j.can_be_loaded or j.control_side is not Side.BELOW for j in kernels):
            return "nothing to tell the source by: shuffled or random kernels do as well everywhere"
        network = "a reusable network" if self.reusable_network else "not a reusable network"
        has_control = any(not isnan(j.control_drop) for j in kernels)
        return network if has_control else f"{network} (without a control)"

    def _shares(self) -> Iterator[str]:
        """Say how large the share is and how many verdicts may be wrong, where there are any."""
        low, high = self.kernel_share_interval
        span = f" ({low:.2f} to {high:.2f})" if high > low else ""
        yield f"{self.kernel_share:.2f}{span} of those where the control fails"
        decided = sum(j.verdict in _DECIDED for j in self.judgements)
        if decided and self.num_subjects:
            yield f"of {decided} verdicts about {self.expected_wrong:.1f} may be wrong"

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

    def _repr_html_(self) -> str:
        """Show a notebook the sentence and, of single swaps, the map of kinds and layers."""
        judged = ((j.swap, j.verdict.value) for j in self.judgements)
        return html_verdict(self.summary(), judged)

    def frame(self) -> "pd.DataFrame":
        """Return one row per swap.

        Returns:
            Columns ``swap family layer path kind drop drop_low drop_high control_drop paper
            verdict``; drops are those of the foreground mean.
        """
        import pandas as pd

        return pd.DataFrame(list(self.rows()), columns=list(VERDICT_COLUMNS))


def judge(sweep: Sweep, *, tolerance: float = TOLERANCE, confidence: float = CONFIDENCE) -> Verdict:
    """Turn measured drops into a verdict per swap, and on the network.

    A swap passes when the upper end of its drop's interval is at most the tolerance, and fails when
    the lower end is above it. It is *reusable* when the source passes and every control fails,
    *indifferent* when a control passes as well, *not reusable* when the source fails, *undecided*
    when an interval in question holds the tolerance or no control can differ from the source,
    *identical* when source and target hold the same values, *not finite* when the source's values,
    or the outputs with them in place, are NaN or infinite; a control that is not finite fails. With
    fewer than 8 subjects the word is *too few subjects*; where ``evaluate`` gave one number for all
    subjects the point estimate stands in for the interval.

    Args:
        sweep: What was measured.
        tolerance: Largest drop that still counts as almost unchanged, in units of the score.
        confidence: Coverage of the intervals over subjects.

    Raises:
        ScoreError: The tolerance is negative or the confidence is not between 0 and 1.
    """
    if not (isfinite(tolerance) and tolerance >= 0):
        raise ScoreError(f"tolerance is {tolerance!r}: expected a number of at least 0, e.g. 0.02")
    if not 0 < confidence < 1:
        raise ScoreError(f"confidence is {confidence!r}: expected more than 0 and less than 1")
    drops = sweep.mean_drops(confidence=confidence)
    doubts = _doubts(drops, tolerance + ROUNDING)
    return Verdict(
        tuple(_judge_swap(sweep, swap, (drops, doubts), tolerance) for swap in sweep.swaps),
        tolerance,
        confidence,
        len(sweep.subjects),
        sweep.lineage,
        why_useless(sweep, tolerance),
        tuple(control_notes(sweep)),
    )


def _doubts(drops: _Drops, bound: float) -> dict[_Trial, float]:
    """Return for every trial the chance that its drop lies on the other side of a bound."""
    measured = list(drops.values())
    columns = [
        [getattr(d, name) for d in measured] for name in ("mean", "error", "skew", "subjects")
    ]
    means = Means(*map(np.array, columns))
    return dict(zip(drops, means.doubt(bound).tolist(), strict=True))


def _judge_swap(
    sweep: Sweep, swap: Swap, measured: tuple[_Drops, Mapping[_Trial, float]], tolerance: float
) -> Judgement:
    drops, doubts = measured
    bound = tolerance + ROUNDING
    source = drops[swap.name, SOURCE]
    told = [(swap.name, name) for name in sweep.controls if (swap.name, name) not in sweep.alike]
    # A control that is not finite fails, and has no drop.
    telling = [name for name in told if name not in sweep.not_finite]
    sides = [drops[name].side(bound) for name in telling]
    least = min(telling, key=lambda name: drops[name].mean, default=None)
    control_side = _all_sides(sides) if told or not sweep.controls else Side.OPEN
    fixed = _fixed_word(sweep, swap)
    side = Side.ABOVE if fixed is Word.NOT_FINITE else source.side(bound)
    word = fixed or (Word.TOO_FEW if source.has_too_few else _word(side, control_side))
    of_controls = [(doubts[n], s) for n, s in zip(telling, sides, strict=True)]
    return Judgement(
        swap=swap,
        drop=source.mean,
        drop_low=source.low if sweep.subjects else nan,
        drop_high=source.high if sweep.subjects else nan,
        control_drop=drops[least].mean if least else nan,
        control_draws=sweep.draw_drops(*least) if least else (),
        paper=Word.REUSABLE if source.mean <= bound else Word.NOT_REUSABLE,
        verdict=word,
        side=side,
        control_side=control_side,
        doubt=_doubt_of(word, doubts[swap.name, SOURCE], of_controls),
    )


def _doubt_of(word: Word, of_source: float, of_controls: Sequence[tuple[float, Side]]) -> float:
    """Return the chance that a word is wrong, from those that a drop is on the other side."""
    if word is Word.NOT_REUSABLE:
        return of_source
    if word is Word.INDIFFERENT:
        passing = [doubt for doubt, side in of_controls if side is Side.BELOW]
        return of_source + min(passing, default=0.0)
    return of_source + sum(doubt for doubt, _ in of_controls) if word is Word.REUSABLE else 0.0


def _fixed_word(sweep: Sweep, swap: Swap) -> Word | None:
    """Return the verdict that holds at any tolerance, if there is one."""
    if (swap.name, SOURCE) in sweep.identical:
        return Word.IDENTICAL
    return Word.NOT_FINITE if (swap.name, SOURCE) in sweep.not_finite else None


def _all_sides(sides: Sequence[Side]) -> Side:
    """Return below where one control is, above where all are."""
    if Side.BELOW in sides:
        return Side.BELOW
    return Side.OPEN if Side.OPEN in sides else Side.ABOVE


def _word(side: Side, control_side: Side) -> Word:
    if side is Side.ABOVE:
        return Word.NOT_REUSABLE
    if side is Side.OPEN or control_side is Side.OPEN:
        return Word.UNDECIDED
    return Word.INDIFFERENT if control_side is Side.BELOW else Word.REUSABLE


def share_curve(
    sweep: Sweep, tolerances: Sequence[float], *, confidence: float = CONFIDENCE
) -> list[dict[str, float]]:
    """Return the share of reusable kernel layers at several tolerances.

    Args:
        sweep: What was measured.
        tolerances: Tolerances to judge at.
        confidence: As for ``judge``.

    Returns:
        One row per tolerance: ``tolerance``, ``kernel_share``, the ends of its interval
        ``kernel_share_low`` and ``kernel_share_high``, and ``paper_kernel_share``.
    """
    verdicts = [judge(sweep, tolerance=t, confidence=confidence) for t in tolerances]
    return [
        {
            "tolerance": v.tolerance,
            "kernel_share": v.kernel_share,
            "kernel_share_low": v.kernel_share_interval[0],
            "kernel_share_high": v.kernel_share_interval[1],
            "paper_kernel_share": v.paper_kernel_share,
        }
        for v in verdicts
    ]
