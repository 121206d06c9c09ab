"""The page in Chromium: what it shows and what it does."""

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from paramreuse.recommendation.audit import BlockAudit
from paramreuse.report.contents import ReportData
from paramreuse.report.start_words import instruction, label
from paramreuse.report.starts import Interval, Start
from paramreuse.reuse.plan_file import read_plan
from paramreuse.reuse.planning import plan_reuse
from paramreuse.reuse.verdict import judge
from paramreuse.sites.swaps import Swap

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow


ACCEPTED = ("reusable", "identical")
"""The words that a study loads if it does not say otherwise."""


def test_page_opens_without_complaint_and_asks_nothing_of_the_network(show, study_page) -> None:
    opened = show(study_page[1])

    assert opened.complaints == []
    assert opened.foreign_requests == []
    assert "PSPNet" in opened.page.inner_text("#headline")


def table_rows(page: "Page", table: str) -> list[dict[str, str]]:
    """Read a table as it is shown, by the names of its columns."""
    names = [text.split()[0] for text in page.locator(f"{table} thead th").all_inner_texts()]
    rows = page.locator(f"{table} tbody tr").all()
    return [dict(zip(names, row.locator("td").all_inner_texts(), strict=True)) for row in rows]


def with_mean(study: ReportData, strategy: str, mean: float) -> ReportData:
    rows = [r | {"mean": mean} if r["strategy"] == strategy else r for r in study.transfer]
    return replace(study, transfer=rows)


@pytest.mark.parametrize("best", ["full", "plan-freeze", "plan-finetune"])
def test_the_first_screen_names_the_best_start_of_the_transfer_table(
    show, study_page, best: str
) -> None:
    opened = show(with_mean(study_page[0], best, 0.97))

    rows = table_rows(opened.page, "#transfer .box:nth-of-type(2) table")
    most = max(int(row["subjects"]) for row in rows)
    shown = [row for row in rows if int(row["subjects"]) == most]
    first = max(shown, key=lambda row: float(row["mean"]))
    start = Start(first["start"], "", Interval(float(first["mean"])))
    assert start.strategy == best
    assert opened.page.inner_text("h1") == instruction(start)
    picture = opened.page.locator(".tried tbody tr")
    assert picture.first.locator("th").inner_text().startswith(label(start))
    assert picture.first.locator(".number").first.inner_text() == first["mean"]
    # It is on the first screen, not below it.
    box = opened.page.locator(".tried").bounding_box()
    assert box["y"] + box["height"] < 800
    assert opened.complaints == []


def test_where_scratch_is_best_the_page_says_to_train_from_scratch(show, study_page) -> None:
    opened = show(with_mean(study_page[0], "scratch", 0.97))

    assert opened.page.inner_text("h1") == "Nothing to gain: train from scratch"
    assert "What to do next" not in opened.page.inner_text("#cards")
    assert "Not the start to use" in opened.page.inner_text("#cards")


def test_a_plan_that_costs_more_at_once_than_the_tolerance_is_warned_of(show, study_page) -> None:
    study = study_page[0]
    opened = show(replace(study, sources=[replace(study.sources[0], joint_drop=0.31)]))

    assert "costs 0.310, more than the tolerance of 0.02" in opened.page.inner_text("#cards")
    opened.set_tolerance(0.4)
    assert "more than the tolerance" not in opened.page.inner_text("#cards")


def test_without_a_script_the_numbers_are_in_tables(browser, study_page) -> None:
    study, path = study_page
    page = browser.new_page(java_script_enabled=False)
    page.goto(path.as_uri())

    text = page.inner_text("main")

    assert "Load from the source" in page.inner_text("h1")
    judged = judge(study.sources[1].sweep).judgements
    table = page.locator("section", has_text="t1-seg: what each swap costs").locator("table")
    assert table.locator("tbody tr").count() == len(judged)
    assert "What reuse gains" in text
    page.close()


