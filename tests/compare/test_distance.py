"""Distances between models: worked numbers, float64 references, lineage, and what is left out."""

import json
from math import isnan, sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from paramreuse.checkpoint.safetensors_file import SafetensorsFile
from paramreuse.compare.distance import compare_models, cosine, relative_rmse, rmse
from paramreuse.compare.pair_sums import PairSums, pair_sums
from paramreuse.errors import SiteMismatchError


def conv_net(seed: int, width: int = 12) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(1, width, 3),
        nn.BatchNorm2d(width),
        nn.Conv2d(width, width, 3),
        nn.BatchNorm2d(width),
        nn.Conv2d(width, width, 3),
        nn.Conv2d(width, 2, 1),
    )
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return net


def moved(net: nn.Module, amount: float, seed: int = 9) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        key: t + amount * torch.randn(t.shape, generator=generator) if t.is_floating_point() else t
        for key, t in net.state_dict().items()
    }


# --- worked by hand ---


def test_rmse_of_three_and_four_is_root_of_twelve_and_a_half() -> None:
    assert rmse(torch.zeros(2), torch.tensor([3.0, 4.0])) == sqrt(12.5)


def test_relative_rmse_of_opposite_tensors_is_root_two_and_of_orthogonal_ones_is_one() -> None:
    a = torch.tensor([1.0, 0.0])

    assert relative_rmse(a, -a) == sqrt(2)  # sqrt(4 / (1 + 1))
    assert relative_rmse(a, torch.tensor([0.0, 1.0])) == 1.0  # sqrt(2 / (1 + 1))
    assert relative_rmse(a, torch.tensor([3.0, 0.0])) == sqrt(4 / 10)


def test_relative_rmse_of_two_zero_tensors_is_zero() -> None:
    assert relative_rmse(torch.zeros(3), torch.zeros(3)) == 0.0


def test_cosine_of_three_four_and_four_three_is_24_25ths() -> None:
    assert cosine(torch.tensor([3.0, 4.0]), torch.tensor([4.0, 3.0])) == 24 / 25


def test_cosine_with_a_zero_tensor_has_no_value() -> None:
    assert isnan(cosine(torch.zeros(2), torch.ones(2)))


def test_equal_elements_are_counted_one_by_one() -> None:
    a = torch.arange(10.0)
    b = a.clone()
    b[3] += 1

    sums = pair_sums(a, b)

    assert (sums.equal, sums.elements, sums.squares_difference) == (9, 10, 1.0)


def test_sums_of_parts_add_up_to_the_sums_of_the_whole() -> None:
    a, b = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 0.0, -3.0])

    assert pair_sums(a[:1], b[:1]) + pair_sums(a[1:], b[1:]) == pair_sums(a, b)
    assert pair_sums(a, b) == PairSums(3, 14.0, 10.0, 40.0, -8.0, 1, 0)


# --- against float64 ---


def reference(a: Tensor, b: Tensor) -> tuple[float, float, float]:
    x, y = a.double().flatten().numpy(), b.double().flatten().numpy()
    size = np.linalg.norm(x) * np.linalg.norm(y)
    square = np.mean((x - y) ** 2)
    return (
        float(np.sqrt(square)),
        float(np.sqrt(square / (np.mean(x**2) + np.mean(y**2)))),
        float(x @ y / size),
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_distances_agree_with_float64_across_block_borders(
    dtype: torch.dtype, scale: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    a = (torch.randn(300_001, generator=generator) * scale).to(dtype)
    b = (a.double() + 0.1 * scale * torch.randn(a.shape, generator=generator)).to(dtype)

    measured = rmse(a, b), relative_rmse(a, b), cosine(a, b)

    # Squares in float32 over rows of 4096, rows in float64.
    np.testing.assert_allclose(measured, reference(a, b), rtol=1e-6)


def test_a_constant_difference_keeps_its_digits() -> None:
    # Added up in float32 over 2^20 elements the sum would be off by 4e-4.
    a = torch.zeros(1 << 20)

    assert rmse(a, a + 1.1) == pytest.approx(float(torch.tensor(1.1)), rel=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1e25])
def test_values_whose_squares_float32_cannot_hold_are_measured(scale: float) -> None:
    a = torch.linspace(1, 2, 500) * scale

    assert rmse(a, 2 * a) == pytest.approx(reference(a, 2 * a)[0], rel=1e-6)
    assert relative_rmse(a, 2 * a) == pytest.approx(sqrt(1 / 5), rel=1e-6)
    assert cosine(a, 2 * a) == pytest.approx(1.0, rel=1e-6)


def test_a_difference_too_small_for_float32_squares_is_not_zero() -> None:
    a = torch.full((100,), 1e-18)
    a[0] = 1.0
    b = a.clone()
    b[1:] *= 1.001

    assert pair_sums(a, b).squares_difference == pytest.approx(99 * 1e-42, rel=1e-3)


def test_tensors_of_two_dtypes_and_of_integers_are_compared_by_value() -> None:
    assert rmse(torch.tensor([1, 2]), torch.tensor([1.0, 4.0], dtype=torch.float64)) == sqrt(2)
    assert rmse(torch.tensor([2**24 + 1]), torch.tensor([2**24])) == 1.0  # float32 rounds it off


def test_memory_layout_does_not_matter() -> None:
    a, b = torch.randn(4, 3, 5, 5), torch.randn(4, 3, 5, 5)

    assert rmse(a.to(memory_format=torch.channels_last), b) == rmse(a, b)
    assert rmse(nn.Parameter(a.transpose(0, 2)), b.transpose(0, 2)) == pytest.approx(rmse(a, b))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=20), st.floats(-2, 2))
