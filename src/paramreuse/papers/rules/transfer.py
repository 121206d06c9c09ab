"""The rule about which source transfers best: claim C9."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean, median

from paramreuse.papers.evidence import Arm, Evidence
from paramreuse.papers.rules.arms import pspnet_arm, sweep_of
from paramreuse.papers.rules.condition import Condition
from paramreuse.papers.rules.distances import kernel_distances, nearness_gap
from paramreuse.papers.rules.estimate import Estimate, estimate_mean
from paramreuse.papers.rules.finding import Finding, NotMeasuredError, Outcome, all_of
from paramreuse.verdict import ROUNDING

STRATEGIES = ("plan-finetune", "plan-freeze")
"""The papers' two ways of training on: "do not freeze" and "freeze"."""

_Dice = Mapping[tuple[int, str], float]
"""Mean Dice over the foreground classes, by repetition and validation subject."""


def nearest_transfers_best(evidence: Evidence, condition: Condition) -> Finding:
    """C9: the source with the smallest RMSE beats the next best one, frozen and trained along."""
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
    found = all_of([_beats_next_best(arm, dice, ranked, way) for way in STRATEGIES])
    medians = ", ".join(f"{name} {median(distances[name].values()):.4g}" for name in ranked)
    nearest, second = ranked[:2]
    gap = nearness_gap(distances[nearest], distances[second], confidence=arm.confidence)
    numbers = [
        f"median RMSE {medians}",
        f"relative difference {nearest} against {second} {gap}",
        found.numbers,
        *(_against_nothing(arm, dice, ranked[-1], way) for way in STRATEGIES),
    ]
    if not gap.high < -ROUNDING:
        reason = f"the layers do not say whether {nearest} or {second} is nearer"
        return Finding(Outcome.CANNOT_TELL, "; ".join(numbers), reason)
    return Finding(found.outcome, "; ".join(numbers), found.reason)


def _dice_by_training(arm: Arm) -> dict[tuple[str, str], _Dice]:
    """Return the scores at the smallest number of training subjects, by source and strategy."""
    if not arm.transfer:
        raise NotMeasuredError(f"the arm {arm.name} has no transfer")
    sweep = sweep_of(arm)
    foreground = {c for c, counts in zip(sweep.classes, sweep.foreground, strict=True) if counts}
    fewest = min(score.num_subjects for score in arm.transfer)
    held: dict[tuple[str, str], dict[tuple[int, str], list[float]]] = {}
    for score in arm.transfer:
        if score.num_subjects != fewest or score.label not in foreground:
            continue
        if isfinite(score.score):
            by_subject = held.setdefault((score.source, score.strategy), {})
            by_subject.setdefault((score.seed, score.subject), []).append(score.score)
    return {
        training: {key: fmean(scores) for key, scores in by_subject.items()}
        for training, by_subject in held.items()
    }


@dataclass(frozen=True, slots=True)
class _Lead:
    """By how much one training beats another.

    Attributes:
        estimate: Over subjects, each the mean over its repetitions.
        by_seed: In each repetition, the mean over subjects.
    """

    estimate: Estimate
    by_seed: Sequence[float]

    def finding(self, what: str) -> Finding:
        """Tell whether it does: by the interval, and in every repetition."""
        found = self.estimate.above_zero(what)
        if found.outcome is Outcome.CANNOT_TELL:
            return found
        if len(self.by_seed) < 2:
            reason = f"{what}: one repetition does not show what chance in training does"
            return Finding(Outcome.CANNOT_TELL, found.numbers, reason)
        signs = {value > ROUNDING for value in self.by_seed}
        if signs != {found.outcome is Outcome.HOLDS}:
            reason = f"{what}: the repetitions disagree"
            return Finding(Outcome.CANNOT_TELL, found.numbers, reason)
        return found


def _lead(first: _Dice, second: _Dice, confidence: float) -> _Lead:
    by_subject: dict[str, list[float]] = {}
    by_seed: dict[int, list[float]] = {}
    for seed, subject in sorted(first.keys() & second.keys()):
        gap = first[seed, subject] - second[seed, subject]
        by_subject.setdefault(subject, []).append(gap)
        by_seed.setdefault(seed, []).append(gap)
    gaps = [fmean(held) for held in by_subject.values()]
    return _Lead(
        estimate_mean(gaps, confidence=confidence), [fmean(held) for held in by_seed.values()]
    )


def _beats_next_best(
    arm: Arm, dice: Mapping[tuple[str, str], _Dice], ranked: Sequence[str], strategy: str
) -> Finding:
    nearest, *others = ranked
    rival = max(others, key=lambda name: fmean(dice[name, strategy].values()))
    lead = _lead(dice[nearest, strategy], dice[rival, strategy], arm.confidence)
    return lead.finding(f"{strategy}: Dice of {nearest} minus {rival}")


def _against_nothing(
    arm: Arm, dice: Mapping[tuple[str, str], _Dice], farthest: str, strategy: str
) -> str:
    """Say how the farthest source compares with a training from scratch."""
    what = f"{strategy}: Dice of {farthest} (largest RMSE) minus nothing loaded"
    if ("", "scratch") not in dice:
        return f"{what} not known"
    lead = _lead(dice[farthest, strategy], dice["", "scratch"], arm.confidence)
    return f"{what} {lead.estimate}"
