"""Auto-RGN: the rate of a block is its relative gradient norm over the largest."""

import pytest
import torch
from torch import nn

import paramreuse as pr
from paramreuse.errors import ModelError
from paramreuse.reuse.blocks import blocks_of
from paramreuse.reuse.plan import Action
from paramreuse.sites.matching import sites_of
from paramreuse.training.gradients import SLOWEST, auto_rgn_plan, relative_gradient_norms
from paramreuse.training.settings import TrainingSettings
from paramreuse.training.tasks import loss_of
from samples.disks import disk_network, disks


def network() -> nn.Module:
    """Without normalisations a batch of all images gives the same gradient in any order."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 2, 1)
        )


def test_norms_are_those_of_autograd_over_those_of_the_weights() -> None:
    model, batches = network(), disks(2)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images, labels = (torch.cat([b[k] for b in batches]) for k in (0, 1))
    settings = pr.StepSettings(batch_size=len(images))

    norms = relative_gradient_norms(model, batches, blocks_of(sites_of(model)), settings=settings)

    loss = loss_of("segmentation", TrainingSettings())(model(images), images, labels)
    layers = (model[0], model[2], model[3])
    gradients = [torch.autograd.grad(loss, [*x.parameters()], retain_graph=True) for x in layers]
    expected = [
        float(torch.cat([g.flatten() for g in grads]).norm())
        / float(torch.cat([p.detach().flatten() for p in layer.parameters()]).norm())
        for grads, layer in zip(gradients, layers, strict=True)
    ]
    assert norms == pytest.approx(expected, rel=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_largest_norm_gets_the_whole_rate_and_a_dead_block_the_smallest() -> None:
    model = network()
    with torch.no_grad():
        # All that the first layer gives is negative: no gradient comes through its ReLU.
        model[0].weight.zero_()
        model[0].bias.fill_(-1.0)
    blocks = blocks_of(sites_of(model))

    plan = auto_rgn_plan(model, disks(2), blocks, source="x")
    norms = relative_gradient_norms(model, disks(2), blocks)

    rates = {entry.site.path: entry.rate for entry in plan.entries}
    assert norms[0] == 0.0
    assert rates["0"] == SLOWEST
    assert max(rates.values()) == 1.0
    assert rates["2"] / rates["3"] == pytest.approx(
        max(SLOWEST, norms[1] / max(norms)) / max(SLOWEST, norms[2] / max(norms))
    )
    assert {entry.action for entry in plan.entries} == {Action.TRAIN}


def test_statistics_and_random_states_stay_as_they_are() -> None:
    model = disk_network().eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()

    first = relative_gradient_norms(model, disks(3), blocks_of(sites_of(model)), seed=1)
    second = relative_gradient_norms(model, disks(3), blocks_of(sites_of(model)), seed=1)

    assert first == second
    assert not model.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_without_a_gradient_there_are_no_rates() -> None:
    model = network()
    blocks = blocks_of(sites_of(model))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model[3].bias.requires_grad_(True)
    broken = network()
    with torch.no_grad():
        broken[0].weight.fill_(float("nan"))

    with pytest.raises(ModelError, match="it is 0 in every block"):
        auto_rgn_plan(model, disks(2), blocks[:2])
    with pytest.raises(ModelError, match="the loss is nan"):
        auto_rgn_plan(broken, disks(2), blocks)
