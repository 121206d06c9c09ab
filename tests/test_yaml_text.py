"""YAML from outside: plain values or one message, within a second, whatever it says."""

import time
from pathlib import Path

import pytest

from paramreuse.errors import PlanError, StudyError
from paramreuse.reuse.plan_file import read_plan
from paramreuse.study.study_file import read_study
from paramreuse.yaml_text import parse_yaml, read_yaml

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(9 * [f'*{before}'])}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
"""Nine to the power of nine values in nine lines."""
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join(9 * [f'*a{n - 1}'])}]}}\n" for n in range(1, 10)
)


def parsed(text: str) -> object:
    return parse_yaml(text, "cannot read 'a.yaml'", StudyError)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "up to line 5 it holds more than 20000 values, parts that are repeated"),
        (MERGES, "it holds more than 20000 values"),
        ("name: [" + "1," * 2_000_000 + "]", "it holds more than 20000 values"),
        ("name: " + 5_000 * "[" + 5_000 * "]", "line 1 is nested more than 40 levels deep"),
        ("name: " + 5_000 * "{a: " + 5_000 * "}", "line 1 is nested more than 40 levels deep"),
        (5_000 * "- " + "a", "nested more than 40 levels deep"),
        ("a: &a\n  b: *a\n", "line 2 repeats a part that contains it"),
        ("a: " + 9 * "x" * (1 << 20), "it is larger than 8 MiB"),
        ("seed: " + "9" * 5_000, "line 1: expected a number that a computer can hold"),
        ('seed: !!int "x"', "expected a number that a computer can hold"),
        ('seed: !!float ""', "expected a number that a computer can hold"),
        ("a: 1\nb: 2\na: 3", "'a' stands twice, again in line 3"),
        ("{[1]: 2}", "found unhashable key"),
        ("a: *b", "found undefined alias"),
        ("a: 1\n---\nb: 2", "but found another document"),
        ("!!python/object/apply:os.system [ls]", "could not determine a constructor"),
    ],
)
def test_what_would_fill_memory_or_fail_ends_in_one_message(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    started = time.process_time()

    with pytest.raises(StudyError, match=message) as caught:
        read_study(path)
    assert time.process_time() - started < 1.0
    assert str(path) in str(caught.value)
    with pytest.raises(PlanError, match="cannot read"):
        read_plan(path)


@pytest.mark.parametrize("text", ["name: 2026-13-45", "name: 2026-01-01", 'name: !!timestamp "x"'])
def test_a_date_is_the_text_that_it_is(text: str) -> None:
    assert parsed(text) == {"name": text.rsplit(maxsplit=1)[-1].strip('"')}


def test_repeated_parts_of_ordinary_size_are_taken() -> None:
    text = "a: &png {size: [64, 64]}\nb: *png\nc: {<<: *png, seed: 1}\n"

    assert parsed(text) == {
        "a": {"size": [64, 64]},
        "b": {"size": [64, 64]},
        "c": {"size": [64, 64], "seed": 1},
    }


def test_a_file_without_an_end_is_refused() -> None:
    with pytest.raises(StudyError, match="it is larger than 8 MiB"):
        read_yaml(Path("/dev/zero"), "the study", StudyError)


def test_a_file_that_is_a_folder_or_has_no_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="Is a directory"):
        read_study(tmp_path)
    with pytest.raises(PlanError, match="embedded null byte"):
        read_plan("a\0b")


def test_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes("seed: 1\nname: Zoë\n".encode("cp1252"))
    with pytest.raises(StudyError, match=r"a\.yaml', line 2: it is not UTF-8 text"):
        read_study(tmp_path / "a.yaml")
