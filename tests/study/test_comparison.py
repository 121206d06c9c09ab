"""Several run folders on one page, whether or not they belong together."""

import re
from pathlib import Path

import pytest

from paramreuse.errors import StudyError
from paramreuse.papers.protocol import report_folders
from paramreuse.study.comparison import answers_compared, compare_runs
from paramreuse.study.run import run_study
from samples.studies import begun, given_content, status_of, study_of
from samples.transfers import Trainer

EVIL = '<b>"\u202e\u05d0'


def begun_run(folder: Path, name: str, seed: int = 0) -> Path:
    (folder / name).mkdir()
    return begun(folder / name / "run", study_of(given_content(folder / name, seed=seed)))


def test_what_came_out_stands_first_then_what_differs(tmp_path: Path, trainer: Trainer) -> None:
    transfer = {"subjects": [1], "strategies": ["scratch", "full"], "seeds": 3}
    trained = study_of(given_content(tmp_path, transfer=transfer, sweep={"engine": "full"}))
    measured = run_study(trained, tmp_path / "measured", until="transfer")
    bare = begun(tmp_path / "bare", study_of(given_content(tmp_path, seed=1)))
    out = tmp_path / "comparison.html"

    assert compare_runs([measured, bare], out) == out

    page = out.read_text(encoding="utf-8")
    heads = re.findall(r"<h2>(.*?)</h2>", page)
    assert heads[0] == "What came out"
    assert heads[3] == "What differs between them"
    assert "<td>seed</td>" in page
    rows = answers_compared({"measured": measured, "bare": bare})
    assert [row["arm"] for row in rows] == ["measured", "bare"]
    assert rows[1]["answer"] == "What to load has not been measured yet"
    assert rows[0]["score"] >= rows[0]["scratch"]
    if rows[0]["source"] is not None:
        assert rows[0]["gain"] == pytest.approx(rows[0]["score"] - rows[0]["scratch"])


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    folders = [begun_run(tmp_path, "one"), begun_run(tmp_path, EVIL, seed=1)]

    page = compare_runs(folders, tmp_path / "c.html").read_text(encoding="utf-8")

    assert f"{tmp_path}/one/run" in page
    assert "<b>" not in page
    assert "\u202e" not in page
    assert "\\u202e\u05d0/run" in page


def test_a_run_is_not_compared_with_itself(tmp_path: Path) -> None:
    folder = begun_run(tmp_path, "one")

    with pytest.raises(StudyError, match=r"cannot compare .*run' with itself: name each run once"):
        compare_runs([folder, folder], tmp_path / "c.html")


def test_the_report_of_one_run_goes_into_its_folder(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"it is report\.html in its run folder\. Leave --out"):
        report_folders([tmp_path], tmp_path / "c.html")


def test_the_command_compares_several_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = begun_run(tmp_path, "one"), begun_run(tmp_path, "two", seed=1)

    assert status_of("report", one, two, "--out", tmp_path / "c.html") == 0

    assert capsys.readouterr().out.strip() == str(tmp_path / "c.html")
    assert status_of("report", one, tmp_path / "none") == 2
    assert "is not a run folder" in capsys.readouterr().err
