"""What a page of results shows, the same as Markdown and as HTML: text, tables and drawings."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from numbers import Integral, Real

from paramreuse.report.contents import Row


@dataclass(frozen=True, slots=True)
class ShownTable:
    """A table as it is shown.

    Attributes:
        title: What it holds.
        columns: Heads of the columns.
        rows: Cells as text, as many per row as there are columns.
        csv: Path of the same table in full, relative to the page.
        is_folded: Whether it opens on demand where that is possible.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    csv: str
    is_folded: bool = False


@dataclass(frozen=True, slots=True)
class ShownFigure:
    """A figure as it is shown.

    Attributes:
        title: What it shows.
        drawing: The figure as SVG.
        svg: Path of the same drawing, relative to the page.
        csv: Path of the table that it is drawn from, relative to the page.
    """

    title: str
    drawing: str
    svg: str
    csv: str


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the page.

    Attributes:
        title: Its heading.
        text: What the reader should know first.
        tables: Shown before the figures.
        figures: Shown after the tables.
        links: Addresses relative to the page, by what they lead to.
    """

    title: str
    text: str = ""
    tables: Sequence[ShownTable] = ()
    figures: Sequence[ShownFigure] = ()
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ResultsContent:
    """All that a page of results shows.

    Attributes:
        title: Its heading.
        provenance: How the results came about, by name.
        sections: Its parts, in their order.
        missing: Why a figure or table is not there, by its name.
    """

    title: str
    provenance: Mapping[str, str]
    sections: Sequence[Section]
    missing: Mapping[str, str]


def shown_table(
    title: str,
    rows: Iterable[Row],
    csv: str,
    *,
    hidden: Sequence[str] = (),
    is_folded: bool = False,
) -> ShownTable:
    """Return rows as a table of text.

    Args:
        title: What it holds.
        rows: Rows by column name; all have the columns of the first.
        csv: Path of the same table in full, relative to the page.
        hidden: Columns that only the file holds.
        is_folded: Whether it opens on demand where that is possible.
    """
    listed = list(rows)
    columns = tuple(str(name) for name in (listed[0] if listed else ()) if name not in hidden)
    cells = tuple(tuple(shown_value(row[name]) for name in columns) for row in listed)
    heads = tuple(name.replace("_", " ") for name in columns)
    return ShownTable(title, heads, cells, csv, is_folded)


def shown_value(value: object) -> str:
    """Return a value as a reader takes it: three decimals, two digits below 0.01, NaN as nothing.

    Args:
        value: A number, text, truth value or None.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real):
        number = float(value)
        if isnan(number):
            return ""
        return f"{number:.3f}" if number == 0 or abs(number) >= 0.01 else f"{number:.2g}"
    return str(value)
