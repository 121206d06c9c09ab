"""The ledger of a recommendation: every measured fold, kept so that a killed run goes on."""

import json
import sqlite3
from pathlib import Path
from typing import Any

from paramreuse.errors import StudyError

FILE = "recommend.sqlite"
FORMAT = 2


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
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                where = str(folder / FILE)
            self._connection = sqlite3.connect(where, isolation_level=None, timeout=30)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS entries (name TEXT PRIMARY KEY, value TEXT NOT NULL)"
            )
        except (OSError, sqlite3.Error) as error:
            raise StudyError(f"cannot keep a recommendation in {where!r}: {error}") from error
        self._claim({"format": FORMAT, "fingerprint": fingerprint}, where)

    def _claim(self, head: dict[str, Any], where: str) -> None:
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
