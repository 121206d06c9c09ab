"""What every stage of a study is given, and what several of them do."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from paramreuse.checkpoint import Checkpoint, read_checkpoint
from paramreuse.study.store import Store
from paramreuse.study.talk import Talk
from paramreuse.study.workbench import Workbench
from paramreuse.training import EpochRow


@dataclass(frozen=True, slots=True)
class Job:
    """What every stage is given.

    Attributes:
        bench: Images, networks and models.
        store: Where facts go.
        talk: Where remarks go.
    """

    bench: Workbench
    store: Store
    talk: Talk


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
