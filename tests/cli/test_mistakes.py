"""Forty mistakes of a newcomer: each ends with 2 and a message that names the cure."""

from pathlib import Path

import pytest

from samples.mistakes import MISTAKES, Mistake, message_of, page_row

PAGE = Path(__file__).parents[2] / "docs" / "mistakes.md"


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake.made for mistake in MISTAKES])
def test_a_mistake_is_met_with_its_cure_as_the_page_says(mistake: Mistake) -> None:
    status, told = message_of(mistake)

    assert status == 2
    assert "Traceback" not in told
    assert mistake.cure in told
    assert page_row(mistake, told) in PAGE.read_text(encoding="utf-8"), (
        "write the table of docs/mistakes.md again: "
        "PYTHONPATH=tests python -m samples.mistakes docs/mistakes.md"
    )


def test_there_are_forty_mistakes_all_different() -> None:
    assert len({mistake.made for mistake in MISTAKES}) == len(MISTAKES) == 40
