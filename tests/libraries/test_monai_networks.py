"""MONAI's U-Net, and a network of torch alone."""

from collections.abc import Callable

import pytest
from every_library import CHECKS, CLASSES, Case
from monai.networks.nets import UNet
from torch import nn

pytestmark = pytest.mark.slow


def monai_unet(norm: str) -> nn.Module:
    return UNet(
        spatial_dims=2,
        in_channels=1,
        out_channels=CLASSES,
        channels=(4, 8, 16),
        strides=(2, 2),
        num_res_units=1,
        norm=norm,
    )


def plain_network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, CLASSES, 1),
    )


CASES = {
    "MONAI UNet, batch norm": Case(lambda: monai_unet("batch"), channels=1, is_dense=True),
    "MONAI UNet, instance norm": Case(lambda: monai_unet("instance"), channels=1, is_dense=True),
    "torch alone": Case(plain_network, channels=1, is_dense=True),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("check", CHECKS)
def test_a_network_works(name: str, check: Callable[[Case], None]) -> None:
    check(CASES[name])
