"""Values in a study file: names, numbers, lists of each once."""

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, cast

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from paramreuse.study.key_help import describe

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


def as_number(value: object) -> object:
    """Take ``1e-3`` for a number, which YAML 1.1 takes for a text, since it has no point."""
    if not isinstance(value, str) or value.strip(".+-0123456789eE"):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def different(values: Sequence[Any]) -> Sequence[Any]:
    """Refuse a value that is there more than once.

    Raises:
        ValueError: One is; the message names it.
    """
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise ValueError(f"expected each once, got {str(twice[0])!r} more than once")
    return values


def unknown_name(name: str, known: Iterable[str], what: str) -> str:
    """Return the message for a name that is not known, with the one that may have been meant.

    Args:
        name: As it was given.
        known: The names that there are.
        what: What is looked for.
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}? Expected" if close else "expected"
    return f"unknown {what} {name!r}: {hint} one of {names}, or package.module:function"


Number = Annotated[float, BeforeValidator(as_number), Field(allow_inf_nan=False)]
Once = AfterValidator(different)
AtLeastOne = Field(min_length=1)
SECTION = ConfigDict(
    extra="forbid", frozen=True, strict=True, json_schema_extra=cast("Any", describe)
)
"""Of a section of a study file: nothing but its keys, each of its type."""
