"""Tables of a sweep: paired by subject, subject first and then the mean."""

import numpy as np
import pandas as pd
import pytest

from paramreuse.sites.matching import Site
from paramreuse.sites.swaps import Swap
from paramreuse.sweep.intervals import mean_interval
from paramreuse.sweep.outcomes import Sweep
from paramreuse.sweep.scores import Accuracy
from paramreuse.sweep.sweeping import sweep_sites
from samples.networks import small_batches, small_network
from samples.sweeps import kernel, made_up_sweep

COLUMNS = (
    "swap family layer path kind replacement class baseline score drop drop_low drop_high subjects"
)
NAN = float("nan")


def by_hand(baseline: list[list[float]], scores: list[list[float]]) -> Sweep:
    """Three classes, background and two foreground; one swap, ``W 1``."""
    site = kernel(1)
    return Sweep(
        swaps=(Swap("W 1", (site,), site),),
        replacements=("source",),
        classes=("background", "RV", "LV"),
        foreground=(False, True, True),
        subjects=tuple("abc"[: len(baseline)]),
        baseline=np.array(baseline),
        scores={("W 1", "source"): np.array(scores)},
        identical=frozenset(),
    )


def test_the_frame_has_exactly_the_agreed_columns() -> None:
    frame = made_up_sweep({kernel(1): {"source": [0.25, 0.5]}}).frame()

    assert list(frame.columns) == COLUMNS.split()


def test_there_is_a_row_per_swap_replacement_and_class_and_one_for_the_mean() -> None:
    drops = {"source": [0.0, 0.0], "shuffled": [0.5, 0.5]}
    linear = kernel(1, family="linear")

    frame = made_up_sweep({kernel(1): drops, linear: drops}).frame()

    assert frame[["swap", "replacement", "class"]].to_numpy().tolist() == [
        [swap, replacement, name]
        for swap in ("W 1", "linear W 1")
        for replacement in ("source", "shuffled")
        for name in ("0", "1", "mean")
    ]
    assert frame.iloc[-1][["family", "layer", "path", "kind"]].tolist() == [
        *("linear", 1, "linear1", "W")
    ]


def test_a_subjects_mean_is_over_its_own_foreground_and_the_mean_over_subjects() -> None:
    # Subject b has no LV: its mean is that of RV alone.
    sweep = by_hand(
        [[1.0, 0.5, 0.75], [1.0, 0.25, NAN]],
        [[1.0, 0.25, 0.25], [0.5, 0.125, NAN]],
    )

    assert sweep.drops("W 1").tolist()[0] == [0.0, 0.25, 0.5, 0.375]
    np.testing.assert_array_equal(sweep.drops("W 1")[1], [0.5, 0.125, NAN, 0.125])
    frame = sweep.frame().set_index("class")
    # Mean of 0.375 and 0.125; the mean over all cells would be (0.25 + 0.5 + 0.125) / 3.
    assert frame.loc["mean", "drop"] == 0.25
    assert frame["drop"].to_dict() == {"background": 0.25, "RV": 0.1875, "LV": 0.5, "mean": 0.25}
    assert frame["subjects"].to_dict() == {"background": 2, "RV": 2, "LV": 1, "mean": 2}
    # Baseline of the mean: ((0.5 + 0.75) / 2 + 0.25) / 2.
    assert frame.loc["mean", "baseline"] == 0.4375
    assert frame.loc["mean", "score"] == 0.1875
    assert sweep.baseline_scores() == {"background": 1.0, "RV": 0.375, "LV": 0.75, "mean": 0.4375}


def test_baseline_and_score_are_of_the_same_subjects() -> None:
    # Subject b was not looked at any more in this swap.
    sweep = by_hand([[1.0, 0.5, 0.5], [1.0, 0.25, 0.25]], [[1.0, 0.25, 0.25], [NAN, NAN, NAN]])

    row = sweep.frame().set_index("class").loc["mean"]

    assert (row["baseline"], row["score"], row["drop"], row["subjects"]) == (0.5, 0.25, 0.25, 1)


def test_a_class_of_no_subject_has_no_number() -> None:
    sweep = by_hand([[1.0, 0.5, NAN]] * 2, [[1.0, 0.25, NAN]] * 2)

    row = sweep.frame().set_index("class").loc["LV"]

    assert row[["baseline", "score", "drop", "drop_low", "drop_high"]].isna().all()
    assert row["subjects"] == 0


def test_drops_are_paired_by_subject() -> None:
    # Both subjects drop by 0.25 from levels far apart: no spread, so no width.
    sweep = by_hand(
        [[1.0, 0.875, 0.875], [1.0, 0.375, 0.375]], [[1.0, 0.625, 0.625], [1, 0.125, 0.125]]
    )

    row = sweep.frame().set_index("class").loc["mean"]

    assert (row["drop_low"], row["drop"], row["drop_high"]) == (0.25, 0.25, 0.25)


def test_intervals_are_those_of_the_drops_at_the_confidence_asked_for() -> None:
    drops = np.random.default_rng(0).normal(size=9)
    sweep = made_up_sweep({kernel(1): {"source": drops.tolist()}})

    wide = sweep.frame(confidence=0.99).set_index("class").loc["mean"]
    narrow = sweep.frame(confidence=0.8).set_index("class").loc["mean"]

    for row, confidence in ((wide, 0.99), (narrow, 0.8)):
        low, high = mean_interval(drops[:, None], confidence=confidence)
        assert (row["drop_low"], row["drop_high"]) == pytest.approx((low[0], high[0]))
    assert wide["drop_low"] < narrow["drop_low"] < narrow["drop_high"] < wide["drop_high"]


def test_without_subjects_there_are_no_intervals() -> None:
    sweep = made_up_sweep({kernel(1): {"source": [0.25]}}, has_subjects=False)

    row = sweep.frame().set_index("class").loc["mean"]

    assert row["drop"] == 0.25
    assert np.isnan([row["drop_low"], row["drop_high"]]).all()
    assert row["subjects"] == 0


def test_an_unknown_swap_has_no_drops() -> None:
    with pytest.raises(KeyError):
        made_up_sweep({kernel(1): {"source": [0.25]}}).drops("W 9")


def test_a_measured_sweep_gives_the_same_table_twice() -> None:
    def table() -> pd.DataFrame:
        sweep = sweep_sites(
            small_network(0), small_network(1), small_batches(), Accuracy(2), engine="full"
        )
        return sweep.frame()

    first = table()

    pd.testing.assert_frame_equal(first, table(), check_exact=True)
    np.testing.assert_allclose(first["baseline"] - first["drop"], first["score"], rtol=1e-15)
    assert len(first) == 14 * 2 * 3


def test_controls_are_the_replacements_besides_the_source() -> None:
    site: Site = kernel(1)
    drops = {"source": [0.0], "shuffled": [0.0], "imagenet": [0.0]}

    assert made_up_sweep({site: drops}).controls == ("shuffled", "imagenet")
