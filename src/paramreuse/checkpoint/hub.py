"""Checkpoints on the Hugging Face hub: ``hf://org/name`` to a file on this machine."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from paramreuse.checkpoint.safetensors_file import INDEX_ENDING, shard_names
from paramreuse.errors import CheckpointError
from paramreuse.extras import missing_extra

Download: TypeAlias = Callable[[str, str, str | None], Path]
"""From repository, file and revision to where the file lies; raises ``FileNotFoundError`` where the
repository has no such file."""

# pathlib makes one slash out of two.
_SCHEME = re.compile("hf:/{1,2}")
_ADDRESS = re.compile(r"hf:/{1,2}(?P<repo>[^/@]+/[^/@]+)(@(?P<revision>[^/]+))?(/(?P<file>.+))?")
_USUAL_FILES = ("model.safetensors", f"model{INDEX_ENDING}")


def is_hub_address(path: str | os.PathLike[str]) -> bool:
    """Tell whether a path means a file on the hub: it begins with ``hf://``."""
    return _SCHEME.match(os.fspath(path)) is not None


def local_file(path: str | os.PathLike[str], *, download: Download | None = None) -> Path:
    """Return the path of a file; one on the hub is downloaded to the hub's cache if need be.

    Args:
        path: A path, which is returned as it is, or ``hf://ORG/NAME[@REVISION][/FILE]``. Without
            FILE it is ``model.safetensors``, or the index of its shards.
        download: Gets one file; that of ``huggingface_hub`` by default.

    Raises:
        MissingExtraError: ``huggingface_hub`` is not installed.
        CheckpointError: The address is malformed, names no safetensors file, the repository has
            no such file, or the hub cannot be reached.
    """
    if not is_hub_address(path):
        return Path(path)
    address = os.fspath(path)
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise CheckpointError(
            f"cannot read {address!r}: expected hf://ORG/NAME, hf://ORG/NAME/FILE or "
            "hf://ORG/NAME@REVISION/FILE"
        )
    repo, revision, file = match["repo"], match["revision"], match["file"]
    if file is not None and not file.endswith((".safetensors", INDEX_ENDING)):
        raise CheckpointError(
            f"cannot read {address!r}: from the hub only safetensors files are taken, which cannot "
            f"run code, got {file!r}. Take a safetensors file of that repository, or download the "
            "file yourself and name it by its path"
        )
    fetch = download or _download
    try:
        return _first(repo, revision, (file,) if file else _USUAL_FILES, fetch)
    except FileNotFoundError as error:
        wanted = repr(file) if file else " nor ".join(map(repr, _USUAL_FILES))
        raise CheckpointError(
            f"cannot read {address!r}: the repository {repo!r} has no {wanted}. Name one of its "
            f"safetensors files: hf://{repo}/FILE"
        ) from error


def _first(repo: str, revision: str | None, files: tuple[str, ...], download: Download) -> Path:
    """Download the first of some files that the repository has, an index with its shards."""
    for number, file in enumerate(files, start=1):
        try:
            path = download(repo, file, revision)
        except FileNotFoundError:
            if number == len(files):
                raise
        else:
            break
    if file.endswith(INDEX_ENDING):
        folder = file.rpartition("/")[0]
        for shard in shard_names(path):
            download(repo, f"{folder}/{shard}" if folder else shard, revision)
    return path


def _download(repo: str, file: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    except ImportError as error:
        raise missing_extra(f"read {f'hf://{repo}'!r}", "huggingface_hub") from error
    where = f"hf://{repo}{f'@{revision}' if revision else ''}/{file}"
    try:
        return Path(hf_hub_download(repo, file, revision=revision))
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"cannot read {where!r}: it is not in the cache of huggingface_hub, and the hub cannot "
            f"be reached ({_reason(error)}). Connect, or name a file on this machine"
        ) from error
    except EntryNotFoundError as error:
        raise FileNotFoundError(where) from error
    # The hub's errors for a wrong name, a closed repository and a failed download are of both.
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"cannot read {where!r}: {_reason(error)}. Check organisation, name and revision; for "
            "a closed repository run: hf auth login"
        ) from error


def _reason(error: Exception) -> str:
    told = str(error.__cause__ or error).strip()
    return told.splitlines()[0].rstrip(".") if told else type(error).__name__
