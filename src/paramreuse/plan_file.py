"""Plans as YAML files that a person can read and edit."""

from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import yaml

from paramreuse.errors import PlanError
from paramreuse.files import write_text
from paramreuse.layers import Kind
from paramreuse.plan import Action, Plan, PlanEntry
from paramreuse.sites import Site

_VERSION = 1
_FAMILIES = ("conv", "conv_transpose", "linear", "norm", "embedding", "other")
_ACTIONS = tuple(action.value for action in Action)
_HEAD = f"""# What to do with each tensor of the network; `action` may be edited:
#   load    load it from the source, frozen or trained along as `--mode` says
#   freeze  load it and freeze it        train  load it and train it along
#   leave   keep the fresh model's own
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
    content["sites"] = [_as_mapping(entry) for entry in plan.entries]
    text = _HEAD + yaml.safe_dump(
        content, sort_keys=False, default_flow_style=None, width=1000, allow_unicode=True
    )
    try:
        write_text(Path(path), text)
    except OSError as error:
        raise PlanError(f"cannot write the plan {fspath(path)!r}: {error.strerror}") from error


def _as_mapping(entry: PlanEntry) -> dict[str, Any]:
    site = entry.site
    return {
        "action": entry.action.value,
        "site": site.name,
        "family": site.family,
        "layer": site.layer,
        "kind": site.kind.value,
        "path": site.path,
        "attribute": site.attribute,
        "shape": list(site.shape),
        "output": site.is_output,
        "reason": entry.reason,
    }


def read_plan(path: str | PathLike[str]) -> Plan:
    """Read a plan that ``write_plan`` wrote, possibly edited since.

    Raises:
        PlanError: The file is not there, is no plan, or an entry is wrong; the message names it.
    """
    where = fspath(path)
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"cannot read the plan {where!r}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PlanError(f"cannot read the plan {where!r}: it is not YAML ({error})") from error
    if not isinstance(content, dict) or content.get("paramreuse_plan") != _VERSION:
        raise PlanError(
            f"cannot read {where!r} as a plan: expected a line 'paramreuse_plan: {_VERSION}'. "
            "`paramreuse plan` writes such files"
        )
    sites = content.get("sites")
    if not isinstance(sites, list):
        raise PlanError(f"cannot read the plan {where!r}: expected a list under 'sites'")
    entries = tuple(_entry(item, f"entry {n} of {where!r}") for n, item in enumerate(sites, 1))
    numbers = {name: content.get(name) for name in ("tolerance", "confidence")}
    for name, value in numbers.items():
        if value is not None and not isinstance(value, int | float):
            raise PlanError(f"{name} in {where!r} is {value!r}: expected a number")
    return Plan(entries, str(content.get("source", "")), **numbers)


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
    shape = item["shape"]
    if not isinstance(shape, list) or not all(isinstance(n, int) for n in shape):
        raise PlanError(f"{where} has the shape {shape!r}: expected a list of whole numbers")
    if not isinstance(item["layer"], int):
        raise PlanError(f"{where} has the layer {item['layer']!r}: expected a whole number")
    site = Site(
        layer=item["layer"],
        path=str(item["path"]),
        kind=Kind(item["kind"]),
        attribute=str(item["attribute"]),
        shape=tuple(shape),
        family=str(item.get("family", "")),
        is_output=bool(item.get("output", False)),
    )
    return PlanEntry(site, Action(item["action"]), str(item.get("reason", "")))


def _check_choice(
    item: Mapping[str, object], name: str, choices: tuple[str, ...], where: str
) -> None:
    if item[name] not in choices:
        raise PlanError(f"{where} has the {name} {item[name]!r}: expected one of {list(choices)}")
