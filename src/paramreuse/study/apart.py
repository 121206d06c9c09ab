"""What a worker is sent of a study, and how it works with it: its facts go back, not into a store.

A worker may be on another machine: images and weights come with what it is sent, and only the
checkpoints of half-done trainings lie in the run folder, or where the worker does not see it in a
temporary folder that goes with the task.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from paramreuse.study.config import Study
from paramreuse.study.images import Shelf
from paramreuse.study.job import Job
from paramreuse.study.records import (
    Fact,
    Record,
    StoredPicture,
    TrainedEpoch,
    TransferEpoch,
    TransferStep,
)
from paramreuse.study.store import Store
from paramreuse.study.talk import Noted, Silent
from paramreuse.study.workbench import Workbench
from paramreuse.training import EpochRow
from paramreuse.training.trackers import Untracked

_NOTED: tuple[type[Record], ...] = (
    *(Fact, TrainedEpoch, TransferEpoch, TransferStep, StoredPicture),
)
"""What tasks note while they are at work."""

T = TypeVar("T")
R = TypeVar("R")


def each_of(
    job: Job, function: Callable[[Job, T], R], tasks: Sequence[T], *, models: Iterable[str] = ()
) -> Iterator[tuple[int, R]]:
    """Do tasks with what a study is made of: here, or on its workers.

    What a task notes on its way, says and logs comes to the study's store, talk and tracker.

    Args:
        job: The study's.
        function: Does a task, given the job of this process or of a worker.
        tasks: The tasks, which do not depend on each other.
        models: Names of the models whose weights they need.

    Yields:
        Number of the task and its result, as they come.
    """
    if job.pool is None:
        yield from ((number, function(job, task)) for number, task in enumerate(tasks))
        return
    if not tasks:
        return
    part = _part_of(job, models)
    for number, done in job.pool.map(_prepare, (function, part), tasks):
        job.store.write(done.records)
        for line in done.lines:
            job.talk.say(*line)
        for epoch in done.curves:
            job.tracker.log_epoch(*epoch)
        yield number, done.result


@dataclass(frozen=True, slots=True, eq=False)
class StudyPart:
    """What a worker needs of a study.

    Attributes:
        study: The study.
        folder: Its run folder, on the machine of the run.
        device: As for ``run_study``.
        shelf: Its prepared images.
        weights: Tensors of its models, by name.
    """

    study: Study
    folder: Path
    device: str
    shelf: Shelf
    weights: Mapping[str, Mapping[str, Tensor]]


def _part_of(job: Job, models: Iterable[str]) -> StudyPart:
    bench = job.bench
    weights = {name: dict(bench.tensors(name)) for name in dict.fromkeys(models)}
    return StudyPart(bench.study, bench.folder.absolute(), bench.device, bench.shelved(), weights)


@dataclass(frozen=True, slots=True, eq=False)
class Done:
    """A task that a worker did, with what it would have stored, said and logged.

    Attributes:
        result: What the task gave.
        records: What it noted on its way, such as its epochs.
        lines: Stage and line of each remark.
        curves: Name of the training and its epoch, for the tracker.
    """

    result: Any
    records: list[Record]
    lines: list[tuple[str, str]]
    curves: list[tuple[str, EpochRow]]


def _prepare(
    shared: tuple[Callable[[Job, Any], Any], StudyPart],
) -> Callable[[Any], Done]:
    function, part = shared

    def work(task: Any) -> Done:
        talk, curves = Noted(), _Curves()
        with _folder_of(part) as folder, closing(Store(Path(":memory:"))) as store:
            bench = _bench_of(part, folder)
            result = function(Job(bench, store, talk, curves), task)
            records: list[Record] = [row for kind in _NOTED for row in store.read(kind)]
        return Done(result, records, talk.lines, curves.epochs)

    return work


@contextmanager
def _folder_of(part: StudyPart) -> Iterator[Path]:
    """Give the run folder, or on a machine that does not see it one for the time of a task."""
    if (part.folder / "study.yaml").is_file():
        yield part.folder
        return
    with tempfile.TemporaryDirectory(prefix="paramreuse-") as folder:
        yield Path(folder)


def _bench_of(part: StudyPart, folder: Path) -> Workbench:
    return Workbench(part.study, folder, part.device, Silent(), part.shelf, weights=part.weights)


@dataclass
class _Curves(Untracked):
    """Remembers learning curves."""

    epochs: list[tuple[str, EpochRow]] = field(default_factory=list)

    def log_epoch(self, training: str, row: EpochRow) -> None:
        self.epochs.append((training, row))
