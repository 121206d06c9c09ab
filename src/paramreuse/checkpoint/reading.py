"""Checkpoints: a file's tensors as a mapping, with where they lay and what was taken off."""

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from paramreuse.checkpoint.entries import Entry, find_entry
from paramreuse.checkpoint.hub import local_file
from paramreuse.checkpoint.names import (
    AVERAGING_COUNTER,
    StrippedKeys,
    cut_at_ten,
    rename_keys,
    strip_wrappers,
)
from paramreuse.checkpoint.safetensors_file import (
    INDEX_ENDING,
    SafetensorsFile,
    ShardedSafetensors,
    find_index,
    is_safetensors,
    sha256,
)
from paramreuse.checkpoint.torch_file import PICKLE_START, ZIP_START, read_torch_file
from paramreuse.errors import CheckpointError


class TensorFile(Protocol):
    """What a format offers: keys, one tensor at a time, and what is known without reading it."""

    format: str
    keys: list[str]
    aliases: dict[str, str]
    metadata: dict[str, str]

    def read(self, key: str) -> Tensor:
        """Read one tensor into memory of its own."""

    def view(self, key: str) -> Tensor:
        """Return one tensor as it lies in the file, not to be written to and not to be kept."""

    def shape(self, key: str) -> tuple[int, ...]:
        """Tell a tensor's shape without reading it."""

    def dtype(self, key: str) -> torch.dtype:
        """Tell a tensor's dtype without reading it."""

    def digest(self) -> str:
        """Compute the SHA-256 of the file."""


class _TorchEntry:
    """The state dict of a file of ``torch.save``, its storages mapped from the file."""

    def __init__(self, path: Path, entry: Entry, file_format: str) -> None:
        self.path = path
        self.format = file_format
        self._tensors = {key: tensor.detach() for key, tensor in entry.tensors.items()}
        _check_extents(path, self._tensors)
        self.keys = list(self._tensors)
        self.aliases: dict[str, str] = {}
        self.metadata: dict[str, str] = {}

    def read(self, key: str) -> Tensor:
        return self._tensors[key].clone()

    def view(self, key: str) -> Tensor:
        return self._tensors[key]

    def shape(self, key: str) -> tuple[int, ...]:
        return tuple(self._tensors[key].shape)

    def dtype(self, key: str) -> torch.dtype:
        return self._tensors[key].dtype

    def digest(self) -> str:
        return sha256(self.path)


_EXPANDED_BYTES = 64 * 1024**2


