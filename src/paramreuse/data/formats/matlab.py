"""Struct arrays of MATLAB v7.3 files, which are HDF5 with all axes in reverse order.

A struct array is a group of fields, each an array of references, one per element; or, as a cell
array, an array of references to groups. Of one element, MATLAB stores the values themselves.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from paramreuse.data.formats.bounded import check_unpacked
from paramreuse.errors import DataError
from paramreuse.extras import missing_extra

Array = npt.NDArray[Any]

MOST_ELEMENTS = 100_000
# What h5py raises on damaged bytes.
_DAMAGE = (
    *(OSError, RuntimeError, ValueError, TypeError, AttributeError, LookupError, MemoryError),
    *(ArithmeticError, EOFError, AssertionError),
)


def count_elements(path: Path, struct: str, fields: Sequence[str]) -> int:
    """Count the elements of a struct array, in which every field has the same number.

    Args:
        path: The file.
        struct: Its name in the file.
        fields: Fields that it needs to have.

    Raises:
        DataError: The file is not a whole MATLAB v7.3 file, or does not hold such an array.
        MissingExtraError: h5py is not installed.
    """
    with _opened(path) as file:
        if struct not in file:
            raise DataError(
                f"cannot read {path}: it holds {sorted(file)[:10]}, expected a struct array "
                f"{struct}"
            )
        stored = file[struct]
        if hasattr(stored, "dtype"):  # a cell array of structs instead of a struct array
            return _checked_number(path, int(stored.size), struct)
        missing = [name for name in fields if name not in stored]
        if missing:
            raise DataError(
                f"cannot read {path}: {struct} has the fields {sorted(stored)[:10]}, expected "
                f"{', '.join(missing)} too"
            )
        sizes = {name: _num_elements(stored[name]) for name in fields}
        if len(set(sizes.values())) != 1:
            raise DataError(
                f"cannot read {path}: the fields of {struct} have {sizes} elements, expected the "
                f"same number, one per patient"
            )
        return _checked_number(path, sizes[fields[0]], struct)


def read_element(path: Path, struct: str, fields: Sequence[str], index: int) -> dict[str, Array]:
    """Read the fields of one element of a struct array, in MATLAB's order of axes.

    Args:
        path: The file.
        struct: Its name in the file.
        fields: Which fields.
        index: Which element, from 0.

    Raises:
        DataError: The file is damaged, a field is not an array of numbers, would unpack to far more
            than the file holds, or lies in another file.
    """
    with _opened(path) as file:
        stored = file[struct]
        if hasattr(stored, "dtype"):
            stored = file[_values(path, stored).flat[index]]
            return {name: _numbers(path, stored[name]) for name in fields}
        elements = {}
        for name in fields:
            field = stored[name]
            if field.dtype.kind == "O":
                field = file[_values(path, field).flat[index]]
            elements[name] = _numbers(path, field)
        return elements


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import h5py
    except ImportError as error:
        raise missing_extra("read MATLAB v7.3 files", "h5py") from error
    with path.open("rb") as stream:
        header = stream.read(116).decode("latin-1").split(",")[0].strip()
    if not h5py.is_hdf5(path):
        kind = f"a {header!r}" if header.startswith("MATLAB") else "something else"
        raise DataError(
            f"cannot read {path}: it needs to be a MATLAB v7.3 file (HDF5), and is {kind}; in "
            f"MATLAB, load it and save(..., '-v7.3')"
        )
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DataError:
        raise
    except _DAMAGE as error:
        reason = (str(error).splitlines() or [""])[0][:200]
        raise DataError(
            f"cannot read {path}: it is not a complete HDF5 file ({reason}); copy the file again"
        ) from error


def _checked_number(path: Path, number: int, struct: str) -> int:
    if not 1 <= number <= MOST_ELEMENTS:
        raise DataError(
            f"cannot read {path}: {struct} has {number} elements, expected 1 to {MOST_ELEMENTS}, "
            f"one per patient"
        )
    return number


def _num_elements(field: Any) -> int:
    """Return the length of a struct array; of one element, MATLAB stores the value itself."""
    return int(field.size) if field.dtype.kind == "O" else 1


def _values(path: Path, stored: Any) -> Array:
    """Read an array that lies in this file and is not far larger than it."""
    if stored.external or stored.is_virtual or stored.file.filename != str(path):
        raise DataError(
            f"cannot read {path}: {stored.name} points into another file, which is not read; save "
            f"the values themselves"
        )
    check_unpacked(path, int(stored.size) * stored.dtype.itemsize)
    return np.asarray(stored[()])


def _numbers(path: Path, stored: Any) -> Array:
    if stored.dtype.kind not in "iuf":
        raise DataError(
            f"cannot read {path}: {stored.name} holds values of the type {stored.dtype}, expected "
            f"real numbers"
        )
    return _values(path, stored).T
