"""Every checkpoint in folders and stores, one at a time, and what cannot be one."""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from paramreuse.checkpoint import Checkpoint, read_checkpoint
from paramreuse.checkpoint.safetensors_file import INDEX_ENDING, shard_names
from paramreuse.checkpoint.storage import (
    StoredFile,
    is_stored_address,
    list_stored,
    read_stored,
)
from paramreuse.errors import CheckpointError

ENDINGS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
"""Endings of files that are taken for checkpoints, beside the indices of shards."""

_SHARD = re.compile(r"-\d{5}-of-\d{5}\.safetensors\Z")

_LOOKED_AT = 2**14  # bytes at both ends of a file: a header, and checksums of a zip's contents

_FETCHED_AHEAD = 2**28
"""Bytes that the disk is asked for at once; page by page, as they are used, takes twice as long."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What was not compared.

    Attributes:
        source: Path or address.
        reason: Why, in words.
    """

    source: str
    reason: str


class Source(Protocol):
    """A checkpoint that was found and is not open yet."""

    @property
    def address(self) -> str:
        """Path or address."""

    def stamp(self) -> str:
        """Return what changes when the file does."""

    def read(self) -> Checkpoint:
        """Open it."""


@dataclass(frozen=True, slots=True)
class LocalSource:
    """A checkpoint on a disk.

    Attributes:
        path: The file, or the index of its shards.
    """

    path: Path

    @property
    def address(self) -> str:
        """The path, whole."""
        return str(self.path)

    def stamp(self) -> str:
        """Return size and time of the last change of the file, and a digest of both its ends.

        Raises:
            CheckpointError: It cannot be read.
        """
        files = [self.path]
        if self.path.name.endswith(INDEX_ENDING):
            files += [self.path.parent / name for name in shard_names(self.path)]
        try:
            return " ".join(map(_stamp, files))
        except OSError as error:
            raise CheckpointError(f"cannot read {self.address!r}: {error.strerror}") from error

    def read(self) -> Checkpoint:
        """Open it, and have the system fetch what will be read."""
        if hasattr(os, "posix_fadvise") and self.path.is_file():
            with self.path.open("rb") as stream:
                os.posix_fadvise(stream.fileno(), 0, _FETCHED_AHEAD, os.POSIX_FADV_WILLNEED)
        return read_checkpoint(self.path)


def _stamp(path: Path) -> str:
    found = path.stat()
    with path.open("rb") as stream:
        digest = hashlib.blake2b(stream.read(_LOOKED_AT), digest_size=8)
        stream.seek(max(_LOOKED_AT, found.st_size - _LOOKED_AT))
        digest.update(stream.read(_LOOKED_AT))
    return f"{found.st_size} {found.st_mtime_ns} {digest.hexdigest()}"


@dataclass(frozen=True, slots=True)
class StoredSource:
    """A checkpoint in an object store.

    Attributes:
        file: What the listing says of it.
    """

    file: StoredFile

    @property
    def address(self) -> str:
        """Its address, with the scheme."""
        return self.file.address

    def stamp(self) -> str:
        """Return size and checksum, or time of the last change, as the listing gave them."""
        return self.file.stamp

    def read(self) -> Checkpoint:
        """Open it."""
        return read_stored(self.address)


def list_sources(places: Sequence[str]) -> Iterator[Source | LeftOut]:
    """Yield every checkpoint of some places, each once, in order of place and name.

    Args:
        places: Files, folders and addresses of stores.

    Raises:
        CheckpointError: A place does not exist, cannot be looked into, or holds no checkpoint.
        MissingExtraError: The library of a store is not installed.
    """
    for place in places:
        num_found = 0
        for found in _stored(place) if is_stored_address(place) else _local(Path(place)):
            num_found += not isinstance(found, LeftOut)
            yield found
        if not num_found:
            raise CheckpointError(
                f"cannot rank: there is no checkpoint in {place!r}. Expected files that end in "
                f"{', '.join(ENDINGS)}"
            )


def _stored(place: str) -> Iterator[Source | LeftOut]:
    for file in list_stored(place):
        if _SHARD.search(file.address):
            reason = "it is one of several files of a checkpoint, which are not put together here"
            yield LeftOut(file.address, f"{reason}; copy all of them and their index to a disk")
        elif file.address.endswith(ENDINGS[0]):
            yield StoredSource(file)
        elif file.address.endswith(ENDINGS):
            reason = "from stores only safetensors files are taken, of which a part can be read"
            yield LeftOut(file.address, f"{reason}; copy it to a disk")


def _local(place: Path) -> Iterator[Source | LeftOut]:
    if not place.is_dir():
        if not place.exists():
            raise CheckpointError(f"cannot rank: there is no file or folder {str(place)!r}")
        yield LocalSource(place.absolute())
        return
    if not os.access(place, os.R_OK | os.X_OK):
        raise CheckpointError(f"cannot rank: you may not look into the folder {str(place)!r}")
    yield from _below(place.absolute(), set())


def _below(folder: Path, visited: set[tuple[int, int]]) -> Iterator[Source | LeftOut]:
    """Yield what is in a folder and below; links are followed, each folder is entered once."""
    try:
        found = folder.stat()
        if (found.st_dev, found.st_ino) in visited:
            yield LeftOut(str(folder), "the same folder under another name, or a loop of links")
            return
        visited.add((found.st_dev, found.st_ino))
        entries = sorted(folder.iterdir())
    except OSError as error:
        yield LeftOut(str(folder), str(error.strerror))
        return
    shards = _shards(entries)
    for entry in entries:
        if entry.is_dir():
            yield from _below(entry, visited)
        elif entry.name not in shards and entry.name.endswith((*ENDINGS, INDEX_ENDING)):
            yield LocalSource(entry)


def _shards(entries: Sequence[Path]) -> set[str]:
    """Return the names of files that are parts of a checkpoint in several files."""
    names: set[str] = set()
    for entry in entries:
        if entry.name.endswith(INDEX_ENDING):
            try:
                names.update(shard_names(entry))
            except (CheckpointError, OSError):
                continue  # The index is named as unreadable when it is opened.
    return names
