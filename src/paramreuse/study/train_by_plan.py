"""Train a fresh target under a plan, on a study's images."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from paramreuse.checkpoint import write_checkpoint
from paramreuse.data.selection import draw_subjects
from paramreuse.errors import StudyError
from paramreuse.reuse.plan import apply_plan
from paramreuse.reuse.plan_file import read_plan
from paramreuse.sites.swaps import seed_of
from paramreuse.study.config import TARGET
from paramreuse.study.job import Job, followed, opened
from paramreuse.study.run import read_job
from paramreuse.study.run_folder import read_run, require_outside
from paramreuse.study.talk import Talk
from paramreuse.study.workbench import Workbench
from paramreuse.training import initial_model, train_model
from paramreuse.training.trackers import open_tracker, require_tracker


@dataclass(frozen=True, slots=True)
class TrainingOrder:
    """What to train.

    Attributes:
        plan: Plan file; None to train from scratch.
        source: Name of the source to load from; the plan's own if None.
        mode: ``freeze`` or ``finetune``.
        subjects: Number of training subjects; all if None.
        epochs: Passes over them; the target's if None.
        seed: Seed of fresh weights, subjects and batches.
    """

    plan: Path | None
    source: str | None
    mode: str
    subjects: int | None
    epochs: int | None
    seed: int


def train_by_plan(
    folder: str | os.PathLike[str],
    order: TrainingOrder,
    out: Path,
    *,
    device: str,
    talk: Talk,
    logger: str | None = None,
) -> str:
    """Train the target of a run folder's study, and write its best weights.

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
        StudyError: The folder is no run folder, or the source is not one of the study's.
        PlanError: The plan cannot be read, or is of another network.
        DataError: There are not as many training subjects.
        ParamReuseError: The logger is unknown, or not installed.
    """
    require_tracker(logger)
    bench = Workbench(read_run(folder), Path(folder), device, talk)
    _check_order(order, out)
    require_outside(out, Path(folder))
    images = bench.images(bench.target.data)
    train = draw_subjects(images.trainable, order.subjects, order.seed)
    model = initial_model(
        bench.factory(TARGET), seed_of(bench.study.seed, "fresh", str(order.seed))
    )
    with read_job(bench, talk) as job:
        loaded = "nothing loaded"
        if order.plan is not None:
            plan = read_plan(order.plan)
            source = _checked_source(job, order.source or plan.source)
            mode = order.mode
            loaded = apply_plan(model, opened(job, source), plan, mode=mode).summary()  # type: ignore[arg-type]
    spec = bench.target.model_copy(update={"epochs": order.epochs or bench.target.epochs})
    with (
        open_tracker(logger, bench.folder, run=bench.study.name) as tracker,
        followed(replace(job, tracker=tracker), out.stem, spec.epochs, lambda row: None) as follow,
    ):
        result = train_model(
            model,
            train,
            images.validation,
            settings=bench.settings(spec, seed=order.seed, folder=None),
            on_epoch=follow,
        )
    write_checkpoint(out, result.model)
    return f"{loaded}; best validation Dice {result.best_score:.3f} in epoch {result.best_epoch}"


def _check_order(order: TrainingOrder, out: Path) -> None:
    """Notice before a long training what would fail after it."""
    if not out.parent.is_dir():
        raise StudyError(f"cannot write {str(out)!r}: there is no folder {str(out.parent)!r}")
    if out.is_dir():
        raise StudyError(f"cannot write {str(out)!r}: it is a folder, expected a file to write")
    if out.suffix != ".safetensors":
        raise StudyError(f"cannot write {str(out)!r}: weights are written as *.safetensors")
    if order.mode not in ("freeze", "finetune"):
        raise StudyError(f"unknown mode {order.mode!r}: expected 'freeze' or 'finetune'")
    if order.mode == "freeze" and order.plan is None:
        raise StudyError("cannot freeze without a plan: give one with --plan")
    if order.source is not None and order.plan is None:
        raise StudyError("cannot load from a source without a plan: give one with --plan")


def _checked_source(job: Job, name: str) -> str:
    known = job.bench.study.sources
    if name not in known:
        raise StudyError(f"unknown source {name!r}: expected one of {known}, with --source")
    return name
