"""Whether the store still holds every row that the finished stages wrote."""

from collections.abc import Iterator

from paramreuse.errors import StudyError
from paramreuse.study.records import (
    FinishedStage,
    SplitSubject,
    StoredDistance,
    StoredLineage,
    StoredShift,
    StoredSourceScore,
    TrainedEpoch,
    TransferEpoch,
    TransferScore,
)
from paramreuse.study.store import Store
from paramreuse.study.stored_sweep import is_joint

_TABLES: dict[str, tuple[str, ...]] = {
    "data": (SplitSubject.TABLE,),
    "train": (TrainedEpoch.TABLE,),
    "compare": (
        *(StoredDistance.TABLE, StoredShift.TABLE),
        *(StoredLineage.TABLE, StoredSourceScore.TABLE),
    ),
    "transfer": (TransferScore.TABLE, TransferEpoch.TABLE),
}
"""The tables that a stage fills; the sweep's are counted sweep by sweep."""


def note_rows(store: Store, stage: str) -> None:
    """Keep how many rows a stage has left in the store, once it has finished."""
    store.put_fact(f"rows/{stage}", dict(_counts(store, stage)))


def forget_stage(store: Store, stage: str) -> None:
    """Take back that a stage has finished: it is about to write its rows again."""
    store.remove(FinishedStage.TABLE, stage=stage)
    store.remove("facts", name=f"rows/{stage}")


def require_rows(store: Store) -> None:
    """Refuse a store that has lost rows of a finished stage.

    Raises:
        StudyError: It has; the message says which.
    """
    for finished in store.read(FinishedStage):
        stored = store.fact(f"rows/{finished.stage}") or {}
        now = dict(_counts(store, finished.stage))
        for what, number in stored.items():
            if now.get(what, 0) < number:
                raise StudyError(
                    f"{str(store.path)!r} has lost results: the stage {finished.stage!r} wrote "
                    f"{number} rows of {what}, and {now.get(what, 0)} are there. Put back a copy "
                    "of the file, or give another folder with --out"
                )


def _counts(store: Store, stage: str) -> Iterator[tuple[str, int]]:
    for table in _TABLES.get(stage, ()):
        yield table, store.count(table)
    if stage == "sweep":
        for row in store.rows("sweeps"):
            if not is_joint(row["sweep"]):
                yield f"the sweep of {row['sweep']}", store.count("scores", sweep=row["sweep"])
