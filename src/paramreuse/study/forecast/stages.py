"""What each stage of a study will take: counts from its file times what was measured."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paramreuse.study.config import TARGET, ModelSpec, Study
from paramreuse.study.forecast.sweep_cost import SweepCost
from paramreuse.study.forecast.training_cost import COPIES_WHILE_TRAINING, TrainingCost

_PAGE_BYTES = 1_000_000
_PAGE_BYTES_PER_SWAP = 3_000
_FIGURES_ALONE, _FIGURES_PER_SOURCE = 2, 3
"""Distances and transfer; sweep, map and BatchNorm."""
_REPORT_PER_FIGURE = 0.5
"""What the page takes beyond the figures, in units of their time."""


@dataclass(frozen=True, slots=True)
class StageCost:
    """What a stage will take.

    Attributes:
        stage: Its name.
        seconds: Wall time.
        memory_gb: Most memory of the process, in units of 1e9 bytes.
        disk_mb: What it writes, in units of 1e6 bytes.
        basis: What the numbers are made of.
    """

    stage: str
    seconds: float
    memory_gb: float
    disk_mb: float
    basis: str


@dataclass(frozen=True, slots=True)
class Counts:
    """How much there is of what a study walks.

    Attributes:
        slices: Training slices of each model that is trained.
        validation: Validation batches of each model that is trained.
        swaps: Swaps of each source.
        trials: The same with every draw of every replacement counted.
        batches: Validation batches of the sweep.
        subjects: Validation subjects.
        classes: Classes of the target.
        slices_per_subject: Labelled training slices of the target, on average.
        attempts: Trainings of the transfer by number of subjects.
        model_bytes: Size of the target's tensors.
    """

    slices: Mapping[str, int]
    validation: Mapping[str, int]
    swaps: Mapping[str, int]
    trials: Mapping[str, int]
    batches: int
    subjects: int
    classes: int
    slices_per_subject: float
    attempts: Mapping[int, int]
    model_bytes: int


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured.

    Attributes:
        reading: Seconds to read and prepare all images.
        trainings: By model that is trained; under ``target`` also for the transfer.
        sweep: Of the target.
        compare: Seconds to compare one source with the target.
        figure: Seconds to draw one figure.
        memory_gb: Peak by stage, of those measured.
    """

    reading: float
    trainings: Mapping[str, TrainingCost]
    sweep: SweepCost
    compare: float
    figure: float
    memory_gb: Mapping[str, float]


def stage_costs(study: Study, counts: Counts, measured: Measured) -> list[StageCost]:
    """Return what each stage takes, in order.

    Args:
        study: The study.
        counts: How much there is.
        measured: What was measured.
    """
    seconds = {
        "data": (measured.reading, "all images were read"),
        "train": _training(study, counts, measured),
        "compare": (measured.compare * len(study.sources), f"{len(study.sources)} sources"),
        "sweep": _sweep(study, counts, measured),
        "judge": _judging(counts, measured),
        "plan": _planning(study, counts, measured),
        "transfer": _transfer(study, counts, measured),
        "report": _report(study, measured),
    }
    disk = _disk(study, counts, measured)
    memory = _memory(measured.memory_gb, list(seconds))
    return [
        StageCost(stage, took, memory[stage], disk.get(stage, 0.0) / 1e6, basis)
        for stage, (took, basis) in seconds.items()
    ]


def _memory(peaks: Mapping[str, float], stages: Sequence[str]) -> dict[str, float]:
    """Return the peak of each stage; a process seldom gives back what a stage before it took."""
    memory: dict[str, float] = {}
    most = 0.0
    for stage in stages:
        if stage == "report":
            # Drawing comes on top of all that.
            most += max(0.0, peaks[stage] - peaks["compare"])
        else:
            most = max(most, peaks.get(stage, 0.0))
        memory[stage] = most
    return memory


def trained_models(study: Study) -> dict[str, ModelSpec]:
    """Return the models that the study trains."""
    return {name: spec for name, spec in study.models.items() if spec.checkpoint is None}


def _training(study: Study, counts: Counts, measured: Measured) -> tuple[float, str]:
    total, steps = 0.0, 0
    trained = trained_models(study)
    for name, spec in trained.items():
        of_epoch = counts.slices[name] / spec.batch_size
        steps += math.ceil(of_epoch) * spec.epochs
        total += measured.trainings[name].seconds(
            epochs=spec.epochs,
            steps=of_epoch,
            validations=math.ceil(spec.epochs / spec.validate_every),
            batches=counts.validation[name],
        )
    if trained:
        total += max(cost.first for cost in measured.trainings.values())
    # The stage ends with the target's score.
    total += counts.batches * measured.sweep.batch
    return total, f"{len(trained)} models, {steps} steps"


