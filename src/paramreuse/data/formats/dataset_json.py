"""``dataset.json`` of the Decathlon and of nnU-Net: classes and files, none outside its folder."""

import json
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paramreuse.data.formats.bounded import MOST_TABLE_BYTES, read_text
from paramreuse.errors import DataError


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: It is not there, is not JSON, or has a key twice; the message names the line
            where there is one.
        OSError: It cannot be opened.
    """
    if not path.is_file():
        raise DataError(f"cannot read {path}: no such file; expected it at the top of the set")
    text = read_text(path, most_bytes=MOST_TABLE_BYTES)
    try:
        return json.loads(text, object_pairs_hook=_without_twins)
    except json.JSONDecodeError as error:
        raise DataError(
            f"cannot read {path}, line {error.lineno}: {error.msg}; expected JSON, copy the file "
            f"again"
        ) from error
    # ValueError: a number of thousands of digits, or a key that stands twice.
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"cannot read {path}: {str(error).split(';')[0]}; expected JSON as published, copy the "
            f"file again"
        ) from error


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:80]!r} stands twice")
    return content


def read_dataset_json(folder: Path) -> dict[str, Any]:
    """Read ``dataset.json`` of a folder.

    Raises:
        DataError: It is not there, is not JSON, or does not hold an object.
    """
    content = read_json(folder / "dataset.json")
    if not isinstance(content, dict):
        raise DataError(
            f"cannot read {folder / 'dataset.json'}: it holds a {type(content).__name__}, expected "
            f'an object like {{"labels": ...}}'
        )
    return content


def listed_file(folder: Path, entry: object, *, key: str) -> Path:
    """Return the file that an entry of ``dataset.json`` names.

    The path is judged as written: an entry cannot leave the folder, while links that the user has
    put into it are followed.

    Args:
        folder: Folder of the ``dataset.json``.
        entry: A relative path with forward slashes, such as ``"./imagesTr/la_003.nii.gz"``.
        key: Where the entry stands, for the message: ``"training[3].image"``.

    Raises:
        DataError: The entry is not text, or points outside the folder.
    """
    where = folder / "dataset.json"
    if not isinstance(entry, str) or not entry or "\0" in entry:
        raise DataError(f"cannot read {where}: {key} is {entry!r}, expected a path as text")
    clean = posixpath.normpath(entry.replace("\\", "/"))
    if clean.startswith(("/", "../")) or clean == ".." or ":" in clean.split("/")[0]:
        raise DataError(
            f"cannot read {where}: {key} is {entry!r}, which points outside {folder}; expected a "
            f"path inside it, such as './imagesTr/...'"
        )
    return folder / clean


def check_classes(where: Path, names: Mapping[int, object]) -> tuple[str, ...]:
    """Return class names in the order of their labels.

    Args:
        where: The file that names them, for the message.
        names: Class name of each label.

    Raises:
        DataError: Labels are not 0, 1, 2, ..., or two names are the same or not text.
    """
    texts = [name for name in names.values() if isinstance(name, str) and name]
    if sorted(names) != list(range(len(names))) or len(set(texts)) != len(names) or len(texts) < 2:
        raise DataError(
            f"cannot read {where}: its labels are {dict(sorted(names.items()))!r}, expected "
            f"different names for 0 (background), 1, 2, ... without a gap"
        )
    return tuple(str(names[label]) for label in range(len(names)))


def strip_ending(name: str, endings: tuple[str, ...]) -> str:
    """Return a file name without the first of the endings it has."""
    return next((name.removesuffix(end) for end in endings if name.endswith(end)), name)
