"""Intervals: a percentile bootstrap over subjects, the same resamples for every column."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from paramreuse.sweep import intervals
from paramreuse.sweep.intervals import bootstrap_interval


def test_equal_values_give_an_interval_without_width() -> None:
    low, high = bootstrap_interval(np.full((4, 1), 0.25))

    assert (low[0], high[0]) == (0.25, 0.25)


def test_two_subjects_give_the_ends_that_count_by_hand() -> None:
    # Resamples of {0, 1}: mean 0 with chance 1/4, 1/2 with 1/2, 1 with 1/4.
    values = np.array([[0.0], [1.0]])

    assert [end[0] for end in bootstrap_interval(values, confidence=0.95)] == [0.0, 1.0]
    assert [end[0] for end in bootstrap_interval(values, confidence=0.4)] == [0.5, 0.5]


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_interval_agrees_with_scipy_within_monte_carlo_error(confidence: float) -> None:
    values = np.random.default_rng(1).gamma(2.0, size=20)

    low, high = bootstrap_interval(values[:, None], confidence=confidence)

    theirs = bootstrap(
        (values,),
        np.mean,
        n_resamples=20000,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(2),
    )
    # A quantile from 5000 resamples is off by some hundredths of the standard error.
    margin = 0.1 * theirs.standard_error
    assert low[0] == pytest.approx(theirs.confidence_interval.low, abs=margin)
    assert high[0] == pytest.approx(theirs.confidence_interval.high, abs=margin)


def test_a_subject_that_does_not_count_is_as_if_it_were_not_there() -> None:
    values = np.random.default_rng(0).normal(size=12)
    with_gaps = np.concatenate([values, np.full(3, np.nan)])[:, None]

    ours = np.array(bootstrap_interval(with_gaps)).ravel()

    without = np.array(bootstrap_interval(values[:, None])).ravel()
    np.testing.assert_allclose(ours, without, atol=0.1 * values.std() / np.sqrt(12) * 2)
    assert ours[0] < values.mean() < ours[1]


@pytest.mark.parametrize("column", [[1.0, np.nan, np.nan], [np.nan] * 3])
def test_fewer_than_two_subjects_have_no_interval(column: list[float]) -> None:
    low, high = bootstrap_interval(np.array([column, [1.0, 2.0, 3.0]]).T)

    assert np.isnan([low[0], high[0]]).all()
    assert np.isfinite([low[1], high[1]]).all()


def test_one_subject_has_no_interval() -> None:
    assert np.isnan(bootstrap_interval(np.ones((1, 3)))).all()


def test_the_seed_decides_and_the_global_random_state_does_not() -> None:
    values = np.random.default_rng(0).normal(size=(7, 2))
    before = np.random.get_state()[1].copy()  # type: ignore[union-attr]

    first = bootstrap_interval(values, seed=3)

    assert np.array_equal(first, bootstrap_interval(values, seed=3))
    assert not np.array_equal(first, bootstrap_interval(values, seed=4))
    assert np.array_equal(before, np.random.get_state()[1])  # type: ignore[arg-type]


def test_columns_share_their_resamples_so_that_pairs_stay_paired() -> None:
    values = np.random.default_rng(0).normal(size=(6, 1))

    low, high = bootstrap_interval(np.hstack([values, values + 10, -values]))

    assert low[1] == pytest.approx(low[0] + 10)
    assert (low[2], high[2]) == pytest.approx((-high[0], -low[0]))


def test_the_interval_of_a_column_does_not_depend_on_its_neighbours() -> None:
    values = np.random.default_rng(0).normal(size=(5, 300))

    low, high = bootstrap_interval(values)

    alone = bootstrap_interval(values[:, 270:271])
    # The order of additions in a product of matrices depends on their shapes.
    assert (low[270], high[270]) == pytest.approx((alone[0][0], alone[1][0]), rel=1e-12)


def test_many_subjects_are_resampled_in_parts_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(0).normal(size=(10, 3))
    whole = bootstrap_interval(values)

    monkeypatch.setattr(intervals, "_WEIGHTS_AT_ONCE", 12345)

    np.testing.assert_allclose(bootstrap_interval(values), whole, rtol=1e-12)