def _check_extents(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a tensor that repeats few stored values until it fills the memory (a stride of 0)."""
    limit = max(_EXPANDED_BYTES, path.stat().st_size)
    for key, tensor in tensors.items():
        if tensor.nbytes > limit:
            raise CheckpointError(
                f"cannot read {str(path)!r}: {key!r} is said to have {tensor.nbytes} bytes, "
                f"expected at most {limit} in a file of {path.stat().st_size}. Do not trust this "
                "file; get the checkpoint from its source."
            )


class Checkpoint(Mapping[str, Tensor]):
    """The tensors of a file by name; made by ``read_checkpoint``, usable as a state dict.

    Each access reads the tensor again into its own memory, so iterating holds one at a time and
    changing a tensor changes neither the file nor the checkpoint.

    Attributes:
        path: The file.
        format: ``"safetensors"``, ``"sharded safetensors"``, ``"torch zip"`` or ``"torch legacy"``.
        nesting: Where in the file the state dict lay, e.g. ``"model_state/ema"``; else ``""``.
        prefix: What was taken off the keys, e.g. ``"module._orig_mod."``; ``""`` for nothing.
        file_keys: Key here to key in the file.
        aliases: Further name of a tied tensor, to the key it shares the tensor with.
        ignored: What the state dict held besides, key to reason.
        entries: Other state dicts in the file, each to be chosen with ``entry=``.
        metadata: Text that a safetensors file carries.
        dtype: Floating-point dtype that tensors are converted to when read, or None.
    """

    def __init__(
        self,
        path: Path,
        source: TensorFile,
        *,
        file_keys: Mapping[str, str],
        ignored: Mapping[str, str],
        dtype: torch.dtype | None = None,
    ) -> None:
        self.path = path
        self.format = source.format
        self.file_keys = dict(file_keys)
        self.ignored = dict(ignored)
        self.dtype = dtype
        self.metadata = dict(source.metadata)
        self.nesting = ""
        self.prefix = ""
        self.entries: tuple[str, ...] = ()
        self._source = source
        self._stored = {
            key: source.aliases.get(file_key, file_key) for key, file_key in file_keys.items()
        }
        names = {file_key: key for key, file_key in file_keys.items()}
        self.aliases = {
            names[alias]: names[kept]
            for alias, kept in source.aliases.items()
            if alias in names and kept in names
        }
        self._checksum: str | None = None

    def __getitem__(self, key: str) -> Tensor:
        if key not in self._stored:
            raise KeyError(key)
        tensor = self._source.read(self._stored[key])
        return tensor.to(self.dtype_of(key))

    def view(self, key: str) -> Tensor:
        """Return a tensor without copying it: for looking at once, never to be written to.

        It lies in the file's pages, which stay in memory as long as the tensor is held.
        """
        return self._source.view(self._stored[key]).to(self.dtype_of(key))

    def __iter__(self) -> Iterator[str]:
        return iter(self.file_keys)

    def __len__(self) -> int:
        return len(self.file_keys)

    def __contains__(self, key: object) -> bool:
        return key in self.file_keys

    def shape_of(self, key: str) -> tuple[int, ...]:
        """Tell a tensor's shape without reading it."""
        return self._source.shape(self._stored[key])

    def dtype_of(self, key: str) -> torch.dtype:
        """Tell the dtype that a tensor is given with, without reading it."""
        stored = self._source.dtype(self._stored[key])
        return self.dtype if self.dtype is not None and stored.is_floating_point else stored

    @property
    def checksum(self) -> str:
        """SHA-256 of the file in hexadecimal, computed when first asked for."""
        if self._checksum is None:
            self._checksum = self._source.digest()
        return self._checksum

    def summary(self) -> str:
        """Say in one line what was read, what was taken off and what was left."""
        parts = [f"{self.path.name}: {len(self)} tensors, {self.format}"]
        parts += [f"from {self.nesting!r}"] if self.nesting else []
        parts += [f"prefix {self.prefix!r} taken off"] if self.prefix else []
        parts += [f"{len(self.aliases)} tied"] if self.aliases else []
        parts += [f"floating point read as {self.dtype}"] if self.dtype else []
        parts += [f"ignored entries: {len(self.ignored)}"] if self.ignored else []
        parts += [f"not taken: {cut_at_ten(self.entries)}"] if self.entries else []
        return "; ".join(parts)

    def __repr__(self) -> str:
        return f"<Checkpoint {self.summary()}>"


def read_checkpoint(
    path: str | os.PathLike[str],
    *,
    entry: str | None = None,
    prefix: str | None = None,
    rename: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
) -> Checkpoint:
    r"""Read a checkpoint's tensors, safely: nothing in the file is ever run.

    Formats: safetensors (one file, an index of shards, or the folder of one), ``.pt``, ``.pth`` and
    Lightning ``.ckpt``, zip and legacy. What counts is the content, not the ending. The state dict
    is found by itself in nested files, and the marks of DDP, ``torch.compile``, FSDP and
    ``AveragedModel`` are taken off the keys.

    Args:
        path: The file, or the folder of a sharded one; or ``hf://ORG/NAME[@REVISION][/FILE]``, a
            safetensors file on the Hugging Face hub (extra ``hub``), downloaded to its cache.
        entry: Which state dict to take of several, e.g. ``"ema"``. By default the first of
            ``state_dict``, ``model_state_dict``, ``model_state``, ``model``, ``network_weights``,
            ``net``, ``network``, ``module``, ``weights``, ``params``; an average comes last.
        prefix: Keep only the keys below this prefix and take it off, e.g. ``"encoder."``.
        rename: Rules from old to new prefix, or ``re:`` and a regular expression to its
            replacement; see ``rename_keys``.
        dtype: Read floating-point tensors as this dtype; others stay as they are.

    Returns:
        The tensors by name, on the CPU.

    Raises:
        CheckpointError: The file is missing, damaged, of an unknown format, holds no or several
            state dicts, or needs code to be run; or an argument fits nothing in it. For the hub:
            the repository has no such file, or cannot be reached.
        MissingExtraError: For the hub: ``huggingface_hub`` is not installed.

    Examples:
        >>> source = read_checkpoint("acdc.ckpt", entry="ema")  # doctest: +SKIP
        >>> source.nesting, source.prefix  # doctest: +SKIP
        ('ema', 'module.')
    """
    if dtype is not None and not dtype.is_floating_point:
        raise CheckpointError(f"cannot read as {dtype}: expected a floating-point dtype")
    file = local_file(path)
    try:
        source, nested, others = _open(file, entry)
    except OSError as error:
        raise CheckpointError(
            f"cannot read {os.fspath(error.filename or file)!r}: {error.strerror}. Check that you "
            "may read it."
        ) from error
    ignored = dict(nested.others) if nested else {}
    names = _names(list(source.keys) + list(source.aliases), prefix, rename, ignored, file)
    checkpoint = Checkpoint(
        file,
        source,
        file_keys={name: key for key, name in names.names.items()},
        ignored=ignored,
        dtype=dtype,
    )
    checkpoint.prefix = names.prefix
    checkpoint.nesting = nested.nesting if nested else ""
    checkpoint.entries = tuple(others)
    return checkpoint


def _open(path: Path, entry: str | None) -> tuple[TensorFile, Entry | None, list[str]]:
    """Open a file by what it begins with."""
    file = find_index(path) if path.is_dir() else path
    start = _first_bytes(file)
    if start.startswith((ZIP_START, PICKLE_START)) and not is_safetensors(start):
        content, file_format = read_torch_file(file, start=start)
        chosen, others = find_entry(content, file=repr(str(file)), entry=entry)
        return _TorchEntry(file, chosen, file_format), chosen, others
    if entry is not None:
        raise CheckpointError(
            f"cannot take entry {entry!r} of {str(path)!r}: a safetensors file holds one state "
            "dict. Leave entry out; prefix= chooses a part of it."
        )
    if file.name.endswith(INDEX_ENDING):
        return ShardedSafetensors(file), None, []
    if file.suffix == ".safetensors" or is_safetensors(start):
        return SafetensorsFile(file), None, []
    raise CheckpointError(
        f"cannot read {str(path)!r}: expected safetensors or a file of torch.save, got a file that "
        f"begins with {start!r}{_guess(start)}"
    )


def _first_bytes(path: Path) -> bytes:
    if not path.exists():
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, beside, n=1)
        raise CheckpointError(
            f"cannot read {str(path)!r}: there is no such file"
            + (f"; its folder holds {cut_at_ten(beside)}. " if beside else ". ")
            + (f"Did you mean {close[0]!r}?" if close else "Check the path")
        )
    try:
        with path.open("rb") as stream:
            start = stream.read(16)
    except OSError as error:
        raise CheckpointError(f"cannot read {str(path)!r}: {error.strerror}") from error
    if not start:
        raise CheckpointError(
            f"cannot read {str(path)!r}: the file is empty (0 bytes). Copy or download it again."
        )
    return start


