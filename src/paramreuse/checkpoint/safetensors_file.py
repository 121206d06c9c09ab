"""Safetensors files, one or in shards, read tensor by tensor."""

import hashlib
import json
import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from paramreuse.checkpoint.names import cut_at_ten
from paramreuse.errors import CheckpointError, DamagedCheckpointError

ALIASES_KEY = "paramreuse.aliases"
# The format itself keeps no order of tensors, by which layers are numbered.
ORDER_KEY = "paramreuse.order"
FORMAT_KEY = "paramreuse.format"
FORMAT = 1
"""Of the metadata that this version writes; a file without a number is of the first format."""
INDEX_ENDING = ".safetensors.index.json"
# The format's own limit for its header (safetensors README, "Format").
MAX_HEADER_BYTES = 100_000_000
# Pages that were read stay mapped until the file is closed; a file is reopened after so many.
_MAPPED_BYTES = 64 * 1024**2
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
}
T = TypeVar("T")


def is_safetensors(start: bytes) -> bool:
    """Tell by its first nine bytes whether a file is safetensors: a length, then JSON.

    The length may look like the start of a pickle, as that of one header in 32 does.
    """
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= MAX_HEADER_BYTES


class SafetensorsFile:
    """The tensors of one safetensors file; each is read on demand.

    Args:
        path: The file.

    Raises:
        CheckpointError: The file is truncated, corrupt or of another format.
    """

    format = "safetensors"

    def __init__(self, path: Path) -> None:
        self.path = path
        _check_header(path)
        self._handle: Any = None
        self._mapped = 0
        # Sorted, since safetensors gives them in another order each time.
        metadata = self._ask(lambda handle: handle.metadata()) or {}
        self.metadata: dict[str, str] = dict(sorted(metadata.items()))
        require_known_format(self.metadata.pop(FORMAT_KEY, str(FORMAT)), path)
        order = self.metadata.pop(ORDER_KEY, None)
        self.keys: list[str] = in_order(self._ask(lambda h: list(h.keys())), order, path)
        self.aliases = aliases_in(self.metadata, self.keys, path)

    def read(self, key: str) -> Tensor:
        """Read one tensor into memory of its own."""
        return self.view(key).clone()

    def view(self, key: str) -> Tensor:
        """Return one tensor as it lies in the file, not to be written to and not to be kept."""
        tensor: Tensor = self._ask(lambda handle: handle.get_tensor(key))
        self._mapped += tensor.nbytes
        if self._mapped > _MAPPED_BYTES:
            self._handle, self._mapped = None, 0
        return tensor

    def shape(self, key: str) -> tuple[int, ...]:
        """Tell a tensor's shape from the header alone."""
        return tuple(self._ask(lambda handle: handle.get_slice(key).get_shape()))

    def dtype(self, key: str) -> torch.dtype:
        """Tell a tensor's dtype from the header, or from the tensor if torch renamed it."""
        name = self._ask(lambda handle: handle.get_slice(key).get_dtype())
        return DTYPES[name] if name in DTYPES else self.read(key).dtype

    def digest(self) -> str:
        """Compute the SHA-256 of the file."""
        return sha256(self.path)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_handle": None, "_mapped": 0}

    def _ask(self, question: Callable[[Any], T]) -> T:
        try:
            if self._handle is None:
                self._handle = safe_open(self.path, framework="pt", device="cpu")
            return question(self._handle)
        except (SafetensorError, OSError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"cannot read {str(self.path)!r}: expected a whole safetensors file, got "
                f"{self.path.stat().st_size if self.path.exists() else 0} bytes of which "
                f"safetensors says {error}. Copy or download the file again."
            ) from error


class ShardedSafetensors:
    """Several safetensors files and the index that says which tensor is in which.

    Args:
        index: The ``*.safetensors.index.json`` file.

    Raises:
        CheckpointError: The index is unreadable, names a file outside its folder or a missing
            one, or promises a tensor that its file does not hold.
    """

    format = "sharded safetensors"

    def __init__(self, index: Path) -> None:
        self.path = index
        weight_map = _weight_map(index)
        names = sorted(set(weight_map.values()))
        self._shards = {name: SafetensorsFile(_shard_path(index, name)) for name in names}
        self._home: dict[str, SafetensorsFile] = {}
        self.aliases: dict[str, str] = {}
        for name, shard in self._shards.items():
            self.aliases |= shard.aliases
            self._home |= {key: shard for key in shard.keys if weight_map.get(key) == name}
        absent = [key for key in weight_map if key not in self._home and key not in self.aliases]
        if absent:
            raise CheckpointError(
                f"cannot read {str(index)!r}: it promises {cut_at_ten(absent)}, and "
                f"{weight_map[absent[0]]!r} does not hold {absent[0]!r}. Download the shards of "
                "one version together."
            )
        self.keys = [key for key in weight_map if key in self._home]
        self.metadata: dict[str, str] = {}

    def read(self, key: str) -> Tensor:
        """Read one tensor into memory of its own."""
        return self._home[key].read(key)

    def view(self, key: str) -> Tensor:
        """Return one tensor as it lies in its file, not to be written to and not to be kept."""
        return self._home[key].view(key)

    def shape(self, key: str) -> tuple[int, ...]:
        """Tell a tensor's shape from the header alone."""
        return self._home[key].shape(key)

    def dtype(self, key: str) -> torch.dtype:
        """Tell a tensor's dtype from the header alone."""
        return self._home[key].dtype(key)

    def digest(self) -> str:
        """Compute the SHA-256 over the digests of the index and its shards, in order of name."""
        digests = [sha256(self.path), *(shard.digest() for shard in self._shards.values())]
        return hashlib.sha256("".join(digests).encode()).hexdigest()


