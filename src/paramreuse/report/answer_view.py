"""The answer as the page shows it: sentences, command, and the picture of what was tried."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from paramreuse.report.answer import Answer, Facts, answer_of
from paramreuse.report.contents import ReportData
from paramreuse.report.start_words import label, plain_number
from paramreuse.report.starts import CONTROLS, SCRATCH, Start, trials_of

_MOST_ROWS = 12
"""Starts that the picture shows; training from scratch is always one of them."""

_MARGIN = 0.06
"""Share of the scores' range that is left free at either end of the picture."""

_PLANS = ("plan-freeze", "plan-finetune")


@dataclass(frozen=True, slots=True)
class StartRow:
    """One start in the picture; places are in per cent of its width.

    Attributes:
        label: The start in a few words.
        source: Name of the source; empty from scratch.
        score: What it reached, as text.
        ends: Ends of the interval, as text; empty where there is none.
        at: Place of the dot; None without a score.
        low: Place of the lower end; None where there is no interval.
        high: Place of the upper end.
        role: ``chosen``, ``control``, ``scratch`` or ``other``.
    """

    label: str
    source: str
    score: str
    ends: str
    at: float | None
    low: float | None
    high: float | None
    role: str


@dataclass(frozen=True, slots=True)
class Picture:
    """What was tried, as rows of dots on one axis.

    Attributes:
        rows: The starts, best first.
        scratch: Place of training from scratch in per cent; None where it was not trained.
        ticks: Places in per cent with their scores as text.
        caption: What dots and bars are.
        left_out: Number of starts that are not shown.
    """

    rows: tuple[StartRow, ...]
    scratch: float | None
    ticks: tuple[tuple[float, str], ...]
    caption: str
    left_out: int


def answer_shown(data: ReportData) -> Answer:
    """Return the answer that a page shows: the one given, else that of its transfer table."""
    if data.answer is not None:
        return data.answer
    names = [source.name for source in data.sources]
    return answer_of(Facts(trials=trials_of(data.transfer), sources=names, score=data.score))


def picture_of(answer: Answer) -> Picture | None:
    """Return the picture of what was tried; None where nothing was.

    Args:
        answer: The answer, with every start.
    """
    scored = [start for start in answer.starts if isfinite(start.score.mean)]
    if not scored:
        return None
    shown = _shown(answer, scored)
    low, high = _range(shown)

    def place(value: float) -> float | None:
        return round(100 * (value - low) / (high - low), 2) if isfinite(value) else None

    scratch = next((s for s in scored if s.strategy == SCRATCH), None)
    return Picture(
        rows=tuple(
            StartRow(
                label=label(start),
                source=start.source,
                score=plain_number(start.score.mean),
                ends=_ends(start),
                at=place(start.score.mean),
                low=place(start.score.low),
                high=place(start.score.high),
                role=_role(answer, start),
            )
            for start in shown
        ),
        scratch=None if scratch is None else place(scratch.score.mean),
        ticks=tuple(
            (place(at) or 0.0, f"{at:g}".replace("-", "\u2212")) for at in _ticks(low, high)
        ),
        caption=_caption(answer, shown),
        left_out=len(scored) - len(shown),
    )


def plan_trial(answer: Answer, source: str) -> dict[str, object]:
    """Say what came of training by the plan of a source.

    Args:
        answer: The answer, with every start.
        source: Name of the source.

    Returns:
        ``chosen``: whether it is what the answer says; ``known``: whether anything was trained;
        ``text``: what training by it reached beside scratch and the answer, empty where unknown.
    """
    mine = [
        start
        for start in answer.starts
        if start.strategy in _PLANS and start.source in (source, "") and isfinite(start.score.mean)
    ]
    chosen = answer.chosen
    is_chosen = chosen is not None and any(start.key == chosen.key for start in mine)
    return {"chosen": is_chosen, "known": chosen is not None, "text": _trial_text(answer, mine)}


def _trial_text(answer: Answer, mine: Sequence[Start]) -> str:
    if not mine or answer.chosen is None:
        return ""
    parts = [f"{label(start)} {start.score.mean:.3f}" for start in mine]
    scratch = next((s for s in answer.starts if s.strategy == SCRATCH), None)
    if scratch is not None and isfinite(scratch.score.mean):
        parts.append(f"from scratch {scratch.score.mean:.3f}")
    best = answer.chosen
    if best.strategy != SCRATCH and best.key not in {start.key for start in mine}:
        parts.append(f"{label(best)} from {best.source} {best.score.mean:.3f}")
    return f"Trained: {', '.join(parts)}."


def _shown(answer: Answer, scored: Sequence[Start]) -> list[Start]:
    shown = list(scored[:_MOST_ROWS])
    scratch = next((s for s in scored if s.strategy == SCRATCH), None)
    if scratch is not None and scratch not in shown:
        shown[-1] = scratch
    return shown


def _range(starts: Sequence[Start]) -> tuple[float, float]:
    ends = [(s.score.mean, s.score.low, s.score.high) for s in starts]
    values = [value for triple in ends for value in triple if isfinite(value)]
    low, high = min(values), max(values)
    margin = _MARGIN * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    """Return three to six round values within a range."""
    step = 10.0 ** np.floor(np.log10((high - low) / 2))
    for factor in (1, 2, 5):
        if (high - low) / (factor * step) <= 6:
            step *= factor
            break
    first = np.ceil(low / step)
    # Plus 0: of a step back to nothing, numpy makes -0.
    return [round(float(k * step), 12) + 0.0 for k in np.arange(first, np.floor(high / step) + 1)]


def _ends(start: Start) -> str:
    if not start.score.is_known:
        return ""
    return f"{plain_number(start.score.low)} to {plain_number(start.score.high)}"


def _role(answer: Answer, start: Start) -> str:
    if answer.chosen is not None and start.key == answer.chosen.key:
        return "chosen"
    if start.strategy in CONTROLS:
        return "control"
    return "scratch" if start.strategy == SCRATCH else "other"


def _caption(answer: Answer, shown: Sequence[Start]) -> str:
    over = list(dict.fromkeys(start.score.over for start in shown if start.score.over))
    if answer.kind == "recommended":
        return "Predicted score on new subjects; bars are 80 % intervals."
    bars = f"; bars are 95 % intervals over {' or '.join(over)}" if over else ""
    number = answer.num_subjects
    subjects = f"{number} labelled subject{'' if number == 1 else 's'}"
    length = ", twice as long as the study says" if answer.is_long else ""
    return f"Score on the validation subjects after training on {subjects}{length}{bars}."
