"""The page as a file: what is in it, what is not, and what it says without a script."""

import hashlib
import html
import json
import re
from base64 import b64encode
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramreuse.errors import MissingExtraError, StudyError
from paramreuse.plain_text import plain_text
from paramreuse.report import requirements
from paramreuse.report.contents import ExampleImage, ReportData, SourceReport
from paramreuse.report.page import render_page, write_report
from paramreuse.report.payload import missing_parts, page_payload
from paramreuse.report.pictures import picture_rows
from paramreuse.report.plain_values import embedded_json, plain, table
from paramreuse.reuse.verdict import judge
from paramreuse.sites.layers import Kind
from paramreuse.sites.matching import Site
from paramreuse.sites.swaps import pair_swaps, single_swaps
from samples.report import (
    comparison_rows,
    example_image,
    pilot_sweep,
    pspnet_sites,
    pspnet_study,
)


def embedded(page: str) -> Any:
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    return json.loads(data.group(1))


def small_study(**more: Any) -> ReportData:
    sweep = pilot_sweep(single_swaps(pspnet_sites()[:6]), num_subjects=4)
    return ReportData(study="s", sources=[SourceReport("lender", sweep=sweep)], **more)


def test_intervals_of_the_page_are_those_of_judge_to_the_last_bit() -> None:
    sites = pspnet_sites()[:18]
    sweep = pilot_sweep([*single_swaps(sites), *pair_swaps(sites)], num_subjects=7)
    data = ReportData(study="s", sources=[SourceReport("lender", sweep=sweep)])

    swaps = embedded(render_page(data))["sources"][0]["sweep"]["swaps"]

    ends = {swap["name"]: swap["judged"][0] for swap in swaps}
    judgements = judge(sweep).judgements
    assert ends == {j.swap.name: [j.drop, j.drop_low, j.drop_high] for j in judgements}
    kernels = [swap["name"] for swap in swaps if swap["kernel"]]
    assert kernels == ["W 1", "W 2", "W 3"]
    assert {swap["set"] for swap in swaps} == {"single", "pair"}


def test_nothing_on_the_page_can_leave_its_place() -> None:
    nasty = '</script><!-- <script>alert(1)</script> \u2028 \ud800 "quoted"'
    site = Site(1, nasty, Kind.W, "weight", (2, 2, 3, 3))
    sweep = pilot_sweep(single_swaps([site]), num_subjects=3)
    source = SourceReport(nasty, sweep=sweep, lineage_reason=nasty, plan=nasty)
    data = ReportData(
        study=nasty,
        network=nasty,
        sources=[source],
        provenance={nasty: [{nasty: nasty}]},
        missing={"curves": nasty},
    )

    page = render_page(data)

    assert page.count("<script") == 2
    assert page.count("</script") == 2
    assert page.count("<!--") == 0
    assert "alert(1)" not in page.replace("\\u003cscript\\u003ealert(1)", "").replace(
        "&lt;script&gt;alert(1)", ""
    )
    # JSON keeps the name as it was; a lone surrogate cannot be written as UTF-8.
    assert embedded(page)["sites"][0]["path"] == nasty
    assert plain_text(page) == page


def test_json_has_no_nan_and_infinity_is_shown_as_such() -> None:
    values = {
        "a": float("nan"),
        "b": np.float32("inf"),
        "c": np.arange(2),
        "d": np.nan * np.ones(1),
    }

    assert plain(values) == {"a": None, "b": None, "c": [0, 1], "d": [None]}
    assert table([{"x": float("inf"), "y": np.float64(0.5)}, {"y": None}]) == {
        "columns": ["x", "y"],
        "rows": [["∞", 0.5], [None, None]],
    }


def test_embedded_json_holds_no_tag_and_no_line_separator() -> None:
    text = embedded_json({"<a>": "</script><!--&\u2028é"})

    assert text.isascii()
    assert not set("<>&\n") & set(text)
    assert json.loads(text) == {"<a>": "</script><!--&\u2028é"}


