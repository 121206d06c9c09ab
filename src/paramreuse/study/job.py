"""What every stage of a study is given, and what several of them do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from paramreuse.checkpoint import Checkpoint, read_checkpoint
from paramreuse.study.store import Store
from paramreuse.study.talk import Talk
from paramreuse.study.workbench import Workbench
from paramreuse.training import EpochRow
from paramreuse.training.trackers import Tracker, Untracked


@dataclass(frozen=True, slots=True)
class Job:
    """What every stage is given.

    Attributes:
        bench: Images, networks and models.
        store: Where facts go.
        talk: Where remarks go.
        tracker: Where learning curves, tables and figures go besides.
    """

    bench: Workbench
    store: Store
    talk: Talk
    tracker: Tracker = field(default_factory=Untracked)


def opened(job: Job, name: str) -> Checkpoint:
    """Open the checkpoint of a model."""
    return read_checkpoint(job.bench.checkpoint(name))


def keep_epochs(store: Store, table: str, columns: dict[str, Any]) -> Callable[[EpochRow], None]:
    """Return what stores an epoch in a table, under the columns that name the training."""

    def keep(row: EpochRow) -> None:
        facts = {
            "epoch": row.epoch,
            "train_loss": row.train_loss,
            "validation_score": row.validation_score,
            "seconds": row.seconds,
        }
        store.put(table, [columns | facts])

    return keep


@contextmanager
def followed(
    job: Job, training: str, epochs: int, keep: Callable[[EpochRow], None]
) -> Iterator[Callable[[EpochRow], None]]:
    """Follow a training epoch by epoch: keep it, log it, show how far it is.

    Args:
        job: The study's.
        training: Name of the training.
        epochs: How many there will be.
        keep: Stores an epoch.
    """
    with job.talk.progress(training) as step:
        step(0, epochs)

        def follow(row: EpochRow) -> None:
            keep(row)
            job.tracker.log_epoch(training, row)
            step(row.epoch, epochs)

        yield follow
