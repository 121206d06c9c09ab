"""The page's numbers as plain tables, for readers without script."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite

from paramreuse.report.contents import ReportData, Row, SourceReport
from paramreuse.report.transfer_table import summarise_transfer
from paramreuse.reuse.verdict import judge

_MOST_ROWS = 4000
"""Rows of all tables together; a page of hundreds of sources would grow by megabytes."""


@dataclass(frozen=True, slots=True)
class PlainTable:
    """A table of texts.

    Attributes:
        title: What it holds.
        columns: Names of its columns.
        rows: Its cells, row by row.
        left_out: Number of rows that are not shown.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left_out: int = 0


def plain_tables(data: ReportData) -> list[PlainTable]:
    """Return trainings, ranking and every source's verdicts, each if there are any.

    Args:
        data: What the page shows.
    """
    tables, room = [], _MOST_ROWS
    for title, rows in _contents(data):
        if rows:
            tables.append(_table(title, rows, room))
            room -= len(tables[-1].rows)
    return tables


def _contents(data: ReportData) -> Iterator[tuple[str, Sequence[Row]]]:
    yield "What reuse gains", summarise_transfer(data.transfer)
    yield "How much to load", data.depth
    yield "What putting blocks back costs", data.rewind
    yield "Which source", data.ranking
    for source in data.sources:
        if source.sweep is not None:
            yield f"{source.name}: what each swap costs", _verdict_rows(source)


def _verdict_rows(source: SourceReport) -> list[Row]:
    assert source.sweep is not None, "only a source that was swept is judged"
    verdict = judge(source.sweep, tolerance=source.tolerance, confidence=source.confidence)
    return list(verdict.rows())


def _table(title: str, rows: Sequence[Row], room: int) -> PlainTable:
    columns = tuple(dict.fromkeys(str(name) for row in rows for name in row))
    shown = rows[: max(0, room)]
    return PlainTable(
        title,
        tuple(name.replace("_", " ") for name in columns),
        tuple(_cells(row.get(name) for name in columns) for row in shown),
        len(rows) - len(shown),
    )


def _cells(values: Iterable[object]) -> tuple[str, ...]:
    return tuple(_cell(value) for value in values)


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if isfinite(value) else "-"
    return str(value)
