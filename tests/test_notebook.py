"""Results in a notebook: a sentence, a map, a table; escaped, and asking for nothing."""

import re

import pytest

import paramreuse as pr
from paramreuse.notebook import MOST_ROWS, html_map, html_sentence, html_table
from samples.studies import seeded


def test_text_is_escaped_and_marks_that_turn_it_around_are_spelled_out() -> None:
    told = html_sentence('<script>"\u202e')

    assert told == "<p>&lt;script&gt;&quot;\\u202e</p>"


def test_a_long_table_says_how_much_is_left_out() -> None:
    rows = [{"a<b": index, "x": float("nan")} for index in range(MOST_ROWS + 3)]
    shown = html_table(rows, total=len(rows))

    assert shown.count("<tr>") == MOST_ROWS + 1
    assert "a&lt;b" in shown
    assert ">-<" in shown
    assert "... and 3 more rows" in shown


def test_a_map_has_a_row_per_kind_and_a_column_per_layer() -> None:
    words = {("W", "1"): "reusable", ("W", "2"): "odd", ("RM", "1"): "not reusable"}
    drawn = html_map(words, {"reusable": "✓", "not reusable": "✕"})

    assert drawn.count("<tr>") == 3
    assert re.findall(r'title="([^"]*)"', drawn) == ["reusable", "odd", "not reusable"]
    assert "✓ reusable, ✕ not reusable" in drawn


@pytest.fixture(scope="module")
def results() -> dict[str, object]:
    target, source = seeded(0), seeded(1)
    sweep = pr.sweep_sites(
        target, source, evaluate=lambda model: float(next(model.parameters()).detach().sum())
    )
    verdict = pr.judge(sweep)
    return {
        "sweep": sweep,
        "verdict": verdict,
        "plan": pr.plan_reuse(verdict),
        "comparison": pr.compare_models(target, source, names=("<t>", "s")),
    }


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("sweep", "14 swaps of source, shuffled"),
        ("verdict", "kernel layers can be reused"),
        ("plan", "sites reused"),
        ("comparison", "s and &lt;t&gt;: "),
    ],
)
def test_a_result_shows_itself_without_a_request(
    results: dict[str, object], name: str, told: str
) -> None:
    shown = results[name]._repr_html_()  # type: ignore[attr-defined]

    assert told in shown
    assert "<table>" in shown
    assert not re.search(r"https?:|src=|href=|<script|<t>", shown)
