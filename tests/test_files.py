"""Files are written whole, on the disk, and over nothing that is not theirs."""

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from paramreuse import files
from paramreuse.files import PART, require_own_kind, sweep_parts, whole_file, write_bytes
from paramreuse.reuse.plan import Plan
from paramreuse.reuse.plan_file import write_plan


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")

    write_bytes(tmp_path / "link", b"new")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_pipe_is_written_through(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    heard: list[bytes] = []
    reader = threading.Thread(target=lambda: heard.append(pipe.read_bytes()), daemon=True)
    reader.start()

    write_bytes(pipe, b"spoken")
    reader.join(timeout=10)

    assert heard == [b"spoken"]
    assert stat.S_ISFIFO(pipe.lstat().st_mode)


def test_a_device_is_written_through_and_stays_one() -> None:
    before = os.lstat(os.devnull)

    write_plan(Plan(()), os.devnull)

    assert os.lstat(os.devnull).st_ino == before.st_ino
    assert stat.S_ISCHR(os.lstat(os.devnull).st_mode)


def test_a_folder_is_refused_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()

    with pytest.raises(IsADirectoryError, match="it is a folder"):
        write_bytes(tmp_path / "folder", b"x")

    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")

    def fail() -> None:
        with whole_file(tmp_path / "file") as draft:
            draft.write_text("half")
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        fail()

    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_disk_that_fills_up_while_a_file_is_written_names_the_file(tmp_path: Path) -> None:
    def fill_the_disk() -> None:
        with whole_file(tmp_path / "table.csv"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"table\.csv"):
        fill_the_disk()

    assert not list(tmp_path.iterdir())


def test_content_and_folder_are_synced_around_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    replace, sync = Path.replace, files._sync

    def synced(path: Path) -> None:
        done.append("folder" if path.is_dir() else "file")
        sync(path)

    def renamed(self: Path, target: Path) -> Path:
        done.append("rename")
        return replace(self, target)

    monkeypatch.setattr(files, "_sync", synced)
    monkeypatch.setattr(Path, "replace", renamed)

    write_bytes(tmp_path / "file", b"content")

    # Renamed before the content is on the disk, a power cut leaves an empty file.
    assert done == ["file", "rename", "folder"]


def test_drafts_of_killed_processes_are_swept_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / f".target.safetensors.k3{PART}").write_text("half")
    (tmp_path / "models" / ".tmpUv8thD").write_text("half, as safetensors calls it")
    (tmp_path / "mine.part").write_text("mine")
    (tmp_path / ".hidden").write_text("mine")

    sweep_parts(tmp_path)

    kept = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert kept == [".hidden", "mine.part"]


def test_only_a_file_of_the_same_kind_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "thesis.txt"
    path.write_text("mine")

    with pytest.raises(FileExistsError, match="a file that is not a plan is already there"):
        require_own_kind(path, lambda start: start.startswith(b"plan"), "a plan")

    path.write_text("plan of last week")
    require_own_kind(path, lambda start: start.startswith(b"plan"), "a plan")
    path.write_text("")
    require_own_kind(path, lambda start: start.startswith(b"plan"), "a plan")
