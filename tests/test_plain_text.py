"""Names from files: spelled out for terminals, harmless in tables, drawable in SVG."""

import io
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch

from paramreuse.cli.console import Terminal, complain, remark, result, show_json, show_table
from paramreuse.data.folder import read_folder
from paramreuse.data.slices import ImageSet
from paramreuse.errors import DataError
from paramreuse.papers.figures.svg import svg_text
from paramreuse.plain_text import csv_text, plain_figure, plain_json, plain_text
from samples.image_files import write_png

NASTY = "a\x1b[2Jb\x00c\u202ed\u200fe\x9bf\rg\u2028h\udc80i\x7fj"
SPELLED = r"a\x1b[2Jb\x00c\u202ed\u200fe\x9bf\rg\u2028h\udc80i\x7fj"


def test_what_a_terminal_would_obey_is_spelled_out() -> None:
    assert plain_text(NASTY) == SPELLED
    assert plain_text("Zoë\tپ 患者 é\n🫀") == "Zoë\tپ 患者 é\n🫀"


def test_json_means_the_same_without_such_characters() -> None:
    content = {"name": NASTY + "\U000e0001", "more": ['"', "\\", "\n"]}
    text = plain_json(json.dumps(content, ensure_ascii=False, indent=1))

    assert json.loads(text) == content
    assert text == plain_text(text)


@pytest.mark.parametrize(
    "say",
    [
        remark,
        result,
        complain,
        show_json,
        lambda text: show_table([{text: text, "b": 1}], title=text),
        lambda text: Terminal().say("data", text),
        lambda text: Terminal().remark(text),
    ],
)
def test_nothing_that_is_shown_holds_them(say, capsys: pytest.CaptureFixture[str]) -> None:
    say(NASTY)

    shown = "".join(capsys.readouterr())
    assert "2Jb" in shown
    assert plain_text(shown) == shown


def test_the_message_of_an_error_holds_none_of_them() -> None:
    assert str(DataError(f"cannot read {NASTY}: no such file")) == (
        f"cannot read {SPELLED}: no such file"
    )


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_no_cell_of_a_table_is_a_formula(start: str) -> None:
    name = f"{start}cmd|' /C calc'!A0"
    read = pd.read_csv(io.StringIO(csv_text(pd.DataFrame({name: [name, "b"], "n": [1, 2]}))))

    assert [str(cell)[0] for cell in (read.columns[0], read.iloc[0, 0])] == ["'", "'"]
    assert read.iloc[1, 0] == "b"
    assert read["n"].tolist() == [1, 2]


def test_numbers_and_ordinary_names_are_written_as_before() -> None:
    frame = pd.DataFrame(
        {"swap": ["RM+RV 1", "W 2"], "drop": [-0.5, np.nan], "text": ["-0.5", "1e-3"], "n": [1, 2]}
    )

    assert csv_text(frame) == frame.to_csv(index=False)


@pytest.mark.parametrize("name", [NASTY, "a$b$ \\frac{", "a -- b", "]]>", "<script>&"])
def test_a_figure_with_such_names_is_xml(name: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], label=name)
    axes.set_title(name)
    axes.legend()
    buffer = io.BytesIO()
    plain_figure(figure).savefig(buffer, format="svg")

    ElementTree.fromstring(buffer.getvalue())  # noqa: S314
    ElementTree.fromstring(svg_text(figure, "f"))  # noqa: S314


@pytest.mark.parametrize("name", ["L\x1b[31mV", "L\u202eV", "L\0V", "L\ud800V"])
def test_a_class_whose_name_is_not_text_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="characters that are not text"):
        ImageSet(("background", name), ("p1",), lambda _: [])


def test_a_file_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", torch.zeros(4, 4).byte().numpy())
    try:
        (tmp_path / "a.png").rename(tmp_path / "p\udc80.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")

    with pytest.raises(DataError, match=r"\\udc80.* broken UTF-8; rename them"):
        read_folder(tmp_path, images="{subject}.png", classes=["a", "b"], spacing_mm=1)
