"""Values in a study file: names, numbers, lists of each once."""

from collections import Counter
from collections.abc import Sequence
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


Number = Annotated[float, BeforeValidator(as_number), Field(allow_inf_nan=False)]
Once = AfterValidator(different)
AtLeastOne = Field(min_length=1)
SECTION = ConfigDict(
    extra="forbid", frozen=True, strict=True, json_schema_extra=cast("Any", describe)
)
"""Of a section of a study file: nothing but its keys, each of its type."""
