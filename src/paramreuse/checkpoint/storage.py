"""Safetensors in object stores (``s3://``, ``gs://``, ``hf://``), read tensor by tensor.

Bytes come through fsspec, of which nothing but ranges of files is asked.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from paramreuse.checkpoint.names import AVERAGING_COUNTER, strip_wrappers
from paramreuse.checkpoint.reading import Checkpoint
from paramreuse.checkpoint.safetensors_file import (
    DTYPES,
    FORMAT,
    FORMAT_KEY,
    MAX_HEADER_BYTES,
    ORDER_KEY,
    aliases_in,
    in_order,
    require_known_format,
)
from paramreuse.errors import CheckpointError, DamagedCheckpointError
from paramreuse.extras import missing_extra

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://")
_FIRST_BYTES = 2**15  # enough for the header of most networks
_LIBRARIES = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "hf": "huggingface_hub",
    "file": "fsspec",
    "memory": "fsspec",
}
"""The stores that are read, by scheme: fsspec knows more, which nobody has tried."""
_MOST_ELEMENTS = 2**63 - 1
_STAMPS = ("ETag", "etag", "md5Hash", "blob_id", "LastModified", "updated", "mtime", "created")
T = TypeVar("T")


def is_stored_address(text: str) -> bool:
    """Tell whether a text is an address in a store: ``s3://bucket/folder``."""
    return _SCHEME.match(text) is not None


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file in a store.

    Attributes:
        address: With its scheme.
        stamp: Changes when the file does; from the listing alone. Empty where that gives neither
            checksum nor time.
    """

    address: str
    stamp: str


def list_stored(address: str) -> Iterator[StoredFile]:
    """Yield the files at an address and below it, folder by folder.

    Raises:
        MissingExtraError: The library of this store is not installed.
        CheckpointError: There is nothing at the address, or it may not be listed.
    """
    storage, path = _storage(address)
    scheme = address.partition("://")[0]

    def stored(name: str, info: Mapping[str, Any]) -> StoredFile:
        stamps = (str(info[key]) for key in _STAMPS if info.get(key) is not None)
        changes = next(stamps, "")
        return StoredFile(f"{scheme}://{name}", changes and f"{info.get('size')} {changes}")

    info = _asked(address, lambda: storage.info(path))
    if info["type"] == "file":
        yield stored(info["name"], info)
        return
    walk = iter(storage.walk(path, detail=True, on_error="raise"))
    while (folder := _asked(address, lambda: next(walk, None))) is not None:
        for held in sorted(folder[2].values(), key=lambda held: str(held["name"])):
            yield stored(held["name"], held)


def read_stored(address: str) -> Checkpoint:
    """Open a safetensors file in a store; its tensors are fetched when they are asked for.

    Raises:
        MissingExtraError: The library of this store is not installed.
        CheckpointError: The file is missing, may not be read, or is not whole safetensors.
    """
    file = StoredSafetensors(address)
    stripped = strip_wrappers([*file.keys, *file.aliases])
    names = {name: key for key, name in stripped.names.items() if name != AVERAGING_COUNTER}
    checkpoint = Checkpoint(Path(address), file, file_keys=names, ignored={})
    checkpoint.prefix = stripped.prefix
    return checkpoint


class StoredSafetensors:
    """The tensors of one safetensors file in a store.

    Args:
        address: With its scheme.

    Raises:
        CheckpointError: The file cannot be read, or is not whole.
    """

    format = "safetensors"

    def __init__(self, address: str) -> None:
        self._address = address
        self._storage, self._path = _storage(address)
        self._size = int(_asked(address, lambda: self._storage.size(self._path)) or 0)
        header, self._start = self._header()
        self.metadata = self._metadata(header.pop("__metadata__", {}))
        require_known_format(self.metadata.pop(FORMAT_KEY, str(FORMAT)), address)
        order = self.metadata.pop(ORDER_KEY, None)
        self._entries = {key: self._entry(key, entry) for key, entry in header.items()}
        self.keys: list[str] = in_order(list(self._entries), order, address)
        self.aliases = aliases_in(self.metadata, self.keys, address)

    def read(self, key: str) -> Tensor:
        """Fetch one tensor."""
        dtype, shape, first, last = self._entries[key]
        if first == last:
            return torch.empty(shape, dtype=dtype)
        content = bytearray(self._bytes(self._start + first, self._start + last))
        return torch.frombuffer(content, dtype=dtype).reshape(shape)

    def view(self, key: str) -> Tensor:
        """Fetch one tensor."""
        return self.read(key)

    def shape(self, key: str) -> tuple[int, ...]:
        """Tell a tensor's shape from the header alone."""
        return self._entries[key][1]

    def dtype(self, key: str) -> torch.dtype:
        """Tell a tensor's dtype from the header alone."""
        return self._entries[key][0]

    def digest(self) -> str:
        """Fetch the whole file and compute its SHA-256."""
        import hashlib

        digest = hashlib.sha256()
        for start in range(0, self._size, 2**24):
            digest.update(self._bytes(start, min(start + 2**24, self._size)))
        return digest.hexdigest()

    def _bytes(self, start: int, stop: int) -> bytes:
        content: bytes = _asked(
            self._address, lambda: self._storage.cat_file(self._path, start=start, end=stop)
        )
        if len(content) != stop - start:
            raise CheckpointError(
                f"cannot read {self._address!r}: bytes {start} to {stop} came as {len(content)} "
                "bytes. Try again, or put the file into the store again"
            )
        return content

    def _header(self) -> tuple[dict[str, Any], int]:
        first = self._bytes(0, min(self._size, _FIRST_BYTES))
        length = int.from_bytes(first[:8], "little")
        if len(first) < 8 or length > min(self._size - 8, MAX_HEADER_BYTES):
            raise self._damaged("the length of its header is not that of one")
        text = first[8 : 8 + length]
        if len(text) < length:
            text += self._bytes(8 + len(text), 8 + length)
        try:
            header = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._damaged(f"its header is not JSON ({error})") from error
        if not isinstance(header, dict):
            raise self._damaged("its header is not a mapping")
        return header, 8 + length

    def _metadata(self, held: Any) -> dict[str, str]:
        if not isinstance(held, dict) or not all(isinstance(text, str) for text in held.values()):
            raise self._damaged("its metadata is not a mapping of texts")
        return dict(sorted(held.items()))

    def _entry(self, key: str, entry: Any) -> tuple[torch.dtype, tuple[int, ...], int, int]:
        try:
            name, shape = entry["dtype"], _whole_numbers(entry["shape"])
            first, last = _whole_numbers(entry["data_offsets"])
            dtype = DTYPES.get(name)
        except (LookupError, TypeError, ValueError) as error:
            raise self._damaged(f"it says of {key!r} what no tensor can be") from error
        if dtype is None:
            raise CheckpointError(
                f"cannot read {self._address!r}: {key!r} is of dtype {name!r}, expected one of "
                f"{', '.join(DTYPES)}. Save it in one of these"
            )
        is_inside = first <= last <= self._size - self._start
        if not is_inside or last - first != prod(shape) * dtype.itemsize:
            raise self._damaged(f"{key!r} does not have the bytes that its shape needs")
        return dtype, shape, first, last

    def _damaged(self, what: str) -> DamagedCheckpointError:
        return DamagedCheckpointError(
            f"cannot read {self._address!r}: expected a whole safetensors file, got {self._size} "
            f"bytes, and {what}. Put the file into the store again."
        )


