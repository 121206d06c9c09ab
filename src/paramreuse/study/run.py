"""Running a study: open its folder, run what is not finished, say what each stage found."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from paramreuse.checkpoint import read_checkpoint
from paramreuse.data.selection import draw_subjects
from paramreuse.distribution.pool import Pool
from paramreuse.errors import DataError, SiteMismatchError, StudyError
from paramreuse.files import sweep_parts, write_text
from paramreuse.sites.matching import match_sites
from paramreuse.study.completeness import forget_stage, note_rows, require_rows
from paramreuse.study.config import TARGET, Study, dump_study
from paramreuse.study.images import Shelf
from paramreuse.study.job import Job
from paramreuse.study.lock import locked
from paramreuse.study.provenance import provenance
from paramreuse.study.records import FinishedStage
from paramreuse.study.run_folder import holds_study, read_run
from paramreuse.study.stages import run_compare, run_data, run_judge, run_plan, run_sweep, run_train
from paramreuse.study.store import STORE, Store, opened_store
from paramreuse.study.talk import Silent, Talk
from paramreuse.study.transfer.own_training import own_training
from paramreuse.study.transfer.stage import run_transfer
from paramreuse.study.unchanged import check_unchanged, damaged_models, watch_images
from paramreuse.study.workbench import Workbench
from paramreuse.sweep.recalibration import statistic_keys
from paramreuse.training.trackers import open_tracker, require_tracker


def run_report(job: Job) -> str:
    """Write tables, figures and the page."""
    from paramreuse.study.reporting import write_job_report

    return str(write_job_report(job))


STAGES: Mapping[str, Callable[[Job], str]] = {
    "data": run_data,
    "train": run_train,
    "compare": run_compare,
    "sweep": run_sweep,
    "judge": run_judge,
    "plan": run_plan,
    "transfer": run_transfer,
    "report": run_report,
}
"""The stages in order. ``judge`` and ``report`` only compute, so they run every time."""

_COMPUTED = ("judge", "report")
_JUDGED = ("judge", "plan", "transfer", "report")
"""Stages whose outcome depends on the tolerance."""


def run_study(  # noqa: PLR0913 - everything after the folder has a default
    study: Study,
    folder: str | os.PathLike[str],
    *,
    until: str | None = None,
    device: str = "auto",
    talk: Talk | None = None,
    logger: str | None = None,
    shelf: Shelf | None = None,
    pool: Pool | None = None,
) -> Path:
    """Run every stage of a study that is not finished yet.

    Args:
        study: The study.
        folder: Run folder; made if it is not there.
        until: Last stage to run; all of them if not given.
        device: ``auto``, ``cpu``, ``cuda`` ...
        talk: Where remarks go.
        logger: ``csv``, ``mlflow``, ``tensorboard`` or ``wandb``, to log learning curves, tables
            and figures to as well.
        shelf: Prepared images of studies that ran before with the same image sets.
        pool: Workers for sweeps, trainings and comparisons (``ray_pool``). Sweeps of counted scores
            are the same bit for bit, trainings only at equal numbers of threads.

    Returns:
        The run folder.

    Raises:
        ParamReuseError: The logger is unknown.
        MissingExtraError: The logger is not installed.
        StudyError: The stage or the device is unknown, the folder cannot be written, or holds
            another study. Nothing has been written then, nor with the following.
        DataError: An image set is incomplete, or has too few subjects.
        CheckpointError: A given checkpoint cannot be read, or the target's is of another network.
        SiteMismatchError: Nothing of a model fits the target.
    """
    last = until or list(STAGES)[-1]
    if last not in STAGES:
        raise StudyError(f"unknown stage {last!r}: expected one of {list(STAGES)}")
    require_tracker(logger)
    path = Path(folder)
    bench = Workbench(study, path, device, talk or Silent(), shelf or Shelf())
    _ = bench.torch_device
    if not holds_study(path, study):
        check_inputs(bench)
    else:
        check_unchanged(bench, read_run(path))
    with open_job(bench, talk) as job, open_tracker(logger, path, run=study.name) as tracker:
        _train_damaged_again(job)
        for name in list(STAGES)[: list(STAGES).index(last) + 1]:
            _run_stage(replace(job, tracker=tracker, pool=pool), name)
    return path


def _train_damaged_again(job: Job) -> None:
    """Have the training stage run once more for models whose file is missing or damaged."""
    for name in damaged_models(job):
        job.talk.say("train", f"{name}: its file is missing or damaged, so it is trained again")
        job.bench.checkpoint(name).unlink(missing_ok=True)
        forget_stage(job.store, "train")


def _run_stage(job: Job, name: str) -> None:
    fingerprint = _fingerprint(job.bench.study, name)
    finished = job.store.read(FinishedStage, stage=name)
    if finished and finished[0].fingerprint == fingerprint and name not in _COMPUTED:
        job.talk.say(name, f"{finished[0].summary} (finished before)")
        return
    forget_stage(job.store, name)
    start = time.perf_counter()
    with job.talk.progress(name):
        summary = STAGES[name](job)
    seconds = time.perf_counter() - start
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with job.store.lasting():
        note_rows(job.store, name)
        job.store.write([FinishedStage(name, fingerprint, summary, seconds, now)])
    job.talk.say(name, f"{summary} ({seconds:.1f} s)")


def _fingerprint(study: Study, stage: str) -> str:
    """Say what a finished stage depends on beyond what the run folder was made for."""
    settings: dict[str, Any] = {}
    if stage == "sweep" and study.sweep.recalibrate:
        settings["recalibrate"] = True
    if stage in _JUDGED:
        settings["judge"] = study.judge.model_dump(mode="json")
    if stage == "transfer" and study.transfer is not None:
        settings["transfer"] = study.transfer.model_dump(mode="json")
    return yaml.safe_dump(settings)


@contextmanager
def open_job(bench: Workbench, talk: Talk | None = None) -> Iterator[Job]:
    """Open a run folder for its stages, alone, and close its store afterwards.

    Args:
        bench: The parts of the study.
        talk: Where remarks go.

    Raises:
        StudyError: The folder cannot be written, holds another study, or another process is at
            work in it.
    """
    folder = bench.folder
    holds_study(folder, bench.study)
    with ExitStack() as opened:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            opened.enter_context(locked(folder))
            sweep_parts(folder)
            known = holds_study(folder, bench.study)
            store = Store(folder / STORE)
            opened.callback(store.close)
            if not known:
                with store.lasting():
                    store.put_fact("provenance", provenance())
            _require_results(folder, store)
            watch_images(bench, store)
            # Last: what makes a folder a run folder.
            write_text(folder / "study.yaml", dump_study(bench.study))
        except OSError as error:
            raise StudyError(
                f"cannot write to the run folder {str(folder)!r}: {error.strerror}. "
                "Give another one with --out"
            ) from error
        yield Job(bench, store, talk or Silent())


@contextmanager
def read_job(bench: Workbench, talk: Talk | None = None) -> Iterator[Job]:
    """Open a run folder to work from its results, while another process may be adding to them.

    Args:
        bench: The parts of the study.
        talk: Where remarks go.

    Raises:
        StudyError: The folder has no results, or has lost some.
    """
    with opened_store(bench.folder) as store:
        _require_results(bench.folder, store)
        watch_images(bench, store)
        yield Job(bench, store, talk or Silent())


def _require_results(folder: Path, store: Store) -> None:
    """Refuse a store that is not the one of this run folder any more, or that has lost rows."""
    if store.fact("provenance") is None:
        raise StudyError(
            f"{str(store.path)!r} holds no results, although a study was run in {str(folder)!r}. "
            "Put back a copy of it, or remove the folder and run the study again"
        )
    require_rows(store)


def report_run(folder: str | os.PathLike[str]) -> Path:
    """Write tables, figures and the page from what a run folder holds.

    Raises:
        StudyError: The folder is not a run folder, or cannot be written.
    """
    from paramreuse.study.reporting import write_job_report

    bench = Workbench(read_run(folder), Path(folder))
    with read_job(bench) as job:
        damaged = damaged_models(job)
        if damaged:
            raise StudyError(
                f"cannot report: the file of the model {damaged[0]!r} is missing or damaged. "
                "`paramreuse run` with the same study trains it again"
            )
        return write_job_report(job)


def check_inputs(bench: Workbench) -> None:
    """Read all images, build every network and open every given checkpoint; nothing is written.

    Args:
        bench: The parts of the study.

    Raises:
        StudyError: A reader, a network or a function of one's own cannot be used, or a network
            does not take its images.
        DataError: An image set is incomplete, or has too few subjects.
        CheckpointError: A given checkpoint cannot be read, or the target's is of another network.
        SiteMismatchError: Nothing of a model fits the target.
    """
    for name in bench.study.data:
        bench.images(name)
    _check_models(bench)
    for name in {spec.data: name for name, spec in bench.study.models.items()}.values():
        bench.try_out(name)
    _check_subjects(bench)


def _check_models(bench: Workbench) -> None:
    """Build every network and open every given checkpoint before anything is written.

    A source may be of another network, as long as some of it fits.
    """
    given = bench.target.checkpoint is not None
    target = bench.model(TARGET) if given else bench.factory(TARGET)()
    if bench.study.sweep.recalibrate:
        statistic_keys(target)
    if bench.study.transfer is not None:
        own_training(bench.study.transfer)
    for name, spec in bench.study.models.items():
        built = spec.checkpoint is None
        if built:
            bench.settings(spec, seed=0, folder=None)
        other = bench.factory(name)() if built else read_checkpoint(bench.checkpoint(name))
        try:
            match_sites(target, other)
        except SiteMismatchError as error:
            raise SiteMismatchError(f"models.{name} does not fit the target: {error}") from error


def _check_subjects(bench: Workbench) -> None:
    """Notice numbers of subjects that there are not before anything is written."""
    study = bench.study
    wanted = [
        (f"models.{name}.subjects", spec.data, spec.subjects, spec.task == "segmentation")
        for name, spec in study.models.items()
        if spec.subjects is not None and spec.checkpoint is None
    ]
    if study.transfer is not None:
        number = max(study.transfer.subjects)
        wanted.append(("transfer.subjects", bench.target.data, number, True))
    for place, data, number, labelled_only in wanted:
        try:
            draw_subjects(bench.images(data).trainable, number, seed=0, labelled_only=labelled_only)
        except DataError as error:
            raise DataError(f"{place}, data.{data}: {error}") from error
