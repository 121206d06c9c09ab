"""The figures of a report: what each is drawn from, and drawn again only where that has changed."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paramreuse._version import __version__
from paramreuse.files import whole_file
from paramreuse.plain_text import plain_figure
from paramreuse.report.block_figures import plot_depth_curve, plot_rewind
from paramreuse.report.contents import ReportData, Row
from paramreuse.report.figures import (
    figure_sweep,
    plot_batchnorm,
    plot_distance,
    plot_map,
    plot_transfer,
)
from paramreuse.study.findings import Findings
from paramreuse.study.transfer.attempts import attempts_of
from paramreuse.study.transfer.rewound import stored_audits
from paramreuse.training.trackers import Tracker, Untracked

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEAD = 4096
"""Bytes of a file of matplotlib's within which its description stands."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure that can be drawn.

    Attributes:
        name: Its name, without an ending.
        table: The table of the report that holds all that it shows.
        draw: Draws it.
    """

    name: str
    table: str
    draw: "Callable[[], Figure]"


def drawings_of(findings: Findings, data: ReportData) -> Iterator[Drawing]:
    """Yield the figures of a report.

    Args:
        findings: What the store of a run says.
        data: What the page shows.
    """
    for source in data.sources:
        if source.sweep is not None and any(swap.is_single for swap in source.sweep.swaps):
            name, verdict = source.name, findings.verdicts[source.name]
            yield Drawing(f"sweep-{name}", f"sweep-{name}", partial(figure_sweep, source.sweep))
            yield Drawing(f"map-{name}", f"verdict-{name}", _of(plot_map, verdict))
        if source.batchnorm:
            drawing = _of_rows(plot_batchnorm, source.batchnorm)
            yield Drawing(f"batchnorm-{source.name}", "batchnorm", drawing)
    compared = [{"source": s.name} | dict(row) for s in data.sources for row in s.comparison]
    if compared:
        yield Drawing("distances", "distances", _of_rows(plot_distance, compared))
    if data.transfer:
        yield Drawing("transfer", "transfer", _of_rows(plot_transfer, data.transfer))
    if data.depth:
        yield Drawing("depth", "depth", _of_rows(plot_depth_curve, data.depth))
    audits = stored_audits(findings.store, attempts_of(findings.study, findings.store))
    for (name, number), audited in audits.items():
        yield Drawing(f"rewind-{name}-{number}", "rewind", _of(plot_rewind, audited))


def write_figures(
    drawings: Iterator[Drawing], folder: Path, tables: Mapping[str, str], tracker: Tracker
) -> None:
    """Write figures as SVG; one that shows the same as the file that is there is left alone.

    Args:
        drawings: The figures.
        folder: Where they go.
        tables: The tables of the report as text, by name.
        tracker: Is given the figures; where there is one, all of them are drawn.

    Raises:
        OSError: A file cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    for drawing in drawings:
        path = folder / f"{drawing.name}.svg"
        mark = _mark(tables[drawing.table])
        if type(tracker) is Untracked and _has(path, mark):
            continue
        figure = drawing.draw()
        with whole_file(path) as draft:
            described = {"Date": None, "Identifier": mark}
            plain_figure(figure).savefig(draft, format="svg", metadata=described)
        tracker.log_figure(drawing.name, figure)


def _mark(table: str) -> str:
    """Say what a figure was drawn from, and by which versions."""
    drawn_by = f"paramreuse {__version__} matplotlib {version('matplotlib')}"
    return f"sha256:{hashlib.sha256(f'{drawn_by} {table}'.encode(errors='replace')).hexdigest()}"


def _has(path: Path, mark: str) -> bool:
    try:
        with path.open("rb") as file:
            return mark.encode() in file.read(_HEAD)
    except OSError:
        return False


def _of(plot: Callable[[Any], Any], content: object) -> "Callable[[], Figure]":
    def draw() -> "Figure":
        figure: Figure = plot(content).figure
        return figure

    return draw


def _of_rows(plot: Callable[[Any], Any], rows: Sequence[Row]) -> "Callable[[], Figure]":
    def draw() -> "Figure":
        import pandas as pd

        return _of(plot, pd.DataFrame(rows))()

    return draw
