"""Trainings that are done by one process, or by two of torchrun's; no tests.

Run as ``torchrun --nproc-per-node 2 -m samples.together FOLDER``: each process writes what it got.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paramreuse.data.preparation import PreparedSet
from paramreuse.reuse.freezing import freeze_tensors
from paramreuse.reuse.plan import Action, Plan, apply_plan
from paramreuse.reuse.starts import gentle_plan
from paramreuse.sites.matching import match_sites
from paramreuse.training import TrainingSettings, train_model
from paramreuse.training.steps import StepSettings, train_steps
from samples.studies import seeded

FROZEN = ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var")
FROZEN_TOO = ("4.running_mean", "4.running_var")
"""Statistics that are frozen: the second layer's, so that a batch is normalised by them."""


def images(number: int = 11) -> PreparedSet:
    """Slices of four subjects; the last batch of them is an odd one."""
    generator = torch.Generator().manual_seed(3)
    subjects = tuple(f"patient {index % 4}" for index in range(number))
    return PreparedSet(
        torch.randn(number, 1, 8, 8, generator=generator),
        torch.randint(0, 4, (number, 8, 8), generator=generator),
        subjects,
        subjects,
        ("background", "a", "b", "c"),
    )


def trained_by_epochs(devices: int, folder: Path | None = None) -> dict[str, Any]:
    """An auto-encoder, whose loss is a mean over samples, with statistics frozen."""
    model = seeded(0)
    freeze_tensors(model, [*FROZEN, *FROZEN_TOO])
    settings = TrainingSettings(
        **{"epochs": 3, "batch_size": 4, "device": "cpu", "devices": devices},  # type: ignore[arg-type]
        progress=False,
        folder=folder,
    )
    told: list[int] = []
    result = train_model(
        *(model, images(), images(7)),
        task="autoencoder",
        settings=settings,
        on_epoch=lambda row: told.append(row.epoch),
    )
    history = [(row.epoch, row.train_loss, row.validation_score) for row in result.history]
    return {"weights": result.model.state_dict(), "history": history, "told": told}


def gently() -> Plan:
    """A plan with a rate of its own for each layer, an anchor, and a frozen first norm."""
    plan = gentle_plan(match_sites(seeded(0), seeded(1)), rate=0.3, anchor=0.5)
    entries = tuple(
        replace(entry, action=Action.FREEZE) if entry.site.path == "1" else entry
        for entry in plan.entries
    )
    return replace(plan, entries=entries)


def trained_by_steps(devices: int) -> dict[str, Any]:
    """A plan followed for a few steps; all images are one, so that any part of a batch is alike."""
    model = seeded(0)
    plan = gently()
    apply_plan(model, seeded(1), plan)
    one = images(1)
    batch = (one.images.repeat(8, 1, 1, 1), one.labels.repeat(8, 1, 1), ["a"] * 8)
    settings = StepSettings(batch_size=8, augment=False, devices=devices)
    trained = train_steps(model, [batch], plan, 6, 0, settings=settings)
    return {"weights": trained.state_dict()}


def validated(devices: int) -> float:
    """The Dice of a network on an odd number of batches."""
    model = seeded(2)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model[6].bias.requires_grad_(True)  # type: ignore[index,union-attr]
    settings = TrainingSettings(
        epochs=1, batch_size=2, learning_rate=1e-30, device="cpu", devices=devices, progress=False
    )
    return train_model(_still(model), images(), images(9), settings=settings).best_score


def _still(model: nn.Module) -> nn.Module:
    """Freeze the statistics, so that a training with no rate changes nothing."""
    freeze_tensors(model, ["1.running_mean", "1.running_var", "4.running_mean", "4.running_var"])
    return model


def everything(devices: int, folder: Path | None = None) -> dict[str, Any]:
    return {
        "epochs": trained_by_epochs(devices, folder),
        "steps": trained_by_steps(devices),
        "validated": validated(devices),
    }


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(
        float((tensor.double() - other[key].double()).abs().max()) for key, tensor in one.items()
    )


if __name__ == "__main__":
    kept = Path(sys.argv[1]) / "training"
    results = everything(2, kept) | {"resumed": trained_by_epochs(2, kept)}
    torch.save(results, Path(sys.argv[1]) / f"{torch.distributed.get_rank()}.pt")
