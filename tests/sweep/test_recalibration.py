"""Recalibrated statistics: PyTorch as reference, nothing touched."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from paramreuse.errors import ModelError
from paramreuse.sweep.recalibration import recalibrated


def test_recalibrated_statistics_are_those_of_all_inputs_together() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5)).train()
    x = torch.randn(7, 3, 4, 4) * 5 + 2

    copy = recalibrated(net, [(x[:4], None, None), (x[4:], None, None)])

    flat = x.transpose(0, 1).flatten(1)
    torch.testing.assert_close(copy[0].running_mean, flat.mean(dim=1))
    torch.testing.assert_close(copy[0].running_var, flat.var(dim=1))
    assert int(copy[0].num_batches_tracked) == 2
    assert not copy.training


def test_later_layers_see_what_training_would_show_them() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.BatchNorm2d(2))
    x = torch.randn(4, 1, 6, 6)

    copy = recalibrated(net, [x])

    reference = nn.Sequential(*net).train()
    for index in (1, 3):
        reference[index].momentum = 1.0  # one batch, so the last one is all
    reference(x)
    torch.testing.assert_close(copy[3].running_var, reference[3].running_var)
    torch.testing.assert_close(copy[3].running_mean, reference[3].running_mean)


def test_recalibration_leaves_model_modes_hooks_and_random_state() -> None:
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout()).train()
    before = {key: t.clone() for key, t in net.state_dict().items()}
    batches = [torch.randn(2, 1, 2, 2)]

    def drawing_batches() -> Iterator[Tensor]:
        torch.rand(3)
        yield from batches

    random_state = torch.get_rng_state()
    copy = recalibrated(net, drawing_batches())

    assert torch.equal(torch.get_rng_state(), random_state)
    assert net.training
    assert net[0].training
    assert all(torch.equal(t, before[key]) for key, t in net.state_dict().items())
    assert not copy[0]._forward_pre_hooks


def test_one_value_per_channel_is_refused_with_the_layer() -> None:
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3))

    with pytest.raises(ModelError, match=r"'1'.*at least two samples"):
        recalibrated(net, [torch.randn(1, 3, 4, 4)])


def test_no_batch_is_refused() -> None:
    with pytest.raises(ModelError, match="no batch"):
        recalibrated(nn.BatchNorm2d(1), [])
