"""The ledger of a recommendation: every measured fold, kept so that a killed run goes on.

Several processes may share one: each measures what no other is at. What a process is at is a lock
of the system, which lets go of it when the process ends, however that was.
"""

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paramreuse.errors import StudyError
from paramreuse.files import take_lock

FILE = "recommend.sqlite"
FORMAT = 2

_PATIENCE = 0.2
"""Seconds between two looks at what another process is measuring."""

CLAIMS = "claims"
"""Folder of the files that are locked while an entry is measured; each is removed afterwards."""


class Ledger:
    """Measured folds by name; in memory, or in a folder as they are measured.

    Args:
        folder: Where ``recommend.sqlite`` is kept; None keeps nothing.
        fingerprint: What the recommendation is of; a ledger of another one is refused.

    Raises:
        StudyError: The folder cannot be written, or its ledger is of other images, sources,
            networks or settings.
    """

    def __init__(self, folder: Path | None, fingerprint: str) -> None:
        where = ":memory:"
        self._claims = None if folder is None else folder / CLAIMS
        try:
            if folder is not None:
                (folder / CLAIMS).mkdir(parents=True, exist_ok=True)
                where = str(folder / FILE)
            self._connection = sqlite3.connect(where, isolation_level=None, timeout=30)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS entries (name TEXT PRIMARY KEY, value TEXT NOT NULL)"
            )
        except (OSError, sqlite3.Error) as error:
            raise StudyError(f"cannot keep a recommendation in {where!r}: {error}") from error
        self._check_head({"format": FORMAT, "fingerprint": fingerprint}, where)

    def _check_head(self, head: dict[str, Any], where: str) -> None:
        self._connection.execute(
            "INSERT OR IGNORE INTO entries VALUES ('head', ?)", [json.dumps(head)]
        )
        found = self.read("head")
        if found != head:
            raise StudyError(
                f"cannot go on with the recommendation in {where!r}: {_why_other(found)}"
            )

    def read(self, name: str) -> Any:
        """Return an entry, None if it is not there."""
        row = self._connection.execute(
            "SELECT value FROM entries WHERE name = ?", [name]
        ).fetchone()
        return None if row is None else json.loads(row[0])

    def write(self, name: str, value: Any) -> None:
        """Keep an entry, anything that JSON can hold."""
        self._connection.execute(
            "INSERT OR REPLACE INTO entries VALUES (?, ?)", [name, json.dumps(value)]
        )

    def gather(
        self, names: Sequence[str], measure: Callable[[int], Any], on_entry: Callable[[], object]
    ) -> list[Any]:
        """Return entries, measuring those that are not there and that no other process is at.

        Args:
            names: Names of the entries.
            measure: Gives the entry at a place; called where no process has measured it.
            on_entry: Called for each entry as it comes, measured here, elsewhere or before.

        Returns:
            The entries in the order of the names, however they came.
        """
        entries: dict[int, Any] = {}
        while True:
            for place, name in enumerate(names):
                if place not in entries and (entry := self._entry(name, place, measure)):
                    entries[place] = entry
                    on_entry()
            if len(entries) == len(names):
                return [entries[place] for place in range(len(names))]
            time.sleep(_PATIENCE)

    def _entry(self, name: str, place: int, measure: Callable[[int], Any]) -> Any:
        """Return an entry, measured here if it has to be; None while another process is at it."""
        entry = self.read(name)
        if entry is not None:
            return entry
        with self.claimed(name) as is_ours:
            entry = self.read(name)
            if is_ours and entry is None:
                # What JSON makes of it: the same whether it was measured here or read.
                self.write(name, measure(place))
                entry = self.read(name)
        return entry

    @contextmanager
    def claimed(self, name: str) -> Iterator[bool]:
        """Keep other processes from measuring an entry as long as the block runs.

        Args:
            name: Name of the entry.

        Yields:
            Whether it is this process's to measure; another one has it if not. Read the entry
            again then: another process may have written it just before.
        """
        if self._claims is None:
            yield True
            return
        path = self._claims / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.lock"
        try:
            file = path.open("a")
        except OSError as error:
            raise StudyError(
                f"cannot claim a part of a recommendation in {str(path)!r}: {error.strerror}"
            ) from error
        with file:
            is_ours = take_lock(file)
            yield is_ours
            # Whoever locks the file afterwards finds the entry.
            if is_ours:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _why_other(head: dict[str, Any] | None) -> str:
    """Say why a ledger is not the one that was looked for."""
    number = FORMAT if head is None else head.get("format", 0)
    if number > FORMAT:
        return "it was written by a newer version of paramreuse; use that one"
    if number < FORMAT:
        return "it was written by an older version of paramreuse; use another folder"
    return "it is of other images, sources, networks or settings; use another folder"
