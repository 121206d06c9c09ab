"""What a person at a terminal sees: remarks on stderr, results on stdout."""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from paramreuse.plain_text import plain_json, plain_text
from paramreuse.report.words import explanations

if TYPE_CHECKING:
    from rich.progress import Progress

LONG_SECONDS = 10.0
"""Work that takes less is not reported on the way."""

_remarks = Console(stderr=True, highlight=False)
_results = Console(highlight=False)


def remark(text: str) -> None:
    """Say something on stderr, as it is."""
    _remarks.print(plain_text(text), markup=False, soft_wrap=True)


def complain(message: str) -> None:
    """Show an error as one block on stderr."""
    _remarks.print(f"[bold red]error:[/] {escape(plain_text(message))}", soft_wrap=True)


def result(text: str) -> None:
    """Write a result to stdout, as it is."""
    _results.print(plain_text(text), markup=False, soft_wrap=True)


def show_json(content: object) -> None:
    """Write JSON to stdout; anything but a finite number becomes null."""
    text = json.dumps(_plain(content), indent=1, ensure_ascii=False)
    sys.stdout.write(plain_json(text) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def show_table(rows: Sequence[Mapping[str, object]], *, title: str = "") -> None:
    """Write a table to stdout: drawn on a terminal, aligned plain text elsewhere."""
    if not rows:
        result(f"{title}: nothing" if title else "nothing")
        return
    cells = [[_cell(value) for value in row.values()] for row in rows]
    names = [_cell(str(name)) for name in rows[0]]
    if _results.is_terminal:
        _draw(title, names, cells)
        return
    if title:
        result(title)
    _write_aligned([names, *cells])


def _write_aligned(lines: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        result("  ".join(padded).rstrip())


def _draw(title: str, names: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.table import Table

    table = Table(title=escape(plain_text(title)) or None, title_justify="left")
    for name in names:
        table.add_column(escape(name))
    for line in cells:
        table.add_row(*map(escape, line))
    _results.print(table)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if math.isfinite(value) else "-"
    return "-" if value is None else plain_text(str(value)).replace("\n", r"\n")


class Tenths:
    """Says how far long work is, in a line per tenth: for a log file, where bars cannot be drawn.

    Args:
        label: What is done.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._started = time.monotonic()
        self._said = 0

    def __call__(self, done: int, total: int | None) -> None:
        """Say a line where another tenth is done, the work has taken a while, and is not over."""
        tenth = 10 * done // total if total else 0
        seconds = time.monotonic() - self._started
        if tenth <= self._said or done == total or seconds < LONG_SECONDS:
            return
        self._said = tenth
        left = seconds * (1 / (done / (total or 1)) - 1)
        remark(f"{self._label}: {10 * tenth} %, {done} of {total}, about {left:.0f} s left")


class Terminal:
    """Tells the person at the terminal what a study finds; a ``Talk``.

    Args:
        quiet: Whether to say nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._explained: set[str] = set()
        self._bars: Progress | None = None

    def say(self, stage: str, line: str) -> None:
        """Say what a stage found, and what its words mean where they come up for the first time."""
        if self._quiet:
            return
        _remarks.print(f"[bold]{escape(stage):<9}[/]{escape(plain_text(line))}", soft_wrap=True)
        for told in explanations(line, self._explained):
            _remarks.print(f"[dim]{'':<9}({escape(told)})[/]", soft_wrap=True)

    def remark(self, text: str) -> None:
        """Say something as it is."""
        if not self._quiet:
            remark(text)

    @contextmanager
    def progress(self, label: str) -> Iterator[Callable[[int, int | None], None]]:
        """Show a bar with the time left on a terminal; a line per tenth of long work elsewhere."""
        if self._quiet or not _remarks.is_terminal:
            yield (lambda done, total: None) if self._quiet else Tenths(label)
            return
        with self._drawn() as bars:
            task = bars.add_task(escape(plain_text(label)), total=None)
            try:
                yield lambda done, total: bars.update(task, completed=done, total=total)
            finally:
                bars.remove_task(task)

    @contextmanager
    def _drawn(self) -> "Iterator[Progress]":
        if self._bars is not None:
            yield self._bars
            return
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            *("{task.description}", BarColumn(), MofNCompleteColumn()),
            *(TimeElapsedColumn(), "left", TimeRemainingColumn()),
        )
        with Progress(*columns, console=_remarks, transient=True) as bars:
            self._bars = bars
            try:
                yield bars
            finally:
                self._bars = None
