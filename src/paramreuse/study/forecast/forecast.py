"""Read everything a study names, run a few batches, and tell what the study will take."""

import io
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from paramreuse.checkpoint import read_checkpoint
from paramreuse.compare.batchnorm import compare_batchnorms
from paramreuse.compare.distance import compare_models
from paramreuse.data.preparation import batches
from paramreuse.data.selection import drawable_subjects
from paramreuse.errors import MissingExtraError
from paramreuse.sites.matching import compare_sites
from paramreuse.sites.swaps import SOURCE, make_swaps
from paramreuse.study.config import TARGET, Study
from paramreuse.study.forecast.memory import (
    forget_peaks,
    peak_device_memory_gb,
    peak_memory_gb,
)
from paramreuse.study.forecast.stages import (
    Counts,
    Measured,
    StageCost,
    passing_disk_mb,
    stage_costs,
    trained_models,
)
from paramreuse.study.forecast.sweep_cost import SweepCost, stand_in, sweep_cost
from paramreuse.study.forecast.training_cost import TrainingCost, training_cost
from paramreuse.study.images import Shelf
from paramreuse.study.run import check_inputs
from paramreuse.study.talk import Silent, Talk
from paramreuse.study.transfer.attempts import list_attempts
from paramreuse.study.workbench import Workbench
from paramreuse.sweep.outcomes import Sweep
from paramreuse.sweep.trials import make_trials

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a study will take.

    Attributes:
        stages: Each stage.
        passing_disk_mb: What a training takes on disk besides while it runs.
        device_memory_gb: Most memory of tensors on the graphics processor; None without one.
        notes: What the numbers leave out.
    """

    stages: tuple[StageCost, ...]
    passing_disk_mb: float
    device_memory_gb: float | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the forecast for JSON, sums included."""
        return {
            "stages": [asdict(stage) for stage in self.stages],
            "seconds": sum(stage.seconds for stage in self.stages),
            "memory_gb": max(stage.memory_gb for stage in self.stages),
            "disk_mb": sum(stage.disk_mb for stage in self.stages),
            "passing_disk_mb": self.passing_disk_mb,
            "device_memory_gb": self.device_memory_gb,
            "notes": list(self.notes),
        }


def forecast_study(
    study: Study,
    *,
    device: str = "auto",
    talk: Talk | None = None,
    shelf: Shelf | None = None,
    clock: Clock = time.perf_counter,
) -> Forecast:
    """Read all images and checkpoints, build every network, and run two batches through each.

    Each training is run for a few epochs of two batches, the sweep with some of its swaps on two
    batches; no run folder is made or touched.

    Args:
        study: The study.
        device: ``auto``, ``cpu``, ``cuda`` ...
        talk: Where progress is shown.
        shelf: Prepared images of studies with the same image sets.
        clock: Tells the time in seconds; ``time.process_time`` counts what this process computes,
            also on a machine that is busy with other things.

    Raises:
        StudyError: As for ``run_study``.
        DataError: As for ``run_study``.
        CheckpointError: A given checkpoint cannot be read, or the target's is of another network.
        SiteMismatchError: Nothing of a model fits the target.
        ModelError: A network does not take the images.
        ScoreError: The target's outputs do not fit the labels.
    """
    said = talk or Silent()
    # Nothing is ever written there.
    bench = Workbench(study, Path("nowhere"), device, said, shelf or Shelf())
    _ = bench.torch_device
    forget_peaks()
    memory: dict[str, float] = {}
    before = clock()
    check_inputs(bench)
    reading = clock() - before
    memory["data"] = peak_memory_gb()
    with said.progress("two batches of each training"):
        trainings = _trainings(bench, clock)
    memory["train"] = memory["transfer"] = peak_memory_gb()
    forget_peaks()
    target = _target(bench)
    with said.progress("comparing"):
        compare = _compare_seconds(bench, target, clock)
    memory["compare"] = peak_memory_gb()
    forget_peaks()
    counts = _counts(bench, target)
    with said.progress("two batches of the sweep"):
        sweep, sample = _sweep(bench, target, clock)
    memory["sweep"] = peak_memory_gb()
    forget_peaks()
    figure = _figure_seconds(sample, clock)
    memory["report"] = peak_memory_gb()
    measured = Measured(reading, trainings, sweep, compare, figure, memory)
    return Forecast(
        tuple(stage_costs(study, counts, measured)),
        passing_disk_mb(counts),
        peak_device_memory_gb(),
        tuple(_notes(study)),
    )


