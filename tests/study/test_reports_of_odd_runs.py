"""Reports of runs that ended early, are large, or have names that a page must not obey."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from paramreuse.report.contents import ReportData, SourceReport
from paramreuse.report.page import render_page
from paramreuse.sites.layers import Kind
from paramreuse.sites.matching import Site
from paramreuse.sites.swaps import single_swaps
from paramreuse.study.run import STAGES, report_run, run_study
from samples.report import pilot_sweep
from samples.studies import given_content, study_of
from samples.transfers import Trainer

NAMES = ('it\'s "quoted"', "<img src=x onerror=alert(1)>", "\u05d0\u05d1\u05d2 \u202ehidden")


@pytest.mark.slow
def test_a_run_stopped_after_any_stage_has_a_report_that_names_what_is_missing(
    tmp_path: Path, trainer: Trainer
) -> None:
    transfer = {"subjects": [1], "strategies": ["scratch", "full"]}
    content = given_content(tmp_path, transfer=transfer, sweep={"engine": "full"})
    titles = {}
    for stage in STAGES:
        run_study(study_of(content), tmp_path / "run", until=stage)
        page = report_run(tmp_path / "run").read_text(encoding="utf-8")
        headline = re.search(r'<h1 id="answer-title">(.*?)</h1>', page)
        assert headline is not None
        titles[stage] = headline[1]
        assert ("<li>Sweep: what swapping each site costs" in page) is (
            stage in ("data", "train", "compare")
        )
        assert "<li>Transfer" not in page or stage not in ("transfer", "report")

    assert titles["data"] == titles["plan"] == "What to load has not been measured yet"
    assert titles["transfer"] == titles["report"] != titles["plan"]


def one_site_source(name: str) -> SourceReport:
    sites = [Site(1, "conv", Kind.W, "weight", (2, 2, 3, 3))]
    return SourceReport(name, sweep=pilot_sweep(single_swaps(sites), num_subjects=3))


def test_names_with_quotes_tags_and_marks_of_direction_stay_text() -> None:
    sources = [one_site_source(name) for name in NAMES]
    rows = [
        {"strategy": strategy, "source": name, "num_subjects": 3, "seed": 0, "mean": 0.5}
        for strategy in ("scratch", "full")
        for name in (NAMES if strategy == "full" else [""])
    ]

    page = render_page(ReportData(study=NAMES[1], network=NAMES[2], sources=sources, transfer=rows))

    assert "<img src" not in page
    assert "\u202e" not in page
    assert "\u05d0\u05d1\u05d2" in page
    assert "&lt;img src=x" in page


@pytest.mark.slow
def test_two_hundred_sources_and_two_thousand_layers_make_a_page_of_bearable_size() -> None:
    sweep = one_site_source("s0").sweep
    many = [replace(one_site_source("s0"), name=f"source {n}", sweep=sweep) for n in range(200)]
    layers = [Site(n, f"conv{n}", Kind.W, "weight", (2, 2, 3, 3)) for n in range(1, 2001)]
    deep = pilot_sweep(single_swaps(layers), num_subjects=8)

    wide = render_page(ReportData(study="wide", sources=many))
    long = render_page(ReportData(study="deep", sources=[SourceReport("s", sweep=deep)]))

    assert wide.count(": what each swap costs</h2>") == 200
    assert len(wide) < 2e6
    assert len(long) < 8e6
