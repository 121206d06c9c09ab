"""A run folder: one process at a time, resumable wherever it was stopped, legible when broken."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from paramreuse.checkpoint import write_checkpoint
from paramreuse.errors import StudyError
from paramreuse.study import run as run_module
from paramreuse.study.run import open_job, read_job, run_study
from paramreuse.study.run_folder import holds_study
from paramreuse.study.store import STORE, Store
from paramreuse.study.workbench import Workbench
from samples.studies import given_content, seeded, study_of, trained_content, write_study


def test_the_second_process_in_a_run_folder_is_told_who_is_there(tmp_path: Path) -> None:
    study = study_of(trained_content())
    bench = Workbench(study, tmp_path / "run")

    with (
        open_job(bench),
        pytest.raises(StudyError, match=rf"in use: process {os.getpid()} on .*, since .* --out"),
        open_job(bench),
    ):
        pass

    with open_job(bench):
        pass  # Who has gone keeps nobody out.


def test_a_run_folder_can_be_worked_from_while_another_process_adds_to_it(tmp_path: Path) -> None:
    bench = Workbench(study_of(trained_content()), tmp_path / "run")

    # A report, or a training by a plan, of a study that is still running.
    with open_job(bench), read_job(bench) as job:
        assert job.store.fact("provenance")


@pytest.mark.parametrize("point", range(5))
def test_a_run_killed_while_its_folder_is_made_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: int
) -> None:
    study = study_of(trained_content())
    folder = tmp_path / "run"

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    if point == 4:
        # Killed in the middle of a write: its draft stays.
        with open_job(Workbench(study, folder)):
            pass
        (folder / "study.yaml").rename(folder / ".study.yaml.x1.part")
        (folder / f"{STORE}-journal").write_bytes(b"")
    else:
        names = ["locked", "sweep_parts", "Store", "write_text"]
        monkeypatch.setattr(run_module, names[point], kill)
        with pytest.raises(Killed), open_job(Workbench(study, folder)):
            pass
        monkeypatch.undo()

    with open_job(Workbench(study, folder)) as job:
        assert job.store.fact("provenance")
    assert holds_study(folder, study)
    assert not list(folder.glob(".*.part"))


def test_a_store_that_another_process_writes_to_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / STORE)
    store._connection.execute("PRAGMA busy_timeout = 10")
    other = sqlite3.connect(tmp_path / STORE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StudyError, match=r"database is locked\. Another process is writing to it"):
        store.put_fact("one", 1)
    with pytest.raises(StudyError, match="database is locked"), store.together():
        pass

    other.execute("ROLLBACK")
    other.close()
    store.put_fact("one", 1)
    assert store.fact("one") == 1
    store.close()


def test_a_full_store_is_one_message_and_goes_on_once_there_is_room(tmp_path: Path) -> None:
    store = Store(tmp_path / STORE)
    store.put_fact("before", 1)
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")

    with (
        pytest.raises(StudyError, match=r"full\. Free some space on that disk; the same command"),
        store.together(),
    ):
        store.put_fact("large", "x" * 10**6)

    store._connection.execute("PRAGMA max_page_count = 100000")
    store.put_fact("large", "x" * 10**6)
    assert (store.fact("before"), len(store.fact("large"))) == (1, 10**6)
    store.close()


def test_a_damaged_page_is_one_message(tmp_path: Path) -> None:
    path = tmp_path / STORE
    store = Store(path)
    store.put_fact("one", "x" * 50_000)
    store.close()
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)

    def read() -> None:
        damaged = Store(path)
        try:
            damaged.fact("one")
        finally:
            damaged.close()

    with pytest.raises(StudyError, match=r"results.sqlite' as a store of results: .*Put back a co"):
        read()


def test_a_checkpoint_is_not_written_over_another_file(tmp_path: Path) -> None:
    path = tmp_path / "thesis.safetensors"
    path.write_text("mine, and long enough")

    with pytest.raises(ValueError, match="a file that is not a safetensors file is already there"):
        write_checkpoint(path, seeded(0))

    assert path.read_text() == "mine, and long enough"
    path.unlink()
    write_checkpoint(path, {"a": torch.ones(1)})
    write_checkpoint(path, {"a": torch.zeros(1)})


@pytest.mark.slow
def test_sigterm_ends_like_ctrl_c_with_its_own_status_and_is_resumed(tmp_path: Path) -> None:
    content = given_content(tmp_path, sweep={"engine": "full"})
    content["models"]["target"] = {"data": "cine", "epochs": 500}
    study = write_study(tmp_path / "study.yaml", content)
    out = tmp_path / "run"
    command = [sys.executable, "-m", "paramreuse", "run", str(study), "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    # In the middle of a training: Lightning has handlers of its own then.
    while process.poll() is None and not list(out.glob("training/*/last.ckpt")):
        time.sleep(0.1)

    process.send_signal(signal.SIGTERM)
    told = process.communicate(timeout=120)[1]

    assert process.returncode == 143
    assert "terminated; the same command goes on where it was" in told
    assert "Traceback" not in told
    assert re.search("terminated", told)
    run_study(study_of(content), out, until="data")
