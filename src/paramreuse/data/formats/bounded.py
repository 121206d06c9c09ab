"""Reading no more than a file can mean: what a small file declares never fills the memory.

Sizes are compared before anything is unpacked, and text is read up to a limit.
"""

from pathlib import Path
from typing import IO

from paramreuse.errors import DataError

UNPACKED_AT_LEAST = 64 << 20
"""Bytes that any file may unpack to."""
UNPACKED_PER_BYTE = 100
"""How many times its own size a file may unpack to. Images shrink 2 to 20 times, gzip and PNG at
most about 1000 times; labels, which do shrink so far, are measured by their image instead."""

MOST_TEXT_BYTES = 1 << 20
"""Of a text that a person drew or wrote, such as a contour."""
MOST_TABLE_BYTES = 8 << 20
"""Of a table or list of a whole set."""

_PIECE = 1 << 20


def check_unpacked(path: Path, num_bytes: int) -> None:
    """Refuse a file that says it would unpack to far more than it holds.

    Args:
        path: The file.
        num_bytes: What it declares.

    Raises:
        DataError: It is more than ``UNPACKED_AT_LEAST`` and ``UNPACKED_PER_BYTE`` per byte.
    """
    size = path.stat().st_size
    limit = max(UNPACKED_AT_LEAST, UNPACKED_PER_BYTE * size)
    if num_bytes > limit:
        raise DataError(
            f"cannot read {path}: its {size} bytes would become {num_bytes / 2**20:.0f} MiB in "
            f"memory, expected at most {limit / 2**20:.0f} MiB for a file of this size. If it is "
            f"meant to be so large, store it without compression, else copy it again"
        )


def read_text(path: Path, *, most_bytes: int = MOST_TEXT_BYTES) -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Args:
        path: The file.
        most_bytes: Bytes that it may have.

    Raises:
        DataError: It is longer, or in another encoding; the message names the line.
        OSError: It cannot be opened.
    """
    with path.open("rb") as stream:
        content = stream.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise DataError(
            f"cannot read {path}: it has {path.stat().st_size} bytes, expected at most "
            f"{most_bytes}; it may be another kind of file"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"cannot read {path}, line {line}: it is not UTF-8 text; save the file in the encoding "
            f"UTF-8"
        ) from error
    if "\0" in text:
        raise DataError(
            f"cannot read {path}: it holds NUL characters, as UTF-16 does; save the file in the "
            f"encoding UTF-8"
        )
    return text


def read_exactly(stream: IO[bytes], num_bytes: int) -> bytes:
    """Read the given number of bytes, then on to the end of the stream.

    Only at its end does gzip compare its checksum. What follows is dropped piece by piece, at most
    as much again as was asked for.

    Raises:
        EOFError: The stream is shorter, or far longer.
    """
    content = stream.read(num_bytes)
    if len(content) < num_bytes:
        raise EOFError(f"it ends after {len(content)} bytes, expected {num_bytes}")
    rest = 0
    while piece := stream.read(_PIECE):
        rest += len(piece)
        if rest > num_bytes + _PIECE:
            raise EOFError(f"it goes on after the {num_bytes} bytes that its header promises")
    return content