def _sweep(study: Study, counts: Counts, measured: Measured) -> tuple[float, str]:
    scores = counts.subjects * counts.classes
    total = sum(
        measured.sweep.seconds(trials=number, batches=counts.batches, scores=scores)
        for number in counts.trials.values()
    )
    told = f"{sum(counts.trials.values())} trials on {counts.batches} batches"
    if study.sweep.stop is not None:
        told += ", fewer where verdicts are clear early"
    if study.sweep.recalibrate:
        told += "; recalibration comes on top"
    return total, told


def _judging(counts: Counts, measured: Measured) -> tuple[float, str]:
    number = sum(counts.swaps.values())
    return number * measured.sweep.judge, f"{number} swaps"


def _planning(study: Study, counts: Counts, measured: Measured) -> tuple[float, str]:
    forward = counts.batches * 2 * measured.sweep.batch
    sources = len(study.sources)
    judged = sum(counts.swaps.values()) * measured.sweep.judge
    return sources * (measured.sweep.setup + forward) + judged, f"{sources} plans, swapped in whole"


def _transfer(study: Study, counts: Counts, measured: Measured) -> tuple[float, str]:
    spec = study.transfer
    if spec is None:
        return 0.0, "the study asks for none"
    # Once as long as the study says and, where that is checked, once twice as long.
    lengths = (1, 2) if spec.check_convergence else (1,)
    scored = counts.batches * measured.sweep.batch
    total, number = 0.0, 0
    for subjects, trainings in counts.attempts.items():
        number += trainings * len(lengths)
        for length in lengths:
            took = _attempt(study, counts, measured, subjects=subjects, length=length)
            total += trainings * (took + scored)
    epochs = spec.epochs or study.models[TARGET].epochs
    told = f"{epochs} epochs" if spec.steps is None else f"{spec.steps} steps"
    longer = ", half of them twice as long" if spec.check_convergence else ""
    return total, f"{number} trainings of {told}{longer}, at most"


def _attempt(
    study: Study, counts: Counts, measured: Measured, *, subjects: int, length: int
) -> float:
    """Return the time of one training of the transfer, without its score at the end."""
    spec, target = study.transfer, study.models[TARGET]
    assert spec is not None, "only a study with a transfer section has attempts"
    cost, batches = measured.trainings[TARGET], counts.validation[TARGET]
    if spec.steps is not None:
        return cost.seconds(epochs=1, steps=spec.steps * length, validations=0, batches=batches)
    epochs = length * (spec.epochs or target.epochs)
    return cost.seconds(
        epochs=epochs,
        steps=subjects * counts.slices_per_subject / target.batch_size,
        validations=math.ceil(epochs / target.validate_every),
        batches=batches,
    )


def _report(study: Study, measured: Measured) -> tuple[float, str]:
    figures = _FIGURES_ALONE + _FIGURES_PER_SOURCE * len(study.sources)
    return figures * measured.figure * (1 + _REPORT_PER_FIGURE), f"{figures} figures and the page"


def _disk(study: Study, counts: Counts, measured: Measured) -> dict[str, float]:
    scores = counts.subjects * counts.classes
    kept = 0
    if study.transfer is not None:
        share = min(1.0, study.transfer.keep_seeds / study.transfer.seeds)
        kept = round(sum(counts.attempts.values()) * share)
    stored = sum(measured.sweep.score_bytes * number * scores for number in counts.trials.values())
    # The log of a sweep is cleared when it is over, and its room in the file used again.
    largest = max(counts.trials.values(), default=0)
    logged = measured.sweep.log_bytes * largest * counts.batches
    return {
        "train": counts.model_bytes * len(trained_models(study)),
        "sweep": stored + logged,
        "transfer": counts.model_bytes * kept,
        "report": _PAGE_BYTES + _PAGE_BYTES_PER_SWAP * sum(counts.swaps.values()),
    }


def passing_disk_mb(counts: Counts) -> float:
    """Return what a training takes on disk besides while it runs, in units of 1e6 bytes."""
    return COPIES_WHILE_TRAINING * counts.model_bytes / 1e6
