"""The rule about which sources are near the target: claim C8."""

from statistics import median

from paramreuse.papers.evidence import Arm, Evidence
from paramreuse.papers.rules.arms import TARGET, pspnet_arm
from paramreuse.papers.rules.condition import Condition
from paramreuse.papers.rules.distances import kernel_distances, nearness_gap
from paramreuse.papers.rules.finding import Finding, NotMeasuredError, Outcome
from paramreuse.verdict import ROUNDING


def likeness_does_not_predict(evidence: Evidence, condition: Condition) -> Finding:
    """C8: some source that shares nothing is nearer than one that shares data or task."""
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
    medians = ", ".join(f"{name} {median(held.values()):.4g}" for name, held in distances.items())
    listed = ", ".join(f"{pair} {gap}" for pair, gap in gaps.items())
    numbers = f"median RMSE {medians}; relative difference {listed}"
    if any(gap.high < -ROUNDING for gap in gaps.values()):
        return Finding(Outcome.HOLDS, numbers)
    if all(gap.low > ROUNDING for gap in gaps.values()):
        reason = "every source that shares data or task is nearer than every other"
        return Finding(Outcome.DOES_NOT_HOLD, numbers, reason)
    reason = "the layers do not say which of the sources is nearer"
    return Finding(Outcome.CANNOT_TELL, numbers, reason)


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
