"""Libraries that people use and that cannot share our environment."""

import pytest
import torch
from own_environment import run_tests

pytestmark = [pytest.mark.slow, pytest.mark.libraries]


@pytest.mark.skipif(
    not torch.__version__.startswith("2.13."),
    reason=f"torchvision 0.28.0 is that of torch 2.13, and this is {torch.__version__}",
)
def test_networks_of_torchvision_timm_and_segmentation_models_pytorch_work() -> None:
    run_tests("in_vision.py", "vision")


def test_a_vision_transformer_of_hugging_face_works() -> None:
    run_tests("in_transformers.py", "transformers")


def test_finetuning_scheduler_follows_an_exported_schedule() -> None:
    run_tests("in_schedule.py", "schedule")
