"""The papers' tables: numbers worked out by hand, and the papers' own beside them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from paramreuse.papers.evidence import Arm
from paramreuse.papers.tables.numbered import paper_tables
from paramreuse.papers.tables.published import REUSE
from paramreuse.papers.tables.summaries import number_ranges
from paramreuse.study.records import TransferScore
from paramreuse.sweep.intervals import mean_interval
from paramreuse.sweep.outcomes import Sweep
from samples.paper_figures import (
    TRANSFER,
    biased_arm,
    made_up_evidence,
    made_up_sites,
    pair_distances,
    paper_arm,
    paper_scores,
    paper_sweep,
)


@pytest.fixture
def enough_subjects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight, the fewest with which a single site has a word."""
    names = tuple(f"p{number}" for number in range(1, 9))
    monkeypatch.setattr("samples.paper_figures.SUBJECTS", names)


def table(name: str, *arms: Arm) -> pd.DataFrame:
    return paper_tables(made_up_evidence(*arms)).frames[name]


def source_alone(sweep: Sweep) -> Sweep:
    """The sweep as recalibration leaves it, without controls."""
    scores = {trial: table for trial, table in sweep.scores.items() if trial[1] == "source"}
    return replace(sweep, replacements=("source",), scores=scores)


def row_of(frame: pd.DataFrame, **wanted: Any) -> dict[str, Any]:
    rows = frame
    for name, value in wanted.items():
        rows = rows[rows[name] == value]
    (row,) = rows.to_dict("records")
    return row


# --- tables 1 and 2 -----------------------------------------------------------------------------


def test_table_1_holds_the_targets_dice_beside_the_papers() -> None:
    frame = table("table-1")

    assert frame["class"].tolist() == ["background", "RV", "myocardium", "LV", "mean"]
    assert frame["dice"].tolist() == pytest.approx([1.0, 0.8, 0.8, 0.9, 2.5 / 3])
    assert frame["paper"].tolist()[:4] == [1.0, 0.81, 0.83, 0.92]
    assert np.isnan(frame["paper"].iloc[4])
    # All subjects score the same, so the interval has no width.
    np.testing.assert_allclose(frame["low"], frame["dice"])
    np.testing.assert_allclose(frame["high"], frame["dice"])


def test_a_class_is_averaged_over_the_subjects_that_have_it() -> None:
    sweep = paper_sweep(made_up_sites(2, biased=True))
    baseline = sweep.baseline.copy()
    baseline[:, 1] = [0.2, 0.6, np.nan, 0.7]
    arm = paper_arm(sweeps={"A2": replace(sweep, baseline=baseline)})

    rv = row_of(table("table-1", arm), **{"class": "RV"})
    mean = row_of(table("table-1", arm), **{"class": "mean"})

    assert rv["dice"] == pytest.approx(0.5)
    # Scores have their long tail where drops do: below.
    above, below = mean_interval(-baseline[:, 1:2])
    low, high = -below, -above
    assert (rv["low"], rv["high"]) == (low[0], high[0])
    # Per subject first: 1.9/3, 2.3/3, 1.7/2 and 2.4/3.
    assert mean["dice"] == pytest.approx((1.9 / 3 + 2.3 / 3 + 1.7 / 2 + 2.4 / 3) / 4)


def test_table_2_holds_both_pspnets() -> None:
    frame = table("table-2")

    lv = frame[frame["class"] == "LV"]
    assert lv[["bias", "arm", "paper"]].to_numpy().tolist() == [
        ["yes", "pspnet-bias", 0.93],
        ["no", "pspnet-shared", 0.92],
    ]


def test_both_starts_are_told_apart() -> None:
    frame = table("table-1", paper_arm(), paper_arm(start="independent"))

    assert frame["start"].tolist() == ["shared"] * 5 + ["independent"] * 5


