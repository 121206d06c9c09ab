"""Sketches: what they estimate, against numbers worked out by hand and against every element."""

import numpy as np
import pytest
import torch

from paramreuse.compare.distance import relative_rmse
from paramreuse.nearest.sketch import NUM_BUCKETS, estimated_relative_rmse, sketch_tensor


def estimate(a: torch.Tensor, b: torch.Tensor) -> float:
    one, two = sketch_tensor(a), sketch_tensor(b)
    squares = [np.array([sketch.squares]) for sketch in (one, two)]
    return float(
        estimated_relative_rmse(*(squares[0], one.buckets[None]), *(squares[1], two.buckets[None]))[
            0
        ]
    )


def test_what_differs_in_one_element_is_estimated_exactly() -> None:
    a, b = torch.zeros(3, 50), torch.zeros(3, 50)
    a[1, 7], b[1, 7], b[2, 3] = 3.0, -1.0, 2.0

    # (3 + 1)^2 + 2^2 = 20 over 9 + 1 + 4 = 14: two elements in two buckets, whatever their signs.
    assert estimate(a, b) == pytest.approx((20 / 14) ** 0.5, rel=1e-6)


def test_a_tensor_is_at_no_distance_from_itself() -> None:
    a = torch.randn(40, 30, 3, 3)

    assert estimate(a, a.clone()) == 0
    assert estimate(torch.zeros(3, 3), torch.zeros(3, 3)) == 0


@pytest.mark.parametrize("change", ["noise", "one channel"])
def test_estimates_are_right_on_average_and_within_their_spread(change: str) -> None:
    generator = torch.Generator().manual_seed(0)
    ratios = []
    for _ in range(60):
        a = torch.randn(64, 40, 3, 3, generator=generator)
        b = a.clone()
        if change == "noise":
            b += 0.3 * torch.randn(a.shape, generator=generator)
        else:
            b[5] += torch.randn(a[5].shape, generator=generator)
        ratios.append((estimate(a, b) / relative_rmse(a, b)) ** 2)

    # Of 60 estimates of a spread of sqrt(2 / 64), the mean is off by 0.07 at three sigma.
    assert np.mean(ratios) == pytest.approx(1, abs=0.07)
    assert np.std(ratios) < 1.5 * (2 / NUM_BUCKETS) ** 0.5


def test_a_change_that_is_the_same_everywhere_does_not_add_up() -> None:
    a = torch.randn(64, 40, 3, 3, generator=torch.Generator().manual_seed(3))

    # Without signs each bucket held 360 times the change: 360 times the squared distance.
    assert (estimate(a, a + 0.5) / relative_rmse(a, a + 0.5)) ** 2 == pytest.approx(1, abs=0.5)


def test_long_tensors_take_other_signs_in_every_run() -> None:
    # The same values again and again would cancel, or add up, run by run if signs came again.
    once = torch.randn(2**16, generator=torch.Generator().manual_seed(1))
    long = once.repeat(9)

    squared = float(np.square(sketch_tensor(long).buckets, dtype=np.float64).sum())
    assert squared / float(long.square().sum()) == pytest.approx(1, abs=0.6)


def test_half_precision_and_values_that_are_not_finite_are_taken_as_they_are() -> None:
    a = torch.randn(8, 8, generator=torch.Generator().manual_seed(2))

    assert np.allclose(sketch_tensor(a.bfloat16()).buckets, sketch_tensor(a).buckets, atol=0.1)
    a[3, 3] = torch.nan
    assert np.isnan(sketch_tensor(a).squares)
    assert np.isnan(estimate(a, a))


def test_weights_whose_squares_leave_float32_are_still_estimated() -> None:
    # (3e19)^2 = 9e38 is beyond float32; |a - b|^2 = 4 |a|^2 over 2 |a|^2.
    a = torch.zeros(3, 50)
    a[1, 7] = 3e19

    assert estimate(a, -a) == pytest.approx(2**0.5, rel=1e-6)
    assert estimate(a, torch.ones(3, 50)) == pytest.approx(1, rel=1e-6)


def test_an_infinite_size_is_not_taken_for_no_distance() -> None:
    buckets = np.ones((1, NUM_BUCKETS), dtype=np.float32)
    size, other = np.array([np.inf]), np.array([1.0])

    assert np.isnan(estimated_relative_rmse(size, buckets, other, 0 * buckets)[0])
