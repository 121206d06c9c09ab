"""How much sources see as pilots do: against CKA of features taken by hand."""

import torch
from torch import nn

import paramreuse as pr
from paramreuse.recommendation.labelled import gather_labelled
from paramreuse.recommendation.likeness import SourceFeatures
from paramreuse.training import initial_model
from samples.disks import disk_network, disks


def trained(seed: int) -> nn.Module:
    return pr.train_steps(initial_model(disk_network, seed), disks(4, seed=seed), None, 60, seed)


def features_by_hand(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return what enters the last layer, one row per pixel, columns centred."""
    taken = []
    fitted = pr.recalibrated(model, [images])
    last = [module for module in fitted.modules() if isinstance(module, nn.Conv2d)][-1]
    last.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0]))
    with torch.no_grad():
        fitted(images)
    rows = taken[0].movedim(1, -1).flatten(0, -2).double()
    return rows - rows.mean(0)


def test_likeness_is_cka_of_the_features_in_front_of_the_output_layer() -> None:
    data = gather_labelled(disks(2))
    pilot, source = trained(1), trained(2)
    other = dict(source.state_dict())
    likeness = SourceFeatures(
        initial_model(disk_network, 0), {"own": pilot.state_dict(), "other": other}, data, 0
    ).likeness(pilot)

    a, b = (features_by_hand(model, data.inputs) for model in (source, pilot))
    expected = (a.T @ b).square().sum() / ((a.T @ a).norm() * (b.T @ b).norm())

    assert abs(likeness["own"] - 1) < 1e-9
    # All pixels of two subjects are fewer than what is drawn at most.
    assert abs(likeness["other"] - float(expected)) < 1e-6
    assert likeness["other"] < 0.99


def test_a_network_without_features_has_no_likeness() -> None:
    data = gather_labelled(disks(2))
    weights = initial_model(disk_network, 1).state_dict()
    broken = {k: v * float("nan") if v.is_floating_point() else v for k, v in weights.items()}

    likeness = SourceFeatures(initial_model(disk_network, 0), {"nan": broken}, data, 0).likeness(
        trained(1)
    )

    assert likeness["nan"] != likeness["nan"]
