"""What stands inside a page of ours: its style and script, and how a browser knows them."""

import hashlib
from base64 import b64encode
from importlib.resources import files


def own_file(name: str, *, package: str = "paramreuse.report") -> str:
    """Return the text of a file that comes with a package of ours.

    Args:
        name: E.g. ``page.css``.
        package: Whose folder ``web`` holds the file.
    """
    return (files(package) / "web" / name).read_text(encoding="utf-8")


def as_html(text: str) -> str:
    """Mark text as HTML, so that a template does not escape it.

    Args:
        text: Text of ours, or escaped by ``embedded_json``; never a name that someone chose.
    """
    from markupsafe import Markup

    return Markup(text)  # noqa: S704 - files of this package, drawings, JSON without <, > and &


def digest(text: str) -> str:
    """Return what a content security policy calls a piece of inline code by.

    Args:
        text: The code.
    """
    return "sha256-" + b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
