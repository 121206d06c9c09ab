"""The keys of a study file, as rows for people and as a JSON schema for editors."""

import difflib
import json
from dataclasses import asdict
from typing import Any

from paramreuse.errors import StudyError
from paramreuse.study.config import Study
from paramreuse.study.key_help import list_keys
from paramreuse.study.variants import ARMS, PROFILES


def key_rows(key: str | None = None) -> list[dict[str, str]]:
    """List the keys of a study file: ``key values default meaning``.

    Args:
        key: Only this key and those below it; a key without the name of its own in between
            (``data.reader``) is found as well.

    Raises:
        StudyError: There is no such key.
    """
    rows = [asdict(row) for row in list_keys(Study)]
    if key is None:
        return rows
    below = [row for row in rows if _is_below(row["key"], key)]
    if not below:
        names = sorted({part for row in rows for part in (row["key"], row["key"].split(".")[-1])})
        close = difflib.get_close_matches(key, names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "`paramreuse keys` lists them all"
        raise StudyError(f"a study has no key {key!r}: {hint}")
    return below


def _is_below(known: str, key: str) -> bool:
    short = known.replace(".NAME", "")
    return any(
        name == key or name.startswith(f"{key}.") or name.endswith(f".{key}")
        for name in (known, short)
    )


def study_schema() -> dict[str, Any]:
    """Return the JSON schema of a study file, profiles and arms included."""
    schema = Study.model_json_schema()
    parts = {"type": "object", "additionalProperties": {"type": ["object", "null"]}}
    schema["properties"] |= {
        PROFILES: {
            **parts,
            "description": "Changes by name; run --profile lays one over the rest.",
        },
        ARMS: {**parts, "description": "Studies by name, each the rest with these changes."},
    }
    size = schema["$defs"]["DataSpec"]["properties"]["size"]
    pair = {key: size.pop(key) for key in ("type", "prefixItems", "minItems", "maxItems")}
    size["anyOf"] = [{"type": "integer", "minimum": 8}, pair]
    # What an arm or a profile adds need not be there before.
    schema.pop("required", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def schema_text() -> str:
    """Return the JSON schema as the text of a file."""
    return json.dumps(study_schema(), indent=1, ensure_ascii=False) + "\n"
