"""Profiles and arms: one file, several studies."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from paramreuse.errors import StudyError
from paramreuse.study.config import Study
from paramreuse.study.study_file import checked_arms, read_content, read_study
from paramreuse.study.variants import choose_profile, overlay, split_arms

STUDIES = Path(__file__).parents[2] / "studies"


def read_arms(path: Path, *, profile: str | None = None, **roots: str) -> dict[str, Study]:
    return checked_arms(read_content(path), path, roots=roots, profile=profile)


SHARED: dict[str, Any] = {
    "name": "both",
    "data": {"heart": {"reader": "phantom", "train": 2, "validation": 1}},
    "models": {"target": {"data": "heart"}, "other": {"data": "heart", "epochs": 3}},
    "sources": ["other"],
}


def written(folder: Path, **more: Any) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(SHARED | more), encoding="utf-8")
    return path


def test_keys_are_merged_and_anything_else_is_replaced() -> None:
    content = {"a": {"b": 1, "c": [1, 2]}, "d": 3}

    merged = overlay(content, {"a": {"c": [9]}, "e": None})

    assert merged == {"a": {"b": 1, "c": [9]}, "d": 3, "e": None}
    assert content == {"a": {"b": 1, "c": [1, 2]}, "d": 3}


def test_a_profile_lies_over_the_arms_too() -> None:
    content = SHARED | {
        "network": {"width": 64},
        "arms": {"one": {"network": {"name": "unet"}}, "two": {}},
        "profiles": {"small": {"network": {"width": 8}, "arms": {"two": {"seed": 7}}}},
    }

    arms = split_arms(choose_profile(content, "small", where="f"), where="f")

    assert arms["one"]["network"] == {"width": 8, "name": "unet"}
    assert arms["two"]["seed"] == 7
    assert [arm["name"] for arm in arms.values()] == ["both-one", "both-two"]


def test_the_own_keys_of_an_arm_win() -> None:
    content = SHARED | {"seed": 1, "arms": {"one": {"seed": 2}, "two": None}}

    arms = split_arms(content, where="f")

    assert (arms["one"]["seed"], arms["two"]["seed"]) == (2, 1)


def test_a_study_without_arms_may_have_profiles(tmp_path: Path) -> None:
    path = written(tmp_path, profiles={"long": {"models": {"other": {"epochs": 30}}}})

    study = read_study(path, profile="long")

    assert study.models["other"].epochs == 30
    assert study.models["target"].data == "heart"


def test_a_profile_has_to_be_chosen(tmp_path: Path) -> None:
    path = written(tmp_path, profiles={"long": {}, "short": {}})

    with pytest.raises(StudyError, match=r"no profile is chosen.*\['long', 'short'\]"):
        read_study(path)
    with pytest.raises(StudyError, match="there is no profile 'huge'"):
        read_study(path, profile="huge")


def test_a_profile_that_the_file_cannot_have(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="has no profiles"):
        read_study(written(tmp_path), profile="long")
    with pytest.raises(StudyError, match=r"'profiles.long'.*expected keys of a study"):
        read_study(written(tmp_path, profiles={"long": [1]}), profile="long")


def test_a_profile_that_says_nothing_of_an_arm_leaves_it() -> None:
    content = SHARED | {
        "arms": {"one": {"network": {"name": "unet"}}},
        "profiles": {"small": {"arms": {"one": None}}},
    }

    arms = split_arms(choose_profile(content, "small", where="f"), where="f")

    assert arms["one"]["network"] == {"name": "unet"}


def test_a_profile_cannot_add_an_arm(tmp_path: Path) -> None:
    profiles = {"small": {"arms": {"unet-shred": {"seed": 1}}}}
    path = written(tmp_path, arms={"unet-shared": {}}, profiles=profiles)

    with pytest.raises(StudyError, match=r"the arm 'unet-shred'.*\['unet-shared'\]"):
        read_arms(path, profile="small")


def test_roots_hold_for_every_arm(tmp_path: Path) -> None:
    path = written(tmp_path, arms={"one": {}, "two": {"seed": 3}})

    arms = read_arms(path, heart=str(tmp_path / "images"))

    assert {arm.data["heart"].root for arm in arms.values()} == {str(tmp_path / "images")}


def test_a_mistake_in_an_arm_names_it(tmp_path: Path) -> None:
    path = written(tmp_path, arms={"one": {}, "two": {"seeed": 3}})

    with pytest.raises(StudyError, match=r"unknown key 'seeed' in '.*study.yaml, arm two'"):
        read_arms(path)


@pytest.mark.parametrize("name", ["..", "a/b", "", ".hidden", "x" * 40])
def test_an_arm_is_a_folder_and_named_like_one(tmp_path: Path, name: str) -> None:
    with pytest.raises(StudyError, match="expected a name of letters"):
        read_arms(written(tmp_path, arms={name: {}}))


def test_no_arms(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="has no 'arms'"):
        read_arms(written(tmp_path))


@pytest.mark.parametrize("profile", ["paper", "small", "phantom", "smoke"])
def test_the_papers_study_is_whole(profile: str) -> None:
    arms = read_arms(STUDIES / "papers.yaml", profile=profile)

    kinds = {
        (a.network.name, a.network.bias, a.network.residual, a.network.long_skips)
        for a in arms.values()
    }
    assert kinds == {
        ("pspnet", None, False, True),
        ("pspnet", True, False, True),
        ("unet", None, False, True),
        ("unet", None, True, True),
        ("unet", None, False, False),
        ("unet", None, True, False),
    }
    for name, arm in arms.items():
        start = "shared" if name.endswith("-shared") else "independent"
        assert {model.init for model in arm.models.values()} == {start}, name
    transfer = arms["pspnet-shared"].transfer
    assert transfer is not None
    assert transfer.plan_from == "A2"
    assert set(arms["pspnet-shared"].sources) >= {"A2", "B1", "B2", "C1"}
