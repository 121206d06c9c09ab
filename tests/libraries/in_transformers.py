"""A vision transformer of Hugging Face; run by ``test_own_environments.py``."""

from collections.abc import Callable

import pytest
from every_library import CHECKS, CLASSES, Case, Part
from guides import run_guide
from torch import nn
from transformers import ViTConfig, ViTForImageClassification

import paramreuse as pr


def vit() -> ViTForImageClassification:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "image_size": 32, "patch_size": 8}
    config = ViTConfig(**sizes, num_hidden_layers=2, num_attention_heads=2, num_labels=CLASSES)
    return ViTForImageClassification(config)


def logits_of_vit() -> nn.Module:
    return Part(vit(), "logits")


@pytest.mark.parametrize("check", CHECKS)
def test_a_vision_transformer_works(check: Callable[[Case], None]) -> None:
    check(Case(logits_of_vit))


def test_what_it_returns_is_refused_with_the_way_out() -> None:
    case = Case(logits_of_vit)
    with pytest.raises(pr.ParamReuseError, match=r"expected a tensor. Wrap it.*\['logits'\]"):
        pr.sweep_sites(vit().eval(), vit(), case.batches, case.score)


def test_the_guide_runs() -> None:
    run_guide("transformers")
