"""results.sqlite: every measured fact of a study, written as it is measured."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from importlib.resources import files
from math import isfinite, nan
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from paramreuse.errors import StudyError
from paramreuse.study.records import Fact, Record, TrialStatistics

Array = NDArray[np.float64]
R = TypeVar("R", bound=Record)

STORE = "results.sqlite"
"""Name of the store in a run folder."""

FORMAT = 1
"""Format of the store, kept in SQLite's ``user_version``; 0 is what had none."""

_TO_FORMAT = {
    1: (
        "ALTER TABLE transfers RENAME COLUMN subjects TO num_subjects",
        "ALTER TABLE transfers RENAME COLUMN class TO label",
        "ALTER TABLE transfer_epochs RENAME COLUMN subjects TO num_subjects",
    )
}
"""What brings a store of the format before into each format."""


class Store:
    """The facts of one run folder.

    Args:
        path: The SQLite file; made if it is not there. One of an older format is brought up to
            date.

    Raises:
        StudyError: The file cannot be opened, is not a store, or is of a newer format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._connection = sqlite3.connect(path, isolation_level=None)
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        try:
            with self._naming():
                self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > FORMAT:
            raise StudyError(
                f"cannot open {str(self.path)!r}: it is a store of format {version}, and this "
                f"version of paramreuse knows formats up to {FORMAT}. Update paramreuse "
                "(pip install -U paramreuse)"
            )
        # A killed process loses nothing with WAL; NORMAL syncs at checkpoints and in ``lasting``.
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        with self.together():
            self._make_tables()

    def _make_tables(self) -> None:
        # Asked again now that no other process writes: one may just have made the tables.
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        query = "SELECT name FROM sqlite_master WHERE type = 'table'"
        tables = {row[0] for row in self._connection.execute(query)}
        if tables and "facts" not in tables:
            raise StudyError(
                f"cannot open {str(self.path)!r} as a store of results: it is a database of "
                f"something else, with the tables {sorted(tables)[:10]}"
            )
        steps = [step for number in range(version, FORMAT) for step in _TO_FORMAT[number + 1]]
        for step in steps if tables else ():
            self._connection.execute(step)
        schema = files("paramreuse.study").joinpath("store.sql").read_text(encoding="utf-8")
        for statement in schema.split(";"):
            self._connection.execute(statement)
        self._connection.execute(f"PRAGMA user_version = {FORMAT}")

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """Say which store cannot be used, and what to do, instead of what SQLite says alone."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: sqlite3.Error) -> StudyError:
        code = getattr(error, "sqlite_errorname", "")
        way_out = next((way for start, way in _WAYS_OUT.items() if code.startswith(start)), "")
        return StudyError(
            f"cannot use {str(self.path)!r} as a store of results: {error}"
            f"{'. ' if way_out else ''}{way_out}"
        )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write all or nothing of what is written inside."""
        with self._naming():
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            with self._naming():
                self._connection.execute("COMMIT")
        except BaseException:
            # SQLite may have rolled back by itself, as where the disk is full.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def lasting(self) -> Iterator[None]:
        """Write all or nothing of what is written inside, and have the disk hold it.

        It then also holds all that was written before. Without this a power cut, though not a
        killed process, loses the last facts: they are measured again, so nothing else may rest on
        them by then.
        """
        try:
            with self._naming():
                self._connection.execute("PRAGMA synchronous = FULL")
            with self.together():
                yield
        finally:
            self._connection.execute("PRAGMA synchronous = NORMAL")

    def write(self, records: Iterable[Record]) -> None:
        """Insert records, or replace those of the same primary key; NaN is stored as NULL."""
        with self._naming():
            for record in records:
                columns = _columns(type(record))
                names = ", ".join(f'"{column}"' for column in columns.values())
                marks = ", ".join("?" * len(columns))
                self._connection.execute(
                    f'INSERT OR REPLACE INTO "{record.TABLE}" ({names}) VALUES ({marks})',  # noqa: S608
                    [_stored(getattr(record, name)) for name in columns],
                )

    def read(self, kind: type[R], **where: object) -> list[R]:
        """Return the records of a kind, in the order in which they were written.

        Args:
            kind: The kind of record.
            **where: Attributes and the values that they must have.
        """
        columns = _columns(kind)
        numbers = {part.name for part in fields(kind) if part.type is float}
        names = ", ".join(f'"{column}"' for column in columns.values())
        with self._naming():
            cursor = self._connection.execute(
                f'SELECT {names} FROM "{kind.TABLE}" '  # noqa: S608
                f"WHERE {_condition(kind, where)} ORDER BY rowid",
                list(where.values()),
            )
            rows: list[dict[str, Any]] = [dict(zip(columns, row, strict=True)) for row in cursor]
        for row in rows:
            row |= {name: nan for name in numbers if row[name] is None}
        return [kind(**row) for row in rows]

    def count(self, kind: type[Record], **where: object) -> int:
        """Return the number of records of a kind; ``where`` as for ``read``."""
        with self._naming():
            cursor = self._connection.execute(
                f'SELECT COUNT(*) FROM "{kind.TABLE}" WHERE {_condition(kind, where)}',  # noqa: S608
                list(where.values()),
            )
            return int(cursor.fetchone()[0])

    def remove(self, kind: type[Record], **where: object) -> None:
        """Remove records of a kind; ``where`` as for ``read``."""
        with self._naming():
            self._connection.execute(
                f'DELETE FROM "{kind.TABLE}" WHERE {_condition(kind, where)}',  # noqa: S608
                list(where.values()),
            )

    def fact(self, name: str) -> Any:
        """Return a single fact, None if there is none of this name."""
        facts = self.read(Fact, name=name)
        return json.loads(facts[0].value) if facts else None

    def put_fact(self, name: str, value: object) -> None:
        """Keep a single fact, anything that JSON can hold."""
        self.write([Fact(name, json.dumps(value, ensure_ascii=False))])

    def remove_fact(self, name: str) -> None:
        """Remove a single fact."""
        self.remove(Fact, name=name)

    def sweep_log(self, sweep: str) -> "StoredLog":
        """Return where the statistics of a sweep are kept while it runs."""
        return StoredLog(self, sweep)


_WAYS_OUT = {
    "SQLITE_BUSY": "Another process is writing to it: wait for it to end, then run the same "
    "command again",
    "SQLITE_LOCKED": "Another process is writing to it: wait for it to end, then run the same "
    "command again",
    "SQLITE_FULL": "Free some space on that disk; the same command then goes on where it was",
    "SQLITE_IOERR": "See whether that disk is full or failing; the same command then goes on "
    "where it was",
    "SQLITE_READONLY": "Make the file and its folder writable, or give another folder with --out",
    "SQLITE_CORRUPT": "Put back a copy of the file, or give another folder with --out",
    "SQLITE_NOTADB": "Put back a copy of the file, or give another folder with --out",
}
"""What to do about an error of SQLite, by how its name begins."""


def _columns(kind: type[Any]) -> dict[str, str]:
    """Return the column of each attribute of a kind of record."""
    return {part.name: part.metadata.get("column", part.name) for part in fields(kind)}


def _condition(kind: type[Any], where: Iterable[str]) -> str:
    return " AND ".join(f'"{_columns(kind)[name]}" = ?' for name in where) or "1"


def _stored(value: object) -> object:
    return None if isinstance(value, float) and not isfinite(value) else value


@contextmanager
def opened_store(folder: Path) -> Iterator[Store]:
    """Open the store of a run folder, and close it afterwards.

    Args:
        folder: The run folder.

    Raises:
        StudyError: It has no store, or one that is empty; or as for ``Store``.
    """
    path = folder / STORE
    require_facts(path)
    store = Store(path)
    try:
        yield store
    finally:
        store.close()


def require_facts(path: Path) -> None:
    """Refuse a store that has lost all that was in it, of which SQLite would make a new one.

    Raises:
        StudyError: The file is not there, or has no content.
    """
    if not path.is_file() or not path.stat().st_size:
        what = "has no content" if path.is_file() else "does not exist"
        raise StudyError(
            f"cannot read the results in {str(path.parent)!r}: {str(path)!r} {what}, although a "
            "study was run there. Put back a copy of it, or remove the folder and run the study "
            "again"
        )


class StoredLog:
    """Statistics of one sweep, batch by batch; a ``SweepLog``.

    Args:
        store: Where they are kept.
        sweep: Name of the sweep.
    """

    def __init__(self, store: Store, sweep: str) -> None:
        self._store = store
        self._sweep = sweep

    def read_batch(self, batch: int, digest: str) -> Mapping[tuple[str, str], Array]:
        """Return what was recorded of a batch, by swap and replacement.

        Raises:
            StudyError: It was recorded of other images.
        """
        recorded = self._store.read(TrialStatistics, sweep=self._sweep, batch=batch)
        if any(row.digest != digest for row in recorded):
            raise StudyError(
                f"cannot resume the sweep of {self._sweep!r}: batch {batch} holds other images "
                "than when the sweep was started. Use another --out folder"
            )
        return {
            (row.swap, row.replacement): np.array(json.loads(row.sums), dtype=float)
            for row in recorded
        }

    def record(self, batch: int, digest: str, trial: tuple[str, str], statistics: Array) -> None:
        """Keep the statistics of one trial on one batch, at once."""
        sums = json.dumps(statistics.tolist())
        self._store.write([TrialStatistics(self._sweep, batch, *trial, digest, sums)])

    def clear(self) -> None:
        """Forget the statistics, once the scores of the sweep are stored."""
        self._store.remove(TrialStatistics, sweep=self._sweep)
