"""Train a fresh target under a plan or by a strategy, on a study's images."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from paramreuse.checkpoint import write_checkpoint
from paramreuse.data.preparation import PreparedSet, batches
from paramreuse.data.selection import draw_subjects
from paramreuse.errors import StudyError
from paramreuse.reuse.plan import Plan, apply_plan
from paramreuse.reuse.plan_file import read_plan
from paramreuse.reuse.recipe import PLAIN
from paramreuse.sites.swaps import seed_of
from paramreuse.study.config import TARGET
from paramreuse.study.findings import findings_of
from paramreuse.study.job import Job, followed, opened
from paramreuse.study.run import read_job
from paramreuse.study.run_folder import read_run, require_outside
from paramreuse.study.talk import Talk
from paramreuse.study.transfer.measuring import Measuring, measured_plan
from paramreuse.study.transfer.starts import Lender, followed_plan, start_model
from paramreuse.study.transfer.strategy import Strategy
from paramreuse.study.transfer.training import step_settings
from paramreuse.study.workbench import Workbench
from paramreuse.sweep.scores import subject_means
from paramreuse.sweep.scoring import score_subjects
from paramreuse.training import initial_model, train_model
from paramreuse.training.processes import is_first_process
from paramreuse.training.steps import finish_training, train_steps
from paramreuse.training.trackers import open_tracker, require_tracker


@dataclass(frozen=True, slots=True)
class TrainingOrder:
    """What to train.

    Attributes:
        plan: Plan file; None to train from scratch, or by a strategy.
        source: Name of the source to load from; the plan's own if None.
        mode: ``freeze`` or ``finetune``.
        subjects: Number of training subjects; all if None.
        epochs: Passes over them; the target's if None.
        seed: Seed of fresh weights, subjects and batches.
        strategy: Name of a start of the transfer table; None where ``plan`` says what to load.
        steps: Optimiser steps with a complete schedule and the last weights, instead of epochs.
        devices: Processes on each machine that train together, as of ``TrainingSettings``.
        nodes: Machines.
    """

    plan: Path | None
    source: str | None
    mode: str
    subjects: int | None
    epochs: int | None
    seed: int
    strategy: str | None = None
    steps: int | None = None
    devices: int = 1
    nodes: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class _Start:
    """What was loaded, and what is left to do after the training.

    Attributes:
        summary: What was loaded, in words.
        plan: Plan whose recipe the training follows; None where it has none.
        loaded: Values at the start of what the plan loads, by key.
    """

    summary: str = "nothing loaded"
    plan: Plan | None = None
    loaded: Mapping[str, Tensor] = field(default_factory=dict)

    def finished(self, model: nn.Module, inputs: Sequence[Tensor]) -> nn.Module:
        """Recalibrate or mix a trained model as the recipe says."""
        if self.plan is None or self.plan.recipe == PLAIN:
            return model
        return finish_training(model, self.loaded, self.plan, inputs)


def train_by_plan(
    folder: str | os.PathLike[str],
    order: TrainingOrder,
    out: Path,
    *,
    device: str,
    talk: Talk,
    logger: str | None = None,
) -> str:
    """Train the target of a run folder's study, and write its best weights, or its last by steps.

    Args:
        folder: Run folder, for images, network and sources.
        order: What to train.
        out: Checkpoint to write.
        device: ``auto``, ``cpu``, ``cuda`` ...
        talk: Where remarks go.
        logger: Logger to log the learning curve to, as for ``run_study``.

    Returns:
        What was loaded and what came of it, in one line.

    Raises:
        StudyError: The folder is not a run folder, or the source is not one of the study's.
        PlanError: The plan cannot be read, or is of another network.
        DataError: There are not as many training subjects.
        ParamReuseError: The logger is unknown, or not installed.
    """
    require_tracker(logger)
    bench = Workbench(read_run(folder), Path(folder), device, talk)
    _check_order(order, out)
    require_outside(out, Path(folder))
    trainable = bench.images(bench.target.data).trainable
    train = draw_subjects(trainable, order.subjects, order.seed)
    model = initial_model(
        bench.factory(TARGET), seed_of(bench.study.seed, "fresh", str(order.seed))
    )
    with read_job(bench, talk) as job:
        start = _start(job, model, order, train)
        if order.steps is not None:
            trained, reached = _train_by_steps(bench, model, train, start, order)
        else:
            with open_tracker(logger, bench.folder, run=bench.study.name) as tracker:
                followable = replace(job, tracker=tracker)
                trained, reached = _train_by_epochs(followable, model, train, order, out.stem)
    inputs = [images for images, _, _ in batches(train, bench.target.batch_size)]
    finished = start.finished(trained, inputs)
    if is_first_process():
        write_checkpoint(out, finished)
    return "; ".join(part for part in (start.summary, reached, _unheeded(start, order)) if part)


def _train_by_epochs(
    job: Job, model: nn.Module, train: PreparedSet, order: TrainingOrder, name: str
) -> tuple[nn.Module, str]:
    """Train for as many epochs as ordered; the validation subjects choose the best of them."""
    bench = job.bench
    spec = bench.target.model_copy(update={"epochs": order.epochs or bench.target.epochs})
    with followed(job, name, spec.epochs, lambda row: None) as follow:
        result = train_model(
            model,
            train,
            bench.images(bench.target.data).validation,
            settings=replace(
                bench.settings(spec, seed=order.seed, folder=None),
                devices=order.devices,
                nodes=order.nodes,
            ),
            on_epoch=follow,
        )
    reached = f"best validation Dice {result.best_score:.3f} in epoch {result.best_epoch}"
    return result.model, reached


def _train_by_steps(
    bench: Workbench, model: nn.Module, train: PreparedSet, start: _Start, order: TrainingOrder
) -> tuple[nn.Module, str]:
    """Train for as many steps as ordered; the validation subjects score the result alone."""
    assert order.steps is not None, "only an order of steps is trained by them"
    trained = train_steps(
        model.to(bench.torch_device),
        batches(train, bench.target.batch_size),
        start.plan,
        order.steps,
        order.seed,
        settings=replace(step_settings(bench.target), devices=order.devices, nodes=order.nodes),
    )
    _, scores = score_subjects(trained, bench.validation_batches(), bench.score)
    mean = float(np.nanmean(subject_means(scores, bench.score.foreground)))
    return trained, f"validation Dice {mean:.3f} after {order.steps} steps"


def _unheeded(start: _Start, order: TrainingOrder) -> str:
    """Say what a plan asks for that training by epochs does not do."""
    if start.plan is None or order.steps is not None:
        return ""
    recipe = start.plan.recipe
    asked = {
        "rates": any(entry.rate != 1.0 for entry in start.plan.entries),
        "anchor": bool(recipe.anchor),
        "head_first": bool(recipe.head_first),
    }
    names = [name for name, is_asked in asked.items() if is_asked]
    if not names:
        return ""
    return f"the plan's {' and '.join(names)} had no effect by epochs: give --steps"


def _start(job: Job, model: nn.Module, order: TrainingOrder, train: PreparedSet) -> _Start:
    """Load into a fresh model what was ordered, and freeze what is to be frozen."""
    if order.plan is not None:
        plan = read_plan(order.plan)
        source = _checked_source(job, order.source or plan.source)
        mode = order.mode
        summary = apply_plan(model, opened(job, source), plan, mode=mode).summary()  # type: ignore[arg-type]
        return _loaded(model, summary, plan)
    strategy = Strategy(order.strategy or Strategy.SCRATCH)
    if not strategy.needs_source:
        return _Start()
    source = _checked_source(job, order.source or "")
    own = findings_of(job.bench.study, job.store).plan(source) if strategy.follows_plan else None
    if strategy.measures:
        own = _measured(job, strategy, source, order, train)
    lender = Lender(opened(job, source), own, order.seed)
    plan_followed = followed_plan(model, strategy, lender)
    return _loaded(model, start_model(model, strategy, lender), plan_followed)


def _loaded(model: nn.Module, summary: str, plan: Plan | None) -> _Start:
    """Keep what a model was loaded with, which its plan may go back to."""
    state = model.state_dict()
    keys = [] if plan is None else [site.key for site in plan.loaded]
    return _Start(summary, plan, {key: state[key].clone() for key in keys})


def _measured(
    job: Job, strategy: Strategy, source: str, order: TrainingOrder, train: PreparedSet
) -> Plan:
    bench = job.bench
    assert order.steps is not None, "a strategy that measures needs steps"
    labelled = batches(train, bench.target.batch_size)
    settings = step_settings(bench.target)
    measuring = Measuring(
        *(bench.factory(TARGET), bench.score, settings, order.steps),
        *(bench.torch_device, order.seed),
    )
    return measured_plan(strategy, opened(job, source), labelled, measuring)


def _check_strategy(order: TrainingOrder) -> None:
    if order.strategy is None:
        return
    known = [strategy.value for strategy in Strategy]
    if order.strategy not in known:
        raise StudyError(f"unknown strategy {order.strategy!r}: expected one of {known}")
    if order.plan is not None:
        raise StudyError("give a plan or a strategy, not both: --plan FILE or --strategy NAME")
    strategy = Strategy(order.strategy)
    if strategy is Strategy.RECOMMENDED:
        raise StudyError("cannot train by 'recommended': `paramreuse recommend` chooses and trains")
    if strategy.needs_steps and order.steps is None:
        raise StudyError(
            f"cannot train by {order.strategy!r} by epochs, which know no rates and no anchor: "
            "say how many steps with --steps, e.g. --steps 400"
        )
    if order.source is not None and not strategy.needs_source:
        raise StudyError(f"{order.strategy!r} loads nothing: leave --source out")


def _check_order(order: TrainingOrder, out: Path) -> None:
    """Notice before a long training what would fail after it."""
    if not out.parent.is_dir():
        raise StudyError(f"cannot write {str(out)!r}: there is no folder {str(out.parent)!r}")
    if out.is_dir():
        raise StudyError(f"cannot write {str(out)!r}: it is a folder, expected a file to write")
    if out.suffix != ".safetensors":
        raise StudyError(f"cannot write {str(out)!r}: weights are written as *.safetensors")
    if order.steps is not None and order.epochs is not None:
        raise StudyError("give steps or epochs, not both: steps stand instead of epochs")
    if order.mode not in ("freeze", "finetune"):
        raise StudyError(f"unknown mode {order.mode!r}: expected 'freeze' or 'finetune'")
    _check_strategy(order)
    if order.mode == "freeze" and order.plan is None:
        raise StudyError("cannot freeze without a plan: give one with --plan")
    if order.source is not None and order.plan is None and order.strategy is None:
        raise StudyError(
            "cannot load from a source without a plan: give one with --plan, or say what to load "
            "with --strategy, e.g. full"
        )


def _checked_source(job: Job, name: str) -> str:
    known = job.bench.study.sources
    if name not in known:
        raise StudyError(f"unknown source {name!r}: expected one of {known}, with --source")
    return name
