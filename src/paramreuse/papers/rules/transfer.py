"""The rule about which source transfers best: claim C9."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from paramreuse.papers.arms import pspnet_arm
from paramreuse.papers.evidence import Arm, Evidence, NotMeasuredError
from paramreuse.papers.rules.arms import sweep_of
from paramreuse.papers.rules.condition import Condition
from paramreuse.papers.rules.distances import (
    NEARER,
    kernel_distances,
    nearness_gap,
    rmse_words,
)
from paramreuse.papers.rules.estimate import Estimate, estimate_table, require_subjects
from paramreuse.papers.rules.finding import Finding, Outcome
from paramreuse.reuse.verdict import ROUNDING
from paramreuse.study.transfer.table import trainings_of

STRATEGIES = ("plan-finetune", "plan-freeze")
"""The papers' two ways of training on: "do not freeze" and "freeze"."""

FEWEST_REPETITIONS = 3
"""With fewer, trainings of equal sources agree in sign by chance too often."""

_Dice = Mapping[tuple[int, str], float]
"""Mean Dice over the foreground classes, by repetition and validation subject."""


def nearest_transfers_best(evidence: Evidence, condition: Condition) -> Finding:
    """C9: the source with the smallest RMSE beats all others, frozen and trained along."""
    arm = pspnet_arm(evidence, condition.start)
    dice = _dice_by_training(arm)
    sources = [name for name in arm.sources if all((name, way) in dice for way in STRATEGIES)]
    if len(sources) < 2:
        raise NotMeasuredError(
            f"the arm {arm.name} has transfers by {' and '.join(STRATEGIES)} from {sources}: "
            "expected 2 sources or more"
        )
    distances = {name: kernel_distances(arm, name, condition) for name in sources}
    ranked = sorted(sources, key=lambda name: median(distances[name].values()))
    nearest, second = ranked[:2]
    gap = nearness_gap(distances[nearest], distances[second], confidence=arm.confidence)
    leads = _leads(arm, dice, ranked)
    medians = ", ".join(f"{name} {median(distances[name].values()):.4g}" for name in ranked)
    numbers = "; ".join(
        [
            f"median {rmse_words(condition)} {medians}",
            f"relative difference {nearest} against {second} {gap}",
            *(
                f"{way}: Dice of {nearest} minus {rival} {lead.estimate}"
                for (way, rival), lead in leads.items()
            ),
            *(_against_nothing(arm, dice, ranked[-1], way) for way in STRATEGIES),
        ]
    )
    if not gap.high <= ROUNDING - NEARER:
        reason = f"the layers do not say that {nearest} is nearer than {second} by {NEARER:.0%}"
        return Finding(Outcome.CANNOT_TELL, numbers, reason)
    outcome, reason = _judge(nearest, leads)
    return Finding(outcome, numbers, reason)


def _dice_by_training(arm: Arm) -> Mapping[tuple[str, str], _Dice]:
    """Return the scores at the smallest number of training subjects, by source and strategy."""
    if not arm.transfer:
        raise NotMeasuredError(f"the arm {arm.name} has no transfer")
    foreground = sweep_of(arm).foreground_classes
    fewest = min(score.num_subjects for score in arm.transfer)
    dice: dict[tuple[str, str], dict[tuple[int, str], float]] = {}
    for training in trainings_of(s for s in arm.transfer if s.num_subjects == fewest):
        for subject, mean in training.by_subject(foreground).items():
            by_subject = dice.setdefault((training.source, training.strategy), {})
            by_subject[training.seed, subject] = mean
    return dice


@dataclass(frozen=True, slots=True)
class _Lead:
    """By how much one training beats another.

    Attributes:
        estimate: Mean over repetitions and subjects, both resampled.
        by_seed: In each repetition, the mean over subjects.
        num_subjects: Subjects that were scored in every repetition of both.
    """

    estimate: Estimate
    by_seed: Sequence[float]
    num_subjects: int

    @property
    def is_ahead(self) -> bool:
        """Whether it does, by the interval and in every repetition."""
        return self.estimate.low > ROUNDING and min(self.by_seed) > ROUNDING

    @property
    def is_behind(self) -> bool:
        """Whether the other beats it, by the same rule."""
        return self.estimate.high < -ROUNDING and max(self.by_seed) < -ROUNDING


def _lead(first: _Dice, second: _Dice, confidence: float) -> _Lead:
    both = first.keys() & second.keys()
    seeds = sorted({seed for seed, _ in both})
    named = sorted({subject for _, subject in both})
    subjects = [name for name in named if all((seed, name) in both for seed in seeds)]
    if not subjects:
        return _Lead(Estimate(np.nan, np.nan, np.nan), (), 0)
    table = np.array([[first[s, name] - second[s, name] for name in subjects] for s in seeds])
    by_seed: list[float] = table.mean(axis=1).tolist()
    return _Lead(estimate_table(table, confidence=confidence), by_seed, len(subjects))


def _leads(
    arm: Arm, dice: Mapping[tuple[str, str], _Dice], ranked: Sequence[str]
) -> dict[tuple[str, str], _Lead]:
    """Return the lead of the nearest source, by strategy and other source.

    The others share what the confidence leaves, since any of them may come out ahead by chance.
    """
    nearest, *others = ranked
    confidence = 1 - (1 - arm.confidence) / len(others)
    leads = {
        (way, rival): _lead(dice[nearest, way], dice[rival, way], confidence)
        for way in STRATEGIES
        for rival in others
    }
    for (way, rival), lead in leads.items():
        require_subjects(lead.num_subjects, f"{way}: {nearest} and {rival}")
    return leads


def _judge(nearest: str, leads: Mapping[tuple[str, str], _Lead]) -> tuple[Outcome, str]:
    repetitions = min(len(lead.by_seed) for lead in leads.values())
    if repetitions < FEWEST_REPETITIONS:
        return Outcome.CANNOT_TELL, (
            f"{repetitions} repetitions do not show what chance in training does: expected "
            f"{FEWEST_REPETITIONS} or more"
        )
    if all(lead.is_ahead for lead in leads.values()):
        return Outcome.HOLDS, ""
    for rival in dict.fromkeys(rival for _, rival in leads):
        if all(leads[way, rival].is_behind for way in STRATEGIES):
            reason = f"{rival} transfers better than {nearest}, frozen and not frozen"
            return Outcome.DOES_NOT_HOLD, reason
    return Outcome.CANNOT_TELL, (
        f"{nearest} is not ahead of every other source, and none is ahead of it both frozen and "
        "not frozen"
    )


def _against_nothing(
    arm: Arm, dice: Mapping[tuple[str, str], _Dice], farthest: str, strategy: str
) -> str:
    """Say how the farthest source compares with a training from scratch."""
    what = f"{strategy}: Dice of {farthest} (largest RMSE) minus nothing loaded"
    if ("", "scratch") not in dice:
        return f"{what} not known"
    lead = _lead(dice[farthest, strategy], dice["", "scratch"], arm.confidence)
    return f"{what} {lead.estimate}"
