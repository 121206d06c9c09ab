"""A page of results as Markdown that GitHub shows."""

import re
from collections.abc import Iterator
from urllib.parse import quote

from paramreuse.papers.page.content import ResultsContent, Section, ShownFigure, ShownTable
from paramreuse.report.plain_values import readable

_MARKS = re.compile(r"([\\`*_\[\]|~$])")


def results_markdown(content: ResultsContent) -> str:
    """Return a page of results as Markdown; no name in it can become a mark or a tag.

    Args:
        content: What the page shows.
    """
    lines = [f"# {_text(content.title)}", ""]
    for section in content.sections:
        lines += [*_section_lines(section), ""]
    if content.missing:
        lines += ["## Not here", ""]
        lines += [f"- {_text(name)}: {_text(reason)}" for name, reason in content.missing.items()]
        lines.append("")
    lines += ["## Provenance", ""]
    lines += [f"- {_text(key)}: {_text(value)}" for key, value in content.provenance.items()]
    return readable("\n".join(lines) + "\n")


def _section_lines(section: Section) -> Iterator[str]:
    yield f"## {_text(section.title)}"
    if section.text:
        yield from ("", _text(section.text))
    if section.links:
        yield ""
        yield from (f"- [{_text(name)}]({quote(to)})" for name, to in section.links.items())
    for table in section.tables:
        yield from ("", *_table_lines(table))
    for figure in section.figures:
        yield from ("", *_figure_lines(figure))


def _table_lines(table: ShownTable) -> Iterator[str]:
    if table.is_folded:
        yield from ("<details>", f"<summary>{_text(table.title)}</summary>", "")
        yield f"[CSV]({quote(table.csv)})"
    else:
        yield f"**{_text(table.title)}** ([CSV]({quote(table.csv)}))"
    yield from ("", _row(table.columns), _row(("---",) * len(table.columns), escaped=False))
    yield from (_row(cells) for cells in table.rows)
    if table.is_folded:
        yield from ("", "</details>")


def _row(cells: tuple[str, ...], *, escaped: bool = True) -> str:
    return "| " + " | ".join(_text(cell) if escaped else cell for cell in cells) + " |"


def _figure_lines(figure: ShownFigure) -> Iterator[str]:
    yield f"![{_text(figure.title)}]({quote(figure.svg)})"
    yield ""
    yield f"{_text(figure.title)} ([CSV]({quote(figure.csv)}))"


def _text(text: str) -> str:
    """Return text that stays what it is: one line, every mark and tag escaped."""
    flat = " ".join(text.split())
    tagless = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKS.sub(r"\\\1", tagless)
