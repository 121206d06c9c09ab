"""Missing libraries: every message names the extra that pyproject.toml puts the library in."""

import re
import tomllib
from pathlib import Path

import pytest

from paramreuse.extras import EXTRA_OF, missing_extra

EXTRAS = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))
DECLARED = {
    re.split(r"[>=<\[]", requirement)[0]: name
    for name, requirements in EXTRAS["project"]["optional-dependencies"].items()
    for requirement in requirements
    if name not in ("all", "docs", "dev")
}


@pytest.mark.parametrize("library", sorted(EXTRA_OF))
def test_a_library_is_in_the_extra_that_its_message_names(library: str) -> None:
    assert DECLARED[library] == EXTRA_OF[library]


def test_every_library_of_an_extra_has_a_message() -> None:
    assert sorted(DECLARED) == sorted(EXTRA_OF)


def test_the_message_says_what_cannot_be_done_and_the_line_to_run() -> None:
    assert str(missing_extra("read NIfTI files", "nibabel")) == (
        "cannot read NIfTI files: nibabel is not installed. Run: pip install 'paramreuse[readers]'"
    )
    assert "jinja2 and matplotlib are not installed" in str(
        missing_extra("draw", "jinja2", "matplotlib")
    )
