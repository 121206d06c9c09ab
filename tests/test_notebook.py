"""Results in a notebook: a sentence, a map, a table; escaped, and asking for nothing."""

import re
import sys
from types import ModuleType, SimpleNamespace

import pytest

import paramreuse as pr
from paramreuse.notebook import MOST_ROWS, html_map, html_sentence, html_table, progress_bar
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


def test_a_progress_bar_is_drawn_where_a_notebook_runs_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert progress_bar("sweep") is None
    drawn: list[str] = []
    display = ModuleType("IPython.display")
    display.HTML = str  # type: ignore[attr-defined]
    display.display = lambda text, display_id: (  # type: ignore[attr-defined]
        drawn.append(text) or SimpleNamespace(update=drawn.append)
    )
    shell = ModuleType("IPython")
    shell.get_ipython = lambda: SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", display)

    pr.sweep_sites(seeded(0), seeded(1), evaluate=lambda model: 0.5)

    assert drawn[0].startswith("<label>sweep <progress")
    assert "100 %" in drawn[-1]
    assert len(drawn) <= 101


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
