"""segmentation-models-pytorch, torchvision and timm; run by ``test_own_environments.py``."""

from collections.abc import Callable
from functools import partial

import torchvision_schemas  # noqa: F401

# isort: split
import pytest
import segmentation_models_pytorch as smp
import timm
from every_library import CHECKS, CLASSES, Case, Part
from guides import run_guide
from torch import nn
from torchvision import models


def lraspp() -> nn.Module:
    make = models.segmentation.lraspp_mobilenet_v3_large
    return Part(make(weights=None, weights_backbone=None, num_classes=CLASSES), "out")


def smp_network(make: Callable[..., nn.Module], **options: object) -> nn.Module:
    return make("resnet18", encoder_weights=None, in_channels=1, classes=CLASSES, **options)


CASES = {
    "smp Unet": Case(
        partial(smp_network, smp.Unet, decoder_channels=(16, 16, 8, 8, 8)),
        channels=1,
        is_dense=True,
    ),
    "smp PSPNet": Case(partial(smp_network, smp.PSPNet), channels=1, size=48, is_dense=True),
    "torchvision resnet18": Case(partial(models.resnet18, num_classes=CLASSES)),
    "torchvision lraspp": Case(lraspp, is_dense=True),
    "timm resnet10t": Case(partial(timm.create_model, "resnet10t", num_classes=CLASSES)),
    "timm vit": Case(
        partial(
            timm.create_model, "vit_tiny_patch16_224", img_size=32, depth=2, num_classes=CLASSES
        )
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("check", CHECKS)
def test_a_network_of_the_library_works(name: str, check: Callable[[Case], None]) -> None:
    check(CASES[name])


@pytest.mark.parametrize("page", ["segmentation-models-pytorch", "torchvision-timm"])
def test_the_guide_runs(page: str) -> None:
    run_guide(page)
