"""The extra that a report needs, named where it is missing."""

from importlib.util import find_spec

from paramreuse.extras import missing_extra


def require_report_extra() -> None:
    """Make sure that what figures and page are drawn with is installed.

    Raises:
        MissingExtraError: jinja2 or matplotlib is not installed; the message holds the pip line.
    """
    missing = [name for name in ("jinja2", "matplotlib") if find_spec(name) is None]
    if missing:
        raise missing_extra("draw figures or the report", *missing)
