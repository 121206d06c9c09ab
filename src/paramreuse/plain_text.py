"""Text from a file, such as the name of a patient, made safe to print, to draw and to tabulate."""

import json
import re
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Row: TypeAlias = dict[str, Any]
"""A row of a table that is shown or written: a value per column."""

# Control characters but tab and newline; format characters (direction of writing, zero width);
# line and paragraph separators; surrogates, which stand for undecodable bytes of a file name; what
# XML 1.0 does not allow (https://www.w3.org/TR/xml/#charsets).
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f]"
)
# A spreadsheet takes a cell that begins so for a formula (OWASP, "CSV Injection").
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def plain_text(text: str) -> str:
    r"""Spell out the characters that a terminal would obey, or that turn text around.

    Escape codes, NUL, right-to-left marks and the like become ``\x1b``, ``\u202e``; tabs, newlines
    and the letters of all languages stay.

    Examples:
        >>> plain_text("patient\x1b[2J 7")
        'patient\\x1b[2J 7'
    """
    return _UNPRINTABLE.sub(_spelled, text)


def _spelled(character: re.Match[str]) -> str:
    return character[0].encode("unicode_escape").decode("ascii")


def plain_json(text: str) -> str:
    """Return JSON text that means the same, with such characters as escapes."""
    return _UNPRINTABLE.sub(_escaped, text)


def _escaped(character: re.Match[str]) -> str:
    # Above the first plane JSON writes two halves.
    return json.dumps(character[0])[1:-1]


def plain_figure(figure: "Figure") -> "Figure":
    """Spell out such characters in the texts of a figure, and read none of them as a formula.

    An SVG file that holds a control character is not XML, and a lone ``$`` pair is not TeX. The
    labels of ticks are made as the figure is drawn, and are left to those who set them.

    Returns:
        The same figure.
    """
    texts: list[Any] = figure.findobj(lambda artist: hasattr(artist, "set_parse_math"))
    for text in texts:
        text.set_text(plain_text(text.get_text()))
        text.set_parse_math(False)
    return figure


def csv_text(frame: "pd.DataFrame") -> str:
    """Return a table as CSV without its index, in which a spreadsheet finds no formula.

    A text that begins like a formula gets an apostrophe in front, which spreadsheets take for
    "this is text"; numbers stay as they are.
    """
    from pandas.api.types import is_numeric_dtype

    safe = {
        name: column if is_numeric_dtype(column) else column.map(_safe_cell)
        for name, column in frame.items()
    }
    return str(frame.assign(**safe).rename(columns=_safe_cell).to_csv(index=False))


def _safe_cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    plain = plain_text(value)
    return f"'{plain}" if plain.startswith(_FORMULA_STARTS) and not _is_number(plain) else plain


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
