"""What a rule comes to: it holds, it does not, or what was measured cannot tell."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What became of a claim."""

    HOLDS = "holds"
    """The numbers meet the rule, also at the unfavourable ends of their intervals."""
    DOES_NOT_HOLD = "does not hold"
    """They do not meet it, also at the favourable ends."""
    CANNOT_TELL = "cannot tell"
    """An interval leaves it open, or something was not measured."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule, or a part of one, comes to.

    Attributes:
        outcome: The outcome.
        numbers: The numbers that it rests on, as text.
        reason: Why it does not hold or cannot be told, ``""`` where it holds.
    """

    outcome: Outcome
    numbers: str
    reason: str = ""


def all_of(findings: Sequence[Finding]) -> Finding:
    """Join the parts of a rule that have to hold together.

    Args:
        findings: At least one.

    Returns:
        It does not hold as soon as one part does not, cannot be told as soon as one of the others
        cannot, with the reasons of these parts and the numbers of all.
    """
    outcomes = {finding.outcome for finding in findings}
    order = (Outcome.DOES_NOT_HOLD, Outcome.CANNOT_TELL, Outcome.HOLDS)
    outcome = next(outcome for outcome in order if outcome in outcomes)
    reasons = [finding.reason for finding in findings if finding.outcome is outcome]
    return Finding(
        outcome,
        "; ".join(finding.numbers for finding in findings),
        "; ".join(reason for reason in reasons if reason),
    )