def test_distance_is_symmetric_and_relative_rmse_at_most_root_two(
    values: list[float], factor: float
) -> None:
    a = torch.tensor(values)
    b = a.flip(0) * factor

    assert rmse(a, b) == rmse(b, a)
    assert 0 <= relative_rmse(a, b) <= sqrt(2) + 1e-6


# --- refusals ---


def test_tensors_of_different_shapes_are_refused_with_both_shapes() -> None:
    with pytest.raises(SiteMismatchError, match=r"\(2, 3\) and \(3, 2\)"):
        rmse(torch.zeros(2, 3), torch.zeros(3, 2))


@pytest.mark.parametrize(
    ("tensor", "word"),
    [
        (torch.zeros(2, dtype=torch.complex64), "complex"),
        (torch.zeros(2).to_sparse(), "not dense"),
        (torch.zeros(2, device="meta"), "no values"),
    ],
)
def test_tensors_without_plain_values_are_refused(tensor: Tensor, word: str) -> None:
    with pytest.raises(SiteMismatchError, match=word):
        cosine(torch.zeros(2), tensor)


# --- models ---


def test_frame_has_one_row_per_site_under_the_agreed_columns() -> None:
    target = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    source = {key: t + 2 for key, t in target.state_dict().items()}

    frame = compare_models(target, source).frame()

    assert list(frame.columns) == [
        *("layer", "path", "kind", "key", "elements", "rmse", "relative_rmse", "cosine")
    ]
    assert list(frame["kind"]) == ["W", "B", "RM", "RV", "RW", "RB"]
    assert list(frame["key"])[:2] == ["0.weight", "0.bias"]
    np.testing.assert_allclose(frame["rmse"], 2.0, rtol=1e-6)


def test_a_model_and_itself_are_identical_at_every_site() -> None:
    net = conv_net(0)

    comparison = compare_models(net, net)

    assert comparison.lineage == "shared"
    assert comparison.identical_share == 1.0
    assert all(row.rmse == 0.0 and row.relative_rmse == 0.0 for row in comparison.rows)
    assert comparison.skipped == ()


def test_the_same_file_twice_is_shared(tmp_path: Path) -> None:
    save_file(conv_net(0).state_dict(), tmp_path / "a.safetensors")

    comparison = compare_models(tmp_path / "a.safetensors", str(tmp_path / "a.safetensors"))

    assert (comparison.lineage, comparison.identical_share) == ("shared", 1.0)
    assert comparison.source == str(tmp_path / "a.safetensors")


def test_identical_share_counts_elements_of_all_kinds() -> None:
    target = nn.Conv2d(1, 1, 3)  # nine weights and a bias
    source = {"weight": target.weight.detach().clone(), "bias": target.bias.detach() + 1}
    source["weight"][0, 0, 0, 0] += 1

    assert compare_models(target, source).identical_share == 8 / 10


def test_a_model_moved_by_half_its_size_shares_its_start() -> None:
    net = conv_net(0)

    comparison = compare_models(net, moved(net, 0.05))

    assert comparison.lineage == "shared"
    assert "one start" in comparison.lineage_reason


def test_models_started_independently_are_told_so_and_why_rmse_misleads() -> None:
    comparison = compare_models(conv_net(0), conv_net(1))

    assert comparison.lineage == "independent"
    assert "permutation and scale" in comparison.lineage_reason
    assert comparison.identical_share < 0.2  # running statistics start alike in every model


