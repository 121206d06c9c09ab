"""Writing files whole or not at all, so that they are still there after a power cut."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

PART = ".part"
"""Ending of a file that is being written; its name begins with a dot and that of the file."""

_SAFETENSORS = ".tmp??????"
"""What safetensors calls a file that it is writing, beside ours."""


def write_bytes(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path``; a reader, or a crash, sees the old file or the new one.

    A link is written through, and so is a device or a pipe: neither is replaced.

    Raises:
        OSError: The folder is missing or cannot be written, or ``path`` is a folder.
    """
    if is_stream(path):
        with path.open("wb") as stream:
            stream.write(content)
        return
    with whole_file(path) as draft:
        draft.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Put ``text`` at ``path`` as UTF-8, as ``write_bytes`` does.

    Raises:
        OSError: As for ``write_bytes``.
    """
    write_bytes(path, text.encode("utf-8"))


def is_stream(path: Path) -> bool:
    """Tell whether there is something at ``path`` that is neither a file nor a folder."""
    return path.exists() and not path.is_file() and not path.is_dir()


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a draft to write to, and put it at ``path`` afterwards, synced to the disk.

    Args:
        path: Where the file goes; what a link leads to is replaced, not the link.

    Raises:
        OSError: The folder is missing or cannot be written, or ``path`` is not a regular file.
    """
    target = path.resolve() if path.is_symlink() else path
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if is_stream(target):
        raise OSError(errno.EINVAL, "it is a device or a pipe, expected a file", str(path))
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=PART)
    os.close(descriptor)
    draft = Path(name)
    try:
        yield draft
        _give_usual_rights(draft)
        _sync(draft)
        draft.replace(target)
        _sync(target.parent)
    except OSError as error:
        # A disk that fills up while something is written does not say which file that was.
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        draft.unlink(missing_ok=True)


def _give_usual_rights(path: Path) -> None:
    """Give a temporary file, made for its owner alone, the rights of any new file."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def _sync(path: Path) -> None:
    """Have the disk hold what was written: without it a rename may outlive the content."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep_parts(folder: Path) -> None:
    """Remove drafts that killed processes left behind; nobody else may be writing there.

    Args:
        folder: Folder to look in, with all that are in it.
    """
    for pattern in (f".*{PART}", _SAFETENSORS):
        for part in folder.rglob(pattern):
            with suppress(OSError):
                part.unlink()


def take_lock(file: IO[Any]) -> bool:
    """Lock an open file until it is closed, by its process ending at the latest.

    Args:
        file: The file.

    Returns:
        Whether it is locked now, and not by another process. Where the system has no locks, or the
        file system, nobody is kept out.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def require_own_kind(path: Path, is_own: Callable[[bytes], bool], kind: str) -> None:
    """Refuse to write over a file that is something else.

    Args:
        path: Where a file is to be written.
        is_own: Tells from its first 4096 bytes whether a file is of the kind to be written.
        kind: That kind in words, e.g. ``"a plan"``.

    Raises:
        FileExistsError: There is a file of another kind.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        start = file.read(4096)
    if start and not is_own(start):
        raise FileExistsError(
            errno.EEXIST, f"a file that is not {kind} is already there; name another one", str(path)
        )