def test_other_classes_than_four_have_no_number_of_the_papers_beside_them() -> None:
    sweep = paper_sweep(made_up_sites(2, biased=True))
    fewer = replace(
        sweep,
        classes=("background", "LV"),
        foreground=(False, True),
        baseline=sweep.baseline[:, :2],
        scores={name: scores[:, :2] for name, scores in sweep.scores.items()},
    )

    assert table("table-1", paper_arm(sweeps={"A2": fewer}))["paper"].isna().all()


# --- table 3 ------------------------------------------------------------------------------------


def test_table_3_takes_the_mean_over_subjects_then_seeds() -> None:
    row = row_of(table("table-3"), subjects=10, source="B2", strategy="plan-freeze")

    # Two seeds: .99 .6 .6 .7 and .99 .7 .7 .8.
    assert row["RV"] == pytest.approx(0.65)
    assert row["mean"] == pytest.approx((2.89 / 4 + 3.19 / 4) / 2)
    assert row["mean_sd"] == pytest.approx(0.075 / np.sqrt(2))
    assert row["foreground_mean"] == pytest.approx((1.9 / 3 + 2.2 / 3) / 2)
    assert row["foreground_sd"] == pytest.approx(0.1 / np.sqrt(2))
    assert row["seeds"] == 2
    assert row["loaded"] == "t1 autoencoder"


def test_a_subject_without_a_class_counts_for_the_others() -> None:
    nan = float("nan")
    scores = [
        TransferScore("", "scratch", 10, 0, subject, label, score)
        for subject, values in {"p1": (1.0, 0.2, nan, 0.6), "p2": (1.0, 0.4, 0.8, 0.6)}.items()
        for label, score in zip(("background", "RV", "myocardium", "LV"), values, strict=True)
    ]

    row = row_of(table("table-3", paper_arm("pspnet", transfer=scores)))

    assert [row[name] for name in ("RV", "myocardium", "LV")] == pytest.approx([0.3, 0.8, 0.6])
    assert row["mean"] == pytest.approx((1.0 + 0.3 + 0.8 + 0.6) / 4)
    assert row["foreground_mean"] == pytest.approx((0.4 + 0.6) / 2)
    assert np.isnan(row["mean_sd"])


def test_every_row_of_the_papers_table_stands_beside_ours() -> None:
    frame = table("table-3")

    assert len(frame) == len(REUSE) == 14
    for printed in REUSE:
        row = row_of(
            frame,
            subjects=printed.num_subjects,
            source=printed.source,
            strategy=printed.strategy,
        )
        beside = [row[f"paper_{name}"] for name in ("background", "RV", "myocardium", "LV")]
        assert beside == list(printed.dice)
        assert (row["paper_mean"], row["paper_subjects"]) == (printed.mean, printed.num_subjects)


def test_the_papers_numbers_agree_with_their_means() -> None:
    # Printed to two digits, so a mean may be off by half of the last one.
    assert all(abs(np.mean(row.dice) - row.mean) <= 0.005 + 1e-9 for row in REUSE)
    mended = [row for row in REUSE if row.note]
    assert [(row.source, row.strategy, row.mean, row.note) for row in mended] == [
        ("C1", "plan-freeze", 0.81, "printed .72; the four give .81")
    ]
    # Two that the papers' text itself compares: nothing loaded, and T1's auto-encoder.
    assert REUSE[7].dice == (1.00, 0.81, 0.82, 0.90)
    assert (REUSE[11].source, REUSE[11].mean) == ("B2", 0.91)


@pytest.mark.parametrize(
    ("sizes", "beside"),
    [
        ((8, 28), {8: 10, 28: 50}),
        ((8, 16, 28), {8: 10, 16: "", 28: 50}),
        ((8,), {8: 10}),
        ((50,), {50: 50}),
    ],
)
def test_the_fewest_subjects_stand_beside_10_and_the_most_beside_50(
    sizes: tuple[int, ...], beside: dict[int, object]
) -> None:
    scores = paper_scores({("", "scratch", size): [[1.0] * 4] for size in sizes})

    frame = table("table-3", paper_arm("pspnet", transfer=scores))

    assert dict(zip(frame["subjects"], frame["paper_subjects"], strict=True)) == beside


