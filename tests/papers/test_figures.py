"""The papers' figures: what is in their tables, what is drawn of it, and drawing it again."""

import re
import sys
from collections import Counter
from dataclasses import replace
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paramreuse.errors import StudyError
from paramreuse.papers.evidence import Arm, Role
from paramreuse.papers.figures.data import FigureFrames, figure_frames
from paramreuse.papers.figures.drawing import draw, redraw
from paramreuse.papers.figures.svg import svg_text
from paramreuse.papers.figures.table import read_frame, title_of
from paramreuse.papers.model_words import model_words
from samples.paper_figures import (
    ROLES,
    TRANSFER,
    biased_arm,
    made_up_evidence,
    made_up_sites,
    pair_distances,
    paper_arm,
    paper_scores,
    paper_sweep,
)

NUMBERS = [f"figure-{number:02d}" for number in range(3, 15)]
KINDS = ["W", "B", "RM", "RV", "RW", "RB"]


@pytest.fixture(scope="module")
def figures() -> FigureFrames:
    return figure_frames(made_up_evidence())


def frame_of(name: str, *arms: Arm) -> pd.DataFrame:
    return figure_frames(made_up_evidence(*arms)).frames[name]


def reason(name: str, *arms: Arm) -> str:
    made = figure_frames(made_up_evidence(*arms))
    assert name not in made.frames
    return made.missing[name]


def curves(axes: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in axes.lines}


# --- what is in the tables ----------------------------------------------------------------------


def test_every_figure_of_the_papers_is_made(figures: FigureFrames) -> None:
    assert list(figures.frames) == NUMBERS
    assert not figures.missing
    for name, frame in figures.frames.items():
        assert set(frame["figure"]) == {name}
        assert set(frame["network"]) == {"UNet" if name < "figure-07" else "PSPNet"}


def test_a_sweep_holds_every_class_and_the_control(figures: FigureFrames) -> None:
    frame = figures.frames["figure-04"].query("kind == 'W'").set_index(["layer", "replacement"])

    first = frame.loc[1, "source"].set_index("class")["dice"]
    # The first kernel costs 0.1, a second one 0.01, and the control 0.3 more.
    assert first.to_dict() == pytest.approx(
        {"background": 1.0, "RV": 0.7, "myocardium": 0.7, "LV": 0.8, "mean": 2.2 / 3}
    )
    rv = frame[frame["class"] == "RV"]["dice"]
    assert rv[2, "source"] == pytest.approx(0.79)
    assert rv[1, "shuffled"] == pytest.approx(0.4)
    assert set(frame[frame["class"] == "RV"]["baseline"]) == {0.8}
    assert set(frame[frame["foreground"]]["class"]) == {"RV", "myocardium", "LV"}
    assert set(frame[frame["is_output"]].index.get_level_values("layer")) == {5}


def test_figures_3_and_7_hold_the_normalisation_and_4_and_8_the_convolution(
    figures: FigureFrames,
) -> None:
    for number, kinds in {3: KINDS[2:], 7: KINDS[2:], 4: KINDS[:2], 8: KINDS[:2]}.items():
        assert set(figures.frames[f"figure-{number:02d}"]["kind"]) == set(kinds)


def test_pspnets_biases_are_of_the_arm_that_has_them_all(figures: FigureFrames) -> None:
    for name in ("figure-08", "figure-10"):
        arms = figures.frames[name].groupby("kind")["arm"].unique()
        assert (arms["W"], arms["B"]) == (["pspnet-shared"], ["pspnet-bias"])
        # Without that arm only the last layer has one, and the output layer.
        alone = frame_of(name, paper_arm("pspnet")).query("kind == 'B'")
        assert set(alone["layer"]) == {4, 5}
        assert set(alone["arm"]) == {"pspnet-shared"}


def test_only_the_arm_with_biases_stands_for_pspnet(figures: FigureFrames) -> None:
    frame = frame_of("figure-08", biased_arm())

    assert set(frame["arm"]) == {"pspnet-bias"}


def test_figure_5_holds_shifts_and_scales_by_layer(figures: FigureFrames) -> None:
    frame = figures.frames["figure-05"].pivot(index="layer", columns="quantity", values="value")

    assert frame.loc[1].to_dict() == {
        "MRM": 2.0,
        "MRB": 0.05,
        "MRV": 1.1,
        "MRW": 1.2,
        "MRW median": 1.0,
    }
    assert list(frame.index) == [1, 2, 3, 4]


