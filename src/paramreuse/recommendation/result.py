"""What ``recommend`` returns: the start to use, the model, the gain to expect, and why."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from torch import nn

from paramreuse.notebook import html_sentence, html_table
from paramreuse.recommendation.candidates import FULL
from paramreuse.reuse.plan import Plan

if TYPE_CHECKING:
    import pandas as pd

CANDIDATE_COLUMNS = ("candidate", "source", "score", "low", "high", "difference", "units")


@dataclass(frozen=True, slots=True)
class RankedStart:
    """One source, and how promising it looked.

    Attributes:
        name: Name of the source.
        rank: From 1, the most promising first; 0 for one that cannot be used.
        gain: Predicted gain of loading everything over scratch; NaN where it was not trained from.
        as_is: Held-out score without training; NaN where its output layer does not fit.
        ridge: Held-out score of a linear head on its frozen features; NaN if not computed.
        likeness: Linear CKA, 0 to 1, between its features and those of networks trained from
            scratch on the labelled subjects; NaN if not computed.
        reason: Why it cannot be used, or how it was ranked.
    """

    name: str
    rank: int
    gain: float
    as_is: float
    ridge: float
    likeness: float
    reason: str = ""

    def as_row(self) -> dict[str, object]:
        """Return the fields by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """One candidate that was trained, and what it is predicted to score.

    Attributes:
        candidate: Name of the candidate.
        source: Name of the source, ``""`` for training from scratch.
        score: Predicted score on new subjects.
        low: Lower end of the 80 % interval of the score.
        high: Upper end.
        difference: Predicted difference to loading everything from the best source.
        units: Trainings spent on measuring it.
    """

    candidate: str
    source: str
    score: float
    low: float
    high: float
    difference: float
    units: float


@dataclass(frozen=True, slots=True, eq=False)
class Recommendation:
    """The start to use and what it is expected to gain.

    Attributes:
        source: Name of the source to load from, ``""`` when training from scratch is best.
        candidate: Name of the way to start and to train, e.g. ``"prefix-1/2"``.
        plan: What to load and how to train; None when training from scratch is best.
        model: Trained on all labelled subjects, in evaluation mode.
        gain: Predicted gain over scratch on new subjects: mean, low, high of the 80 % interval.
        gain_over_full: Likewise over loading everything from the best source.
        sources: The sources, the most promising first.
        rows: Every candidate that was trained, the best first.
        spent: Trainings spent, in units of one training on all labelled subjects.
        reason: One sentence why.
        problems: What went wrong without ending the search, e.g. a training that diverged.
    """

    source: str
    candidate: str
    plan: Plan | None
    model: nn.Module
    gain: tuple[float, float, float]
    gain_over_full: tuple[float, float, float]
    sources: tuple[RankedStart, ...]
    rows: tuple[CandidateRow, ...]
    spent: float
    reason: str
    problems: Mapping[str, str]

    def frame(self) -> "pd.DataFrame":
        """Return one row per candidate that was trained, the best first.

        Returns:
            Columns ``candidate source score low high difference units``.
        """
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.rows], columns=list(CANDIDATE_COLUMNS))

    def summary(self) -> str:
        """Say in a few lines what to do and what it gains."""
        mean, low, high = self.gain_over_full
        lines = [self.reason]
        if self.source and self.candidate != FULL:
            over = f"over loading everything {mean:+.3f} (80 %: {low:+.3f} to {high:+.3f})"
            lines.append(f"Predicted gain {over}.")
        return "\n".join(lines + [f"{name}: {text}" for name, text in self.problems.items()])

    def _repr_html_(self) -> str:
        """Show a notebook what to do, and what was measured."""
        return html_sentence(self.summary()) + html_table(
            (asdict(row) for row in self.rows), total=len(self.rows)
        )

    def as_json(self) -> dict[str, object]:
        """Return what ``paramreuse recommend --json`` prints."""
        return {
            "source": self.source,
            "candidate": self.candidate,
            "reason": self.reason,
            "spent": self.spent,
            "gain": list(self.gain),
            "gain_over_full": list(self.gain_over_full),
            "candidates": [asdict(row) for row in self.rows],
            "sources": [source.as_row() for source in self.sources],
        }
