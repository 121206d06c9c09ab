"""Tables in CSV that come with an image set."""

import csv
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from paramreuse.data.formats.bounded import MOST_TABLE_BYTES, read_text
from paramreuse.errors import DataError


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table.

    Attributes:
        line: Its number in the file, from 1.
        cells: Text by column, without the blanks around it; a column that the line is too short
            for is missing.
    """

    line: int
    cells: dict[str, str]


def column_names(path: Path) -> list[str]:
    """Return the names in the first line of a table.

    Raises:
        DataError: It is not UTF-8 text, or not CSV.
    """
    return _lines(path)[0][1]


def read_table(path: Path, key: str, *columns: str) -> dict[str, Row]:
    """Read the lines of a table below its first, which names the columns.

    Args:
        path: The file.
        key: Column that names each line; lines without such a name are left out.
        columns: Further columns that it needs to have.

    Returns:
        The lines by name.

    Raises:
        DataError: It is not UTF-8 text, not CSV, too large, lacks a column, or names a line twice.
    """
    (_, names), *lines = _lines(path)
    needed = (key, *columns)
    missing = [name for name in needed if name not in names]
    if missing:
        raise DataError(
            f"cannot read {path}, line 1: it has no column {missing[0]!r} among {names[:20]}; "
            f"expected {', '.join(needed)}, as in the table that comes with the set"
        )
    rows: dict[str, Row] = {}
    for line, cells in lines:
        row = Row(line, dict(zip(names, cells, strict=False)))
        name = row.cells.get(key, "")
        if name in rows:
            raise DataError(
                f"cannot read {path}, line {line}: {name!r} stands in line {rows[name].line} "
                f"already; expected one line each"
            )
        if name:
            rows[name] = row
    return rows


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    reader = csv.reader(StringIO(read_text(path, most_bytes=MOST_TABLE_BYTES), newline=""))
    lines: list[tuple[int, list[str]]] = []
    try:
        for cells in reader:
            lines.append((reader.line_num, [cell.strip() for cell in cells]))
    except csv.Error as error:
        raise DataError(
            f"cannot read {path}, line {reader.line_num}: {error}; expected a table in CSV, copy "
            f"it again"
        ) from error
    return lines or [(1, [])]
