"""BatchNorm distances: worked numbers, PyTorch as reference, nothing touched."""

import pytest
import torch
from torch import nn

from paramreuse.compare.batchnorm import (
    compare_batchnorms,
    compare_effective,
    mrb,
    mrm,
    mrv,
    mrw,
    mrw_median,
    scale_and_shift,
)
from paramreuse.errors import ModelError


def random_norm(channels: int, seed: int = 0) -> nn.BatchNorm2d:
    generator = torch.Generator().manual_seed(seed)
    norm = nn.BatchNorm2d(channels, eps=1e-3, dtype=torch.float64).eval()
    with torch.no_grad():
        for tensor in (norm.running_mean, norm.weight, norm.bias):
            tensor.copy_(torch.randn(channels, generator=generator))
        norm.running_var.copy_(torch.rand(channels, generator=generator) + 0.1)
    return norm


def conv_norm(seed: int) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(2, 3, 3, dtype=torch.float64), random_norm(3, seed))
    with torch.no_grad():
        for parameter in net[0].parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return net.eval()


# --- worked by hand: two channels, variances 4 and 9 with eps 0, weights 2 and 3 ---

MEAN, VAR = torch.tensor([1.0, 2.0]), torch.tensor([4.0, 9.0])
WEIGHT, BIAS = torch.tensor([2.0, 3.0]), torch.tensor([0.0, 1.0])


def test_scale_is_weight_over_deviation_and_shift_takes_the_mean_off() -> None:
    scale, shift = scale_and_shift(mean=MEAN, var=VAR, weight=WEIGHT, bias=BIAS, eps=0.0)

    assert scale.tolist() == [1.0, 1.0]  # 2 / sqrt(4), 3 / sqrt(9)
    assert shift.tolist() == [-1.0, -1.0]  # 0 - 1 * 1, 1 - 2 * 1


def test_mrm_is_the_mean_shift_in_units_of_the_output() -> None:
    other = torch.tensor([2.0, 5.0])

    # 2 * 1 / 2 = 1 and 3 * 3 / 3 = 3
    assert mrm(mean=MEAN, other_mean=other, var=VAR, weight=WEIGHT, eps=0.0) == 2.0


def test_mrv_is_the_mean_ratio_of_deviations_target_over_source() -> None:
    assert mrv(var=VAR, other_var=torch.tensor([1.0, 9.0]), eps=0.0) == 1.5  # (2/1 + 3/3) / 2
    assert mrv(var=torch.tensor([8.0]), other_var=torch.tensor([3.0]), eps=1.0) == 1.5  # 3 / 2


def test_mrw_is_the_mean_ratio_source_over_target() -> None:
    assert mrw(weight=WEIGHT, other_weight=torch.tensor([4.0, 3.0])) == 1.5  # (4/2 + 3/3) / 2


def test_mrb_is_the_mean_absolute_difference() -> None:
    assert mrb(bias=BIAS, other_bias=torch.tensor([-1.0, 4.0])) == 2.0  # (1 + 3) / 2


def test_one_weight_at_zero_makes_mrw_infinite_and_leaves_the_median() -> None:
    weight, other = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, 3.0, 2.0])

    assert mrw(weight=weight, other_weight=other) == float("inf")
    assert mrw_median(weight=weight, other_weight=other) == 3.0  # of inf, 3, 1


def test_median_of_an_even_number_is_between_the_two_in_the_middle() -> None:
    weight, other = torch.ones(4), torch.tensor([1.0, 2.0, 4.0, 100.0])

    assert mrw_median(weight=weight, other_weight=other) == 3.0


def test_a_negative_variance_is_named_by_channel() -> None:
    var = torch.tensor([1.0, -0.5])

    with pytest.raises(ModelError, match=r"-0\.5 in channel 1"):
        scale_and_shift(mean=MEAN, var=var, weight=WEIGHT, bias=BIAS, eps=1e-5)


# --- against PyTorch ---


def test_scale_and_shift_agree_with_pytorch() -> None:
    norm = random_norm(channels=3)
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)

    scale, shift = scale_and_shift(
        mean=norm.running_mean,
        var=norm.running_var,
        weight=norm.weight,
        bias=norm.bias,
        eps=norm.eps,
    )

    folded = scale[:, None, None] * x + shift[:, None, None]
    torch.testing.assert_close(folded, norm(x), rtol=1e-12, atol=1e-12)


