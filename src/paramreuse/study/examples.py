"""Subjects to look at: the worst, the middle and the best, with what each network says of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paramreuse.report.answer import Answer
from paramreuse.report.contents import ExampleImage
from paramreuse.report.start_words import full_label
from paramreuse.report.starts import CONTROLS, SCRATCH, Start
from paramreuse.sites.swaps import SOURCE
from paramreuse.study.answering import RECOMMENDATION, trials_in
from paramreuse.study.findings import Findings
from paramreuse.study.pictures import (
    IMAGE,
    LABELS,
    PREDICTIONS,
    UNTOUCHED,
    pixels_of,
    read_pictures,
    read_predictions,
    swap_name,
    training_name,
)
from paramreuse.study.transfer.attempts import Attempt
from paramreuse.study.transfer.strategy import Strategy
from paramreuse.sweep.outcomes import Sweep
from paramreuse.sweep.scores import subject_means

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Shown:
    """What one network says: in words whose it is, its pixels and its score, by subject."""

    title: str
    pixels: Mapping[str, Pixels]
    scores: Mapping[str, float]


def example_images(folder: Path, findings: Findings, answer: Answer) -> tuple[ExampleImage, ...]:
    """Return the worst, the middle and the best validation subject of the start to use.

    Each with its labels, what comes of training from scratch and of that start, and the swap of
    the best source that costs most; where nothing was trained, the target takes the start's place.

    Args:
        folder: The run folder.
        findings: What its store says.
        answer: What to load.

    Returns:
        Nothing where no pictures were kept.
    """
    store = findings.store
    images, labels = read_pictures(store, IMAGE), read_pictures(store, LABELS)
    shown = [one for one in _shown(folder, findings, answer) if one.pixels]
    judged = next((one.scores for one in shown if one.scores), {})
    ranked = sorted((name for name in images if name in judged), key=lambda name: judged[name])
    return tuple(
        ExampleImage(
            name=f"{place}: {images[name].slice}",
            image=pixels_of(images[name]),
            labels=pixels_of(labels[name]) if name in labels else None,
            predictions={one.title: one.pixels[name] for one in shown if name in one.pixels},
            scores={one.title: one.scores[name] for one in shown if name in one.scores},
        )
        for place, name in _places(ranked)
    )


def _places(ranked: list[str]) -> Iterator[tuple[str, str]]:
    """Yield what each subject stands for, the worst first; fewer where there are fewer."""
    if len(ranked) == 1:
        yield "The only subject", ranked[0]
    elif ranked:
        yield "The worst subject", ranked[0]
        if len(ranked) > 2:
            yield "A subject in the middle", ranked[len(ranked) // 2]
        yield "The best subject", ranked[-1]


def _shown(folder: Path, findings: Findings, answer: Answer) -> Iterator[_Shown]:
    """Yield what is shown, that by which subjects are ranked first."""
    if answer.kind == "recommended":
        yield _recommended(folder, answer)
    starts = _starts(answer)
    for start in starts:
        yield _trained(findings, start, answer)
    sweep = next(iter(findings.sweeps.values()), None)
    if sweep is not None:
        title = "the target" if starts else "the target as trained"
        yield _Shown(title, _pixels(findings, UNTOUCHED), _means(sweep, sweep.baseline))
    for source in answer.sources:
        if source in findings.sweeps:
            yield _costliest(findings, source)
            return


def _starts(answer: Answer) -> list[Start]:
    """Return the starts to show: the one to use and scratch; the next best where that is one."""
    trained = [s for s in answer.starts if s.strategy not in CONTROLS and isfinite(s.score.mean)]
    scratch = [start for start in trained if start.strategy == SCRATCH]
    others = [start for start in trained if start.strategy != SCRATCH]
    if answer.kind == "recommended":
        return scratch
    first = answer.chosen
    if first is None:
        return []
    return [first, *others[:1]] if first.strategy == SCRATCH else [first, *scratch]


def _number(findings: Findings, answer: Answer) -> int:
    spec = findings.study.transfer
    return answer.num_subjects or (max(spec.subjects) if spec else 0)


def _trained(findings: Findings, start: Start, answer: Answer) -> _Shown:
    """Return what the first repetition of a start says."""
    number = _number(findings, answer)
    title = full_label(start)
    if start.strategy not in set(Strategy):
        return _Shown(title, {}, {})
    attempt = Attempt(Strategy(start.strategy), start.source, number, 0, answer.is_long)
    scores = {
        trial.seed: trial.by_subject
        for trial in trials_in(findings)[answer.is_long]
        if (trial.strategy, trial.source, trial.num_subjects) == (*start.key, number)
    }
    return _Shown(title, _pixels(findings, training_name(attempt)), scores.get(0, {}))


def _recommended(folder: Path, answer: Answer) -> _Shown:
    kept = read_predictions(folder / RECOMMENDATION.parent / PREDICTIONS)
    chosen = answer.chosen
    words = f" ({full_label(chosen)})" if chosen and chosen.source else ""
    return _Shown(f"recommended{words}", kept.pixels, kept.scores)


def _costliest(findings: Findings, source: str) -> _Shown:
    sweep = findings.sweeps[source]
    by_cost = sweep.by_cost(sweep.kernels or sweep.swaps)
    if not by_cost:
        return _Shown("", {}, {})
    swap = by_cost[0][0].name
    title = f"the target with {swap} of {source}, its costliest swap"
    scores = _means(sweep, sweep.scores[swap, SOURCE])
    return _Shown(title, _pixels(findings, swap_name(source)), scores)


def _means(sweep: Sweep, scores: NDArray[np.float64]) -> dict[str, float]:
    means = subject_means(scores, sweep.foreground).tolist()
    pairs = zip(map(str, sweep.subjects), means, strict=False)
    return {subject: mean for subject, mean in pairs if isfinite(mean)}


def _pixels(findings: Findings, name: str) -> dict[str, Pixels]:
    kept = read_pictures(findings.store, name)
    return {subject: pixels_of(picture) for subject, picture in kept.items()}
