"""The sketches of many checkpoints in one SQLite file, for the next pilot."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from paramreuse.errors import CheckpointError
from paramreuse.nearest.sketch import NUM_BUCKETS, SKETCH_FORMAT, Sketch

_BUSY_SECONDS = 30.0
_ROWS = 256  # sources whose sketches are in memory together

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
}
"""The dtypes of kernels that are sketched, by the names that an index has for them."""

Layout: TypeAlias = tuple[tuple[str, tuple[int, ...], str], ...]
"""Key, shape and dtype (``"float32"``) of each tensor."""


@dataclass(frozen=True, slots=True, eq=False)
class Sketched:
    """Some sources of one layout.

    Attributes:
        addresses: Of the F sources.
        squares: Shape ``(F, T)``, float64.
        buckets: Shape ``(F, T, 64)``, float32.
    """

    addresses: tuple[str, ...]
    squares: NDArray[np.float64]
    buckets: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """What is to be written of a source: bytes of squares and buckets, or a problem."""

    stamp: str
    layout: Layout | None
    held: tuple[bytes | None, bytes | None]
    problem: str | None


class SketchIndex:
    """Sketches by address; use ``opened_index``."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self._connection = connection
        self._name = name
        self._layouts: dict[str, int] = {}
        self._pending: dict[str, _Row] = {}
        connection.execute("CREATE TEMP TABLE wanted (address TEXT PRIMARY KEY) WITHOUT ROWID")

    def want(self, address: str) -> str | None:
        """Count a source among those to rank, and return the stamp under which it is known.

        Returns:
            None for a source that is new.
        """
        self._connection.execute("INSERT OR IGNORE INTO wanted VALUES (?)", (address,))
        if address in self._pending:
            return self._pending[address].stamp
        row = self._connection.execute(
            "SELECT stamp FROM sources WHERE address = ?", (address,)
        ).fetchone()
        return None if row is None else str(row[0])

    def write(self, address: str, stamp: str, layout: Layout, sketches: Sequence[Sketch]) -> None:
        """Keep the sketches of a source in place of what was known of it."""
        squares = np.array([sketch.squares for sketch in sketches], dtype="<f8")
        buckets = np.array([sketch.buckets for sketch in sketches], dtype="<f4")
        held = squares.tobytes(), buckets.tobytes()
        self._pending[address] = _Row(stamp, layout, held, None)

    def write_problem(self, address: str, stamp: str, problem: str) -> None:
        """Keep why a source cannot be sketched."""
        self._pending[address] = _Row(stamp, None, (None, None), problem)

    def _put(self, address: str, row: _Row) -> None:
        layout = None if row.layout is None else self._number(row.layout)
        values = (address, row.stamp, layout, *row.held, row.problem)
        self._connection.execute("INSERT OR REPLACE INTO sources VALUES (?, ?, ?, ?, ?, ?)", values)

    def _number(self, layout: Layout) -> int:
        text = json.dumps(layout)
        if text not in self._layouts:
            self._connection.execute("INSERT OR IGNORE INTO layouts (tensors) VALUES (?)", (text,))
            found = self._connection.execute("SELECT id FROM layouts WHERE tensors = ?", (text,))
            self._layouts[text] = int(found.fetchone()[0])
        return self._layouts[text]

    def commit(self) -> None:
        """Write what is pending, at once, so that other processes wait for a moment at most."""
        pending, self._pending = self._pending, {}
        if not pending:
            return
        self._connection.execute("BEGIN IMMEDIATE")
        for address, row in pending.items():
            self._put(address, row)
        self._connection.execute("COMMIT")

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield address and problem of each wanted source that has none but that."""
        yield from self._connection.execute(
            "SELECT address, problem FROM sources JOIN wanted USING (address) "
            "WHERE problem IS NOT NULL ORDER BY address"
        )

    def layouts(self) -> Iterator[tuple[int, Layout]]:
        """Yield number and content of each layout that a wanted source has."""
        rows = self._connection.execute(
            "SELECT id, tensors FROM layouts WHERE id IN "
            "(SELECT layout FROM sources JOIN wanted USING (address)) ORDER BY id"
        )
        for number, text in rows.fetchall():
            try:
                yield number, _layout(text)
            except (ValueError, TypeError, RecursionError) as error:
                raise self._damaged(f"layout {number} is not one ({error})") from error

    def sketches(self, layout: int, *, num_tensors: int) -> Iterator[Sketched]:
        """Yield the wanted sources of a layout of so many tensors, some at a time."""
        lengths = 8 * num_tensors, 4 * NUM_BUCKETS * num_tensors
        rows = self._connection.execute(
            "SELECT address, squares, buckets FROM sources JOIN wanted USING (address) "
            "WHERE layout = ? ORDER BY address",
            (layout,),
        )
        while held := rows.fetchmany(_ROWS):
            for address, *blobs in held:
                for blob, length in zip(blobs, lengths, strict=True):
                    if not isinstance(blob, bytes) or len(blob) != length:
                        raise self._damaged(f"{address!r} does not have {length} bytes of sketches")
            addresses, squares, buckets = zip(*held, strict=True)
            number = len(held)
            yield Sketched(
                addresses,
                np.frombuffer(b"".join(squares), dtype="<f8").reshape(number, -1),
                np.frombuffer(b"".join(buckets), dtype="<f4").reshape(number, -1, NUM_BUCKETS),
            )

    def _damaged(self, what: str) -> CheckpointError:
        return CheckpointError(
            f"cannot use the index {self._name!r}, which is damaged: {what}. Delete it, and the "
            "same command makes another"
        )


def _layout(text: str) -> Layout:
    held = tuple((key, tuple(shape), dtype) for key, shape, dtype in json.loads(text))
    for key, shape, dtype in held:
        if not isinstance(key, str) or dtype not in DTYPES:
            raise ValueError(f"a tensor {key!r} of dtype {dtype!r}")
        if not all(type(n) is int and n >= 0 for n in shape) or prod(shape) >= 2**60:
            raise ValueError(f"a shape {shape!r}")
    return held


@contextmanager
def opened_index(path: Path | None) -> Iterator[SketchIndex]:
    """Open an index, or begin one; what was written is kept even if the block is left early.

    Args:
        path: The file; none keeps the sketches in memory only.

    Raises:
        CheckpointError: The file is something else, of another version, in use, or cannot be
            written.
    """
    name = ":memory:" if path is None else str(path)
    try:
        connection = sqlite3.connect(name, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            _prepare(connection, name)
            index = SketchIndex(connection, name)
            try:
                yield index
            finally:
                index.commit()
        finally:
            connection.close()
    except sqlite3.Error as error:
        way_out = (
            "Expected an index of sketches, or a name that is free in a folder that you may "
            "write to"
        )
        if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            way_out = (
                "This means that another process is using it: wait for it to end, then run the "
                "same command again"
            )
        raise CheckpointError(f"cannot use the index {name!r}: {error}. {way_out}") from error


def _prepare(connection: sqlite3.Connection, name: str) -> None:
    expected = f"sketches {SKETCH_FORMAT}"
    tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
    if not tables:
        # The sketches of a network take some kB: on small pages a third of the file were empty.
        connection.execute("PRAGMA page_size = 32768")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(f"BEGIN IMMEDIATE;\n{_schema()}")
        connection.execute("INSERT OR IGNORE INTO meta VALUES ('format', ?)", (expected,))
        connection.execute("COMMIT")
        return
    known: Any = None
    if ("meta",) in tables and ("layouts",) in tables:
        known = connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
    if known != (expected,):
        found = f"an index of {known[0]}" if known else "another database"
        raise CheckpointError(
            f"cannot use the index {name!r}: expected an index of {expected}, got {found}. Name "
            "another file, or delete this one if it is an old index"
        )


def _schema() -> str:
    return (files("paramreuse.nearest") / "index.sql").read_text(encoding="utf-8")
