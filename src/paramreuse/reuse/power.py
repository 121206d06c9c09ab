"""How many subjects a verdict needs, from what a few have shown."""

from collections.abc import Sequence
from math import ceil, inf, isfinite, isnan

from paramreuse.reuse.judgement import Word
from paramreuse.reuse.verdict import CONFIDENCE, ROUNDING, judge
from paramreuse.sites.swaps import SOURCE, Swap
from paramreuse.sweep.intervals import FEWEST_SUBJECTS
from paramreuse.sweep.outcomes import MeanDrop, Sweep
from paramreuse.sweep.stopping import TOLERANCE

_UNSETTLED = (Word.UNDECIDED, Word.TOO_FEW)


def subjects_needed(
    sweep: Sweep,
    *,
    tolerance: float = TOLERANCE,
    confidence: float = CONFIDENCE,
    settled: float = 0.5,
) -> int | None:
    """Return after how many subjects a part of the swaps would be settled that are not yet.

    An interval narrows with the square root of the number of subjects, so a mean drop ``m`` whose
    interval reaches ``r`` beyond the tolerance ``t`` on n subjects is told from it by about
    ``n (r / (m - t))^2``, were mean and spread to stay. A pilot of few subjects will do, two at
    least; the fewer, the rougher.

    Args:
        sweep: What was measured on the subjects at hand.
        tolerance: As for ``judge``.
        confidence: As for ``judge``.
        settled: Part of the unsettled swaps to be settled, above 0 and at most 1; of the kernels
            where single kernels were swept, else of all swaps.

    Returns:
        The number of subjects in all; None where every swap is settled, or no number of subjects
        would do.

    Raises:
        ScoreError: Tolerance or confidence are out of range.

    Examples:
        >>> from math import ceil
        >>> ceil(10 * ((0.05 - 0.01) / (0.02 - 0.01)) ** 2)  # a drop of 0.01 [-0.03, 0.05] on 10
        160
    """
    verdict = judge(sweep, tolerance=tolerance, confidence=confidence)
    judged = verdict.kernel_judgements or verdict.judgements
    drops = sweep.mean_drops(confidence=confidence)
    needed = (
        _needed([drops[name] for name in _trials(sweep, j.swap)], tolerance + ROUNDING)
        for j in judged
        if j.verdict in _UNSETTLED
    )
    numbers = sorted(number for number in needed if isfinite(number))
    return ceil(numbers[ceil(settled * len(numbers)) - 1]) if numbers else None


def _trials(sweep: Sweep, swap: Swap) -> list[tuple[str, str]]:
    names = ((swap.name, name) for name in (SOURCE, *sweep.controls))
    return [name for name in names if name not in sweep.alike]


def _needed(drops: Sequence[MeanDrop], bound: float) -> float:
    """Return how many subjects settle all of some drops; infinite where no number is known to."""
    needed = float(FEWEST_SUBJECTS)
    for drop in drops:
        if drop.low > bound or drop.high <= bound:
            continue
        reach = drop.mean - drop.low if drop.mean > bound else drop.high - drop.mean
        apart = abs(drop.mean - bound)
        if isnan(reach) or not apart:
            return inf
        needed = max(needed, drop.subjects * (reach / apart) ** 2)
    return needed