def test_mrm_is_what_swapping_the_mean_does_to_the_output() -> None:
    norm, other = random_norm(3, 0), random_norm(3, 1)
    x = torch.randn(1, 3, 2, 2, dtype=torch.float64)
    with torch.no_grad():
        norm.weight.abs_()  # the formula of the paper takes no absolute value of the weight
        before = norm(x)
        row = compare_batchnorms(norm, other).rows[0]
        norm.running_mean.copy_(other.running_mean)
        shift = (norm(x) - before).abs().mean()

    assert row.mrm == pytest.approx(float(shift), rel=1e-12)


# --- models ---


def test_a_model_and_itself_have_no_shift_and_no_scale() -> None:
    net = nn.Sequential(random_norm(5), random_norm(4), nn.BatchNorm2d(3))
    with torch.no_grad():
        net[0].weight[0] = 0.0  # 0 / 0 is no change either

    frame = compare_batchnorms(net, net).frame()

    assert list(frame.columns) == ["layer", "path", "mrm", "mrv", "mrw", "mrw_median", "mrb"]
    assert list(frame["layer"]) == [1, 2, 3]
    assert (frame[["mrm", "mrb"]] == 0.0).all(axis=None)
    assert (frame[["mrv", "mrw", "mrw_median"]] == 1.0).all(axis=None)


def test_a_model_lends_its_own_eps_and_a_state_dict_the_default() -> None:
    norm = nn.BatchNorm2d(1, eps=3.0)
    source = {**norm.state_dict(), "running_mean": torch.tensor([1.0])}

    assert compare_batchnorms(norm, source).rows[0].mrm == 0.5  # 1 / sqrt(1 + 3)
    by_tensors = compare_batchnorms(norm.state_dict(), source).rows[0].mrm
    assert by_tensors == pytest.approx(1 / (1 + 1e-5) ** 0.5, rel=1e-12)


def test_a_layer_without_weight_and_bias_counts_as_one_and_zero() -> None:
    source = nn.BatchNorm2d(2)
    with torch.no_grad():
        source.weight.fill_(3.0)
        source.bias.fill_(0.5)

    row = compare_batchnorms(nn.BatchNorm2d(2, affine=False), source).rows[0]

    assert (row.mrw, row.mrw_median, row.mrb) == (3.0, 3.0, 0.5)
    assert compare_batchnorms(source, nn.BatchNorm2d(2, affine=False)).rows[0].mrw == 1 / 3


def test_a_network_without_batchnorm_has_an_empty_table() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.GroupNorm(1, 2))

    frame = compare_batchnorms(net, net).frame()

    assert len(frame) == 0
    assert "mrm" in frame.columns


def test_effective_distances_of_a_model_and_itself_are_zero() -> None:
    net = conv_norm(0)

    frame = compare_effective(net, net).frame()

    assert list(frame.columns) == ["layer", "path", "rmse_scale", "rmse_shift", "relative_kernel"]
    assert frame.iloc[0].tolist() == [1, "0", 0.0, 0.0, 0.0]


def test_a_bias_absorbed_by_the_running_mean_is_no_difference() -> None:
    net, twin = conv_norm(0), conv_norm(0)
    with torch.no_grad():
        twin[0].bias += 7.0
        twin[1].running_mean += 7.0

    row = compare_effective(net, twin).rows[0]

    assert row.rmse_shift == pytest.approx(0.0, abs=1e-12)


def test_size_and_sign_of_a_kernel_are_no_difference_in_its_direction() -> None:
    net, twin = conv_norm(0), conv_norm(0)
    with torch.no_grad():
        twin[0].weight *= torch.tensor([2.0, -3.0, 0.5])[:, None, None, None]
        twin[1].weight[1] *= -1
    x = torch.randn(1, 2, 5, 5, dtype=torch.float64)

    assert compare_effective(net, twin).rows[0].relative_kernel == pytest.approx(0.0, abs=1e-7)
    assert compare_effective(net, conv_norm(1)).rows[0].relative_kernel > 0.5
    assert not torch.allclose(net(x), twin(x))  # RV was not scaled along


def test_a_transposed_kernel_is_normalised_per_output_channel() -> None:
    net = nn.Sequential(nn.ConvTranspose2d(2, 3, 2), nn.BatchNorm2d(3))
    factors = torch.tensor([2.0, 5.0, 0.1])[None, :, None, None]
    source = {**net.state_dict(), "0.weight": net[0].weight.detach() * factors}

    assert compare_effective(net, source).rows[0].relative_kernel == pytest.approx(0.0, abs=1e-6)
