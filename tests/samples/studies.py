"""A study that runs in a second, and what it is made of; no tests."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from paramreuse.checkpoint import write_checkpoint
from paramreuse.cli import main
from paramreuse.data.phantom import read_phantom
from paramreuse.data.slices import ImageSet, ImageSlice
from paramreuse.study.config import Study
from paramreuse.study.run import open_job
from paramreuse.study.study_file import check_study
from paramreuse.study.workbench import Workbench
from samples.networks import move_off_start

LITTLE = "samples.studies:little"
PHANTOM = {
    "reader": "phantom",
    "train": 2,
    "validation": 2,
    "size": [16, 16],
    "options": {"subjects": 4, "slices": 3, "size": 16},
}


def little(in_channels: int = 1, num_classes: int = 4, width: int = 2) -> nn.Module:
    """Conv 1, norm 1, conv 2, norm 2, and the output layer, conv 3."""
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, num_classes, 1),
    )


def read_blood(root: object = None, **options: Any) -> ImageSet:
    """The phantom with two classes: blood, and what is none."""
    phantom = read_phantom(**options)

    def read_subject(subject: str) -> list[ImageSlice]:
        return [
            replace(piece, labels=((piece.labels == 1) | (piece.labels == 3)).long())
            for piece in phantom.read_subject(subject)
            if piece.labels is not None
        ]

    return ImageSet(("background", "blood"), phantom.subjects, read_subject)


def seeded(seed: int, **options: int) -> nn.Module:
    """A little network with statistics off their start, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = little(**options)
        move_off_start(model[1], model[4])
    return model.eval()


def checkpoint(path: Path, seed: int, **options: int) -> Path:
    """Write the weights of a little network."""
    write_checkpoint(path, seeded(seed, **options))
    return path


def trained_content(**changes: Any) -> dict[str, Any]:
    """A study that trains a target and its auto-encoder."""
    content: dict[str, Any] = {
        "name": "tiny",
        "network": {"name": LITTLE},
        "data": {"cine": PHANTOM},
        "models": {
            "target": {"data": "cine", "epochs": 1},
            "ae": {"data": "cine", "task": "autoencoder", "epochs": 1},
        },
        "sources": ["ae"],
    }
    return content | changes


def given_content(folder: Path, **changes: Any) -> dict[str, Any]:
    """A study of two checkpoints, written beside it: nothing is trained."""
    models = {
        name: {"data": "cine", "checkpoint": str(checkpoint(folder / f"{name}.safetensors", seed))}
        for seed, name in enumerate(("target", "ae"))
    }
    return trained_content(models=models) | changes


def study_of(content: Mapping[str, Any]) -> Study:
    return check_study(content, where="study.yaml")


def write_study(path: Path, content: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(dict(content), sort_keys=False), encoding="utf-8")
    return path


def read_few(root: object = None) -> ImageSet:
    """A phantom of three subjects, for the command line, which has no options for readers."""
    return read_phantom(subjects=3, slices=2, size=16)


def begun(folder: Path, study: Study) -> Path:
    """A run folder in which nothing has been measured yet."""
    with open_job(Workbench(study, folder)):
        pass
    return folder


def status_of(*arguments: object) -> int:
    """Exit status of the command line."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0)
