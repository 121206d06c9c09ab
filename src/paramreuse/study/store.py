"""results.sqlite: every measured fact of a study, written as it is measured."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paramreuse.errors import StudyError

Array = NDArray[np.float64]


class Store:
    """The facts of one run folder.

    Args:
        path: The SQLite file; made if it is not there.

    Raises:
        StudyError: The file cannot be opened, or is no store.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._connection = sqlite3.connect(path, isolation_level=None)
            # A killed process loses nothing with WAL; NORMAL syncs at checkpoints only.
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            schema = files("paramreuse.study").joinpath("schema.sql").read_text(encoding="utf-8")
            self._connection.executescript(schema)
        except sqlite3.Error as error:
            raise StudyError(f"cannot open {str(path)!r} as a store of results: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write all or nothing of what is written inside."""
        self._connection.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def put(self, table: str, rows: Iterable[Mapping[str, object]]) -> None:
        """Insert rows, or replace those of the same primary key; NaN is stored as NULL."""
        for row in rows:
            names = ", ".join(f'"{name}"' for name in row)
            marks = ", ".join("?" * len(row))
            self._connection.execute(
                f'INSERT OR REPLACE INTO "{table}" ({names}) VALUES ({marks})',  # noqa: S608
                [_stored(value) for value in row.values()],
            )

    def rows(self, table: str, **where: object) -> list[dict[str, Any]]:
        """Return the rows of a table, in the order in which they were written."""
        condition = " AND ".join(f'"{name}" = ?' for name in where) or "1"
        cursor = self._connection.execute(
            f'SELECT * FROM "{table}" WHERE {condition} ORDER BY rowid',  # noqa: S608
            list(where.values()),
        )
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def remove(self, table: str, **where: object) -> None:
        """Remove rows."""
        condition = " AND ".join(f'"{name}" = ?' for name in where) or "1"
        self._connection.execute(
            f'DELETE FROM "{table}" WHERE {condition}',  # noqa: S608
            list(where.values()),
        )

    def fact(self, name: str) -> Any:
        """Return a single fact, None if it is not there."""
        found = self.rows("facts", name=name)
        return json.loads(found[0]["value"]) if found else None

    def put_fact(self, name: str, value: object) -> None:
        """Keep a single fact, anything that JSON can hold."""
        self.put("facts", [{"name": name, "value": json.dumps(value, ensure_ascii=False)}])

    def sweep_log(self, sweep: str) -> "StoredLog":
        """Return where the statistics of a sweep are kept while it runs."""
        return StoredLog(self, sweep)


def _stored(value: object) -> object:
    return None if isinstance(value, float) and not isfinite(value) else value


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
        rows = self._store.rows("statistics", sweep=self._sweep, batch=batch)
        if any(row["digest"] != digest for row in rows):
            raise StudyError(
                f"cannot go on with the sweep of {self._sweep!r}: batch {batch} holds other images "
                "than when it was begun. Use another --out folder"
            )
        return {
            (row["swap"], row["replacement"]): np.array(json.loads(row["sums"]), dtype=float)
            for row in rows
        }

    def record(self, batch: int, digest: str, trial: tuple[str, str], statistics: Array) -> None:
        """Keep the statistics of one trial on one batch, at once."""
        row = {"sweep": self._sweep, "batch": batch, "swap": trial[0], "replacement": trial[1]}
        sums = json.dumps(statistics.tolist())
        self._store.put("statistics", [{**row, "digest": digest, "sums": sums}])

    def clear(self) -> None:
        """Forget the statistics, once the scores of the sweep are stored."""
        self._store.remove("statistics", sweep=self._sweep)


def as_rows(names: Sequence[str], values: Iterable[Sequence[object]]) -> list[dict[str, object]]:
    """Name the columns of rows."""
    return [dict(zip(names, row, strict=True)) for row in values]
