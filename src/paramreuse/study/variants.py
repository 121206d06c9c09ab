"""Variants of a study: profiles that resize it, and arms that run it several times."""

import re
from collections.abc import Mapping
from typing import Any

from paramreuse.errors import StudyError

PROFILES = "profiles"
ARMS = "arms"
ARM_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$"
"""What an arm may be called: it is a folder's name as well."""


def overlay(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content with the changes in it: keys are merged, anything else is replaced.

    Args:
        content: As read from YAML; left as it is.
        changes: Keys to replace, of the same form; left as they are.
    """
    merged = dict(content)
    for key, value in changes.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = overlay(old, value) if both else value  # type: ignore[arg-type]
    return merged


def choose_profile(
    content: Mapping[str, Any], profile: str | None, *, where: str
) -> dict[str, Any]:
    """Return the content with one of its profiles laid over it.

    Args:
        content: A study file that may have ``profiles``.
        profile: Name of the profile; None where the file has none.
        where: Name of the file, for messages.

    Raises:
        StudyError: The file has profiles and none is named, or not this one; or the profile
            changes an arm that is not there.
    """
    rest = {key: value for key, value in content.items() if key != PROFILES}
    profiles = _named_parts(content, PROFILES, where)
    if profile is None and not profiles:
        return rest
    if not profiles:
        raise StudyError(f"{where!r} has no profiles. Leave --profile {profile} out")
    if profile not in profiles:
        given = "no profile is chosen" if profile is None else f"there is no profile {profile!r}"
        raise StudyError(f"{where!r}: {given}. Say --profile with one of {sorted(profiles)}")
    arms = _named_parts(content, ARMS, where)
    own = _named_parts(profiles[profile], ARMS, f"{where}, profile {profile}")
    unknown = sorted(set(own) - set(arms))
    if unknown:
        raise StudyError(
            f"{where!r}: the profile {profile!r} changes the arm {unknown[0]!r}, which is not "
            f"there: expected some of {list(arms)}"
        )
    merged = overlay(rest, profiles[profile])
    # A profile that names an arm and says nothing of it changes nothing.
    return merged | (
        {ARMS: {name: overlay(arms[name], own.get(name, {})) for name in arms}} if arms else {}
    )


def split_arms(content: Mapping[str, Any], *, where: str) -> dict[str, dict[str, Any]]:
    """Return the content of each arm: what all arms share, with the arm's own laid over it.

    Args:
        content: A study file with ``arms``, its profile chosen.
        where: Name of the file, for messages.

    Raises:
        StudyError: The file has no arms, one is not a mapping, or its name cannot be a folder's.
    """
    arms = _named_parts(content, ARMS, where)
    if not arms:
        raise StudyError(f"{where!r} has no {ARMS!r}: expected one study or more by name")
    for name in arms:
        if not re.fullmatch(ARM_NAME, name):
            raise StudyError(
                f"'{ARMS}.{name}' in {where!r}: expected a name of letters, digits, '_', '.' and "
                "'-' that begins with a letter or digit"
            )
    shared = {key: value for key, value in content.items() if key != ARMS}
    name = shared.get("name", "study")
    return {arm: overlay(shared, own) | {"name": f"{name}-{arm}"} for arm, own in arms.items()}


def _named_parts(content: Mapping[str, Any], key: str, where: str) -> dict[str, Mapping[str, Any]]:
    parts = content.get(key) or {}
    if not isinstance(parts, Mapping):
        raise StudyError(f"{key!r} in {where!r} is {parts!r}: expected keys, a name each")
    for name, part in parts.items():
        if part is not None and not isinstance(part, Mapping):
            raise StudyError(f"'{key}.{name}' in {where!r} is {part!r}: expected keys of a study")
    return {str(name): part or {} for name, part in parts.items()}
