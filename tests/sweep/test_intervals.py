"""Intervals: Student's, lengthened where the values are skewed."""

import numpy as np
import pytest
from scipy.stats import t as student_t
from scipy.stats import ttest_1samp

from paramreuse.sweep.intervals import Means, estimate_means, mean_interval


def test_equal_values_give_an_interval_without_width() -> None:
    low, high = mean_interval(np.full((8, 1), 0.25))

    assert (low[0], high[0]) == (0.25, 0.25)


def test_symmetric_values_have_students_lower_end_as_scipy_gives_it() -> None:
    # Their third moment is 0, so that below nothing is lengthened; above they count as skewed by 1.
    values = np.array([-3.0, -2, -1, -0.5, 0.5, 1, 2, 3]) + 5

    for confidence in (0.8, 0.95, 0.99):
        low, high = mean_interval(values[:, None], confidence=confidence)
        theirs = ttest_1samp(values, 0).confidence_interval(confidence)
        assert low[0] == pytest.approx(theirs.low, rel=1e-7)
        k, q = 2 / (3 * 8**0.5), student_t.ppf(0.5 + confidence / 2, 7)
        reach = -np.log(1 - k * (q + k / 4)) / k * values.std(ddof=1) / 8**0.5
        assert high[0] == pytest.approx(values.mean() + reach, rel=1e-7)


def test_the_ends_of_a_skewed_sample_by_hand() -> None:
    # 5, 5, 5, 5, 5, 5, 5, 5, 10, 10 of ten: mean 6, deviation sqrt(40 / 9), skewness 1.5, since
    # with chance 1/5 it is (1 - 2/5) / sqrt(1/5 x 4/5). k = 2 x 1.5 x 2 / (3 sqrt(10)) = 0.6325.
    values = np.array([5.0] * 8 + [10.0] * 2)
    error, k, q = np.sqrt(40 / 9 / 10), 2 / np.sqrt(10), 2.262157
    means = estimate_means(values[:, None])

    assert means.mean[0] == 6.0
    assert means.error[0] == pytest.approx(error)
    assert means.skew[0] == pytest.approx(k)
    low, high = means.interval(0.95)
    # 1 - k (q + k / 4) = -0.53: the long tail has no bound, so the end is at 7 q. On the other
    # side log(1 + k (q - k / 4)) / k = 1.34 would be less than Student's q.
    assert high[0] == pytest.approx(6 + 7 * q * error, rel=1e-6)
    assert low[0] == pytest.approx(6 - q * error, rel=1e-6)


def test_a_little_skewness_lengthens_one_end_by_halls_transformation() -> None:
    values = np.array([0.0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 18])
    means = estimate_means(values[:, None])
    k, q = means.skew[0], student_t.ppf(0.975, 11)

    low, high = means.interval(0.95)

    assert 2 / (3 * 12**0.5) < k < 0.4
    reach = -np.log(1 - k * (q + k / 4)) / k
    assert high[0] == pytest.approx(means.mean[0] + reach * means.error[0])
    assert reach > q
    assert low[0] == pytest.approx(means.mean[0] - q * means.error[0])


def test_the_lower_end_is_bound_more_tightly_than_the_upper() -> None:
    values = np.array([1.0] * 7 + [0.0])[:, None]
    q, error = student_t.ppf(0.975, 7), 1 / 8

    low, high = mean_interval(values)

    assert low[0] == pytest.approx(7 / 8 - 2.5 * q * error)
    low_of_mirrored, high_of_mirrored = mean_interval(-values)
    assert high_of_mirrored[0] == pytest.approx(-7 / 8 + 7 * q * error)
    # The short tail: Student's below, that of a skewness of 1 above.
    assert low_of_mirrored[0] == pytest.approx(-7 / 8 - q * error)
    assert high[0] - 7 / 8 > q * error


def test_an_interval_is_never_shorter_than_students() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.exponential(size=(9, 200)), rng.uniform(size=(9, 200))], axis=1)
    theirs = ttest_1samp(values, 0).confidence_interval(0.95)

    low, high = mean_interval(values)

    assert (low <= theirs.low + 1e-12).all()
    assert (high >= theirs.high - 1e-12).all()


@pytest.mark.parametrize(("skewed", "most"), [(True, 0.035), (False, 0.01)])
def test_a_true_mean_above_the_upper_end_is_rare(skewed: bool, most: float) -> None:
    """A swap whose true drop is at the tolerance passes in so many cases of 4000."""
    rng = np.random.default_rng(3)
    values = rng.exponential(size=(8, 4000)) if skewed else rng.normal(1, 1, size=(8, 4000))

    _, high = mean_interval(values)

    # Student's interval: 10 % for exponential drops, 2.5 % for normal ones.
    assert (high < 1).mean() < most


def test_doubt_is_the_level_at_which_an_end_meets_the_bound() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.exponential(size=(9, 20)), -rng.exponential(size=(9, 20))], axis=1)

    for confidence in (0.5, 0.95, 0.999):
        for column in values.T:
            means = estimate_means(column[:, None])
            for end in means.interval(confidence):
                assert means.doubt(end[0])[0] == pytest.approx((1 - confidence) / 2, rel=1e-6)


def test_doubt_at_the_edges() -> None:
    alike, single = estimate_means(np.full((8, 1), 0.25)), estimate_means(np.ones((1, 1)))

    assert alike.doubt(0.3)[0] == alike.doubt(0.25)[0] == 0.0
    assert np.isnan(single.doubt(0.3)[0])
    # A mean at the bound itself is as likely above as below.
    assert estimate_means(np.array([[0.0], [1.0]])).doubt(0.5)[0] == pytest.approx(0.5)


def test_a_subject_that_does_not_count_is_as_if_it_were_not_there() -> None:
    values = np.random.default_rng(0).exponential(size=12)
    with_gaps = np.concatenate([values, np.full(3, np.nan)])[:, None]

    ours, without = mean_interval(with_gaps), mean_interval(values[:, None])

    np.testing.assert_allclose(np.ravel(ours), np.ravel(without), rtol=1e-12)
    assert estimate_means(with_gaps).subjects[0] == 12


@pytest.mark.parametrize("column", [[1.0, np.nan, np.nan], [np.nan] * 3])
def test_fewer_than_two_subjects_have_no_interval(column: list[float]) -> None:
    low, high = mean_interval(np.array([column, [1.0, 2.0, 3.0]]).T)

    assert np.isnan([low[0], high[0]]).all()
    assert np.isfinite([low[1], high[1]]).all()


def test_the_interval_of_a_column_does_not_depend_on_its_neighbours() -> None:
    values = np.random.default_rng(0).normal(size=(8, 300))

    low, high = mean_interval(values)

    alone = mean_interval(values[:, 270:271])
    assert (low[270], high[270]) == pytest.approx((alone[0][0], alone[1][0]), rel=1e-12)


def test_shift_and_scale_move_the_interval_along() -> None:
    values = np.random.default_rng(0).exponential(size=(8, 1))

    low, high = mean_interval(np.hstack([values, 2 * values + 10]))

    assert (low[1], high[1]) == pytest.approx((2 * low[0] + 10, 2 * high[0] + 10))


def test_ten_thousand_sites_take_a_moment() -> None:
    values = np.random.default_rng(0).exponential(size=(20, 20_000))

    means = estimate_means(values)

    assert isinstance(means, Means)
    assert np.isfinite(means.interval(0.95)).all()
    assert ((means.doubt(0.5) >= 0) & (means.doubt(0.5) <= 0.5)).all()