def test_what_the_papers_did_not_run_has_no_number_beside_it() -> None:
    scores = paper_scores({("A2", "full", 10): [[1.0] * 4], ("", "scratch", 10): [[1.0] * 4]})

    pspnet = table("table-3", paper_arm("pspnet", transfer=scores))
    unet = table("table-3", paper_arm(transfer=scores))

    assert pspnet["paper_mean"].isna().tolist() == [True, False]
    assert unet["paper_mean"].isna().all()


# --- summaries ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("enough_subjects")
def test_shares_count_the_layers_of_each_kind_without_the_output() -> None:
    frame = table("shares", paper_arm())

    kernels = row_of(frame, kind="W")
    # Of four kernels the second and fourth cost 0.01; the fifth is the output layer's.
    assert (kernels["layers"], kernels["paper_share"], kernels["share"]) == (4, 0.5, 0.5)
    assert (kernels["paper_layers"], kernels["reusable_layers"]) == ("2 4", "2 4")
    assert np.isnan(kernels["recalibrated_paper_share"])
    assert row_of(frame, kind="RM")["paper_layers"] == "1-4"
    assert frame["kind"].tolist() == ["W", "B", "RM", "RV", "RW", "RB"]


@pytest.mark.usefixtures("enough_subjects")
def test_shares_tell_the_papers_rule_from_ours_and_from_recalibration() -> None:
    sites = made_up_sites(4, biased=True)
    # A control that costs nothing passes as well: any kernel would do.
    anything = paper_sweep(sites, lambda site, replacement: 0.0)
    kernels = [site for site in sites if site.kind == "W"]
    again = paper_sweep(kernels, lambda site, replacement: 0.0 if site.layer < 4 else 0.3)
    arm = paper_arm(sweeps={"A2": anything}, recalibrated={"A2": source_alone(again)})

    row = row_of(table("shares", arm), kind="W")

    assert (row["paper_share"], row["share"], row["indifferent_share"]) == (1.0, 0.0, 1.0)
    assert row["recalibrated_paper_share"] == 0.75
    # Judged without a control beside a share judged with one, all kernels would seem rescued.
    assert "recalibrated_share" not in row
    assert row["reusable_layers"] == ""


def test_layer_numbers_are_written_shortly() -> None:
    assert number_ranges([5, 1, 3, 4, 7, 8]) == "1 3-5 7-8"
    assert number_ranges([]) == ""


def test_distances_are_medians_over_the_kernels_without_the_output() -> None:
    sites = made_up_sites(3, biased=True)
    distances = {1: 0.1, 2: 0.5, 3: 0.2, 4: 9.0}
    measured = pair_distances(
        "target", "B2", sites, lambda site: distances[site.layer] if site.kind == "W" else 7
    )

    row = row_of(table("distances", paper_arm(distances=measured)))

    assert (row["first"], row["second"], row["kernels"]) == ("A1", "B2", 3)
    assert (row["median_rmse"], row["median_relative_rmse"]) == (0.2, 2.0)
    assert row["second_words"] == "t1 autoencoder"


@pytest.mark.usefixtures("enough_subjects")
def test_the_ablation_has_a_row_per_variant_with_the_mean_drop() -> None:
    def variant(**changes: Any) -> Arm:
        return paper_arm(name=str(changes), **changes)

    arms = [
        variant(residual=residual, long_skips=skips)
        for residual in (True, False)
        for skips in (True, False)
    ]
    frame = table("ablation", *arms, variant(start="independent"))

    assert frame[["start", "short_connections", "long_skips"]].to_numpy().tolist() == [
        ["shared", "residual", "yes"],
        ["shared", "residual", "none"],
        ["shared", "plain", "yes"],
        ["shared", "plain", "none"],
        ["independent", "plain", "yes"],
    ]
    row = frame.iloc[0]
    # Kernels cost .1 .01 .1 .01, the control .3 more; the output layer's is left out.
    assert row["drop"] == pytest.approx(0.055)
    assert (row["drop_low"], row["drop_high"]) == pytest.approx((0.055, 0.055))
    assert row["control_drop"] == pytest.approx(0.355)
    assert (row["kernels"], row["paper_share"], row["share"]) == (4, 0.5, 0.5)
    assert row["baseline"] == pytest.approx(2.5 / 3)


