"""The keys of a study: each has help, and the JSON schema for editors is current."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from paramreuse.errors import StudyError
from paramreuse.study.file_schema import key_rows, schema_text
from paramreuse.study.study_file import check_study
from samples.studies import trained_content

ROOT = Path(__file__).parents[2]


def test_the_schema_that_ships_is_current() -> None:
    written = (ROOT / "docs" / "study.schema.json").read_text(encoding="utf-8")

    assert written == schema_text(), "run: paramreuse keys --schema > docs/study.schema.json"


def test_every_key_has_help() -> None:
    rows = key_rows()

    assert len(rows) > 50
    assert [row["key"] for row in rows if not row["meaning"]] == []


def test_every_key_of_the_schema_is_described() -> None:
    schema = json.loads(schema_text())
    sections = [schema, *schema["$defs"].values()]
    bare = [
        name
        for section in sections
        for name, part in section.get("properties", {}).items()
        if not part.get("description")
    ]

    assert bare == []


def test_a_default_is_the_one_that_counts() -> None:
    rows = {row["key"]: row for row in key_rows()}

    assert rows["models.NAME.epochs"]["default"] == "40"
    assert rows["name"]["default"] == "needed"
    assert rows["judge.accept"]["default"] == "[reusable, identical]"


@pytest.mark.parametrize("key", ["data.reader", "data.NAME.reader", "reader"])
def test_a_key_is_found_by_its_name_with_or_without_its_place(key: str) -> None:
    assert [row["key"] for row in key_rows(key)] == ["data.NAME.reader"]


def test_a_key_that_is_misspelt_is_suggested() -> None:
    with pytest.raises(StudyError, match="no key 'learning_rat': did you mean 'learning_rate'"):
        key_rows("learning_rat")


def refuse(content: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        check_study(content, where="study.yaml")


def test_a_misspelt_key_is_shown_before_the_one_it_leaves_missing() -> None:
    content = trained_content()
    content["modells"] = content.pop("models")

    refuse(content, r"unknown key 'modells' in 'study.yaml': did you mean 'models'\? \(1 more\)")


def test_one_number_is_a_square() -> None:
    content = trained_content()
    content["data"] = {"cine": {"reader": "phantom", "size": 64}}

    assert check_study(content, where="s").data["cine"].size == (64, 64)


def test_studies_that_ship_use_keys_of_the_schema() -> None:
    known = {row["key"].split(".")[0] for row in key_rows()} | {"profiles", "arms"}
    for path in sorted((ROOT / "studies").glob("*.yaml")):
        assert set(yaml.safe_load(path.read_text(encoding="utf-8"))) <= known, path
