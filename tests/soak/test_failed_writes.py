"""Every call by which a study changes its folder fails in turn, and a disk that is really full."""

import errno
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from samples.soak import (
    Runner,
    Tables,
    assert_continues,
    much,
    note,
    reference,
    running,
    tables_of,
    tiny_study,
    watching_library,
)


def assert_nothing_wrong(runner: Runner, status: int, out: Path, wanted: Tables) -> None:
    """A run that met an error says so in one message, and leaves no table that is wrong."""
    assert status in (0, 2), runner.told
    assert "Traceback" not in runner.told
    found = tables_of(out)
    assert [name for name in found if found[name] != wanted[name]] == []
    if status == 0:
        assert found.keys() == wanted.keys()


@pytest.mark.slow
def test_whichever_write_fails_no_table_is_wrong_and_the_study_goes_on(tmp_path: Path) -> None:
    library = watching_library(tmp_path)
    study, out = tiny_study(tmp_path / "study.yaml"), tmp_path / "run"
    ended: Counter[int] = Counter()
    with running(tmp_path / "runner", library) as runner:
        wanted, _ = reference(runner, study, tmp_path / "whole")
        assert runner.run(study, out, watch=(0, 0, None)) == 0
        total = runner.num_writes
        assert total > 100, "the calls are seen"
        trials = much(total, 10)
        for number in range(1, total + 1, -(-total // trials)):
            shutil.rmtree(out)
            error = (errno.EIO, errno.ENOSPC)[number % 2]
            status = runner.run(study, out, watch=(number, error, None))
            print(number, status, runner.told.splitlines()[-1:], flush=True)
            assert_nothing_wrong(runner, status, out, wanted)
            assert_continues(runner, study, out, wanted)
            ended[status] += 1
    note(
        "failed writes", tried=ended.total(), of=total, wrong=0, refused=ended[2], went_on=ended[0]
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("needs Linux and root, to mount a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_study_on_a_full_disk_goes_on_once_there_is_room(
    tmp_path: Path, small_disk: Path
) -> None:
    study = tiny_study(tmp_path / "study.yaml")
    filler = small_disk / "filler"
    ended: Counter[int] = Counter()
    with running(tmp_path / "runner") as runner:
        wanted, _ = reference(runner, study, tmp_path / "whole")
        trials = much(24, 3)
        for trial in range(trials):
            out = small_disk / f"run{trial}"
            free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
            # From nothing at all to more than half of what a run takes.
            filler.write_bytes(bytes(free - trial * 384 * 1024 // trials))
            status = runner.run(study, out)
            print(trial, status, runner.told.splitlines()[-1:], flush=True)
            assert status == 2, runner.told
            assert_nothing_wrong(runner, status, out, wanted)
            filler.unlink()
            assert_continues(runner, study, out, wanted)
            shutil.rmtree(out)
            ended[status] += 1
    note("full disk", tried=ended.total(), wrong=0, refused=ended[2])
