"""What a start gains at the end, and what is speed: which one to take, and how that is told."""

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite, nan

from paramreuse.report.starts import CONTROLS, SCRATCH, Interval, Start, Trial

TIE = 0.005
"""Difference of scores up to which two starts count as equal, and the cheaper one is taken."""

Key = tuple[str, str]
"""Strategy and source."""


def can_be_chosen(start: Start) -> bool:
    """Tell whether a start can be the answer: it has a score, and is no control."""
    return start.strategy not in CONTROLS and isfinite(start.score.mean)


def trials_at_end(trials: Sequence[Trial], long_trials: Sequence[Trial]) -> list[Trial]:
    """Return the trainings by which starts are compared: the longest in which scratch was run.

    Args:
        trials: Trainings with as many subjects each.
        long_trials: The same trainings made twice as long, as far as they were run.
    """
    is_compared = any(t.strategy == SCRATCH and isfinite(t.mean) for t in long_trials)
    return list(long_trials if is_compared else trials)


def mean_steps(trials: Iterable[Trial]) -> dict[Key, float]:
    """Return the steps that each start took to what scratch ends at, on average.

    NaN where it is not known, or was not reached in every repetition.
    """
    steps: dict[Key, list[float]] = {}
    for trial in trials:
        steps.setdefault((trial.strategy, trial.source), []).append(trial.steps_to_scratch)
    return {key: sum(taken) / len(taken) for key, taken in steps.items()}


def choose_start(starts: Sequence[Start], steps: Mapping[Key, float]) -> Start:
    """Return the start that ends best; of those that end equal the one that is fast.

    Args:
        starts: The starts, best first; at least one can be chosen.
        steps: Of each start, the steps to what scratch ends at; NaN where not known.
    """
    candidates = [start for start in starts if can_be_chosen(start)]
    best = candidates[0]
    if not isfinite(steps.get(best.key, nan)):
        return best
    level = best.score.mean - TIE - 1e-12
    equals = [s for s in candidates if s.score.mean >= level and isfinite(steps.get(s.key, nan))]
    return min(equals, key=lambda start: steps[start.key])


def is_faster(start: Start, steps: Mapping[Key, float]) -> bool:
    """Tell whether a start takes fewer steps than scratch to what scratch ends at."""
    return steps.get(start.key, nan) < steps.get((SCRATCH, ""), nan)


def speed_sentences(
    chosen: Start, steps: Mapping[Key, float], gains: tuple[Interval | None, Interval | None]
) -> list[str]:
    """Say what of a gain is speed.

    Args:
        chosen: The start.
        steps: Of each start, the steps to what scratch ends at; NaN where not known.
        gains: What it gains over scratch as trained and trained twice as long; None where that was
            not measured.
    """
    once, twice = gains
    sentences = []
    if once is not None and twice is not None:
        speed = once.mean - twice.mean
        part = f", of which {speed:+.3f} is speed" if speed > 0 else ""
        sentences.append(
            f"After the study's own number of steps the gain is {once.mean:+.3f}{part}.".replace(
                "-", "\u2212"
            )
        )
    if is_faster(chosen, steps):
        sentences.append(
            f"It reaches what training from scratch ends at after {steps[chosen.key]:.0f} steps; "
            f"training from scratch takes {steps[SCRATCH, '']:.0f}."
        )
    return sentences
