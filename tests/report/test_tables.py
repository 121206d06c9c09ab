"""The tables behind figures and page: sweep curves, and transfer added up over seeds."""

import math

import pytest

from paramreuse.report.curves import layer_places, sweep_curve
from paramreuse.report.student import student_interval
from paramreuse.report.transfer_table import summarise_transfer, transfer_classes
from paramreuse.sites.layers import Kind
from paramreuse.sites.matching import Site
from paramreuse.sites.swaps import layer_swaps, single_swaps
from samples.report import pilot_sweep, pspnet_sites, transfer_rows


def test_transfer_is_averaged_over_seeds_with_students_interval() -> None:
    rows = [
        {"strategy": "full", "num_subjects": 10, "seed": seed, "RV": rv, "mean": mean}
        for seed, rv, mean in ((0, 0.5, 0.7), (1, 0.7, 0.8), (2, 0.9, 0.9))
    ]

    (row,) = summarise_transfer(rows)

    assert row["seeds"] == 3
    assert row["RV"] == pytest.approx(0.7)
    assert row["mean"] == pytest.approx(0.8)
    # sd 0.1 over sqrt(3), times Student's 4.303 at 2 degrees of freedom.
    assert row["mean_low"] == pytest.approx(0.8 - 4.3027 * 0.1 / math.sqrt(3), abs=1e-5)
    assert row["mean_high"] == pytest.approx(0.8 + 4.3027 * 0.1 / math.sqrt(3), abs=1e-5)


def test_one_seed_has_no_interval() -> None:
    assert all(math.isnan(end) for end in student_interval([0.8], 0.95))


def test_epochs_count_only_the_seeds_that_got_there() -> None:
    rows = [
        {"strategy": "full", "num_subjects": 10, "seed": n, "mean": 0.8, "epochs_to_0.7": epochs}
        for n, epochs in enumerate((4, 6, None, float("nan")))
    ]

    (row,) = summarise_transfer(rows)

    assert row["epochs_to_0.7"] == 5
    assert row["epochs_to_0.7_reached"] == 2


def test_a_gain_is_kept_apart_from_what_twice_the_length_gives_scratch_too() -> None:
    ends = {
        ("scratch", 0): (0.5, 0.7),
        ("scratch", 1): (0.6, 0.7),
        ("full", 0): (0.8, 0.81),
        ("full", 1): (0.7, 0.72),
        ("head", 0): (0.6, math.nan),
    }
    rows = [
        {"strategy": name, "num_subjects": 4, "seed": seed, "mean": once, "mean_twice": twice}
        for (name, seed), (once, twice) in ends.items()
    ]

    scratch, full, head = summarise_transfer(rows)

    # From scratch twice as long adds 0.2 and 0.1; with everything loaded 0.01 and 0.02.
    assert (scratch["converged"], full["converged"], head["converged"]) == ("no", "yes", "")
    assert (scratch["gain"], scratch["gain_at_end"]) == (0.0, 0.0)
    assert full["mean_twice"] == pytest.approx(0.765)
    assert full["gain"] == pytest.approx((0.3 + 0.1) / 2)
    assert full["gain_at_end"] == pytest.approx((0.11 + 0.02) / 2)
    assert head["gain"] == pytest.approx(0.1)
    assert math.isnan(float(str(head["gain_at_end"])))
    strict = summarise_transfer(rows, tolerance=0.01)
    assert strict[1]["converged"] == "no"


def test_sources_and_numbers_of_subjects_are_kept_apart() -> None:
    rows = [row | {"source": source} for source in ("a", "b") for row in transfer_rows(2)]

    summaries = summarise_transfer(rows)

    assert len(summaries) == 2 * 5 * 2
    assert all(row["seeds"] == 2 for row in summaries)


def test_class_columns_are_told_from_the_rest() -> None:
    rows = transfer_rows(1)

    assert transfer_classes(rows) == ["background", "RV", "myocardium", "LV"]
    assert transfer_classes(rows, ["RV", "LV", "aorta"]) == ["RV", "LV"]


def test_the_curve_of_a_kind_holds_its_single_swaps_and_no_others() -> None:
    sites = pspnet_sites()[:12]
    sweep = pilot_sweep([*single_swaps(sites), *layer_swaps(sites)], num_subjects=3)

    curve = sweep_curve(sweep, "RM")

    rows = sweep.frame().query("swap == 'RM 2' and replacement == 'source'")
    assert curve["position"].drop_duplicates().tolist() == [1, 2]
    assert curve.query("position == 2")["score"].tolist() == rows["score"].tolist()
    assert set(curve["class"]) == {"background", "RV", "myocardium", "LV", "mean"}


def test_layers_of_several_families_stand_in_the_networks_order() -> None:
    places = layer_places(
        ["conv", "conv_transpose", "conv", "linear"], [1, 1, 2, 1], ["a", "b", "c", "d"]
    )

    assert places == [(1, "1"), (2, "C1"), (3, "2"), (4, "L1")]
    assert layer_places(["conv"], [7], ["a"]) == [(7, "7")]


def test_a_kind_that_was_not_swept_gives_an_empty_curve() -> None:
    sweep = pilot_sweep(single_swaps([Site(1, "a", Kind.W, "weight", (1, 1, 1, 1))]))

    assert sweep_curve(sweep, "RM").empty