def _guess(start: bytes) -> str:
    """Say what a file that is not a checkpoint probably is, and what to do."""
    if start.startswith(b"version https://"[:16]):
        return ", a Git LFS pointer: run 'git lfs pull' to fetch the file itself."
    if start.lstrip().startswith(b"<"):
        return ", a web page: the download did not give the file. Download it again."
    if start.startswith(b"\x89HDF"):
        return ", HDF5: convert it to safetensors with the library that wrote it."
    return ". Copy or download it again, or convert it to safetensors."


def _names(
    keys: list[str],
    prefix: str | None,
    rename: Mapping[str, str] | None,
    ignored: dict[str, str],
    file: Path,
) -> StrippedKeys:
    """Name the tensors for the caller, noting in ``ignored`` which are left out and why."""
    if not keys:
        raise CheckpointError(
            f"cannot read {str(file)!r}: it contains no tensor. Save a state dict."
        )
    stripped = strip_wrappers(keys)
    names = {key: name for key, name in stripped.names.items() if name != AVERAGING_COUNTER}
    ignored |= {key: "counter of AveragedModel" for key in stripped.names if key not in names}
    if prefix:
        below = _below(prefix, names, file)
        ignored |= {key: f"not below {prefix!r}" for key in names if key not in below}
        names = below
    renamed = rename_keys(list(names.values()), rename)
    taken = stripped.prefix + (prefix or "")
    return StrippedKeys({key: renamed[name] for key, name in names.items()}, taken)


def _below(prefix: str, names: Mapping[str, str], file: Path) -> dict[str, str]:
    """Return the names that begin with a prefix, without it."""
    below = {k: n for k, n in names.items() if n.startswith(prefix) and n != prefix}
    if not below:
        raise CheckpointError(
            f"cannot take the prefix {prefix!r} off the keys of {str(file)!r}: none of "
            f"{len(names)} has it, e.g. {cut_at_ten(list(names.values())[:3])}."
        )
    return {key: name.removeprefix(prefix) for key, name in below.items()}