def test_a_number_that_the_store_could_not_hold_is_no_number() -> None:
    row = {"layer": 1, "mrm": 1.0, "mrv": 1.0, "mrw": None, "mrw_median": 1.0, "mrb": 1.0}
    frame = frame_of("figure-05", paper_arm(batchnorms={"A2": [row]}))

    assert frame.set_index("quantity")["value"].isna().to_dict() == {
        "MRM": False,
        "MRB": False,
        "MRV": False,
        "MRW": True,
        "MRW median": False,
    }


def test_figure_6_holds_the_first_source_alone_whichever_way_round() -> None:
    sites = made_up_sites(2, biased=True)
    arm = paper_arm(distances=pair_distances("A2", "target", sites, lambda site: site.layer / 8))

    frame = frame_of("figure-06", arm)

    assert frame[["first", "second"]].drop_duplicates().to_numpy().tolist() == [["target", "A2"]]
    kernels = frame.query("kind == 'W'").set_index("layer")["rmse"]
    assert kernels.to_dict() == {1: 0.125, 2: 0.25, 3: 0.375}
    assert set(frame["relative_rmse"] / frame["rmse"]) == {10.0}


def test_figures_11_and_12_hold_every_two_of_four_models(figures: FigureFrames) -> None:
    labels = {name: list(dict.fromkeys(figures.frames[name]["label"])) for name in NUMBERS[-4:-2]}

    assert labels == {
        "figure-11": ["A1 - A2", "A1 - B1", "A1 - B2", "A2 - B1", "A2 - B2", "B1 - B2"],
        "figure-12": ["A1 - B1", "A1 - B2", "A1 - C1", "B1 - B2", "B1 - C1", "B2 - C1"],
    }
    frame = figures.frames["figure-12"].query("label == 'B2 - C1' and layer == 2")
    # Models 3 and 4 of the made-up ones: 0.01 (3 + 4) + 2 / 1000.
    assert frame["rmse"].tolist() == [pytest.approx(0.072)]
    assert frame["first_words"].tolist() == ["B2 t1 autoencoder"]
    assert set(figures.frames["figure-11"]["kind"]) == {"W"}


def test_models_are_told_apart_whatever_stands_in_for_the_papers_data() -> None:
    roles = {
        "target": Role("here", "phantom", "segmentation"),
        "A2": Role("here", "phantom", "autoencoder"),
        "B1": Role("there", "phantom", "segmentation"),
        "C1": Role("there", "phantom", "segmentation"),
        "D1": Role("acdc", "acdc", "segmentation"),
    }

    assert model_words(paper_arm(roles=roles)) == {
        "target": "here segmentation",
        "A2": "phantom autoencoder",
        "B1": "there segmentation (B1)",
        "C1": "there segmentation (C1)",
        "D1": "acdc segmentation",
    }


def test_figure_13_compares_with_b2_trained_along_on_most_subjects(figures: FigureFrames) -> None:
    frame = figures.frames["figure-13"]

    assert list(dict.fromkeys(frame["label"])) == ["n10", "f10", "nf10", "n50", "f50"]
    assert set(frame["second"]) == {"plan-finetune-B2-50"}
    assert set(frame["kind"]) == set(KINDS)
    row = frame.query("label == 'f50' and kind == 'RM' and layer == 2").iloc[0]
    assert row["first"] == "plan-freeze-B2-50"
    # Tenth of the models kept: 0.02 * 10 + 2 / 2000.
    assert row["rmse"] == pytest.approx(0.201)
    assert row["first_words"] == "B2 t1 autoencoder loaded and frozen"
    assert row["second_words"] == "nf50: B2 t1 autoencoder loaded, not frozen"


def test_figure_14_compares_what_reuses_c1_with_the_same_model(figures: FigureFrames) -> None:
    frame = figures.frames["figure-14"]

    assert list(dict.fromkeys(frame["label"])) == ["f10", "nf10", "f50", "nf50"]
    assert set(frame["second"]) == {"plan-finetune-B2-50"}
    assert set(frame["first"].str.extract("-(..)-")[0]) == {"C1"}


