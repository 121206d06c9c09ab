"""Damaged files worth keeping: the smallest for every place in the code that refuses one."""

import hashlib
import os
import traceback
from collections.abc import Sequence
from pathlib import Path, PurePath

FOLDER = Path(__file__).parents[1] / "corpus"
"""Comes with the tests."""

ADDED = os.environ.get("PARAMREUSE_FUZZ_CORPUS")
"""Where finds go, if anywhere."""


class Corpus:
    """What is kept of one kind of file.

    Args:
        name: Name of the kind.
        places: Files of the kind, relative to the folder of a set.
    """

    def __init__(self, name: str, places: Sequence[str]) -> None:
        self._name = name.replace(" ", "-")
        self._kept: dict[tuple[str, str], bytes] = {}
        for folder in (FOLDER, *([Path(ADDED)] if ADDED else [])):
            for place in places:
                for path in sorted((folder / self._name).glob(f"{_flat(place)}--*")):
                    key = (_flat(place), path.name.rpartition("--")[2])
                    self._kept[key] = path.read_bytes()

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, place: PurePath) -> list[bytes]:
        """Return what is kept of one file."""
        return [content for (name, _), content in self._kept.items() if name == _flat(place)]

    def add(self, place: PurePath, damaged: bytes, refused: BaseException) -> None:
        """Keep damaged bytes if none was refused there before, or only larger ones."""
        key = (_flat(place), _place_of(refused))
        if key in self._kept and len(self._kept[key]) <= len(damaged):
            return
        self._kept[key] = damaged
        if ADDED:
            path = Path(ADDED) / self._name / "--".join(key)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(damaged)


def _flat(place: PurePath | str) -> str:
    return str(place).replace("/", "__")


def _place_of(error: BaseException) -> str:
    """Name the lines that an error went through, whatever the numbers of those lines."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f"{PurePath(frame.filename).name}:{frame.name}:{frame.line}" for frame in frames]
    cause = type(error.__cause__).__name__
    return hashlib.sha256("\n".join([*lines, cause]).encode()).hexdigest()[:10]