@pytest.mark.parametrize("tolerance", [0.0, 0.0123, 0.02, 0.1, 0.5])
@pytest.mark.parametrize("number", [0, 1])
def test_the_page_judges_as_python_does(show, study_page, number: int, tolerance: float) -> None:
    study, path = study_page
    opened = show(path)
    opened.page.locator("#sources [role=radio]").nth(number).click()
    opened.set_tolerance(tolerance)

    verdict = judge(study.sources[number].sweep, tolerance=tolerance)

    single = [j for j in verdict.judgements if len(j.swap.sites) == 1]
    assert opened.words() == {j.swap.name: j.verdict.value for j in single}
    kernels = verdict.kernel_judgements
    loaded = sum(j.can_be_loaded for j in kernels)
    headline = "is a reusable network" if verdict.reusable_network else "is not a reusable network"
    if verdict.cannot_tell:
        headline = "Single swaps cannot tell"
    assert headline in opened.page.inner_text("#headline")
    assert f"{loaded} of {len(kernels)} kernel layers" in opened.page.inner_text("#lede")
    by_paper = sum(j.paper == "reusable" for j in kernels)
    assert f"{by_paper} of {len(kernels)} pass" in opened.page.inner_text("#lede")


def test_an_interval_that_ends_at_the_tolerance_is_judged_alike(show, study_page) -> None:
    study, path = study_page
    opened = show(path)
    sweep = study.sources[0].sweep
    kernels = judge(sweep).kernel_judgements
    ends = [end for j in kernels for end in (j.drop_low, j.drop_high, j.drop) if end > 0]

    for tolerance in ends[::7]:
        opened.set_tolerance(tolerance)
        single = [j for j in judge(sweep, tolerance=tolerance).judgements if len(j.swap.sites) == 1]
        assert opened.words() == {j.swap.name: j.verdict.value for j in single}
        by_paper = sum(j.paper == "reusable" for j in single if is_kernel(j.swap))
        assert f"{by_paper} of {len(kernels)} pass" in opened.page.inner_text("#lede")


def is_kernel(swap: Swap) -> bool:
    return swap.kind == "W" and not swap.sites[0].is_output


def test_the_slider_moves_map_words_and_plan(show, study_page) -> None:
    study, path = study_page
    opened = show(path)
    before = opened.words()
    opened.page.evaluate(
        "s => { s.value = s.max; s.dispatchEvent(new Event('input')); }",
        opened.page.query_selector("#slider"),
    )
    tolerance = float(opened.page.input_value("#slider"))

    verdict = judge(study.sources[0].sweep, tolerance=tolerance)

    assert opened.words() != before
    plan = plan_reuse(verdict, accept=ACCEPTED)
    counted = plan.counted
    loads = sum(entry.action != "leave" for entry in counted)
    assert opened.page.inner_text("#plan-count").startswith(f"Load {loads} of {len(counted)} sites")
    assert float(opened.page.input_value("#exact")) == tolerance


def test_the_saved_plan_is_the_one_python_makes(show, study_page, tmp_path: Path) -> None:
    study, path = study_page
    opened = show(path)
    opened.set_tolerance(0.05)
    with opened.page.expect_download() as download:
        opened.page.click("#save-plan")
    download.value.save_as(tmp_path / "plan.yaml")

    saved = read_plan(tmp_path / "plan.yaml")

    made = plan_reuse(
        judge(study.sources[0].sweep, tolerance=0.05), source="acdc-ae", accept=ACCEPTED
    )
    assert saved == made


def test_the_share_curve_is_what_judge_says_between_its_steps(show, study_page) -> None:
    study, path = study_page
    opened = show(path)
    steps = opened.page.evaluate("ourSteps(DATA.sources[0], parts.scale.most)")
    middles = [(a[0] + b[0]) / 2 for a, b in pairwise(steps)]

    shares = [judge(study.sources[0].sweep, tolerance=t).kernel_share for t in middles]

    assert len(steps) > 5
    assert [step[1] for step in steps[:-1]] == shares


