"""The rule about which sources are near the target: claim C8."""

from collections.abc import Sequence
from statistics import median

from paramreuse.papers.arms import pspnet_arm
from paramreuse.papers.evidence import Arm, Evidence, NotMeasuredError
from paramreuse.papers.rules.arms import TARGET
from paramreuse.papers.rules.condition import Condition
from paramreuse.papers.rules.distances import (
    NEARER,
    kernel_distances,
    nearness_gap,
    rmse_words,
)
from paramreuse.papers.rules.estimate import Estimate
from paramreuse.papers.rules.finding import Finding, Outcome
from paramreuse.reuse.verdict import ROUNDING


def likeness_does_not_predict(evidence: Evidence, condition: Condition) -> Finding:
    """C8: a source that shares nothing is nearer than one that does, or none that does is."""
    arm = pspnet_arm(evidence, condition.start)
    strangers, relatives = _by_likeness(arm)
    confidence = 1 - (1 - arm.confidence) / (len(strangers) * len(relatives))
    distances = {name: kernel_distances(arm, name, condition) for name in strangers + relatives}
    gaps = {
        f"{stranger} against {relative}": nearness_gap(
            distances[stranger], distances[relative], confidence=confidence
        )
        for stranger in strangers
        for relative in relatives
    }
    medians = ", ".join(
        f"{name} {median(by_layer.values()):.4g}" for name, by_layer in distances.items()
    )
    listed = ", ".join(f"{pair} {gap}" for pair, gap in gaps.items())
    numbers = f"median {rmse_words(condition)} {medians}; relative difference {listed}"
    outcome, reason = _judge(list(gaps.values()))
    return Finding(outcome, numbers, reason)


def _judge(gaps: Sequence[Estimate]) -> tuple[Outcome, str]:
    """Judge by how much each source that shares nothing is farther than each that shares one."""
    if all(gap.low >= NEARER - ROUNDING for gap in gaps):
        reason = f"every source that shares data or task is nearer than every other by {NEARER:.0%}"
        return Outcome.DOES_NOT_HOLD, reason
    a_stranger_is_nearer = any(gap.high <= ROUNDING - NEARER for gap in gaps)
    no_relative_is_nearer = all(gap.high < NEARER - ROUNDING for gap in gaps)
    if a_stranger_is_nearer or no_relative_is_nearer:
        return Outcome.HOLDS, ""
    return Outcome.CANNOT_TELL, "the layers leave open which of the sources are nearer"


def _by_likeness(arm: Arm) -> tuple[list[str], list[str]]:
    """Return the models that share neither data nor task with the target, and the others."""
    if TARGET not in arm.roles:
        raise NotMeasuredError(f"the arm {arm.name} does not say what the target was trained for")
    own = arm.roles[TARGET]
    others = {name: role for name, role in arm.roles.items() if name != TARGET}
    relatives = [n for n, role in others.items() if role.data == own.data or role.task == own.task]
    strangers = [name for name in others if name not in relatives]
    if not (strangers and relatives):
        raise NotMeasuredError(
            f"the arm {arm.name} has {len(strangers)} sources that share neither data nor task "
            f"with the target and {len(relatives)} that share one: expected some of each"
        )
    return strangers, relatives
