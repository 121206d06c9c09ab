"""Plans as YAML files that a person can read and edit."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeVar

import yaml

from paramreuse.errors import PlanError
from paramreuse.files import require_own_kind, write_text
from paramreuse.reuse.plan import Action, Plan, PlanEntry
from paramreuse.reuse.recipe import PLAIN, Recipe
from paramreuse.sites.layers import Kind
from paramreuse.sites.matching import Site
from paramreuse.yaml_text import read_yaml

T = TypeVar("T")

_VERSION = 2
_OLDEST = 1
_FAMILIES = ("conv", "conv_transpose", "linear", "norm", "embedding", "other")
_ACTIONS = tuple(action.value for action in Action)
_HEAD = f"""# What to do with each tensor of the network; `action` may be edited:
#   load    load it from the source, frozen or trained along as `--mode` says
#   freeze  load it and freeze it        train  load it and train it along
#   leave   keep the fresh model's own
# `rate` is a factor on the learning rate of what is trained, 1 if not given. The recipe:
#   recalibrate  recompute running statistics on the training images at the end
#   anchor       pull of what was loaded towards its loaded values (L2-SP); 0 for none
#   head_first   share of the steps that trains only what was not loaded, and the output layer
#   mix          where the result lies between loaded (0) and trained (1)
paramreuse_plan: {_VERSION}
"""


def write_plan(plan: Plan, path: str | PathLike[str]) -> None:
    """Write a plan as YAML, whole or not at all.

    Args:
        plan: The plan.
        path: File to write.

    Raises:
        PlanError: The file cannot be written.
    """
    content: dict[str, Any] = {"source": plan.source}
    if plan.tolerance is not None:
        content |= {"tolerance": plan.tolerance, "confidence": plan.confidence}
    content["recipe"] = asdict(plan.recipe)
    lines = [f"- {_dumped(_as_mapping(entry), flow=True)}" for entry in plan.entries]
    sites = "sites:\n" + "".join(lines) if lines else "sites: []\n"
    try:
        require_own_kind(Path(path), lambda start: b"paramreuse_plan:" in start, "a plan")
        write_text(Path(path), _HEAD + _dumped(content, flow=False) + sites)
    except OSError as error:
        raise PlanError(f"cannot write the plan {fspath(path)!r}: {error.strerror}") from error


def _dumped(content: Mapping[str, Any], *, flow: bool) -> str:
    """Return YAML; in flow style one line, so that an action stands beside its site.

    Letters beyond ASCII are escaped, since PyYAML does not read every line break that it writes.
    """
    return str(yaml.safe_dump(content, sort_keys=False, default_flow_style=flow, width=10**9))


def _as_mapping(entry: PlanEntry) -> dict[str, Any]:
    site = entry.site
    return {
        "action": entry.action.value,
        **({"rate": entry.rate} if entry.rate != 1.0 else {}),
        "site": site.name,
        "family": site.family,
        "layer": site.layer,
        "kind": site.kind.value,
        "path": site.path,
        "attribute": site.attribute,
        "shape": list(site.shape),
        "output": site.is_output,
        **({"aliases": list(site.aliases)} if site.aliases else {}),
        "reason": entry.reason,
    }


def read_plan(path: str | PathLike[str]) -> Plan:
    """Read a plan that ``write_plan`` wrote, possibly edited since.

    Raises:
        PlanError: The file does not exist or is not a plan, or an entry is wrong; the message
            names it.
    """
    where = fspath(path)
    content = read_yaml(Path(path), "the plan", PlanError)
    _check_version(content, where)
    sites = content.get("sites")
    if not isinstance(sites, list):
        raise PlanError(f"cannot read the plan {where!r}: expected a list under 'sites'")
    entries = tuple(_entry(item, f"entry {n} of {where!r}") for n, item in enumerate(sites, 1))
    numbers = {name: content.get(name) for name in ("tolerance", "confidence")}
    for name, value in numbers.items():
        if value is not None and not _is_number(value):
            raise PlanError(f"{name} in {where!r} is {value!r}: expected a number")
    _refuse_twins(entries, where)
    return Plan(
        entries,
        _text(content, "source", repr(where)),
        tolerance=numbers["tolerance"],
        confidence=numbers["confidence"],
        recipe=_recipe(content.get("recipe"), where),
    )


def _check_version(content: object, where: str) -> None:
    version = content.get("paramreuse_plan") if isinstance(content, dict) else None
    if type(version) is int and version > _VERSION:
        raise PlanError(
            f"cannot read the plan {where!r}: it has format {version}, this version of paramreuse "
            f"reads formats {_OLDEST} to {_VERSION}. Update paramreuse, or plan again"
        )
    if type(version) is not int or version < _OLDEST:
        raise PlanError(
            f"cannot read {where!r} as a plan: expected a line 'paramreuse_plan: {_VERSION}'. "
            "`paramreuse plan` writes such files"
        )


def _recipe(content: object, where: str) -> Recipe:
    """Return a recipe, the plain one where a plan of format 1 has none."""
    if content is None:
        return PLAIN
    names = {field.name for field in fields(Recipe)}
    if not isinstance(content, dict) or not set(content) <= names:
        raise PlanError(f"the recipe in {where!r} is {content!r}: expected some of {sorted(names)}")
    for name, value in content.items():
        wanted = bool if name == "recalibrate" else float
        fits = isinstance(value, bool) if wanted is bool else _is_number(value)
        if not fits:
            expected = "true or false" if wanted is bool else "a number"
            raise PlanError(f"{name} in the recipe of {where!r} is {value!r}: expected {expected}")
    return Recipe(**content)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refuse_twins(entries: Sequence[PlanEntry], where: str) -> None:
    first: dict[str, int] = {}
    for number, entry in enumerate(entries, 1):
        if first.setdefault(entry.site.key, number) != number:
            raise PlanError(
                f"entries {first[entry.site.key]} and {number} of {where!r} are both for "
                f"{entry.site.key!r}: expected one action per tensor. Remove one of them"
            )


def _entry(item: object, where: str) -> PlanEntry:
    if not isinstance(item, Mapping):
        raise PlanError(f"{where} is {item!r}: expected a mapping with action, path, attribute ...")
    missing = sorted({"action", "layer", "kind", "path", "attribute", "shape"} - set(item))
    if missing:
        raise PlanError(f"{where} has no {missing}: expected what `paramreuse plan` writes")
    _check_choice(item, "action", _ACTIONS, where)
    _check_choice(item, "kind", tuple(kind.value for kind in Kind), where)
    if "family" in item:
        _check_choice(item, "family", _FAMILIES, where)
    if type(item["layer"]) is not int:
        raise PlanError(f"{where} has the layer {item['layer']!r}: expected a whole number")
    if not isinstance(item.get("output", False), bool):
        raise PlanError(f"{where} has the output {item['output']!r}: expected true or false")
    site = Site(
        layer=item["layer"],
        path=_text(item, "path", where),
        kind=Kind(item["kind"]),
        attribute=_text(item, "attribute", where),
        shape=tuple(_items(item, "shape", int, where)),
        family=_text(item, "family", where),
        is_output=item.get("output", False),
        aliases=tuple(_items(item, "aliases", str, where)),
    )
    rate = item.get("rate", 1.0)
    if not _is_number(rate):
        raise PlanError(f"{where} has the rate {rate!r}: expected a number above 0")
    return PlanEntry(site, Action(item["action"]), _text(item, "reason", where), rate)


def _items(item: Mapping[str, object], name: str, wanted: type[T], where: str) -> list[T]:
    value = item.get(name, [])
    # Not isinstance, to which true and false are whole numbers.
    if not isinstance(value, list) or any(type(entry) is not wanted for entry in value):
        what = "whole numbers" if wanted is int else "keys"
        raise PlanError(f"{where} has the {name} {value!r}: expected a list of {what}")
    return value


def _text(item: Mapping[str, object], name: str, where: str) -> str:
    """Return a text, empty where it is left out or left blank."""
    value = item.get(name)
    if value is not None and not isinstance(value, str):
        raise PlanError(
            f"{where} has the {name} {value!r}, a {type(value).__name__}: expected a text. "
            "Put it into quotes"
        )
    return value or ""


def _check_choice(
    item: Mapping[str, object], name: str, choices: tuple[str, ...], where: str
) -> None:
    if item[name] not in choices:
        raise PlanError(f"{where} has the {name} {item[name]!r}: expected one of {list(choices)}")
