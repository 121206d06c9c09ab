"""What every stage of a study is given, and what several of them do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from paramreuse.checkpoint import Checkpoint, read_checkpoint
from paramreuse.distribution.pool import Pool
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
        pool: Workers for what can be done apart; None does everything here.
    """

    bench: Workbench
    store: Store
    talk: Talk
    tracker: Tracker = field(default_factory=Untracked)
    pool: Pool | None = None


def opened(job: Job, name: str) -> Checkpoint:
    """Open the checkpoint of a model."""
    return read_checkpoint(job.bench.checkpoint(name))


def epoch_columns(row: EpochRow) -> tuple[int, float, float, float]:
    """Return an epoch as the last columns of a record: NaN where it was not validated."""
    score = float("nan") if row.validation_score is None else row.validation_score
    return row.epoch, row.train_loss, score, row.seconds


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