def sha256(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def find_index(folder: Path) -> Path:
    """Find the one index of a folder of shards.

    Raises:
        CheckpointError: There is none, or more than one.
    """
    indices = sorted(folder.glob(f"*{INDEX_ENDING}"))
    if len(indices) == 1:
        return indices[0]
    got = cut_at_ten(path.name for path in indices or folder.iterdir()) or "an empty folder"
    raise CheckpointError(
        f"cannot read the folder {str(folder)!r}: expected one '*{INDEX_ENDING}' in it, got {got}. "
        "Name the file to read."
    )


def _check_header(path: Path) -> None:
    """Refuse a header that is longer than the file before anything is allocated for it."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if len(start) < 8 or length > min(size - 8, MAX_HEADER_BYTES):
        claim = f"a header said to be {length} bytes long" if len(start) == 8 else "no header"
        raise DamagedCheckpointError(
            f"cannot read {str(path)!r}: expected a safetensors file, got {size} bytes with "
            f"{claim}. The file is truncated or of another format: copy or download it again."
        )


def in_order(keys: list[str], order: str | None, path: Path | str) -> list[str]:
    """Put keys in the order that was written with them, or else ``layer2`` before ``layer10``."""
    if order is None:
        return sorted(keys, key=_by_numbers)
    try:
        ranks = {key: rank for rank, key in enumerate(json.loads(order))}
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"cannot read {str(path)!r}: its metadata {ORDER_KEY!r} is damaged ({error}). "
            "Write the file again with write_checkpoint."
        ) from error
    return sorted(keys, key=lambda key: ranks.get(key, len(ranks)))


def require_known_format(number: str, path: Path | str) -> None:
    """Refuse metadata that a later version wrote.

    Raises:
        CheckpointError: The number is not that of this version.
    """
    if number != str(FORMAT):
        raise CheckpointError(
            f"cannot read {str(path)!r}: its metadata is of format {number!r}, and this version of "
            f"paramreuse knows {FORMAT}. Update paramreuse (pip install -U paramreuse)"
        )


def _by_numbers(key: str) -> list[tuple[str, int]]:
    # Numbers of more digits, which no layer has, may be longer than int() takes.
    return [(word, int(number or 0)) for word, number in re.findall(r"(\D+|^)(\d{0,18})", key)]


def aliases_in(metadata: Mapping[str, str], keys: list[str], path: Path | str) -> dict[str, str]:
    """Read which names share a tensor that is stored once.

    ``write_checkpoint`` puts them under one key; ``safetensors.torch.save_model`` writes each
    left-out name as a metadata key of its own, with the kept name as its value.
    """
    known = set(keys)
    own_aliases = {k: v for k, v in metadata.items() if "." in k and k not in known and v in known}
    try:
        written = json.loads(metadata.get(ALIASES_KEY, "{}"))
        if not all(isinstance(v, str) and v in known for v in written.values()):
            raise ValueError("an alias names a tensor that is not there")
        if not known.isdisjoint(written):
            raise ValueError("an alias has the name of a tensor")
    except (ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"cannot read {str(path)!r}: its metadata {ALIASES_KEY!r} is damaged ({error}). "
            "Write the file again with write_checkpoint."
        ) from error
    aliases: dict[str, str] = own_aliases | written
    return aliases


def _weight_map(index: Path) -> dict[str, str]:
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        weight_map = content["weight_map"]
        if not weight_map or not all(isinstance(name, str) for name in weight_map.values()):
            raise ValueError("weight_map is empty or names something other than files")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"cannot read the index {str(index)!r}: expected JSON with a 'weight_map' from tensor "
            f"to file name, got {type(error).__name__}: {error}. Download the index again."
        ) from error
    return dict(weight_map)


def shard_names(index: Path) -> list[str]:
    """Return the names of the files that an index says its tensors are in, sorted.

    Raises:
        CheckpointError: The index is unreadable, or a name is not a plain file name.
    """
    names = sorted(set(_weight_map(index).values()))
    for name in names:
        _check_shard_name(index, name)
    return names


def _check_shard_name(index: Path, name: str) -> None:
    plain = name not in {"", ".", ".."} and not any(mark in name for mark in "/\\:\0")
    if not plain or not name.endswith(".safetensors"):
        raise CheckpointError(
            f"cannot read the index {str(index)!r}: expected plain names of safetensors files "
            f"beside it, got {name!r}. Do not trust this index; get the checkpoint from its source."
        )


def _shard_path(index: Path, name: str) -> Path:
    _check_shard_name(index, name)
    path = index.parent / name
    if not path.is_file():
        raise CheckpointError(
            f"cannot read the index {str(index)!r}: its shard {name!r} is not in its folder. "
            "Download all shards into one folder."
        )
    return path
