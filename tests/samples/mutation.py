"""Damage to bytes as files meet it and as an attacker would do it; seeded, so that it repeats."""

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence

import numpy as np

EXTREMES = (
    *(0, 1, 127, 128, 255, 32767, 32768, 65535, 2**31 - 1, 2**31, 2**32 - 1),
    *(2**63 - 1, 2**63, 2**64 - 1),
)
TOKENS = (
    *(b"\0", b"\x1b[31m", b"\xff", b"\xe2\x80\xae", b"\xed\xa0\x80", b"-1", b"0", b"1e999"),
    *(b"nan", b"9" * 5000, b"[" * 2000, b"{" * 2000, b"../..", b"null", b"true", b'""', b"\n"),
    *(b"&a [*a]", b"<<: *a", b"!!int x", b"2026-13-45", b"\\ud800", b": ", b", ", b"%", b"'"),
)


def mutated(content: bytes, rng: np.random.Generator, corpus: Sequence[bytes] = ()) -> bytes:
    """Return the content with one to four kinds of damage.

    Args:
        content: A file's bytes.
        rng: What is drawn from.
        corpus: Other files, pieces of which may be put in.
    """
    damaged = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        if not damaged:
            break
        change = _CHANGES[int(rng.integers(len(_CHANGES)))]
        change(damaged, int(rng.integers(len(damaged))), rng, corpus)
    return bytes(damaged)


def _flip(content: bytearray, place: int, rng: np.random.Generator, _: Sequence[bytes]) -> None:
    content[place] ^= 1 << int(rng.integers(8))


def _overwrite(
    content: bytearray, place: int, rng: np.random.Generator, _: Sequence[bytes]
) -> None:
    content[place : place + 1] = rng.bytes(1)


def _put_number(
    content: bytearray, place: int, rng: np.random.Generator, _: Sequence[bytes]
) -> None:
    width = int(rng.choice([1, 2, 4, 8]))
    number = EXTREMES[int(rng.integers(len(EXTREMES)))] % (1 << 8 * width)
    order = "little" if rng.integers(2) else "big"
    content[place : place + width] = number.to_bytes(width, order)  # type: ignore[arg-type]


def _put_float(
    content: bytearray, place: int, rng: np.random.Generator, _: Sequence[bytes]
) -> None:
    value = float(rng.choice([np.nan, np.inf, -np.inf, 1e38, -1e38, 1e-45, 0.0]))
    content[place : place + 4] = struct.pack("<f", value)


def _cut(content: bytearray, place: int, rng: np.random.Generator, _: Sequence[bytes]) -> None:
    del content[place : place + int(rng.integers(1, 1 + min(len(content), 64)))]


def _cut_end(content: bytearray, place: int, rng: np.random.Generator, _: Sequence[bytes]) -> None:
    del content[place:]


def _repeat(content: bytearray, place: int, rng: np.random.Generator, _: Sequence[bytes]) -> None:
    piece = bytes(content[place : place + int(rng.integers(1, 64))])
    content[place:place] = piece * int(rng.integers(1, 20))


def _put_token(
    content: bytearray, place: int, rng: np.random.Generator, _: Sequence[bytes]
) -> None:
    token = TOKENS[int(rng.integers(len(TOKENS)))]
    content[place : place + int(rng.integers(0, 8))] = token


def _splice(
    content: bytearray, place: int, rng: np.random.Generator, corpus: Sequence[bytes]
) -> None:
    other = corpus[int(rng.integers(len(corpus)))] if corpus else bytes(content)
    start = int(rng.integers(len(other) + 1))
    content[place : place + 8] = other[start : start + int(rng.integers(1, 256))]


_CHANGES: tuple[Callable[..., None], ...] = (
    *(_flip, _overwrite, _put_number, _put_number, _put_float, _cut, _cut_end, _repeat),
    *(_put_token, _put_token, _splice),
)


def inside(name: str, content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Change what a checksum or compression protects, and pack it again so that it fits.

    Args:
        name: Of the file; its ending says how it is packed.
        content: The file's bytes.
        change: What happens to the bytes inside.
    """
    if name.endswith(".gz"):
        return gzip.compress(change(gzip.decompress(content)), 1)
    if name.endswith(".png"):
        return _inside_png(content, change)
    if name.endswith(".pt") and content.startswith(b"PK"):
        return _inside_zip(content, change)
    return change(content)


def _inside_png(content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    packed, place = content[:8], 8
    while place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        kind, body = content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        if kind == b"IDAT":
            body = zlib.compress(change(zlib.decompress(body)))
        elif kind == b"IHDR":
            body = change(body)
        packed += struct.pack(">I", len(body)) + kind + body
        packed += struct.pack(">I", zlib.crc32(kind + body))
        place += 12 + length
    return packed


def _inside_zip(content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(packed, "w") as new:
        for info in old.infolist():
            body = old.read(info)
            new.writestr(info.filename, change(body) if "data.pkl" in info.filename else body)
    return packed.getvalue()
