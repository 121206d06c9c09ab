"""The page: one HTML file that shows a study and needs nothing but a browser."""

from os import PathLike
from pathlib import Path

from paramreuse._version import __version__
from paramreuse.errors import StudyError
from paramreuse.files import write_text
from paramreuse.report.answer_view import answer_shown, picture_of
from paramreuse.report.contents import ReportData, SourceReport
from paramreuse.report.inlined import as_html, digest, own_file
from paramreuse.report.payload import missing_parts, page_payload
from paramreuse.report.plain_tables import plain_tables
from paramreuse.report.plain_values import embedded_json, plain, readable
from paramreuse.report.requirements import require_report_extra
from paramreuse.report.words import WORDS
from paramreuse.reuse.verdict import judge

_SCRIPTS = (
    *("elements.js", "terms.js", "judging.js", "charts.js", "network_map.js", "layer_panel.js"),
    *("tables.js", "answer.js", "sections.js", "subjects.js", "outcome_sections.js", "page.js"),
)


def write_report(data: ReportData, path: str | PathLike[str]) -> None:
    """Write the page of a study, whole or not at all.

    Args:
        data: What the page shows; parts that are missing are named on it.
        path: File to write, e.g. ``"report.html"``.

    Raises:
        StudyError: The file cannot be written.
        MissingExtraError: jinja2 or matplotlib is not installed.
    """
    page = render_page(data)
    try:
        write_text(Path(path), page)
    except OSError as error:
        raise StudyError(f"cannot write the report {str(path)!r}: {error.strerror}") from error


def render_page(data: ReportData) -> str:
    """Return the page of a study as HTML: no network access, everything shown escaped.

    Args:
        data: What the page shows.

    Raises:
        MissingExtraError: jinja2 or matplotlib is not installed.
    """
    require_report_extra()
    from jinja2 import Environment, StrictUndefined

    style = own_file("page.css")
    script = "\n".join(["'use strict';", *(own_file(name) for name in _SCRIPTS)])
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    answer = answer_shown(data)
    page = environment.from_string(own_file("page.html")).render(
        title=data.study or "study",
        network=data.network,
        version=__version__,
        answer=answer,
        picture=picture_of(answer),
        tables=plain_tables(data),
        summaries=[_summary(source) for source in data.sources],
        missing=missing_parts(data),
        words=WORDS,
        provenance=plain(dict(data.provenance)),
        style=as_html(style),
        script=as_html(script),
        style_digest=digest(style),
        script_digest=digest(script),
        payload=as_html(embedded_json(page_payload(data, answer))),
    )
    return readable(page)


def _summary(source: SourceReport) -> dict[str, str]:
    """Say in a sentence what was found on a source, for readers without script."""
    if source.sweep is None:
        return {"name": source.name, "text": "not swept"}
    verdict = judge(source.sweep, tolerance=source.tolerance, confidence=source.confidence)
    return {"name": source.name, "text": verdict.summary()}
