"""A study one of whose sources holds a bad value: it is run to the end, and the page says so."""

import json
import re
from pathlib import Path

import pytest
import torch

from paramreuse.checkpoint import write_checkpoint
from paramreuse.cli import main
from samples.studies import given_content, seeded, write_study


def run_with(*arguments: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert end.value.code == 0


@pytest.mark.slow
def test_a_study_with_a_bad_value_in_a_source_ends_with_report_ranking_and_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = given_content(tmp_path)
    model = seeded(1)
    model.state_dict()["0.weight"].view(-1)[0] = torch.nan
    model.state_dict()["4.running_var"][0] = torch.inf
    write_checkpoint(tmp_path / "ae.safetensors", model)
    folder = tmp_path / "run"

    run_with("run", str(write_study(tmp_path / "study.yaml", content)), "--out", str(folder))

    assert "not finite: W 1, RV 2" in capsys.readouterr().err
    page = (folder / "report.html").read_text(encoding="utf-8")
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    swaps = {swap["name"]: swap for swap in json.loads(data[1])["sources"][0]["sweep"]["swaps"]}
    assert swaps["W 1"]["notFinite"][0] is True
    assert swaps["W 1"]["judged"][0] == [None, None, None]
    assert swaps["B 1"]["notFinite"][0] is False
    plan = (folder / "plans" / "ae.yaml").read_text(encoding="utf-8")
    assert plan.count("not finite") == 2
    run_with("judge", str(folder), "--json")
    sites = json.loads(capsys.readouterr().out)[0]["sites"]
    assert [s["swap"] for s in sites if s["verdict"] == "not finite"] == ["W 1", "RV 2"]
    run_with("rank", str(folder), "--json")
    assert json.loads(capsys.readouterr().out)