def test_the_ablations_interval_is_over_subjects() -> None:
    sites = [site for site in made_up_sites(2, biased=True) if site.kind == "W"]
    sweep = paper_sweep(sites)
    scores = dict(sweep.scores)
    lost = np.array([[0.1, 0.2, 0.3, 0.6]]).T * [0, 1, 1, 1]
    scores["W 1", "source"] = sweep.baseline - lost
    scores["W 2", "source"] = sweep.baseline - 3 * lost
    arm = paper_arm(sweeps={"A2": replace(sweep, scores=scores)})

    row = table("ablation", arm).iloc[0]

    # Means over the two kernels: .2 .4 .6 1.2.
    assert row["drop"] == pytest.approx(0.6)
    low, high = mean_interval(np.array([[0.2, 0.4, 0.6, 1.2]]).T)
    assert (row["drop_low"], row["drop_high"]) == pytest.approx((low[0], high[0]))


def test_the_ablation_leaves_out_subjects_on_which_a_kernel_was_not_scored() -> None:
    sites = [site for site in made_up_sites(2, biased=True) if site.kind == "W"]
    sweep = paper_sweep(sites)
    lost = np.array([[0.1, 0.2, 0.3, 0.6]]).T * [0, 1, 1, 1]
    dear, dearest, cheap = (sweep.baseline - times * lost for times in (3, 5, 1))
    # The costlier kernel was stopped after two subjects, its control after one.
    dear[2:], dearest[1:] = np.nan, np.nan
    scores = dict(sweep.scores) | {
        ("W 1", "source"): dear,
        ("W 2", "source"): cheap,
        ("W 1", "shuffled"): dearest,
        ("W 2", "shuffled"): cheap,
    }
    arm = paper_arm(sweeps={"A2": replace(sweep, scores=scores)})

    row = table("ablation", arm).iloc[0]

    # Means of the first two: .2 .4. Over whatever was scored it were .2 .4 .3 .6, thus 0.375.
    assert row["drop"] == pytest.approx(0.3)
    low, high = mean_interval(np.array([[0.2, 0.4]]).T)
    assert (row["drop_low"], row["drop_high"]) == pytest.approx((low[0], high[0]))
    assert row["subjects"] == 2
    assert row["control_drop"] == pytest.approx(0.3)


def test_the_ablation_has_no_drop_where_no_subject_has_all_kernels() -> None:
    sites = [site for site in made_up_sites(2, biased=True) if site.kind == "W"]
    sweep = paper_sweep(sites)
    first, second = sweep.baseline.copy(), sweep.baseline.copy()
    first[:2], second[2:] = np.nan, np.nan
    scores = dict(sweep.scores) | {("W 1", "source"): first, ("W 2", "source"): second}
    arm = paper_arm(sweeps={"A2": replace(sweep, scores=scores)})

    row = table("ablation", arm).iloc[0]

    assert row[["drop", "drop_low", "drop_high"]].isna().all()
    assert row["subjects"] == 0


# --- what is missing ----------------------------------------------------------------------------


def test_tables_without_their_arms_are_missing_with_the_reason() -> None:
    assert dict(paper_tables(made_up_evidence()).missing) == {}
    only_unet = paper_tables(made_up_evidence(paper_arm()))
    assert dict(only_unet.missing) == {
        "table-2": "no arm with a PSPNet was swept",
        "table-3": "no arm has a transfer",
    }
    unswept = biased_arm(sweeps={}, distances=())
    assert not paper_tables(made_up_evidence(unswept)).frames


def test_the_made_up_transfer_is_the_papers() -> None:
    assert sorted(TRANSFER) == sorted((r.source, r.strategy, r.num_subjects) for r in REUSE)