def test_the_policy_allows_our_code_and_no_other() -> None:
    page = render_page(small_study())
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None

    for tag in ("style", "script"):
        code = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert code is not None
        digest = b64encode(hashlib.sha256(code.group(1).encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy.group(1)
    assert policy.group(1).startswith("default-src 'none'")


def test_the_page_names_no_place_on_the_network() -> None:
    page = render_page(replace(pspnet_study(), sources=small_study().sources))

    addresses = set(re.findall(r"(?:https?:)?//[a-z][\w.-]+\.[a-z]{2,}[\w/.-]*", page))

    assert addresses <= {"http://www.w3.org/2000/svg"}


def test_the_scripts_never_read_html() -> None:
    for file in (files("paramreuse.report") / "web").iterdir():
        if file.name.endswith(".js"):
            text = file.read_text(encoding="utf-8")
            for word in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("):
                assert word not in text, file.name
            assert "</" not in text, f"{file.name} could end its own element"


def test_the_page_says_what_was_found_without_a_script() -> None:
    study = small_study()

    page = render_page(study)

    assert study.sources[0].sweep is not None
    assert judge(study.sources[0].sweep).summary() in html.unescape(page)


def test_missing_parts_are_named_with_the_reason_and_the_source() -> None:
    bare = SourceReport("bare", comparison=comparison_rows(pspnet_sites()[:2], 0.5))
    study = small_study(missing={"transfer": "not run yet"}, edges=[])
    data = replace(study, sources=[*study.sources, bare])

    missing = {entry["part"].split(":")[0]: entry for entry in missing_parts(data)}

    assert missing["Transfer"]["reason"] == "not run yet"
    assert missing["Sweep"]["part"].endswith("(for bare)")
    assert "Distance between target and source (for lender)" in missing
    assert "Connections of the network" not in missing
    assert not missing_parts(pspnet_study())


def test_the_same_study_gives_the_same_bytes() -> None:
    assert render_page(small_study()) == render_page(small_study())


def test_write_report_says_where_it_could_not_write(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"cannot write the report .*gone.*No such file"):
        write_report(small_study(), tmp_path / "gone" / "report.html")


def test_a_missing_extra_is_named_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(requirements, "find_spec", lambda name: None)

    with pytest.raises(MissingExtraError, match=r"pip install 'paramreuse\[report\]'"):
        render_page(small_study())


def test_connections_are_told_by_layer_and_strangers_are_left_out() -> None:
    edges = [
        ("backbone.conv1", "backbone.layer1.0.conv1"),
        ("backbone.bn1", "backbone.layer1.0.conv1"),
        ("backbone.conv1", "backbone.conv1"),
        ("nowhere", "backbone.conv1"),
    ]
    data = ReportData(study="s", sites=pspnet_sites(), edges=edges)

    payload = page_payload(data)

    assert payload["edges"] == [[0, 1]]
    units = payload["units"]
    assert isinstance(units, list)
    assert len(units) == 26
    assert units[0]["sites"] == [0, 1, 2, 3, 4, 5]


def test_pictures_show_classes_in_colour_over_grey() -> None:
    grey = np.zeros((4, 4))
    labels = np.zeros((4, 4), int)
    labels[0, 0] = 1
    from matplotlib.image import imread

    rows: Any = picture_rows([ExampleImage("x", grey, labels, {"untouched": labels})])

    assert [p["title"] for p in rows[0]["pictures"]] == ["image", "labels", "untouched"]
    from base64 import b64decode
    from io import BytesIO

    picture = imread(BytesIO(b64decode(rows[0]["pictures"][1]["uri"].partition(",")[2])))
    # 0.55 of #0072B2 over black.
    np.testing.assert_allclose(picture[0, 0, :3] * 255, [0, 63, 98], atol=1)
    assert picture[1:, :, :3].max() == 0


def test_large_pictures_are_thinned_out() -> None:
    big = replace(example_image(), image=np.zeros((1000, 600)), labels=None, predictions={})

    rows: Any = picture_rows([big])

    assert len(rows[0]["pictures"][0]["uri"]) < 5000