def test_the_numbers_of_subjects_are_those_of_the_run() -> None:
    sites = made_up_sites(2, biased=True)
    scores = paper_scores({(s, plan, 8): [[1.0] * 4] for s, plan, n in TRANSFER if n == 10})
    ideal = "plan-finetune-B2-8"
    distances = [
        row
        for name in ("scratch-8", "plan-freeze-B2-8")
        for row in pair_distances(ideal, name, sites, lambda site: 0.5)
    ]

    frame = frame_of("figure-13", paper_arm("pspnet", transfer=scores, distances=distances))

    assert list(dict.fromkeys(frame["label"])) == ["n8", "f8"]


@pytest.mark.parametrize("name", NUMBERS)
def test_a_figure_without_its_arm_is_missing_with_the_reason(name: str) -> None:
    unet = name < "figure-07"
    other = paper_arm("pspnet" if unet else "unet")
    network = "unet" if unet else "pspnet"

    assert reason(name, other) == f"the arm {network}, shared start, has not run"


def test_a_training_that_was_left_out_has_no_curve() -> None:
    arm = paper_arm("pspnet")
    kept = tuple(score for score in arm.transfer if score.strategy != "plan-freeze")

    frame = frame_of("figure-13", replace(arm, transfer=kept))

    assert list(dict.fromkeys(frame["label"])) == ["n10", "nf10", "n50"]


def test_a_figure_without_its_models_is_missing_with_the_reason() -> None:
    fewer = {name: role for name, role in ROLES.items() if name != "C1"}
    arm = paper_arm("pspnet")
    kept = [d for d in arm.distances if "scratch-10" not in (d.first, d.second)]

    assert reason("figure-12", replace(arm, roles=fewer)).endswith("has no model C1")
    assert reason("figure-14", replace(arm, roles=fewer)).endswith("has no model C1")
    assert reason("figure-13", replace(arm, transfer=())).endswith("has no transfer")
    scratch = tuple(score for score in arm.transfer if score.strategy == "scratch")
    assert reason("figure-14", replace(arm, transfer=scratch)).endswith("model that reuses C1")
    assert reason("figure-13", replace(arm, distances=kept)) == (
        "the arm 'pspnet-shared' has no distance in W, B, RM, RV, RW, RB between 'scratch-10' and "
        "'plan-finetune-B2-50'"
    )
    assert reason("figure-10", replace(arm, sources=())).endswith("has no source")
    assert reason("figure-07", replace(arm, sweeps={})).endswith("no sweep of its first source")
    assert "compared no BatchNorm" in reason("figure-09", replace(arm, batchnorms={}))
    kernels = [site for site in made_up_sites(3, biased=False) if site.kind == "W"]
    sweeps = {"A2": paper_sweep(kernels)}
    assert reason("figure-07", replace(arm, sweeps=sweeps)).endswith(
        "has no single swap of RB, RM, RV, RW"
    )


def test_independent_starts_are_figures_of_their_own_where_they_were_run() -> None:
    evidence = made_up_evidence(paper_arm(), paper_arm(start="independent"))

    made = figure_frames(evidence)

    assert sorted(made.frames) == sorted(
        f"figure-0{number}{ending}" for number in (3, 4, 5, 6) for ending in ("", "-independent")
    )
    assert sorted(made.missing) == NUMBERS[4:]
    assert set(made.frames["figure-03-independent"]["arm"]) == {"unet-independent"}


# --- what is drawn ------------------------------------------------------------------------------


def test_a_panel_per_kind_has_the_foreground_and_its_baselines(figures: FigureFrames) -> None:
    frame = figures.frames["figure-04"]

    drawn = draw(frame)

    assert [axes.get_title() for axes in drawn.axes] == ["W (kernel)", "B (bias)"]
    lines = curves(drawn.axes[0])
    assert list(lines) == [
        *("RV", "RV, baseline", "myocardium", "myocardium, baseline", "LV", "LV, baseline"),
    ]
    np.testing.assert_allclose(lines["RV"].get_ydata(), [0.7, 0.79, 0.7, 0.79])
    # The fifth convolution is the output layer, which the papers do not count.
    assert list(lines["RV"].get_xdata()) == [1, 2, 3, 4]
    base = lines["RV, baseline"]
    assert set(base.get_ydata()) == {0.8}
    assert base.get_linestyle() == "--"
    assert base.get_color() == lines["RV"].get_color()
    assert len({lines[name].get_color() for name in ("RV", "myocardium", "LV")}) == 3


