"""Scores of the validation subjects under every start of the transfer, to set two side by side."""

from collections.abc import Sequence
from math import isfinite

from paramreuse.report.answer import Answer
from paramreuse.report.start_words import full_label
from paramreuse.report.starts import CONTROLS, SCRATCH, Start, Trial, starts_of


def subject_scores(trials: Sequence[Trial], answer: Answer) -> list[dict[str, object]]:
    """Return the score of every subject under every start, averaged over repetitions.

    Args:
        trials: Trainings of the transfer table.
        answer: What to load; its number of subjects is taken, else the largest.

    Returns:
        Rows ``model subject score``: first of the start to use, then of training from scratch (of
        the next best start where that is the one to use), then of all others, the best first.
    """
    number = answer.num_subjects or max((trial.num_subjects for trial in trials), default=0)
    trained = [trial for trial in trials if trial.num_subjects == number]
    return [
        {"model": full_label(start), "subject": subject, "score": score}
        for start in _in_order(starts_of(trained), answer)
        for subject, score in _means(trained, start).items()
    ]


def _in_order(starts: Sequence[Start], answer: Answer) -> list[Start]:
    keys = [start.key for start in starts]
    chosen = answer.chosen.key if answer.chosen and answer.chosen.key in keys else None
    first = [start for start in starts if start.key == chosen]
    if not first:
        first = [start for start in starts if start.strategy not in CONTROLS][:1]
    others = [start for start in starts if start not in first]
    second = [start for start in others if start.strategy == SCRATCH]
    return [*first, *second, *(start for start in others if start not in second)]


def _means(trials: Sequence[Trial], start: Start) -> dict[str, float]:
    scores: dict[str, list[float]] = {}
    for trial in trials:
        if (trial.strategy, trial.source) == start.key:
            for subject, score in trial.by_subject.items():
                if isfinite(score):
                    scores.setdefault(subject, []).append(score)
    return {subject: sum(reached) / len(reached) for subject, reached in scores.items()}
