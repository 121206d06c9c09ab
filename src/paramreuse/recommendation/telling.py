"""A decision told: the rows of its tables and the sentence that gives the reason."""

from collections.abc import Mapping, Sequence

from paramreuse.recommendation.bench import Bench, Evidence
from paramreuse.recommendation.candidates import AS_IS, FULL, MIXES, SCRATCH
from paramreuse.recommendation.decision import Decision, Option
from paramreuse.recommendation.result import CandidateRow, RankedStart
from paramreuse.recommendation.screening import FirstLook

NOTHING_TO_GAIN = 0.01
"""Predicted gain over scratch up to which there is nothing to gain, in units of the score."""

WAYS = {
    FULL: "load everything and train all of it",
    "head": "load everything and train the output layer only",
    AS_IS: "use it as it is, with the normalisation statistics of your images",
    "mix-0.75": "load everything, train all of it, then go a quarter of the way back",
}
"""What a candidate does, in words."""


def reason_for(
    decision: Decision,
    members: Sequence[Option],
    misfits: Mapping[str, str],
    num_subjects: int,
) -> str:
    """Say in one sentence what to do and why."""
    chosen = decision.chosen
    mean, low, high = decision.gain
    if not chosen.source:
        return f"Train from scratch: {_why_scratch(decision, misfits)}."
    way = f"from {chosen.source!r}: {WAYS.get(chosen.candidate, chosen.candidate)}"
    gain = f"predicted gain over scratch {mean:+.3f} (80 %: {low:+.3f} to {high:+.3f})"
    if len(members) > 1:
        names = ", ".join(f"{m.candidate} {m.source}".strip() for m in members)
        return (
            f"{num_subjects} labelled subjects are too few to choose, so this is the mean of "
            f"{len(members)} trainings ({names}); {gain}."
        )
    if mean <= NOTHING_TO_GAIN or low <= 0:
        return f"Start {way}; {gain}, so a gain is not certain."
    return f"Start {way}; {gain}."


def _why_scratch(decision: Decision, misfits: Mapping[str, str]) -> str:
    if len(decision.options) > 1:
        return "no source is predicted to gain anything over it"
    if decision.worthless:
        return "no source is worth more than a fresh draw"
    return "no source fits the network" if misfits else "no source was trained from"


def candidate_rows(decision: Decision, bench: Bench) -> tuple[CandidateRow, ...]:
    """Return every measured candidate with its predicted score, the best first."""
    best_full = max((o.gain for o in decision.options if o.candidate == FULL), default=0.0)
    rows = []
    for option in decision.options:
        score = decision.scratch + option.gain
        low, high = max(0.0, score - decision.score_reach), score + decision.score_reach
        units = _units(option, bench)
        rows.append(
            CandidateRow(
                option.candidate, option.source, score, low, high, option.gain - best_full, units
            )
        )
    return tuple(rows)


def _units(option: Option, bench: Bench) -> float:
    """Return what measuring an option took; what came with another training took nothing."""
    if option.candidate == AS_IS or option.candidate in MIXES:
        return 0.0
    return bench.units


def _why(source: str, gains: Mapping[str, float], decision: Decision) -> str:
    """Say why a source is not in the running, if it is not."""
    if source in gains:
        return ""
    if source in decision.worthless:
        return "worth no more than a fresh draw: putting its blocks back costs as much"
    return "not trained from: the budget went to sources that promised more"


def ranked_starts(
    decision: Decision,
    looks: Sequence[FirstLook],
    misfits: Mapping[str, str],
    evidence: Evidence,
) -> tuple[RankedStart, ...]:
    """Return the sources, the most promising first, then those that do not fit."""
    gains: dict[str, float] = {}
    for option in decision.options:
        if option.source and option.candidate != SCRATCH:
            gains[option.source] = max(option.gain, gains.get(option.source, option.gain))
    nan = float("nan")
    order = sorted(looks, key=lambda look: (look.source not in gains, -gains.get(look.source, 0.0)))
    rows = [
        RankedStart(
            look.source,
            rank,
            gains.get(look.source, nan),
            look.as_is,
            look.ridge,
            evidence.likeness(look.source),
            _why(look.source, gains, decision),
        )
        for rank, look in enumerate(order, start=1)
    ]
    unfit = (RankedStart(name, 0, nan, nan, nan, nan, text) for name, text in misfits.items())
    return (*rows, *unfit)
