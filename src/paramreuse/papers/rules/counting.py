"""How many sites are reusable, when some are undecided: a range, and what it says of a share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from paramreuse.papers.evidence import Arm, NotMeasuredError
from paramreuse.papers.rules.condition import Condition, Variant
from paramreuse.papers.rules.estimate import FEWEST_SUBJECTS
from paramreuse.papers.rules.finding import Finding, Outcome
from paramreuse.reuse.judgement import Word
from paramreuse.reuse.verdict import ROUNDING
from paramreuse.sites.swaps import RANDOM_CONTROLS, SOURCE, Swap
from paramreuse.sweep.outcomes import MeanDrop, Sweep
from paramreuse.sweep.stopping import Side

_SHUFFLED = RANDOM_CONTROLS[0]


def possible_words(
    arm: Arm, sweep: Sweep, swaps: Sequence[Swap], condition: Condition
) -> list[frozenset[Word]]:
    """Return for each swap the words that its drops leave possible.

    Args:
        arm: Gives tolerance and confidence.
        sweep: What was measured.
        swaps: Swaps of the sweep.
        condition: Whether the shuffled control decides between reusable and indifferent.

    Returns:
        ``reusable``, ``indifferent`` and ``not reusable``, one of them where the intervals
        decide, several where an interval in question holds the tolerance, or rests on too few
        subjects. Where source and target
        hold the same values the word is ``reusable``.

    Raises:
        NotMeasuredError: The control is needed and was not swept.
    """
    with_control = condition.variant is Variant.CONTROL
    if with_control and _SHUFFLED not in sweep.replacements:
        raise NotMeasuredError(f"the arm {arm.name} was swept without the shuffled control")
    wanted = (SOURCE, _SHUFFLED) if with_control else (SOURCE,)
    asked = replace(sweep, swaps=tuple(swaps), replacements=wanted)
    drops = asked.mean_drops(confidence=arm.confidence)
    words = []
    for swap in swaps:
        passes = [_passing(asked, (swap.name, name), drops, arm.tolerance) for name in wanted]
        same = (swap.name, SOURCE) in sweep.identical
        words.append(frozenset({Word.REUSABLE}) if same else _words(passes))
    return words


def _passing(
    sweep: Sweep,
    trial: tuple[str, str],
    drops: Mapping[tuple[str, str], MeanDrop],
    tolerance: float,
) -> frozenset[bool]:
    if trial in sweep.not_finite:
        return frozenset({False})
    if np.isfinite(sweep.drops(*trial)[:, -1]).sum() < FEWEST_SUBJECTS:
        return frozenset({True, False})
    return _PASSES[drops[trial].side_of_interval(tolerance + ROUNDING)]


_PASSES = {
    Side.BELOW: frozenset({True}),
    Side.ABOVE: frozenset({False}),
    Side.OPEN: frozenset({True, False}),
}
"""Whether a drop passes, by the side of the tolerance on which its interval lies."""


def _words(passes: Sequence[frozenset[bool]]) -> frozenset[Word]:
    source, *controls = passes
    words = {Word.NOT_REUSABLE} if False in source else set()
    if True in source:
        control_may_pass = any(True in control for control in controls)
        control_may_fail = all(False in control for control in controls)
        words |= {Word.INDIFFERENT} if control_may_pass else set()
        words |= {Word.REUSABLE} if control_may_fail else set()
    return frozenset(words)


@dataclass(frozen=True, slots=True)
class Count:
    """How many of some sites are reusable.

    Attributes:
        sure: Number that certainly are.
        unsure: Number that may be.
        total: Number of sites.
    """

    sure: int
    unsure: int
    total: int

    def __str__(self) -> str:
        most = f" to {self.sure + self.unsure}" if self.unsure else ""
        return f"{self.sure}{most} of {self.total} reusable"

    def share_at_least(self, bound: float, what: str) -> Finding:
        """Tell whether the share is at least ``bound``, however the unsure ones turn out."""
        if self.sure / self.total >= bound:
            return Finding(Outcome.HOLDS, f"{what} {self}")
        if (self.sure + self.unsure) / self.total < bound:
            reason = f"{what}: fewer than {bound:.0%} reusable"
            return Finding(Outcome.DOES_NOT_HOLD, f"{what} {self}", reason)
        return Finding(Outcome.CANNOT_TELL, f"{what} {self}", f"{what}: {self.unsure} undecided")

    def share_below(self, bound: float, what: str) -> Finding:
        """Tell whether the share is below ``bound``, however the unsure ones turn out."""
        if (self.sure + self.unsure) / self.total < bound:
            return Finding(Outcome.HOLDS, f"{what} {self}")
        if self.sure / self.total >= bound:
            reason = f"{what}: at least {bound:.0%} reusable"
            return Finding(Outcome.DOES_NOT_HOLD, f"{what} {self}", reason)
        return Finding(Outcome.CANNOT_TELL, f"{what} {self}", f"{what}: {self.unsure} undecided")


def count_reusable(arm: Arm, sweep: Sweep, swaps: Sequence[Swap], condition: Condition) -> Count:
    """Count the reusable ones among some swaps of a sweep, at least one.

    Raises:
        NotMeasuredError: The control is needed and was not swept.
    """
    words = possible_words(arm, sweep, swaps, condition)
    sure = sum(possible == {Word.REUSABLE} for possible in words)
    unsure = sum(Word.REUSABLE in possible for possible in words) - sure
    return Count(sure, unsure, len(words))
