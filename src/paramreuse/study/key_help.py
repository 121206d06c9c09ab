"""What every key of a study means, taken from the docstrings of its sections."""

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

_ENTRY = re.compile(r"^    (\w+): ")


@dataclass(frozen=True, slots=True)
class KeyHelp:
    """One key of a study file.

    Attributes:
        key: Where it stands; ``NAME`` is a name of your own: ``data.NAME.reader``.
        values: What it takes.
        default: What counts where it is left out; ``needed`` where it cannot be.
        meaning: What it does.
    """

    key: str
    values: str
    default: str
    meaning: str


def meanings(section: type[BaseModel]) -> dict[str, str]:
    """Return what each key of a section means, by the ``Attributes`` of its docstrings.

    Args:
        section: The section; what a section that it extends says counts as well.
    """
    told: dict[str, str] = {}
    for cls in reversed(section.__mro__):
        if issubclass(cls, BaseModel) and cls is not BaseModel and "__doc__" in vars(cls):
            told |= _attributes(inspect.cleandoc(cls.__doc__ or ""))
    return {name: told[name] for name in section.model_fields if name in told}


def _attributes(text: str) -> dict[str, str]:
    _, _, listed = text.partition("Attributes:\n")
    told: dict[str, str] = {}
    name = ""
    for line in listed.splitlines():
        if line and not line.startswith(" "):
            break
        entry = _ENTRY.match(line)
        if entry:
            name = entry.group(1)
            line = line[entry.end() :]  # noqa: PLW2901 - the rest is the meaning's first line
        if name:
            told[name] = f"{told.get(name, '')} {line.strip()}".strip()
    return told


def describe(schema: dict[str, Any], section: type[BaseModel]) -> None:
    """Put what each key means into the JSON schema of a section; for ``json_schema_extra``."""
    schema["description"] = (inspect.cleandoc(section.__doc__ or "")).partition("\n")[0]
    told = meanings(section)
    for name, part in schema.get("properties", {}).items():
        part["description"] = told.get(name, "").replace("``", "")


def list_keys(section: type[BaseModel], above: str = "") -> Iterator[KeyHelp]:
    """List the keys of a section and of those below it, in the order of the file.

    Args:
        section: A section, such as ``Study``.
        above: Where it stands in the file.
    """
    told = meanings(section)
    for name, field in section.model_fields.items():
        key = f"{above}{name}"
        below, is_named = _section_of(field.annotation)
        default = field.get_default(call_default_factory=True)
        yield KeyHelp(
            key,
            "keys" if below else _values(field.annotation),
            "needed" if default is PydanticUndefined else _shown(default),
            told.get(name, "").replace("``", ""),
        )
        if below is not None:
            yield from list_keys(below, f"{key}.NAME." if is_named else f"{key}.")


def _section_of(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """Return the section that a key holds, and whether it holds one for each name."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    if get_origin(annotation) in (Union, UnionType):
        sections = [_section_of(part) for part in get_args(annotation)]
        return next((section for section in sections if section[0]), (None, False))
    if get_origin(annotation) is dict:
        section, _ = _section_of(get_args(annotation)[1])
        return section, section is not None
    return None, False


_WORDS: Mapping[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    type(None): "null",
}


def _values(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _values(parts[0])
    if origin is Literal:
        return ", ".join(map(str, parts))
    if origin in (Union, UnionType):
        return ", ".join(_values(part) for part in parts if part is not type(None))
    if origin is list:
        return f"list of {_values(parts[0])}"
    if origin is tuple:
        return f"[{', '.join(_values(part) for part in parts)}]"
    if origin is dict:
        return "keys"
    values = getattr(annotation, "__members__", None)
    if values:
        return ", ".join(str(member.value) for member in values.values())
    return _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _shown(default: Any) -> str:
    if default is None:
        return "not set"
    if isinstance(default, BaseModel):
        return "its keys' defaults"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, list | tuple):
        return f"[{', '.join(map(str, default))}]"
    return str(default) if default != {} else "none"
