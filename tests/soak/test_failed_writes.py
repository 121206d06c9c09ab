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

from samples.soak import LeftAlone, Runner, assert_continues, much, note, tables_of


def assert_nothing_wrong(runner: Runner, status: int, out: Path, wanted: LeftAlone) -> None:
    """A run that met an error says so in one message, and leaves no table that is wrong."""
    assert status in (0, 2), runner.told
    assert "Traceback" not in runner.told
    found = tables_of(out)
    assert [name for name in found if found[name] != wanted.tables[name]] == []
    if status == 0:
        assert found.keys() == wanted.tables.keys()


@pytest.mark.slow
def test_whichever_write_fails_no_table_is_wrong_and_the_study_goes_on(
    watching: Runner, left_alone: LeftAlone, out: Path
) -> None:
    ended: Counter[int] = Counter()
    assert watching.run(left_alone.study, out, watch=(0, 0, None)) == 0
    total = watching.num_writes
    assert total > 100, "the calls are seen"
    for number in range(1, total + 1, -(-total // much(total, 6))):
        shutil.rmtree(out, ignore_errors=True)
        error = (errno.EIO, errno.ENOSPC)[number % 2]
        status = watching.run(left_alone.study, out, watch=(number, error, None))
        print(number, status, watching.told.splitlines()[-1:], flush=True)
        assert_nothing_wrong(watching, status, out, left_alone)
        assert_continues(watching, out, left_alone)
        ended[status] += 1
    note("failed writes", tried=ended.total(), of=total, wrong=0, status=dict(ended))


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
    runner: Runner, left_alone: LeftAlone, small_disk: Path
) -> None:
    filler, trials = small_disk / "filler", much(24, 2)
    for trial in range(trials):
        out = small_disk / f"run{trial}"
        space = os.statvfs(small_disk)
        # From nothing at all to more than half of what a run takes.
        left = trial * 384 * 1024 // trials
        filler.write_bytes(bytes(space.f_bavail * space.f_frsize - left))
        status = runner.run(left_alone.study, out)
        print(left, status, runner.told.splitlines()[-1:], flush=True)
        assert status == 2, runner.told
        assert_nothing_wrong(runner, status, out, left_alone)
        filler.unlink()
        assert_continues(runner, out, left_alone)
        shutil.rmtree(out)
    note("full disk", tried=trials, wrong=0)
