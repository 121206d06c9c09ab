"""A page of results as one HTML file that needs nothing but a browser."""

from paramreuse._version import __version__
from paramreuse.papers.page.content import ResultsContent
from paramreuse.report.inlined import as_html, digest, own_file
from paramreuse.report.plain_values import readable
from paramreuse.report.requirements import require_report_extra

_HERE = "paramreuse.papers.page"

_LOOKS = {"holds": "good", "does not hold": "bad"}
"""Colour of a cell that is an outcome."""


def results_html(content: ResultsContent) -> str:
    """Return a page of results as HTML: no network access, no script, everything shown escaped.

    Args:
        content: What the page shows; its drawings are taken as they are, so they have to be ours.

    Raises:
        MissingExtraError: jinja2 or matplotlib is not installed.
    """
    require_report_extra()
    from jinja2 import Environment, StrictUndefined

    style = own_file("results.css", package=_HERE)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.from_string(own_file("results.html", package=_HERE)).render(
        content=content,
        version=__version__,
        style=as_html(style),
        style_digest=digest(style),
        drawn=as_html,
        looks=_LOOKS,
    )
    return readable(page)
