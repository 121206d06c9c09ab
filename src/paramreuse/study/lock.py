"""One process at a time in a run folder: the second is told who is there."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from paramreuse.errors import StudyError
from paramreuse.files import take_lock

LOCK = ".lock"
"""Name of the file that is locked; it stays there, and the system lets go when a process ends."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a run folder.

    Args:
        folder: The run folder.

    Raises:
        StudyError: Another process has it; the message says which.
        OSError: The folder cannot be written to.
    """
    with (folder / LOCK).open("a+", encoding="utf-8") as file:
        if not take_lock(file):
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise StudyError(
                f"{str(folder)!r} is in use: {holder} is working in it. Wait for it to end, stop "
                "it, or give another folder with --out"
            )
        file.truncate(0)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        file.write(f"process {os.getpid()} on {socket.gethostname()}, since {now},")
        file.flush()
        yield
