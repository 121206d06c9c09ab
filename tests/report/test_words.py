"""The words of the method: each explained once, where it comes up."""

from pathlib import Path

import pytest

from paramreuse.cli.console import Terminal
from paramreuse.report.page import render_page
from paramreuse.report.words import WORDS, explanations
from paramreuse.reuse.verdict import Word
from paramreuse.sites.layers import Kind
from samples.report import pspnet_study


def words_in(text: str) -> set[str]:
    return {line.partition(":")[0] for line in explanations(text)}


def test_a_word_is_found_in_a_sentence_and_a_kind_by_its_layer() -> None:
    said = "2 of 25 kernel layers can be reused (1 indifferent), largest drop 0.041 at RM 17"

    assert words_in(said) == {"kernel layer", "indifferent", "drop", "RM"}
    assert words_in("WHERE Wanda dropped B-sides") == set()
    assert words_in("3 not reusable") == {"not reusable"}
    assert words_in("median relative RMSE of W 0.02") == {"relative RMSE", "W"}


def test_a_word_is_explained_once() -> None:
    known: set[str] = set()

    assert len(list(explanations("a control and a control", known))) == 1
    assert list(explanations("another control", known)) == []


def test_every_verdict_and_every_kind_has_an_explanation() -> None:
    kinds = {kind.value for kind in Kind} & {"W", "B", "RM", "RV", "RW", "RB"}

    assert {word.value for word in Word} <= set(WORDS)
    assert kinds <= set(WORDS)


def test_the_terminal_explains_a_word_below_the_first_line_that_has_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    terminal = Terminal()
    terminal.say("sweep", "12 swaps, 24 with controls")
    terminal.say("sweep", "12 swaps more")

    told = capsys.readouterr().err.splitlines()

    assert [line.split()[0] for line in told] == ["sweep", "(swap:", "(control:", "sweep"]


def test_the_page_lists_every_word_without_a_script(tmp_path: Path) -> None:
    page = render_page(pspnet_study())

    assert all(f"<dt>{word}</dt>" in page for word in WORDS)
