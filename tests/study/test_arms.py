"""Arms of your own: run like the papers', and compared with each other instead of with claims."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from paramreuse.cli import main
from paramreuse.errors import StudyError
from paramreuse.papers.protocol import are_the_papers, run_asked
from paramreuse.report.arms_page import ArmsPage, Table, arms_html
from paramreuse.study import study_file
from paramreuse.study.arms import Arms, read_study_or_arms
from paramreuse.study.comparison import differences
from samples.studies import given_content, study_of, trained_content, write_study


def two_arms(folder: Path) -> Path:
    """A file whose arms differ in the tolerance's own place: the controls that are swept."""
    content = given_content(folder)
    content["sweep"] = {"engine": "full"}
    content["arms"] = {"shuffled": {}, "drawn": {"sweep": {"controls": ["reinit"]}}}
    return write_study(folder / "mine.yaml", content)


def test_arms_of_your_own_end_in_their_comparison_and_not_in_claims(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"

    with pytest.raises(SystemExit) as ended:
        main(["run", str(two_arms(tmp_path)), "--out", str(out), "--json", "--quiet"])

    written = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0
    assert "claims" not in written
    assert written["arms"] == ["shuffled", "drawn"]
    assert [(row["arm"], row["source"]) for row in written["comparison"]] == [
        ("shuffled", "ae"),
        ("drawn", "ae"),
    ]
    # The same target, source and swaps: the arms differ in nothing but the control.
    first, second = written["comparison"]
    assert first["baseline"] == second["baseline"]
    assert first["mean_drop"] == second["mean_drop"]
    assert Path(written["report"]) == out / "results.html"
    page = (out / "results.html").read_text()
    assert 'href="arms/drawn/report.html"' in page
    assert "cannot be told" not in page
    assert not (out / "tables" / "claims.csv").exists()
    table = pd.read_csv(out / "tables" / "differences.csv")
    assert table["key"].tolist() == ["sweep.controls"]


def test_what_differs_is_told_key_by_key() -> None:
    one: dict[str, Any] = {"network": {"name": "unet", "width": 4}, "seed": 0}
    other = {"network": {"name": "unet", "width": 8}, "seed": 0, "more": {}}

    assert differences({"one": one, "other": other}) == [
        {"key": "network.width", "one": 4, "other": 8},
        {"key": "more", "one": None, "other": {}},
    ]


@pytest.mark.parametrize(
    ("network", "source", "expected"),
    [("unet", "A2", True), ("pspnet", "A2", True), ("unet", "ae", False), ("my:net", "A2", False)],
)
def test_the_papers_arms_are_known_by_network_and_first_source(
    network: str, source: str, expected: bool
) -> None:
    study = {"network": {"name": network}, "sources": [source]}

    assert are_the_papers({"one": study}) is expected


def test_an_arm_of_a_file_without_arms_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="there is no arm 'one': the file is of one study"):
        run_asked(study_of(trained_content()), tmp_path / "out", only=["one"])

    assert not (tmp_path / "out").exists()


def test_the_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = two_arms(tmp_path)
    reads: list[str] = []
    whole = study_file.read_yaml

    def read_yaml(path: Path, *args: Any, **options: Any) -> Any:
        reads.append(path.name)
        return whole(path, *args, **options)

    monkeypatch.setattr(study_file, "read_yaml", read_yaml)

    asked = read_study_or_arms(path)

    assert isinstance(asked, Arms)
    assert reads == ["mine.yaml"]


def test_names_are_escaped_on_the_page() -> None:
    page = ArmsPage("<b>", (Table("t", [{"<i>": "<script>", "n": float("nan")}]),), {}, ("<u>",))

    html = arms_html(page)

    assert "<script>" not in html
    assert "<td>-</td>" in html
    assert "&lt;u&gt;: has not run" in html
