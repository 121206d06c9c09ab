"""The page on which several runs are compared: tables, and nothing to load."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from paramreuse._version import __version__
from paramreuse.report.contents import Row
from paramreuse.report.inlined import as_html, digest, own_file
from paramreuse.report.plain_values import readable
from paramreuse.report.requirements import require_report_extra


@dataclass(frozen=True, slots=True)
class Table:
    """A table with what it says.

    Attributes:
        title: What it says, in a few words.
        rows: Its rows; the first one names the columns.
    """

    title: str
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class ArmsPage:
    """What the page shows.

    Attributes:
        name: Its heading.
        tables: The tables, in order.
        reports: Address of each run's own page, by name of the run.
        not_run: Names of those that have not run.
    """

    name: str
    tables: tuple[Table, ...]
    reports: Mapping[str, str]
    not_run: tuple[str, ...]


def arms_html(page: ArmsPage) -> str:
    """Return the page as HTML: no network access, no script, everything shown escaped.

    Args:
        page: What it shows.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    require_report_extra()
    from jinja2 import Environment, StrictUndefined

    style = own_file("arms.css")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return readable(
        environment.from_string(own_file("arms.html")).render(
            page=page,
            tables=[_shown(table) for table in page.tables],
            version=__version__,
            style=as_html(style),
            style_digest=digest(style),
        )
    )


def _shown(table: Table) -> tuple[str, list[str], list[list[str]]]:
    columns = list(dict.fromkeys(name for row in table.rows for name in row))
    cells = [[_cell(row.get(name)) for name in columns] for row in table.rows]
    return table.title, [name.replace("_", " ") for name in columns], cells


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}" if isfinite(value) else "-"
    return "-" if value is None else str(value)
