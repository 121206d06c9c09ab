"""What a notebook shows of a result: a sentence, a map, a table, as HTML that asks for nothing."""

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from importlib import import_module
from itertools import islice
from typing import Any

from paramreuse.plain_text import plain_text

BAR_WIDTH = "24em"

MOST_ROWS = 12
"""Rows of a table that are shown; a notebook is no place for hundreds."""

_CELL = "padding:1px 6px;text-align:left;border:1px solid rgba(128,128,128,.35)"


def progress_bar(label: str) -> Callable[[float, float | None], None] | None:
    """Return what draws a progress bar in a notebook; None where none is running.

    Args:
        label: What is done.

    Returns:
        A function of how much is done, and of all there is to do.
    """
    # Who runs a notebook has loaded IPython already.
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if getattr(shell, "kernel", None) is None:
        return None
    return _drawn_bar(label)


def _drawn_bar(label: str) -> Callable[[float, float | None], None]:
    shown: Any = import_module("IPython.display")
    handle = shown.display(shown.HTML(html_bar(label, 0)), display_id=True)
    said = [0]

    def show(done: float, total: float | None) -> None:
        percent = int(100 * done / total) if total else 0
        if percent != said[0]:
            said[0] = percent
            handle.update(shown.HTML(html_bar(label, percent)))

    return show


def html_bar(label: str, percent: int) -> str:
    """Return a progress bar with its label.

    Args:
        label: What is done.
        percent: How much of it, 0 to 100.
    """
    bar = f'<progress value="{percent}" max="100" style="width:{BAR_WIDTH}"></progress>'
    return f"<label>{_safe(label)} {bar} {percent} %</label>"


def html_sentence(text: str) -> str:
    """Return a paragraph, escaped.

    Args:
        text: Anything, names from files included.
    """
    return f"<p>{_safe(text)}</p>"


def html_table(rows: Iterable[Mapping[str, object]], *, total: int) -> str:
    """Return a table of the first rows, escaped, and say how many there are.

    Args:
        rows: One mapping per row; the keys of the first are the columns.
        total: How many rows there are in all.
    """
    shown = list(islice(rows, MOST_ROWS))
    if not shown:
        return html_sentence("no rows")
    head = "".join(f'<th style="{_CELL}">{_safe(name)}</th>' for name in shown[0])
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{_cell(v)}</td>' for v in row.values()) + "</tr>"
        for row in shown
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    left = total - len(shown)
    return table + (html_sentence(f"... and {left} more rows: .frame() has all") if left else "")


def html_map(words: Mapping[tuple[str, str], str], legend: Mapping[str, str]) -> str:
    """Return a map: a row per kind, a column per layer, a sign per word.

    Args:
        words: What is said of each kind and layer, in the order to be shown.
        legend: The sign and what it means, by word; a word without one is shown itself.
    """
    kinds, layers = _in_order(key[0] for key in words), _in_order(key[1] for key in words)
    head = "".join(f'<th style="{_CELL}">{_safe(layer)}</th>' for layer in ("", *layers))
    lines = [
        f'<tr><th style="{_CELL}">{_safe(kind)}</th>'
        + "".join(_sign(words.get((kind, layer)), legend) for layer in layers)
        + "</tr>"
        for kind in kinds
    ]
    used = _in_order(words.values())
    signs = ", ".join(f"{legend[word]} {word}" for word in used if word in legend)
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>{html_sentence(signs)}"


def _sign(word: str | None, legend: Mapping[str, str]) -> str:
    if word is None:
        return f'<td style="{_CELL}"></td>'
    return f'<td style="{_CELL}" title="{_safe(word)}">{_safe(legend.get(word, word))}</td>'


def _in_order(values: Iterable[str]) -> Sequence[str]:
    return list(dict.fromkeys(values))


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if math.isfinite(value) else "-"
    return _safe("-" if value is None else str(value))


def _safe(text: str) -> str:
    return escape(plain_text(text))
