"""A study's content, checked: what is wrong is said in one line that names the place."""

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from paramreuse.errors import StudyError
from paramreuse.study.config import (
    DataSpec,
    JudgeSpec,
    ModelSpec,
    NetworkSpec,
    Study,
    SweepSpec,
    TransferSpec,
)
from paramreuse.study.variants import ARMS, PROFILES


def check_study(content: Mapping[str, Any], *, where: str) -> Study:
    """Check the content of a study, paths already resolved.

    Args:
        content: As read from YAML.
        where: Name of the file, for messages.

    Raises:
        StudyError: As for ``read_study``.
    """
    try:
        return Study.model_validate(dict(content))
    except ValidationError as error:
        raise StudyError(_message(error, where)) from None


def _message(error: ValidationError, where: str) -> str:
    # A misspelt key first: it is often why another one is missing.
    problem = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    place = ".".join(str(part) for part in problem["loc"])
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if problem["type"] == "extra_forbidden":
        known = _known_keys(problem["loc"][:-1])
        close = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys: {known}"
        return f"unknown key {place!r} in {where!r}: {hint}{more}"
    if problem["type"] == "missing":
        return f"{where!r} has no {place!r}, which is needed{more}"
    if problem["type"] == "value_error":
        told = str(problem["msg"]).removeprefix("Value error, ")
        return f"cannot use {where!r}: {place + ': ' if place else ''}{told}{more}"
    expected = str(problem["msg"]).removeprefix("Input should be ").removeprefix("a valid ")
    return f"{place!r} in {where!r} is {_shown(problem['input'])}: expected {expected}{more}"


def _shown(value: object) -> str:
    """Return a value as it may stand in a line: a whole section would fill the screen."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:120]} ..."


_SECTIONS: Mapping[str, type[BaseModel]] = {
    "network": NetworkSpec,
    "data": DataSpec,
    "models": ModelSpec,
    "sweep": SweepSpec,
    "judge": JudgeSpec,
    "transfer": TransferSpec,
}


def _known_keys(place: tuple[int | str, ...]) -> list[str]:
    section = _SECTIONS.get(str(place[0])) if place else Study
    if section is Study:
        return sorted([*Study.model_fields, ARMS, PROFILES])
    return sorted((section or Study).model_fields)
