"""The page's script judges as Python does, run by Node."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paramreuse.report
from paramreuse.report.contents import ReportData, SourceReport
from paramreuse.report.payload import page_payload
from paramreuse.reuse.network import why_useless
from paramreuse.reuse.power import subjects_needed
from paramreuse.reuse.verdict import judge
from paramreuse.sites.swaps import single_swaps
from paramreuse.sweep.outcomes import Sweep
from samples.report import pilot_sweep, pspnet_sites

NODE = shutil.which("node") or ""
SCRIPT = Path(paramreuse.report.__file__).parent / "web" / "judging.js"
TOLERANCES = (0.0, 0.005, 0.02, 0.031, 0.1, 0.5)

ASK = """
const source = DATA.sources[0];
prepare(source);
const { kernels, swaps } = source.sweep;
const judged = TOLERANCES.map((tolerance) => ({
  words: Object.fromEntries(swaps.map((swap) => [swap.name, judgeSwap(swap, tolerance)])),
  share: shareOf(kernels, tolerance),
  wrong: expectedWrong(swaps, tolerance).wrong,
  needed: subjectsNeeded(source, kernels, tolerance),
  useless: Boolean(whyUseless(source.sweep, tolerance)),
  blind: Boolean(whyBlind(source.sweep, tolerance)),
}));
process.stdout.write(JSON.stringify(judged));
"""


def told_by_the_page(sweep: Sweep) -> list[dict[str, Any]]:
    payload = page_payload(ReportData(study="s", sources=[SourceReport("lender", sweep=sweep)]))
    words = ["reusable", "identical", "indifferent", "undecided", "too few subjects"]
    stubs = (
        f"const DATA = {json.dumps(payload)}; const TOLERANCES = {json.dumps(TOLERANCES)};"
        f"const VERDICTS = {json.dumps([*words, 'not reusable', 'not finite'])};"
        "const num = (value) => (value === null || value === undefined ? NaN : Number(value));"
        "const fmt = String;"
    )
    text = stubs + SCRIPT.read_text(encoding="utf-8") + ASK
    done = subprocess.run([NODE, "-"], input=text, capture_output=True, text=True, check=True)
    judged: list[dict[str, Any]] = json.loads(done.stdout)
    return judged


@pytest.mark.skipif(not NODE, reason="node is not installed")
@pytest.mark.parametrize(
    ("num_subjects", "facts"),
    [
        (40, {}),
        (9, {"lineage": "independent"}),
        (8, {"alike": frozenset({("RW 2", "shuffled"), ("W 3", "shuffled")})}),
        (12, {"not_finite": frozenset({("W 2", "source"), ("W 4", "shuffled")})}),
        (12, {"constant": 0.999}),
        (5, {}),
        (1, {}),
    ],
)
def test_the_page_judges_as_python_does(num_subjects: int, facts: dict[str, Any]) -> None:
    swaps = single_swaps(pspnet_sites()[:60])
    sweep = replace(pilot_sweep(swaps, num_subjects=num_subjects), **facts)

    for tolerance, theirs in zip(TOLERANCES, told_by_the_page(sweep), strict=True):
        ours = judge(sweep, tolerance=tolerance)
        assert theirs["words"] == {j.swap.name: j.verdict.value for j in ours.judgements}
        share = (ours.kernel_share, *ours.kernel_share_interval)
        assert tuple(theirs["share"][key] for key in ("share", "low", "high")) == share
        assert theirs["wrong"] == pytest.approx(ours.expected_wrong, rel=1e-6, abs=1e-9)
        assert theirs["needed"] == subjects_needed(sweep, tolerance=tolerance)
        assert theirs["useless"] == bool(why_useless(sweep, tolerance))
        assert theirs["blind"] == bool(ours.cannot_tell) or ours.reusable_network


@pytest.mark.skipif(not NODE, reason="node is not installed")
def test_the_tail_of_students_distribution_is_scipys() -> None:
    from scipy.stats import t as student_t

    quantiles = [0.0, 0.1, 1.0, 2.5, 12.7, 60.0]
    ask = (
        "const DATA = {}; const VERDICTS = [];"
        + SCRIPT.read_text(encoding="utf-8")
        + f"const q = {json.dumps(quantiles)}; const ns = [1, 2, 3, 4, 7, 8, 39];"
        "process.stdout.write(JSON.stringify(ns.map((n) => q.map((x) => studentTail(x, n)))));"
    )
    done = subprocess.run([NODE, "-"], input=ask, capture_output=True, text=True, check=True)

    theirs = [student_t.sf(quantiles, freedom) for freedom in (1, 2, 3, 4, 7, 8, 39)]
    np.testing.assert_allclose(json.loads(done.stdout), theirs, atol=1e-13)