@pytest.mark.parametrize("name", NUMBERS)
def test_layers_are_whole_numbers_from_1_and_axes_are_named(
    figures: FigureFrames, name: str
) -> None:
    drawn = draw(figures.frames[name])

    for axes in drawn.axes:
        assert list(axes.get_xticks()) == [1, 2, 3, 4]
        assert axes.get_xlabel() == "layer"
    assert drawn.axes[0].get_ylabel() in ("Dice", "RMSE", "shift")
    assert drawn.get_suptitle().startswith(f"Figure {int(name[-2:])}. ")
    assert drawn.legends


def test_many_layers_have_every_second_number() -> None:
    arm = paper_arm(num_layers=25)

    assert list(draw(frame_of("figure-06", arm)).axes[0].get_xticks()) == list(range(1, 26, 2))


def test_figure_5_leaves_layer_1_out_of_one_panel(figures: FigureFrames) -> None:
    shift, rest, scale = draw(figures.frames["figure-05"]).axes

    assert list(curves(shift)["MRM"].get_ydata()) == [2.0, 0.1, 0.1, 0.1]
    assert list(curves(rest)["MRM"].get_xdata()) == [2, 3, 4]
    assert list(curves(scale)) == ["MRV", "MRW", "MRW median"]


@pytest.mark.parametrize("far", [1000.0, -1000.0, np.inf])
def test_one_weight_near_0_does_not_flatten_the_scales(figures: FigureFrames, far: float) -> None:
    frame = figures.frames["figure-05"].copy()
    frame.loc[(frame["quantity"] == "MRW") & (frame["layer"] == 3), "value"] = far

    scale = draw(frame).axes[2]

    assert scale.get_ylim()[1] - scale.get_ylim()[0] < 1
    assert f"MRW off the scale: {far:.3g} (layer 3)" in scale.get_title()
    assert "off the scale" not in draw(figures.frames["figure-05"]).axes[2].get_title()
    # The means that are not far stay in view.
    low, high = scale.get_ylim()
    assert low < 1.0
    assert high > 1.2


def test_scales_that_are_all_unknown_or_far_can_be_drawn(figures: FigureFrames) -> None:
    frame = figures.frames["figure-05"].copy()
    frame.loc[frame["quantity"].isin(["MRV", "MRW median"]), "value"] = np.nan
    frame.loc[frame["quantity"] == "MRW", "value"] = np.inf

    title = draw(frame).axes[2].get_title()

    assert title.endswith("inf (layer 1), inf (layer 2), inf (layer 3) and 1 more")


def test_distances_of_every_pair_are_drawn(figures: FigureFrames) -> None:
    frame = figures.frames["figure-11"]

    (axes,) = draw(frame).axes

    assert list(curves(axes)) == list(dict.fromkeys(frame["label"]))
    np.testing.assert_allclose(curves(axes)["A1 - A2"].get_ydata(), [0.011, 0.012, 0.013, 0.014])
    assert axes.get_ylim()[0] == 0


def test_a_kind_that_no_layer_has_is_said_to_be_none(figures: FigureFrames) -> None:
    frame = figures.frames["figure-13"]

    panels = draw(frame[frame["kind"] != "B"]).axes

    assert [text.get_text() for text in panels[1].texts] == ["no layer has one"]
    assert not panels[0].texts


def test_the_title_says_which_start_is_the_papers(figures: FigureFrames) -> None:
    started = {
        (network, start): title_of(frame_of(name, paper_arm(network, start)))
        for network, name in (("unet", "figure-03"), ("pspnet", "figure-07"))
        for start, name in (("shared", name), ("independent", f"{name}-independent"))
    }

    assert "as the papers' did from ImageNet's" in started["pspnet", "shared"]
    assert "unlike the papers'" in started["pspnet", "independent"]
    assert "the papers do not say" in started["unet", "independent"]


# --- drawing again ------------------------------------------------------------------------------


QUICK = ("figure-05", "figure-12")


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NUMBERS]
)
def test_a_figure_is_the_same_when_drawn_from_its_csv(
    figures: FigureFrames, name: str, tmp_path: Path
) -> None:
    frame = figures.frames[name]
    path = tmp_path / f"{name}.csv"
    frame.to_csv(path, index=False)

    again = read_frame(path)

    pd.testing.assert_frame_equal(again, frame, check_exact=True, check_dtype=False)
    assert svg_text(redraw(path), "f") == svg_text(draw(frame), "f")


