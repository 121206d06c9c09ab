"""What a disk holds after a power cut, worked out from a log of ``watched_writes.c``."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Call:
    """A call that changed something below the folder."""

    name: str
    inode: int
    offset: int
    path: str
    other: str
    data: bytes


def read_log(path: Path) -> list[Call]:
    """Read the calls of a log, in order."""
    content, place, calls = path.read_bytes(), 0, []
    while place < len(content):
        end = content.index(b"\n", place)
        name, inode, offset, first, other, size = content[place:end].decode().split("\t")
        place = end + 1 + int(size)
        calls.append(Call(name, int(inode), int(offset), first, other, content[end + 1 : place]))
    return calls


@dataclass(eq=False)
class File:
    """A file: what processes see in it, what the disk holds, and the writes in between."""

    now: bytearray = field(default_factory=bytearray)
    held: bytes = b""
    pending: list[Call] = field(default_factory=list)


@dataclass
class Disk:
    """Files and folders, as processes see them and as the disk holds them.

    Source: POSIX's fsync, and what ext4, XFS and btrfs add: a synced new file keeps its name. A
    rename or a removal is held once its folder is synced.
    """

    root: str
    names: dict[str, File] = field(default_factory=dict)
    held_names: dict[str, File] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    _by_number: dict[int, File] = field(default_factory=dict)

    def take(self, call: Call) -> None:
        """Follow one call."""
        match call.name:
            case "create":
                # The number may have been another file's, which is gone.
                self._by_number[call.inode] = self.names[call.path] = File()
            case "folder":
                self.folders.add(call.path)
            case "write" | "truncate":
                file = self._file(call)
                _apply(file.now, call)
                file.pending.append(call)
            case "rename":
                self._rename(call)
            case "remove":
                self.names.pop(call.path, None)
                self.folders.discard(call.path)
            case "sync":
                self._sync(call)

    def _file(self, call: Call) -> File:
        """Return the file of a call; one that goes by another name now was renamed unseen."""
        file = self._by_number[call.inode]
        if self.names.get(call.path) is not file:
            for path in [path for path, other in self.names.items() if other is file]:
                del self.names[path]
            self.names[call.path] = file
        return file

    def _rename(self, call: Call) -> None:
        moved = [p for p in self.names if p == call.path or p.startswith(f"{call.path}/")]
        for path in moved:
            self.names[call.other + path.removeprefix(call.path)] = self.names.pop(path)

    def _sync(self, call: Call) -> None:
        if call.path in self.folders:
            inside = lambda path: path.rpartition("/")[0] == call.path  # noqa: E731
            for path in filter(inside, [*self.held_names]):
                del self.held_names[path]
            self.held_names |= {path: file for path, file in self.names.items() if inside(path)}
            return
        file = self._file(call)
        file.now[:] = call.data
        file.held, file.pending = call.data, []
        if file not in self.held_names.values():
            self.held_names[call.path] = file

    def after_cut(self, kind: str, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
        """Yield the files that a power cut leaves, with their content.

        Args:
            kind: ``"nothing more"``: only what was synced. ``"names first"``: every name, with
                synced content. ``"torn"``: every name, with some of the writes since.
            rng: Draws what is torn.
        """
        names = self.held_names if kind == "nothing more" else self.names
        for path, file in names.items():
            content = bytearray(file.held)
            for call in file.pending if kind == "torn" else ():
                if rng.random() < 0.5:
                    _apply(content, call)
            yield path, bytes(content)

    def write_after_cut(self, folder: Path, kind: str, rng: np.random.Generator) -> None:
        """Put what a power cut leaves into a folder."""
        folder.mkdir()
        for name in sorted(self.folders - {self.root}):
            (folder / Path(name).relative_to(self.root)).mkdir(parents=True, exist_ok=True)
        for path, content in self.after_cut(kind, rng):
            place = folder / Path(path).relative_to(self.root)
            # The index into SQLite's log is rebuilt whenever nobody has it open.
            if not place.name.endswith("-shm"):
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)


def _apply(content: bytearray, call: Call) -> None:
    if call.name == "truncate":
        del content[call.offset :]
        content.extend(bytes(call.offset - len(content)))
        return
    content.extend(bytes(max(0, call.offset - len(content))))
    content[call.offset : call.offset + len(call.data)] = call.data
