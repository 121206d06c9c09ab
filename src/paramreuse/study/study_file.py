"""study.yaml: read, with its paths and variables resolved, and checked."""

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from paramreuse.checkpoint.hub import is_hub_address
from paramreuse.errors import StudyError
from paramreuse.study.config import (
    DataSpec,
    JudgeSpec,
    ModelSpec,
    NetworkSpec,
    Study,
    SweepSpec,
)
from paramreuse.study.transfer.spec import TransferSpec
from paramreuse.study.variants import ARMS, PROFILES, choose_profile, split_arms
from paramreuse.yaml_text import parse_yaml, read_yaml

MOST_VALUES = 20_000
"""Keys and values of a study file; the papers' has 600."""

_PATH_KEYS = frozenset({"root", "weights", "checkpoint"})
_CHECKPOINT_ENDINGS = frozenset({".safetensors", ".pt", ".pth", ".ckpt"})
_FREE_KEY = "options"
"""What stands under it is the reader's or the network's own, and no path that we know of."""


def read_study(
    path: str | os.PathLike[str],
    *,
    roots: Mapping[str, str] | None = None,
    profile: str | None = None,
) -> Study:
    """Read and check a study file.

    Paths in it are relative to the file; ``${NAME}`` takes an environment variable, ``~`` the home
    folder. ``hf://ORG/NAME`` is a checkpoint on the Hugging Face hub.

    Args:
        path: The YAML file.
        roots: Data roots by name of the image set, instead of those in the file.
        profile: Which of the file's profiles; None where it has none.

    Returns:
        The study with absolute paths and every default filled in.

    Raises:
        StudyError: The file is not there or not YAML, a key is unknown, misspelt or there twice, a
            value is wrong, or a name is not defined. The message names the place.
    """
    file = Path(path)
    return checked_study(read_content(file), file, roots=roots or {}, profile=profile)


def checked_study(
    content: Mapping[str, Any], file: Path, *, roots: Mapping[str, str], profile: str | None
) -> Study:
    """Check a study as it was read; as ``read_study`` otherwise."""
    chosen = choose_profile(content, profile, where=str(file))
    return _checked(chosen, file, roots, where=str(file))


def checked_arms(
    content: Mapping[str, Any], file: Path, *, roots: Mapping[str, str], profile: str | None
) -> dict[str, Study]:
    """Check a study with arms as it was read: one study each, by name.

    Args:
        content: What the file holds.
        file: Where it was read.
        roots: As for ``read_study``, for every arm.
        profile: As for ``read_study``.

    Raises:
        StudyError: As for ``read_study``; or the file has no arms. The message names the arm.
    """
    chosen = choose_profile(content, profile, where=str(file))
    arms = split_arms(chosen, where=str(file))
    return {
        name: _checked(arm, file, roots, where=f"{file}, arm {name}") for name, arm in arms.items()
    }


def read_content(path: Path) -> dict[str, Any]:
    """Read a study file as it is written.

    Raises:
        StudyError: It is not there, not YAML, too large, or a key stands twice.
    """
    _require_study(path)
    content = read_yaml(path, "the study", StudyError, most_values=MOST_VALUES)
    if not isinstance(content, dict):
        raise StudyError(f"cannot read the study {str(path)!r}: expected keys such as name, data")
    return content


def _require_study(path: Path) -> None:
    if path.suffix in _CHECKPOINT_ENDINGS:
        raise StudyError(
            f"cannot read the study {str(path)!r}: it is a checkpoint by its name, expected YAML. "
            f"`paramreuse layers {path}` shows what is in it, `paramreuse init` writes a study for "
            "the folder"
        )
    if path.exists():
        return
    beside = [str(other) for other in path.parent.glob("*.y*ml")]
    close = difflib.get_close_matches(str(path), beside, n=1)
    hint = f"did you mean {close[0]!r}? `" if close else "`"
    raise StudyError(
        f"cannot read the study {str(path)!r}: there is no such file: {hint}paramreuse init` "
        "writes a first one for a folder of images"
    )


def _checked(content: dict[str, Any], file: Path, roots: Mapping[str, str], *, where: str) -> Study:
    _override_roots(content, roots)
    return check_study(_resolve(content, file.resolve().parent), where=where)


def demo_study() -> Study:
    """Return the study of the demo: the whole method on the built-in phantom."""
    text = files("paramreuse.study").joinpath("demo.yaml").read_text(encoding="utf-8")
    return check_study(parse_yaml(text, "cannot read demo.yaml", StudyError), where="demo.yaml")


def parse_roots(given: Sequence[str]) -> dict[str, str]:
    """Split ``NAME=PATH`` pairs.

    Raises:
        StudyError: A pair has no ``=``.
    """
    pairs = [item.partition("=") for item in given]
    for name, equals, path in pairs:
        if not (name and equals and path):
            raise StudyError(f"--data {name + equals + path!r}: expected NAME=PATH")
    return {name: path for name, _, path in pairs}


def _override_roots(content: dict[str, Any], roots: Mapping[str, str]) -> None:
    data = content.get("data")
    sets = data if isinstance(data, dict) else {}
    for name, root in roots.items():
        if not isinstance(sets.get(name), dict):
            raise StudyError(
                f"cannot set the root of {name!r} with --data: the study has no such data set; "
                f"expected one of {sorted(map(str, sets))}"
            )
        sets[name]["root"] = os.path.abspath(os.path.expanduser(root))


def _resolve(value: Any, folder: Path, key: str = "") -> Any:
    if isinstance(value, dict):
        return {
            name: _resolve(item, folder, _FREE_KEY if key == _FREE_KEY else str(name))
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_resolve(item, folder, key) for item in value]
    if not isinstance(value, str):
        return value
    expanded = re.sub(r"\$\{(\w+)\}", _environment, value)
    if key not in _PATH_KEYS or is_hub_address(expanded):
        return expanded
    return os.path.abspath(folder / os.path.expanduser(expanded))


def _environment(match: re.Match[str]) -> str:
    name = match.group(1)
    if name not in os.environ:
        raise StudyError(
            f"the study uses ${{{name}}}, but there is no environment variable {name}. "
            f"Set it, or give the folder of an image set with --data NAME=PATH"
        )
    return os.environ[name]


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
    problem = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    place = ".".join(str(part) for part in problem["loc"])
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if problem["type"] == "extra_forbidden" and problem["loc"] == (ARMS,):
        return (
            f"{where!r} holds several studies, its arms: expected one. `paramreuse run` takes the "
            "file as it is; write the arm you want into a file of its own for anything else"
        )
    if problem["type"] == "extra_forbidden":
        known = _known_keys(problem["loc"][:-1])
        close = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys: {known}"
        return f"unknown key {place!r} in {where!r}: {hint}{more}"
    if problem["type"] == "missing":
        section = ".".join(str(part) for part in problem["loc"][:1])
        return (
            f"{where!r} has no {place!r}, which is needed{more}. What it takes is said by "
            f"`paramreuse keys {section}`"
        )
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
