"""Plan files: YAML that a person can read and edit, and that is checked when it is read."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from paramreuse.errors import PlanError
from paramreuse.networks.pspnet import pspnet
from paramreuse.reuse.plan import Action, Plan, PlanEntry
from paramreuse.reuse.plan_file import read_plan, write_plan
from paramreuse.reuse.planning import plan_leaving
from paramreuse.sites.layers import Kind
from paramreuse.sites.matching import Site, sites_of
from samples.networks import small_network

PLAN = plan_leaving(sites_of(small_network()), ["W 1", "RM 2"], source="acdc-ae")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    write_plan(PLAN, tmp_path / "plan.yaml")
    return tmp_path / "plan.yaml"


def edited(path: Path, /, **changes: Any) -> Path:
    """Change the first entry of a plan file by hand."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["sites"][0] |= changes
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_a_plan_is_read_as_it_was_written(plan_file: Path) -> None:
    assert read_plan(plan_file) == PLAN


@pytest.mark.parametrize("bias", [True, False])
def test_the_papers_plan_goes_there_and_back(tmp_path: Path, bias: bool) -> None:
    plan = plan_leaving(sites_of(pspnet(width=1, bias=bias)), ["RM 1", "W 1"])

    write_plan(plan, tmp_path / "plan.yaml")

    assert read_plan(str(tmp_path / "plan.yaml")) == plan


def sites() -> st.SearchStrategy[Site]:
    return st.builds(
        Site,
        layer=st.integers(1, 200),
        path=TEXTS,
        kind=st.sampled_from(Kind),
        attribute=st.uuids().map(str),
        shape=st.lists(st.integers(0, 512), max_size=4).map(tuple),
        family=st.sampled_from(["conv", "conv_transpose", "linear", "norm", "embedding", "other"]),
        is_output=st.booleans(),
        aliases=st.lists(TEXTS, max_size=2).map(tuple),
    )


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.builds(PlanEntry, sites(), st.sampled_from(Action), TEXTS), max_size=3),
    TEXTS,
    st.none() | st.tuples(st.floats(0, 1), st.floats(0.5, 0.99)),
)
def test_any_plan_goes_there_and_back(
    tmp_path_factory: pytest.TempPathFactory,
    entries: list[PlanEntry],
    source: str,
    numbers: tuple[float, float] | None,
) -> None:
    plan = Plan(tuple(entries), source, *(numbers or (None, None)))
    path = tmp_path_factory.mktemp("plans") / "plan.yaml"

    write_plan(plan, path)

    assert read_plan(path) == plan


def test_the_file_says_what_may_be_edited(plan_file: Path) -> None:
    lines = plan_file.read_text(encoding="utf-8").splitlines()

    assert lines[0].startswith("# What to do with each tensor")
    assert "paramreuse_plan: 2" in lines
    # One line per site, so that an action is edited where the site is named.
    assert [line.startswith("- {action: ") for line in lines].count(True) == len(PLAN.entries)
    assert "- {action: leave, site: W 1, family: conv, layer: 1, kind: W, path: '0'" in "\n".join(
        lines
    )


def test_the_same_plan_gives_the_same_bytes(plan_file: Path, tmp_path: Path) -> None:
    write_plan(read_plan(plan_file), tmp_path / "again.yaml")

    assert (tmp_path / "again.yaml").read_bytes() == plan_file.read_bytes()


def test_an_action_edited_by_hand_counts(plan_file: Path) -> None:
    text = plan_file.read_text(encoding="utf-8")
    plan_file.write_text(text.replace("{action: leave, site: W 1,", "{action: freeze, site: W 1,"))

    plan = read_plan(plan_file)

    assert plan.entries[0].action is Action.FREEZE
    assert plan.entries[1:] == PLAN.entries[1:]


