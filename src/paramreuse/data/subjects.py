"""What readers share: finding a folder, frames and subjects, and naming what cannot be opened."""

import difflib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial, wraps
from os import PathLike
from pathlib import Path
from typing import ParamSpec, TypeVar

from paramreuse.data.slices import ImageSet, ImageSlice
from paramreuse.errors import DataError

FRAMES = ("ED", "ES")
"""End-diastole and end-systole, the two frames of a cine that are labelled."""

_MOST_DIGITS = 9

_Found = TypeVar("_Found")
_Options = ParamSpec("_Options")


def reader(read: Callable[_Options, ImageSet]) -> Callable[_Options, ImageSet]:
    """Let what the system refuses end in a ``DataError`` that names the file.

    Listing and reading touch many files, any of which may lack permission, lie on a disk that is
    gone, or be a folder under a file's name.

    Args:
        read: A reader.

    Returns:
        The reader, and with it the ``read_subject`` of what it returns, with such errors told.
    """

    @wraps(read)
    def naming(*args: _Options.args, **options: _Options.kwargs) -> ImageSet:
        try:
            image_set = read(*args, **options)
        except OSError as error:
            raise unreadable(error) from error
        return replace(image_set, read_subject=partial(_read_naming, image_set.read_subject))

    return naming


def _read_naming(read_subject: Callable[[str], list[ImageSlice]], subject: str) -> list[ImageSlice]:
    try:
        return read_subject(subject)
    except OSError as error:
        raise unreadable(error) from error


def unreadable(error: OSError) -> DataError:
    """Return the error for a file that the system does not let us read."""
    return DataError(
        f"cannot read {error.filename or 'a file of the set'}: {error.strerror or error}; check "
        f"that it is there and that you may read it"
    )


def existing_folder(root: str | PathLike[str], name: str, *, expected: str) -> Path:
    """Return the folder of a set.

    Args:
        root: The folder.
        name: Name of the set, for the message.
        expected: What the folder should hold, for the message.

    Raises:
        DataError: It is not a folder.
        OSError: It cannot be listed.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise DataError(
            f"cannot read {name} from {folder}: "
            f"{'it is a file' if folder.exists() else 'no such folder'}; expected the folder that "
            f"holds {expected}{_close_folder(folder)}"
        )
    # Where listing is not allowed, glob() would find nothing and say nothing.
    with os.scandir(folder):
        return folder


def _close_folder(folder: Path) -> str:
    """Return the nearest of the folders that may have been meant, for a message."""
    above = next((place for place in folder.parents if place.is_dir()), None)
    if above is None:
        return ""
    names = sorted(path.name for path in above.iterdir() if path.is_dir())
    if not names:
        return f". {str(above)!r} holds no folder. Check the path"
    wanted = folder.relative_to(above).parts[0]
    close = difflib.get_close_matches(wanted, names, n=1)
    if close:
        return f". Did you mean {str(above / close[0])!r}?"
    return f". Check the path: {str(above)!r} holds {', '.join(names[:10])}"


def checked_frames(frames: str | Sequence[str], name: str) -> tuple[str, ...]:
    """Return the frames to read.

    Args:
        frames: One or both of ``FRAMES``.
        name: Name of the set, for the message.

    Raises:
        DataError: One is neither, or stands twice.
    """
    chosen = (frames,) if isinstance(frames, str) else tuple(frames)
    if not chosen or not set(chosen) <= set(FRAMES) or len(set(chosen)) < len(chosen):
        raise DataError(
            f"cannot read {name} frames {frames!r}: expected one or both of {FRAMES}, each once"
        )
    return chosen


def checked_spacing(spacing_mm: float | tuple[float, float], name: str) -> tuple[float, float]:
    """Return the height and width of a pixel in mm.

    Args:
        spacing_mm: One number for both, or two.
        name: Name of the set, for the message.

    Raises:
        DataError: They are not one or two positive numbers.
    """
    sides: tuple[float, ...] = (
        (spacing_mm, spacing_mm) if isinstance(spacing_mm, int | float) else tuple(spacing_mm)
    )
    is_pair = len(sides) == 2 and all(isinstance(side, int | float) for side in sides)
    if not is_pair or not all(0 < side < math.inf for side in sides):
        raise DataError(
            f"cannot read {name}: spacing_mm is {spacing_mm!r}, expected one or two numbers above 0"
        )
    return float(sides[0]), float(sides[1])


def merged_folds(folds: Mapping[str, Mapping[str, _Found]], name: str) -> dict[str, _Found]:
    """Return the subjects of all official folds.

    Args:
        folds: Subjects by the name of the folder that they come from.
        name: Name of the set, for the message.

    Raises:
        DataError: A subject is in two of them: it would be trained on and validated on.
    """
    homes: dict[str, str] = {}
    for fold, subjects in folds.items():
        for subject in subjects:
            if homes.setdefault(subject, fold) != fold:
                raise DataError(
                    f"cannot read {name}: {subject} is in {homes[subject]} and in {fold}, so it "
                    f"would be trained on and validated on; keep it in one of them"
                )
    return {subject: what for subjects in folds.values() for subject, what in subjects.items()}


def is_whole(text: str) -> bool:
    """Tell whether a text from a file is a whole number from 0 up, small enough to count with."""
    return text.strip().isdecimal() and len(text.strip()) <= _MOST_DIGITS


def find_subject(subjects: Mapping[str, _Found], subject: str) -> _Found:
    """Return what is known of a subject.

    Raises:
        DataError: The set has no such subject.
    """
    if subject not in subjects:
        raise DataError(
            f"cannot read {subject!r}: no such subject; there are {len(subjects)}, "
            f"from {min(subjects)!r} to {max(subjects)!r}"
        )
    return subjects[subject]


def leave_out(
    subjects: Mapping[str, _Found], exclude: Sequence[str], name: str
) -> dict[str, _Found]:
    """Return the subjects that are not excluded.

    Args:
        subjects: All subjects of the set.
        exclude: Those to leave out.
        name: Name of the set, for the message.

    Raises:
        DataError: One to leave out is not there, or none is left.
    """
    exclude = (exclude,) if isinstance(exclude, str) else tuple(exclude)
    unknown = sorted(set(exclude) - set(subjects))
    left = {key: value for key, value in subjects.items() if key not in exclude}
    if unknown or not left:
        raise DataError(
            f"cannot leave {(unknown or sorted(exclude))[:10]} out of {name}: expected some of its "
            f"{len(subjects)} subjects, {sorted(subjects)[:10]}"
            + (" ..." if len(subjects) > 10 else "")
        )
    return left
