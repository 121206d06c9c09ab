"""What the tests of reliability share: how much is tried, a process to run studies in, a log."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from samples.studies import trained_content, write_study

WHOLE = os.environ.get("PARAMREUSE_SOAK") == "whole"
"""Whether everything is tried; otherwise a small part of it."""

LOG = os.environ.get("PARAMREUSE_SOAK_LOG")
"""File that a line is added to for every piece, for the table of ``docs/reliability.md``."""

HERE = Path(__file__).parents[1] / "soak"


def much(whole: int, part: int) -> int:
    """Return how often something is tried; ``PARAMREUSE_SOAK_TRIALS`` sets it by hand."""
    asked = os.environ.get("PARAMREUSE_SOAK_TRIALS")
    return int(asked) if asked else whole if WHOLE else part


def note(piece: str, **facts: object) -> None:
    """Add a line to the log."""
    line = json.dumps({"piece": piece} | facts)
    print(line)
    if LOG:
        with Path(LOG).open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def tiny_study(path: Path, **changes: Any) -> Path:
    """Write a study that runs through all stages in about a second."""
    data = {
        "reader": "phantom",
        "train": 1,
        "validation": 1,
        "size": [16, 16],
        "options": {"subjects": 2, "slices": 2, "size": 16},
    }
    model = {"data": "cine", "epochs": 2}
    content = trained_content(
        data={"cine": data},
        models={"target": model, "ae": model | {"task": "autoencoder"}},
        sweep={"engine": "full", "controls": []},
        transfer={"subjects": [1], "strategies": ["scratch"], "seeds": 1, "keep_seeds": 1},
    )
    return write_study(path, content | changes)


Tables: TypeAlias = Mapping[str, list[dict[str, str]]]
"""Rows of every table, by its file's name."""


def tables_of(run: Path) -> Tables:
    """Return the tables that a run has written, without how long anything took."""
    return {path.name: _rows(path) for path in sorted(run.glob("tables/*.csv"))}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {name: cell for name, cell in row.items() if name != "seconds"}
            for row in csv.DictReader(file)
        ]


def stages_of(run: Path) -> list[str]:
    """Return the stages that have finished in a run folder."""
    import sqlite3

    if not (run / "results.sqlite").is_file():
        return []
    store = sqlite3.connect(run / "results.sqlite")
    try:
        return [row[0] for row in store.execute("SELECT stage FROM stages ORDER BY rowid")]
    except sqlite3.OperationalError:
        return []  # killed before there were tables
    finally:
        store.close()


class Runner:
    """A process that has imported everything, and runs each study in a fork of itself.

    Args:
        folder: For what is told on stderr.
        preload: A library that is loaded before all others.
    """

    def __init__(self, folder: Path, preload: Path | None = None) -> None:
        self.is_watching = preload is not None
        self._errors = folder / "stderr"
        self._count = folder / "count"
        paths = os.pathsep.join([str(HERE.parent), *sys.path])
        environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        if preload is not None:
            environment["LD_PRELOAD"] = str(preload)
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "forking_server.py"), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        if self._answer() != "ready":
            self.close()
            raise AssertionError("the process that runs studies did not start")

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def run(
        self,
        study: Path,
        out: Path,
        *,
        kill_after: float | None = None,
        watch: tuple[int, int, Path | None] | None = None,
    ) -> int:
        """Run a study, and return its status; minus the signal's number if it was killed.

        Args:
            study: Its file.
            out: The run folder.
            kill_after: Seconds until SIGKILL.
            watch: Number of the call that fails, its error (or minus the signal that ends the
                process there), and a log; see ``watched_writes.c``.
        """
        order: dict[str, Any] = {
            "arguments": ["run", str(study), "--out", str(out), "--device", "cpu"],
            "stderr": str(self._errors),
            "kill_after": kill_after,
        }
        if watch is not None:
            number, error, log = watch
            order["watch"] = [str(out), number, error, str(log) if log else None]
            order["count"] = str(self._count)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._answer())

    @property
    def told(self) -> str:
        """What the last run said on stderr."""
        return self._errors.read_text(errors="replace") if self._errors.exists() else ""

    @property
    def num_writes(self) -> int:
        """How many watched calls the last run made."""
        return int(self._count.read_text())

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=600)
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def running(folder: Path, preload: Path | None = None) -> Iterator[Runner]:
    """Start a runner, and end it afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    runner = Runner(folder, preload)
    try:
        yield runner
    finally:
        runner.close()


def watching_library(folder: Path) -> Path | None:
    """Compile ``watched_writes.c``; None where that cannot be done."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not compiler or not sys.platform.startswith("linux"):
        return None
    library = folder / "watched_writes.so"
    source = HERE / "watched_writes.c"
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return library


@dataclass(frozen=True)
class LeftAlone:
    """A study, and what a run of it gives that nothing happens to.

    Attributes:
        study: Its file.
        tables: Its tables.
        seconds: How long it takes.
    """

    study: Path
    tables: Tables
    seconds: float


def assert_continues(runner: Runner, out: Path, wanted: LeftAlone) -> None:
    """Run the same command again, which has to end with the same tables as a run left alone."""
    status = runner.run(wanted.study, out)
    assert status == 0, runner.told
    found = tables_of(out)
    assert found.keys() == wanted.tables.keys()
    differing = [name for name in found if found[name] != wanted.tables[name]]
    assert differing == []
