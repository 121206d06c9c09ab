"""The answer of a run folder: gathers what its store and its files say, and has it computed."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Any

from paramreuse.errors import StudyError
from paramreuse.report.answer import Answer, Facts, answer_of
from paramreuse.report.start_words import label
from paramreuse.report.starts import Interval, Start, Trial
from paramreuse.study.cautions import (
    nothing_learnt,
    one_seed,
    speed_in_gain,
    unconverged,
    untrained_sources,
)
from paramreuse.study.config import TARGET, Study
from paramreuse.study.findings import Findings
from paramreuse.study.records import (
    LongTransferScore,
    StoredDistance,
    TrainedEpoch,
    TransferEpoch,
    TransferScore,
)
from paramreuse.study.transfer.attempts import Attempt, attempts_of
from paramreuse.study.transfer.table import (
    TrainingDice,
    training_of,
    trainings_of,
    transfer_rows,
    wanted_scores,
)

RECOMMENDATION = Path("recommend", "recommendation.json")
_BUDGET = 10
"""Trainings that ``paramreuse recommend`` spends if not told otherwise."""


def answer_in(folder: Path, findings: Findings) -> Answer:
    """Return what to load, from what a run folder holds.

    Args:
        folder: The run folder.
        findings: What its store says.

    Raises:
        StudyError: The recommendation in it cannot be read.
    """
    recommendation = read_recommendation(folder)
    # Where there is a recommendation, no training of the transfer is part of the answer.
    trials, long_trials = ([], []) if recommendation is not None else trials_in(findings)
    spec = findings.study.transfer
    facts = Facts(
        trials=trials,
        long_trials=long_trials,
        recommendation=recommendation,
        sources=_by_swaps(findings),
        folder=shlex.quote(str(folder)),
        time_to_answer=_time_to_answer(findings),
        cautions=list(_cautions(findings, trials, long_trials)),
        steps=spec.steps if spec else None,
        epochs=_epochs(findings.study) if spec else None,
    )
    try:
        return answer_of(facts)
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(folder) from error


def _epochs(study: Study) -> int | None:
    """Return the epochs of the transfer where a command has to name them."""
    spec = study.transfer
    if spec is None or (spec.epochs is None and not spec.check_convergence):
        return None
    return spec.epochs or study.models[TARGET].epochs


def trials_in(findings: Findings) -> tuple[list[Trial], list[Trial]]:
    """Return the trainings of the transfer table with the mean Dice of every subject.

    Returns:
        Those as long as the study says, and those of twice the length.
    """
    store = findings.store
    attempts = attempts_of(findings.study, store)
    # The background is the first class of every image set.
    foreground = list(dict.fromkeys(score.label for score in store.read(TransferScore)))[1:]
    rows = transfer_rows(store, foreground, attempts)
    steps = {training_of(row): float(row.get("steps_to_scratch", nan)) for row in rows}
    once, twice = (
        trainings_of(wanted_scores(store, attempts, kind))
        for kind in (TransferScore, LongTransferScore)
    )
    return (
        [_trial(training, foreground, steps[training.key]) for training in once],
        [_trial(training, foreground) for training in twice],
    )


def _trial(training: TrainingDice, foreground: Sequence[str], steps: float = nan) -> Trial:
    mean, by_subject = training.mean(foreground), training.by_subject(foreground)
    return Trial(
        training.strategy,
        training.source,
        training.num_subjects,
        training.seed,
        mean,
        by_subject,
        steps,
    )


def read_recommendation(folder: Path) -> Mapping[str, Any] | None:
    """Return what ``paramreuse recommend`` wrote into a run folder; None if it has not run.

    Raises:
        StudyError: The file is not what it writes.
    """
    try:
        content = json.loads((folder / RECOMMENDATION).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _unreadable(folder) from error
    if not isinstance(content, dict):
        raise _unreadable(folder)
    return content


def _unreadable(folder: Path) -> StudyError:
    return StudyError(
        f"cannot read {str(folder / RECOMMENDATION)!r}: it is not what `paramreuse recommend` "
        "writes. Run that again, or remove the file"
    )


def _by_swaps(findings: Findings) -> list[str]:
    """Return the sources, those first whose swaps cost least; what was not swept comes last."""
    ranked = [source.name for source in findings.ranking.sources]
    return [*ranked, *(name for name in findings.study.sources if name not in ranked)]


def _cautions(
    findings: Findings, trials: Sequence[Trial], long_trials: Sequence[Trial]
) -> Iterator[str]:
    store, tolerance = findings.store, findings.judged_by.tolerance
    yield from dict.fromkeys(v.useless for v in findings.verdicts.values() if v.useless)
    names = findings.study.sources
    yield from untrained_sources({name: store.read(StoredDistance, source=name) for name in names})
    constants = [s.constant for s in findings.sweeps.values() if s.constant is not None]
    yield from nothing_learnt(trials, max(constants, default=None), tolerance)
    yield from one_seed(trials)
    yield from speed_in_gain(trials, long_trials, tolerance)
    # What was measured at twice the length says more of the starts than their curves do.
    curves = _curves(findings, with_starts=bool(trials) and not long_trials)
    yield from unconverged(curves, tolerance)
    spec = findings.study.transfer
    if trials and not long_trials and spec is not None and spec.steps is not None:
        yield (
            "whether the trainings have converged was not measured, so part of a gain may be "
            "speed; set transfer.check_convergence"
        )


def _curves(findings: Findings, *, with_starts: bool) -> dict[str, list[tuple[int, float]]]:
    """Return the validation scores of the target and, if asked, of every start, by name."""
    curves: dict[str, list[tuple[int, float]]] = {}
    store = findings.store
    wanted = {attempt.training: _called(attempt) for attempt in attempts_of(findings.study, store)}
    for row in store.read(TrainedEpoch, model=TARGET):
        curves.setdefault("the target", []).append((row.epoch, row.validation_score))
    for epoch in store.read(TransferEpoch) if with_starts else ():
        name = wanted.get(epoch.training)
        if name is not None:
            curves.setdefault(name, []).append((epoch.epoch, epoch.validation_score))
    return curves


def _called(attempt: Attempt) -> str:
    """Name a training as a sentence can, e.g. ``"everything from t1-seg (repetition 2)"``."""
    name = label(Start(attempt.strategy, attempt.source, Interval(nan)))
    source = f" from {attempt.source}" if attempt.source else ""
    return f"{name}{source}" + (f" (repetition {attempt.seed + 1})" if attempt.seed else "")


def _time_to_answer(findings: Findings) -> str:
    """Say how long a recommendation takes: as long as its trainings, measured on the target."""
    seconds = sum(row.seconds for row in findings.store.read(TrainedEpoch, model=TARGET))
    if not seconds:
        return ""
    minutes = _BUDGET * seconds / 60
    return "about a minute" if minutes < 1.5 else f"at most about {minutes:.0f} minutes"
