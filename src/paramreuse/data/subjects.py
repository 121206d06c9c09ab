"""What readers share: finding the folder of a set, and the subject asked for."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TypeVar

from paramreuse.errors import DataError

_Found = TypeVar("_Found")


def existing_folder(root: str | PathLike[str], name: str, *, expected: str) -> Path:
    """Return the folder of a set.

    Args:
        root: The folder.
        name: Name of the set, for the message.
        expected: What the folder should hold, for the message.

    Raises:
        DataError: It is no folder.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise DataError(
            f"cannot read {name} from {folder}: no such folder; expected the folder that holds "
            f"{expected}"
        )
    return folder


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
