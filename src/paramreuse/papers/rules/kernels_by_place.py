"""The rule about where in PSPNet the kernels are that cannot be reused: claim C5."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from paramreuse.papers.arms import pspnet_arm
from paramreuse.papers.evidence import Evidence, NotMeasuredError
from paramreuse.papers.rules.arms import kernel_sweep_of, kernels_of
from paramreuse.papers.rules.condition import Condition
from paramreuse.papers.rules.counting import possible_words
from paramreuse.papers.rules.finding import Finding, Outcome
from paramreuse.reuse.judgement import Word
from paramreuse.sites.swaps import Swap

BACKBONE_LAYERS = 20
"""Layers 1 to 20 of PSPNet are its ResNet-18."""

SIGNIFICANCE = 0.05
"""Largest p at which so many predicted kernels among the not reusable ones are not an accident."""


@dataclass(frozen=True, slots=True)
class _Table:
    """Kernels by whether they were predicted and whether they can be reused."""

    predicted_not: int
    predicted_reusable: int
    other_not: int
    other_reusable: int

    def __str__(self) -> str:
        predicted = self.predicted_not + self.predicted_reusable
        others = self.other_not + self.other_reusable
        return (
            f"not reusable: {self.predicted_not} of {predicted} predicted, {self.other_not} of "
            f"{others} others (p = {self.chance(self.predicted_not):.3f})"
        )

    @property
    def num_not(self) -> int:
        """Number of kernels that cannot be reused."""
        return self.predicted_not + self.other_not

    def chance(self, least: int) -> float:
        """Return the chance of ``least`` or more predicted ones among those not reusable.

        Source: Fisher's exact test, one-sided.
        """
        from scipy.stats import hypergeom

        predicted = self.predicted_not + self.predicted_reusable
        total = predicted + self.other_not + self.other_reusable
        return float(hypergeom.sf(least - 1, total, predicted, self.num_not))

    @property
    def can_decide(self) -> bool:
        """Whether any arrangement of so many not reusable kernels would be no accident."""
        predicted = self.predicted_not + self.predicted_reusable
        return self.chance(min(self.num_not, predicted)) <= SIGNIFICANCE

    @property
    def outcome(self) -> Outcome:
        if not self.can_decide:
            return Outcome.CANNOT_TELL
        if self.chance(self.predicted_not) <= SIGNIFICANCE:
            return Outcome.HOLDS
        # The papers: "almost all".
        if self.predicted_not < self.other_not:
            return Outcome.DOES_NOT_HOLD
        return Outcome.CANNOT_TELL


def predicted_kernels_are_not_reusable(evidence: Evidence, condition: Condition) -> Finding:
    """C5: what cannot be reused is the first kernel, a change of features, or right behind one."""
    arm = pspnet_arm(evidence, condition.start)
    sweep = kernel_sweep_of(arm, condition)
    swaps = [swap for swap in kernels_of(arm, sweep) if _is_judged(swap)]
    predicted = predicted_layers(swaps)
    words = dict(zip(swaps, possible_words(arm, sweep, swaps, condition), strict=True))
    groups: dict[bool, list[frozenset[Word]]] = {True: [], False: []}
    for swap, possible in words.items():
        groups[swap.anchor.layer in predicted].append(possible)
    if not all(groups.values()):
        raise NotMeasuredError(
            f"the arm {arm.name} has swaps of {len(swaps)} backbone kernels: expected some that "
            "are predicted not to be reusable, and others"
        )
    tables = [
        _Table(*predicted_counts, *other_counts)
        for predicted_counts in _ways(groups[True])
        for other_counts in _ways(groups[False])
    ]
    return _judge(tables, sum(len(possible) > 1 for possible in words.values()))


def _is_judged(swap: Swap) -> bool:
    site = swap.anchor
    is_backbone = site.family == "conv" and site.layer <= BACKBONE_LAYERS
    return is_backbone and site.shape[-1] > 1


def predicted_layers(kernels: Iterable[Swap]) -> frozenset[int]:
    """Return the layers that should not be reusable: 1, changes of features, right behind these.

    Args:
        kernels: Single swaps of kernels.
    """
    sites = [swap.anchor for swap in kernels]
    changing = {site.layer for site in sites if site.shape[0] != site.shape[1]}
    return frozenset({1} | changing | {layer + 1 for layer in changing})


def _ways(words: Iterable[frozenset[Word]]) -> list[tuple[int, int]]:
    """Count the not reusable and the reusable kernels, in every way the undecided may turn out.

    Indifferent ones are neither: they can be filled with anything.
    """
    counts = {(0, 0)}
    for possible in words:
        counts = {
            (fails + (word is Word.NOT_REUSABLE), passes + (word is Word.REUSABLE))
            for fails, passes in counts
            for word in possible
        }
    return sorted(counts)


def _judge(tables: Sequence[_Table], num_undecided: int) -> Finding:
    outcomes = {table.outcome for table in tables}
    extremes = dict.fromkeys((tables[0], tables[-1]))
    numbers = " to ".join(str(table) for table in extremes)
    if len(outcomes) > 1:
        reason = f"{num_undecided} undecided kernels could turn it either way"
        return Finding(Outcome.CANNOT_TELL, numbers, reason)
    (outcome,) = outcomes
    return Finding(outcome, numbers, _reason(tables, outcome))


def _reason(tables: Sequence[_Table], outcome: Outcome) -> str:
    if outcome is Outcome.HOLDS:
        return ""
    if outcome is Outcome.DOES_NOT_HOLD:
        return "most kernels that are not reusable were not predicted"
    if np.all([table.can_decide for table in tables]):
        return "the predicted kernels are not reusable hardly more often than the others"
    return "too few or too many kernels are not reusable: no arrangement of them would show it"
