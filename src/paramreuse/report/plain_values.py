"""Values of any sort as what JSON and HTML can hold: no NaN, no lone surrogate, no tag."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from numbers import Integral, Real

from paramreuse.plain_text import plain_text
from paramreuse.report.contents import Row


def plain(value: object) -> object:
    """Return ``value`` as JSON can hold it: NaN and infinity as None, anything unknown as text."""
    if value is None or isinstance(value, bool | str):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        return number if math.isfinite(number) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Sequence | Set) and not isinstance(value, bytes):
        return [plain(item) for item in value]
    return str(value)


def short(value: float) -> float | None:
    """Return ``value`` to six digits, enough to draw; None where it is not finite."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def table(rows: Iterable[Row], columns: Sequence[str] = ()) -> dict[str, object]:
    """Return rows as columns and lists of cells; infinity stays visible as text.

    Args:
        rows: Rows by column name; those that lack a column get None there.
        columns: Columns to take; left out, all of them in order of appearance.
    """
    listed = list(rows)
    names = list(columns) or list(dict.fromkeys(str(name) for row in listed for name in row))
    return {"columns": names, "rows": [[_cell(row.get(name)) for name in names] for row in listed]}


def _cell(value: object) -> object:
    if isinstance(value, Real) and math.isinf(float(value)):
        return "∞" if float(value) > 0 else "-∞"
    kept = plain(value)
    if isinstance(kept, float):
        return short(kept)
    if isinstance(kept, list | dict):
        return json.dumps(kept, ensure_ascii=False)
    return kept


def embedded_json(value: object) -> str:
    """Return ``value`` as JSON that can stand inside a script element.

    No ``<``, ``>`` or ``&`` is left, so neither ``</script`` nor ``<!--`` can end or open anything,
    and nothing outside ASCII, so no line separator can break a line.
    """
    text = json.dumps(plain(value), allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text


def readable(text: str) -> str:
    """Return ``text`` as a page may hold it: what turns or hides text around it is spelled out."""
    return plain_text(text)