def test_one_cell_per_site_with_its_numbers_on_hover_and_focus(show, study_page) -> None:
    study, path = study_page
    opened = show(path)
    cells = opened.page.locator("#map-svg .cell")
    assert cells.count() == len(study.sites)

    cells.nth(0).hover()
    assert "W 1 · backbone.conv1" in opened.page.inner_text("#tip")
    assert "shuffled control" in opened.page.inner_text("#tip")
    cells.nth(0).focus()
    opened.page.keyboard.press("ArrowDown")
    assert "B 1 · backbone.conv1" in opened.page.inner_text("#tip")
    opened.page.keyboard.press("ArrowRight")
    assert "B 2 · backbone.layer1.0.conv1" in opened.page.inner_text("#tip")


def test_a_layer_opens_by_click_and_by_key_and_gives_the_focus_back(show, study_page) -> None:
    opened = show(study_page[1])
    opened.page.locator("#map-svg .cell").nth(1).click()
    panel = opened.page.locator(".layer-panel")
    # Nothing of the widest table is cut off.
    assert panel.evaluate("e => e.querySelector('table').scrollWidth <= e.clientWidth - 44")
    assert panel.locator("h2").inner_text() == "Layer 2"
    assert panel.locator("tbody tr").count() == 6
    assert panel.locator("svg[role=img]").count() == 4

    opened.page.keyboard.press("Escape")
    assert panel.count() == 0
    assert opened.page.evaluate("document.activeElement.dataset.site") is not None
    opened.page.keyboard.press("Enter")
    assert panel.count() == 1
    assert opened.complaints == []


def test_tables_sort_and_figures_and_tables_can_be_taken_away(show, study_page) -> None:
    opened = show(study_page[1])
    table = opened.page.locator("#transfer table").first
    head = table.locator("th", has_text=re.compile("^mean"))
    head.locator("button").click()
    column = table.locator("tbody td:has(strong)").all_inner_texts()
    assert column == sorted(column, key=float)
    assert head.get_attribute("aria-sort") == "ascending"

    files = {}
    for word in ("SVG", "PNG", "CSV"):
        with opened.page.expect_download() as download:
            opened.page.locator("#transfer figure .export button", has_text=word).first.click()
        files[word] = Path(download.value.path()).read_bytes()
    assert files["SVG"].startswith(b"<svg")
    assert b"var(" not in files["SVG"]
    assert files["PNG"].startswith(b"\x89PNG")
    assert files["CSV"].startswith(b"series,start,Dice,low,high\r\n10 subjects")
    assert opened.complaints == []


def test_a_score_measured_at_some_epochs_only_is_one_line_per_model(show, study_page) -> None:
    opened = show(study_page[1])
    paths = opened.page.locator("#curves figure").nth(1).locator("svg path")

    drawn = [path.get_attribute("d") for path in paths.all()]

    # Epochs 5, 10, ..., 40: one start and seven strokes for each of three models.
    assert [(d.count("M"), d.count("L")) for d in drawn] == [(1, 7)] * 3


def test_the_starts_of_the_transfer_have_learning_curves(show, study_page) -> None:
    rows = [
        {"model": name, "epoch": epoch, "train_loss": 1 / epoch, "validation_score": epoch / 10}
        for name in ("from scratch", "everything, t1-seg")
        for epoch in (1, 2, 3)
    ]
    opened = show(replace(study_page[0], transfer_curves=rows))

    assert "everything, t1-seg" in opened.page.inner_text("#transfer .legend:has(+ .panels)")
    assert opened.page.locator("#transfer .panels svg[role=img]").count() == 2
    assert opened.complaints == []