def test_names_stay_text_whatever_they_look_like(tmp_path: Path) -> None:
    names = ("NA", "1", "$\\frac$", '<script>alert("x")</script>')
    sweep = replace(paper_sweep(made_up_sites(2, biased=True)), classes=names)
    frame = frame_of("figure-04", paper_arm(sweeps={"A2": sweep}))
    path = tmp_path / "figure-04.csv"
    frame.to_csv(path, index=False)

    drawn = redraw(path)

    assert list(dict.fromkeys(read_frame(path)["class"])) == [*names, "mean"]
    text = svg_text(drawn, "f04")
    assert text == svg_text(draw(frame), "f04")
    assert "script" not in text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("figure,layer\nfigure-02,1\n", "whose figure is 'figure-02'"),
        ("figure,layer\n", "whose figure is ''"),
        ("layer\n1\n", "expected figure-03 to figure-14"),
        ("figure,layer\nfigure-03,x\n", "cannot read the figure's table"),
        ("figure,network,start,layer\nfigure-05,UNet,shared,1\n", "no column quantity, value"),
        ("figure,network,start,layer,kind,is_output,rmse\nfigure-06,,,1,W,False,1\n", "label"),
        ("figure,layer,kind,class,foreground,dice\nfigure-03,1,RM,LV,True,1\n", "replacement"),
        ("", "cannot read the figure's table"),
    ],
)
def test_what_is_no_table_of_a_figure_is_an_error(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "figure.csv"
    path.write_text(content, encoding="utf-8")

    with pytest.raises(StudyError, match=said):
        redraw(path)


def test_a_table_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"cannot read the figure's table .*nowhere\.csv"):
        redraw(tmp_path / "nowhere.csv")


# --- the file -----------------------------------------------------------------------------------


def svg_parts(text: str) -> tuple[ElementTree.Element, list[ElementTree.Element]]:
    root = ElementTree.fromstring(text)  # noqa: S314 - what was just drawn
    return root, list(root.iter())


def test_a_drawing_needs_no_font_style_sheet_or_outside_address(figures: FigureFrames) -> None:
    text = svg_text(draw(figures.frames["figure-12"]), "f12")

    _, parts = svg_parts(text)
    tags = {part.tag.rpartition("}")[2] for part in parts}
    assert tags <= {"svg", "g", "defs", "path", "use", "clipPath", "rect", "marker"}
    assert "style=" not in text
    assert set(re.findall(r"https?://[^\"]*", text)) == {"http://www.w3.org/2000/svg"}


def test_names_of_parts_begin_with_the_figures_and_all_are_there(figures: FigureFrames) -> None:
    text = svg_text(draw(figures.frames["figure-06"]), "f06")

    ids = re.findall(r'\bid="([^"]*)"', text)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
    assert all(name.startswith("f06-") for name in ids)
    assert max(Counter(ids).values()) == 1
    assert used <= set(ids)


def test_every_point_is_marked_where_matplotlib_marks_it() -> None:
    figure = Figure(figsize=(4, 3))
    axes = figure.subplots()
    axes.plot([1, 2, 3, 4], [0.1, np.nan, 0.4, 0.3], marker="s", color="#123456")
    reference = StringIO()
    figure.savefig(reference, format="svg")
    drawn = re.findall(
        r'<use [^>]*x="([\d.]+)" y="([\d.]+)" style="fill: #123456', reference.getvalue()
    )

    _, parts = svg_parts(svg_text(figure, "f"))

    (marks,) = [part.attrib["d"] for part in parts if "marker-mid" in part.attrib]
    places = [tuple(map(float, place.split())) for place in marks.lstrip("M").split("L")]
    assert len(drawn) == 3
    np.testing.assert_allclose(places, np.array(drawn, dtype=float), atol=0.051)


def test_drawing_leaves_nothing_behind(figures: FigureFrames) -> None:
    before, had_pyplot = dict(rcParams), "matplotlib.pyplot" in sys.modules

    first = svg_text(draw(figures.frames["figure-11"]), "f11")

    assert dict(rcParams) == before
    assert ("matplotlib.pyplot" in sys.modules) == had_pyplot
    assert svg_text(draw(figures.frames["figure-11"]), "f11") == first


@pytest.mark.slow
def test_at_full_depth_every_drawing_is_small() -> None:
    arms = (
        paper_arm(num_layers=18),
        paper_arm("pspnet", num_layers=25),
        biased_arm(num_layers=25),
    )

    made = figure_frames(made_up_evidence(*arms))

    sizes = {name: len(svg_text(draw(frame), "f00i")) for name, frame in made.frames.items()}
    assert max(sizes.values()) < 100_000, sizes