def test_a_common_mean_of_the_weights_is_no_common_start() -> None:
    # Against 1 instead of the shuffled null these would look alike: sqrt(2 / (2 + 2)) = 0.71.
    one = {key: t + 0.1 for key, t in conv_net(0).state_dict().items() if "weight" in key}
    two = {key: t + 0.1 for key, t in conv_net(1).state_dict().items() if "weight" in key}

    comparison = compare_models(one, two)

    assert comparison.rows[1].relative_rmse < 0.85
    assert comparison.lineage == "independent"


def test_lineage_of_a_few_weights_is_undecided() -> None:
    comparison = compare_models(nn.Conv2d(1, 2, 3), conv_net(3, width=2)[0])

    assert comparison.lineage == "undecided"
    assert "enough elements" in comparison.lineage_reason


def test_lineage_of_a_half_replaced_model_is_undecided() -> None:
    target, other = conv_net(0), conv_net(1)
    source = {**other.state_dict(), "2.weight": target.state_dict()["2.weight"] * 1.01}

    assert compare_models(target, source).lineage == "undecided"


def test_kernels_without_variation_do_not_count_as_independent() -> None:
    target, source = conv_net(0).state_dict(), conv_net(0).state_dict()
    for state in (target, source):
        state["2.weight"] = torch.zeros_like(state["2.weight"])
    source["4.weight"] = source["4.weight"] * 1.01

    assert compare_models(target, source).lineage == "shared"


def test_values_that_are_not_finite_are_counted_and_their_distance_is_nan() -> None:
    net = conv_net(0)
    source = {key: t.clone() for key, t in net.state_dict().items()}
    source["2.weight"][0, 0, 0, :2] = torch.tensor([float("nan"), float("inf")])

    comparison = compare_models(net, source)

    assert [(row.site.key, row.non_finite) for row in comparison.non_finite] == [("2.weight", 2)]
    row = comparison.non_finite[0]
    assert isnan(row.rmse)
    assert isnan(row.relative_rmse)
    assert isnan(row.cosine)


def test_an_infinity_makes_the_distance_nan_not_infinite() -> None:
    assert isnan(rmse(torch.tensor([1.0, float("inf")]), torch.tensor([1.0, 2.0])))


def test_what_cannot_be_compared_is_listed_with_the_reason() -> None:
    target = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)).state_dict()
    source = {**target, "0.weight": torch.zeros(4, 2), "extra": torch.zeros(1)}
    source["1.weight"] = source["1.weight"].to(torch.complex64)

    reasons = {item.key: item.reason for item in compare_models(target, source).skipped}

    assert "(3, 2)" in reasons["0.weight"]
    assert "(4, 2)" in reasons["0.weight"]
    assert "complex64" in reasons["1.weight"]
    assert "extra" in reasons


def test_a_complex_target_tensor_is_listed_too() -> None:
    target = {"a.weight": torch.ones(2, 2), "b.weight": torch.ones(2, 2, dtype=torch.complex64)}

    reasons = {item.key: item.reason for item in compare_models(target, target).skipped}

    assert "complex64" in reasons["b.weight"]


def test_excluded_sites_are_left_out() -> None:
    net = conv_net(0)

    keys = [row.site.key for row in compare_models(net, net, exclude=["2.weight"]).rows]

    assert "2.weight" not in keys
    assert "2.bias" in keys


def test_nothing_in_common_is_an_error() -> None:
    with pytest.raises(SiteMismatchError, match="no tensor of the source"):
        compare_models(nn.Linear(2, 1), {"other": torch.zeros(5, 5)})


def test_json_form_has_the_agreed_keys_and_no_nan() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))

    content = compare_models(net, net, names=("t", "s")).to_dict()

    assert {"name", "lineage", "identical_share", "rows", "skipped"} <= content.keys()
    assert content["name"] == "s"
    bias = next(row for row in content["rows"] if row["kind"] == "RB")
    assert bias["cosine"] is None  # both all zero
    assert json.loads(json.dumps(content, allow_nan=False)) == content


def test_models_are_left_as_they_were() -> None:
    net, other = conv_net(0).train(), conv_net(1)
    before = {key: t.clone() for key, t in net.state_dict().items()}
    random_state = torch.get_rng_state()

    compare_models(net, other)

    assert net.training
    assert all(p.requires_grad for p in net.parameters())
    assert all(torch.equal(t, before[key]) for key, t in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_each_tensor_of_a_file_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = conv_net(0)
    save_file(net.state_dict(), tmp_path / "a.safetensors")
    reads: list[str] = []
    view = SafetensorsFile.view
    monkeypatch.setattr(
        SafetensorsFile, "view", lambda self, key: (reads.append(key), view(self, key))[1]
    )

    comparison = compare_models(net, tmp_path / "a.safetensors")

    assert sorted(reads) == sorted(row.site.key for row in comparison.rows)