def test_entries_and_texts_may_be_left_out(plan_file: Path) -> None:
    content = yaml.safe_load(plan_file.read_text(encoding="utf-8"))
    content["sites"] = content["sites"][:1]
    content["source"] = None
    for name in ("reason", "output", "site", "family"):
        del content["sites"][0][name]
    plan_file.write_text(yaml.safe_dump(content), encoding="utf-8")

    plan = read_plan(plan_file)

    assert plan.source == ""
    assert plan.entries == (PlanEntry(PLAN.entries[0].site, Action.LEAVE, ""),)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"action": "laod"}, r"has the action 'laod': expected one of \['load', 'freeze'"),
        ({"action": None}, "has the action None"),
        ({"kind": "X"}, r"has the kind 'X': expected one of \['W', 'B'"),
        ({"family": "convolution"}, "has the family 'convolution'"),
        ({"layer": "1"}, "has the layer '1': expected a whole number"),
        ({"layer": True}, "has the layer True"),
        ({"shape": "2x3"}, "has the shape '2x3': expected a list of whole numbers"),
        ({"shape": [1.5]}, r"has the shape \[1.5\]"),
        ({"shape": [True]}, r"has the shape \[True\]"),
        ({"output": "no"}, "has the output 'no': expected true or false"),
        ({"path": 1.10}, "has the path 1.1, a float: expected a text. Put it into quotes"),
        ({"reason": ["a"]}, "has the reason"),
        ({"aliases": "a.b"}, "has the aliases 'a.b': expected a list of keys"),
        ({"path": "1", "attribute": "weight"}, r"entries 1 and 5 of .* both for '1.weight'"),
    ],
)
def test_an_entry_edited_wrongly_is_named(
    plan_file: Path, changes: dict[str, Any], message: str
) -> None:
    edited(plan_file, **changes)

    with pytest.raises(PlanError, match=message) as caught:
        read_plan(plan_file)

    assert "plan.yaml" in str(caught.value)
    assert "entry 1 of" in str(caught.value) or "entries 1 and" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a line 'paramreuse_plan: 2'"),
        ("- a\n", "expected a line 'paramreuse_plan: 2'"),
        ("paramreuse_plan: 0\n", "expected a line 'paramreuse_plan: 2'"),
        ("paramreuse_plan: 3\n", "it has format 3, .* reads formats 1 to 2"),
        ("paramreuse_plan: 2\nsites: []\nrecipe: {speed: 1}\n", r"the recipe .* \['anchor'"),
        ("paramreuse_plan: 2\nsites: []\nrecipe: {anchor: true}\n", "anchor .* True: expected a n"),
        ("paramreuse_plan: 2\nsites: []\nrecipe: {recalibrate: 1}\n", "expected true or false"),
        ("paramreuse_plan: 2\nsites: []\nrecipe: {mix: 0}\n", "mix=0: expected a share above 0"),
        ("paramreuse_plan: 1\n", "expected a list under 'sites'"),
        ("paramreuse_plan: 1\nsites: {a: 1}\n", "expected a list under 'sites'"),
        ("paramreuse_plan: 1\nsites: [W 1]\n", "entry 1 of .* is 'W 1': expected a mapping"),
        ("paramreuse_plan: 1\nsites: [{layer: 1}]\n", r"has no \['action', 'attribute', 'kind'"),
        ("paramreuse_plan: 1\nsites: []\ntolerance: much\n", "tolerance in .* is 'much'"),
        ("paramreuse_plan: 1\nsites: []\nconfidence: yes\n", "confidence in .* is True"),
        ("paramreuse_plan: 1\nsites: []\nsource: 3\n", "has the source 3, a int"),
        ("paramreuse_plan: [\n", "it is not YAML"),
        ("a: !!python/object/apply:os.getcwd []\n", "it is not YAML"),
        ("a: \x00", "it is not YAML"),
    ],
)
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(PlanError, match=message):
        read_plan(path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(PlanError, match="it is not UTF-8 text"):
        read_plan(tmp_path / "plan.yaml")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"cannot read the plan '.*none.yaml': No such file"):
        read_plan(tmp_path / "none.yaml")


def test_a_place_that_cannot_be_written_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()

    with pytest.raises(PlanError, match=r"cannot write the plan '.*': No such file"):
        write_plan(PLAN, tmp_path / "none" / "plan.yaml")
    with pytest.raises(PlanError, match=r"cannot write the plan '.*folder': it is a folder"):
        write_plan(PLAN, tmp_path / "folder")

    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_plan_replaces_an_older_one_whole(plan_file: Path) -> None:
    write_plan(Plan(PLAN.entries[:1]), plan_file)

    assert read_plan(plan_file) == Plan(PLAN.entries[:1])
    assert [path.name for path in plan_file.parent.iterdir()] == ["plan.yaml"]