def _whole_numbers(values: Any) -> tuple[int, ...]:
    """Return numbers that a shape can have; also of an empty tensor no axis may be endless."""
    numbers = tuple(values)
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError("expected whole numbers of at least 0")
    if prod(max(number, 1) for number in numbers) > _MOST_ELEMENTS:
        raise ValueError("expected fewer elements")
    return numbers


def _storage(address: str) -> tuple[Any, str]:
    scheme = address.partition("://")[0]
    # fsspec takes "::" for one store within another.
    if scheme not in _LIBRARIES or "::" in address:
        known = ", ".join(f"{name}://" for name in _LIBRARIES)
        raise CheckpointError(f"cannot read {address!r}: expected an address that begins {known}")
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise missing_extra(f"read {address!r}", "fsspec") from error
    try:
        storage, path = url_to_fs(address)
    except ImportError as error:
        raise missing_extra(f"read {address!r}", _LIBRARIES[scheme]) from error
    # Every store has errors of its own, most of which are no OSError.
    except Exception as error:
        raise _refused(address, error) from error
    return storage, path


def _asked(address: str, question: Callable[[], T]) -> T:
    try:
        return question()
    # As above.
    except Exception as error:
        raise _refused(address, error) from error


def _refused(address: str, error: Exception) -> CheckpointError:
    told = str(error).strip().splitlines()
    if isinstance(error, FileNotFoundError):
        return CheckpointError(
            f"cannot read {address!r}: there is nothing of this name. Check bucket and folder"
        )
    reason = f"{type(error).__name__}: {told[0][:300] if told else ''}".rstrip(": ")
    return CheckpointError(
        f"cannot read {address!r}: the store answers {reason}. Check that you are signed in there "
        "(for s3:// the variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) and may list and "
        "read this address"
    )