def _trainings(bench: Workbench, clock: Clock) -> dict[str, TrainingCost]:
    wanted = trained_models(bench.study)
    if bench.study.transfer is not None:
        wanted[TARGET] = bench.target
    costs: dict[str, TrainingCost] = {}
    known: dict[str, TrainingCost] = {}
    for name, spec in wanted.items():
        images = bench.images(spec.data)
        model = bench.initial(name)
        alike = repr(
            (
                spec.model_copy(update={"data": "", "epochs": 1, "init": "shared"}),
                images.trainable.images.shape[1:],
                [value.shape for value in model.state_dict().values()],
            )
        )
        if alike not in known:
            known[alike] = training_cost(
                model,
                images.trainable,
                images.validation,
                task=spec.task,
                settings=bench.settings(spec, seed=0, folder=None),
                clock=clock,
            )
        costs[name] = known[alike]
    return costs


def _target(bench: Workbench) -> nn.Module:
    if bench.target.checkpoint is not None:
        return bench.model(TARGET)
    return bench.initial(TARGET).eval().to(bench.torch_device)


def _compare_seconds(bench: Workbench, target: nn.Module, clock: Clock) -> float:
    images = bench.images(bench.target.data).validation.images
    source = stand_in(target)
    before = clock()
    compare_models(target, source, example_input=images[:2].to(bench.torch_device))
    compare_batchnorms(target, source)
    return clock() - before


def _sweep(bench: Workbench, target: nn.Module, clock: Clock) -> tuple[SweepCost, Sweep]:
    sites = compare_sites(target, stand_in(target)).sites
    return sweep_cost(
        target,
        make_swaps(sites, list(bench.study.sweep.swaps)),
        bench.validation_batches(),
        bench.score,
        spec=bench.study.sweep,
        clock=clock,
    )


def _counts(bench: Workbench, target: nn.Module) -> Counts:
    study = bench.study
    trained = trained_models(study)
    if study.transfer is not None:
        trained[TARGET] = bench.target
    images = bench.images(bench.target.data)
    slices = 0.0
    if images.train is not None:
        labelled = int(images.train.is_labelled.sum())
        slices = labelled / max(1, len(drawable_subjects(images.train)))
    swaps = {
        name: make_swaps(
            compare_sites(target, _lent(bench, name, target)).sites, list(study.sweep.swaps)
        )
        for name in study.sources
    }
    replacements = (SOURCE, *study.sweep.controls)
    return Counts(
        slices={name: _num_slices(bench, name) for name in trained},
        validation={
            name: len(
                batches(
                    bench.images(spec.data).validation,
                    spec.batch_size,
                    labelled_only=spec.task == "segmentation",
                )
            )
            for name, spec in trained.items()
        },
        swaps={name: len(held) for name, held in swaps.items()},
        trials={name: len(make_trials(held, replacements)) for name, held in swaps.items()},
        batches=len(bench.validation_batches()),
        subjects=len(set(images.validation.subjects)),
        classes=len(images.classes),
        slices_per_subject=slices,
        attempts=_attempts(study),
        model_bytes=sum(t.numel() * t.element_size() for t in target.state_dict().values()),
    )


def _lent(bench: Workbench, name: str, target: nn.Module) -> Any:
    if bench.study.models[name].checkpoint is None:
        return bench.initial(name)
    return read_checkpoint(bench.checkpoint(name))


def _num_slices(bench: Workbench, name: str) -> int:
    spec = bench.study.models[name]
    prepared = bench.images(spec.data).trainable
    labelled_only = spec.task == "segmentation"
    number = int(prepared.is_labelled.sum()) if labelled_only else len(prepared)
    if spec.subjects is None:
        return number
    return round(number * spec.subjects / len(drawable_subjects(prepared, labelled_only=False)))


def _attempts(study: Study) -> dict[int, int]:
    spec = study.transfer
    if spec is None:
        return {}
    sources = study.sources if spec.sources == "all" else spec.sources
    named = study.sources[:1] if isinstance(sources, str) else sources
    return {
        number: len(list_attempts([number], spec.strategies, spec.seeds, named))
        for number in spec.subjects
    }


def _figure_seconds(sample: Sweep, clock: Clock) -> float:
    """Return the time to draw a sweep; 0 where the report cannot be written anyway."""
    with suppress(MissingExtraError):
        from paramreuse.report.figures import figure_sweep

        before = clock()
        figure_sweep(sample).savefig(io.BytesIO(), format="svg")
        return clock() - before
    return 0.0


def _notes(study: Study) -> list[str]:
    notes: list[str] = []
    if study.models[TARGET].checkpoint is None:
        # The demo's 37 swaps on one batch: 2.6 s untrained, 1.3 s trained.
        notes.append(
            "sweep: measured on the untrained target, an upper bound: a trained one took half of it"
        )
    if study.transfer is not None and study.transfer.train is not None:
        notes.append(
            f"transfer: {study.transfer.train} trains; the time is that of our training instead"
        )
    if study.transfer is not None and study.transfer.sources == "best":
        notes.append("transfer: the best source is known after the sweep; the first stands for it")
    if study.sweep.stop is not None:
        notes.append("sweep: stop: decided may end it much earlier")
    return notes
