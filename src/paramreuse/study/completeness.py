"""Whether the store still holds every row that the finished stages wrote."""

from collections.abc import Iterator, Mapping

from paramreuse.errors import StudyError
from paramreuse.study.records import (
    TRANSFERRED,
    FinishedStage,
    Record,
    SplitSubject,
    StoredDistance,
    StoredLineage,
    StoredShift,
    StoredSourceScore,
    StoredSweep,
    SweepScore,
    TrainedEpoch,
)
from paramreuse.study.store import Store
from paramreuse.study.stored_sweep import is_joint

_KINDS: Mapping[str, tuple[type[Record], ...]] = {
    "data": (SplitSubject,),
    "train": (TrainedEpoch,),
    "compare": (StoredDistance, StoredShift, StoredLineage, StoredSourceScore),
    "transfer": TRANSFERRED,
}
"""The records that a stage writes; the sweep's are counted sweep by sweep."""


def note_rows(store: Store, stage: str) -> None:
    """Keep how many rows a stage has left in the store, once it has finished."""
    store.put_fact(f"rows/{stage}", dict(_counts(store, stage)))


def forget_stage(store: Store, stage: str) -> None:
    """Take back that a stage has finished: it is about to write its rows again."""
    store.remove(FinishedStage, stage=stage)
    store.remove_fact(f"rows/{stage}")


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
    for kind in _KINDS.get(stage, ()):
        yield kind.TABLE, store.count(kind)
    if stage == "sweep":
        for name in (stored.sweep for stored in store.read(StoredSweep)):
            if not is_joint(name):
                yield f"the sweep of {name}", store.count(SweepScore, sweep=name)