def test_what_is_gained_at_the_end_at_which_cut_and_by_which_block_is_shown(
    show, study_page
) -> None:
    transfer = [
        row | {"mean_twice": float(str(row["mean"])) + 0.001, "steps_to_scratch": 40.0}
        for row in study_page[0].transfer
    ]
    depth = [
        {"source": "t1", "num_subjects": 10, "share": share, "gain": gain}
        | {"gain_low": gain - 0.01, "gain_high": gain + 0.01}
        for share, gain in ((0.0, 0.0), (0.5, 0.12), (1.0, 0.08))
    ]
    blocks = [
        BlockAudit("layer1", 0.01, 0.4, (0.0, 0.02), (0.3, 0.5)),
        BlockAudit("head", 0.0, 0.0),
    ]
    rewind = [{"source": "t1", "num_subjects": 10} | block.to_dict() for block in blocks]

    opened = show(replace(study_page[0], transfer=transfer, depth=depth, rewind=rewind))

    heads = opened.page.locator("#transfer table").first.locator("thead th").all_inner_texts()
    wanted = ("mean, twice as long", "converged", "gain at the end", "steps to scratch")
    assert [name for name in wanted if not any(name in head for head in heads)] == []
    path = opened.page.locator("#depth svg path").first.get_attribute("d")
    assert (path.count("M"), path.count("L")) == (1, 2)
    assert opened.page.locator("#depth svg circle").count() == 3
    told = opened.page.inner_text("#rewind")
    assert "layer1" in told
    assert "the source helps, training it helps more" in told
    assert "0.010 (0.000 to 0.020)" in told
    assert opened.complaints == []


def subject_rows(scores: dict[str, list[float]]) -> list[dict[str, object]]:
    return [
        {"model": model, "subject": f"p{number}", "score": score}
        for model, held in scores.items()
        for number, score in enumerate(held)
    ]


def test_subjects_under_two_starts_stand_against_each_other(show, study_page) -> None:
    scores = {
        "everything, t1-seg": [0.9, 0.8, 0.7],
        "from scratch": [0.5, 0.9, 0.6],
        "plan, frozen, t1-seg": [0.4, 0.4, 0.4],
    }
    opened = show(replace(study_page[0], subject_scores=subject_rows(scores)))
    panel = opened.page.locator("#transfer .square")

    # By hand: p0 and p2 do better with the source.
    assert "everything, t1-seg is better: 2 of 3 subjects" in panel.inner_text()
    dots = panel.locator("svg circle")
    first = [(float(d.get_attribute("cx")), float(d.get_attribute("cy"))) for d in dots.all()]
    assert len(first) == 3
    assert first[0][0] < first[1][0]
    assert first[0][1] < first[2][1]
    panel.locator("select").first.select_option("plan, frozen, t1-seg")
    assert "plan, frozen, t1-seg is better: 0 of 3 subjects" in panel.inner_text()
    assert opened.complaints == []


def test_each_picture_of_a_subject_has_its_score_beside_it(show, study_page) -> None:
    example = replace(study_page[0].examples[0], scores={"untouched": 0.8125})
    opened = show(replace(study_page[0], examples=[example]))

    captions = opened.page.locator("#examples figcaption").all_inner_texts()

    assert captions[2].split("\n") == ["untouched", "Dice 0.813"]
    assert captions[0] == "image"


def test_a_word_is_explained_to_pointer_and_keyboard(show, study_page) -> None:
    opened = show(study_page[1])
    word = opened.page.locator("#lede .term").first

    assert word.inner_text() == "kernel layers"
    word.focus()
    assert "the output layer does not count" in opened.page.inner_text("#tip")
    opened.page.keyboard.press("Tab")
    assert "the output layer does not count" not in opened.page.inner_text("#tip")
    opened.page.locator("#cards .ranges .term", has_text="RM").hover()
    assert "running mean" in opened.page.inner_text("#tip")
    assert "RV running variance" in opened.page.inner_text("#kinds")


def test_the_slider_says_its_value(show, study_page) -> None:
    opened = show(study_page[1])
    opened.set_tolerance(0.05)

    assert opened.page.get_attribute("#slider", "aria-valuetext") == "0.05 Dice"


def test_colours_follow_the_reader(show, study_page) -> None:
    opened = show(study_page[1], color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = opened.page.evaluate(ground)

    opened.page.click("#theme")

    assert opened.page.evaluate(ground) != dark
    assert sum(map(int, re.findall(r"\d+", dark)[:3])) < 150


def test_a_phone_gets_the_map_upright_and_nothing_sticks_out(show, study_page) -> None:
    opened = show(study_page[1], viewport={"width": 400, "height": 800})

    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 400
    box = opened.page.locator("#map-svg").bounding_box()
    assert box["height"] > box["width"]
