"""What has to hold for a network of any library: numbered, compared, swept, planned; no tests."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import paramreuse as pr
from paramreuse.reuse.freezing import frozen_keys, trainable_parameters
from paramreuse.sweep.batches import Batches
from paramreuse.sweep.scores import Score

CLASSES = 3


class Part(nn.Module):
    """A network that returns several things, with one of them as its output."""

    def __init__(self, network: nn.Module, name: str) -> None:
        super().__init__()
        self.network = network
        self.name = name

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.network(images)[self.name]
        return output


@dataclass(frozen=True)
class Case:
    """A network to try.

    Attributes:
        make: Builds it, with three classes.
        channels: Of an image.
        size: Rows and columns of an image.
        is_dense: Whether it gives a class to each pixel rather than to each image.
    """

    make: Callable[[], nn.Module]
    channels: int = 3
    size: int = 32
    is_dense: bool = False

    @property
    def images(self) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        return torch.randn(4, self.channels, self.size, self.size, generator=generator)

    @property
    def labels(self) -> Tensor:
        shape = (4, self.size, self.size) if self.is_dense else (4,)
        return torch.randint(CLASSES, shape, generator=torch.Generator().manual_seed(2))

    @property
    def batches(self) -> Batches:
        images, labels = self.images, self.labels
        return [(images[:2], labels[:2], ["a", "b"]), (images[2:], labels[2:], ["c", "d"])]

    @property
    def score(self) -> Score:
        return pr.Dice(CLASSES) if self.is_dense else pr.Accuracy(CLASSES)

    def built(self, seed: int) -> nn.Module:
        """Build with initial weights by seed, norms that are not all alike, and no favourite class.

        A fresh network predicts one class everywhere, and then no swap changes a score.
        """
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = self.make().eval()
            with torch.no_grad():
                for site in pr.sites_of(model):
                    tensor = model.state_dict()[site.key]
                    if site.family == "norm":
                        tensor += 0.5 * torch.rand_like(tensor)  # a variance stays positive
                (bias,) = (s for s in pr.sites_of(model) if s.is_output and s.kind == "B")
                mean = model(self.images).transpose(0, 1).flatten(1).mean(1)
                model.state_dict()[bias.key].sub_(mean)
        return model


def check_sites(case: Case) -> None:
    """Every parameter and running statistic is a site, numbered from 1 without a gap."""
    model = case.built(0)
    sites = pr.sites_of(model, example_input=case.images)

    keys = {site.key for site in sites}
    parameters = {name for name, _ in model.named_parameters()}
    statistics = {name for name, _ in model.named_buffers() if name.endswith(("_mean", "_var"))}
    assert keys == parameters | statistics
    assert len({site.name for site in sites}) == len(sites)
    for _, family in groupby(sorted(sites, key=lambda s: s.family), key=lambda s: s.family):
        layers = sorted({site.layer for site in family})
        assert layers == list(range(1, len(layers) + 1))
    assert sum(site.is_output for site in sites) in (1, 2)


def check_comparison(case: Case) -> None:
    """Two starts are told from one, and a network has no distance from itself."""
    model = case.built(0)
    near = case.built(0)
    with torch.no_grad():
        for parameter in near.parameters():
            parameter.add_(0.01 * parameter.abs().mean() * torch.randn_like(parameter))

    assert pr.compare_models(model, case.built(1)).lineage == "independent"
    assert pr.compare_models(model, near).lineage == "shared"
    assert {row.rmse for row in pr.compare_models(model, model).rows} == {0.0}


def check_sweep(case: Case) -> None:
    """The fast engine gives what plain forward passes give, and swaps are not all alike."""
    target, source = case.built(0), case.built(1)
    before = {key: tensor.clone() for key, tensor in target.state_dict().items()}

    sites = pr.sites_of(target, example_input=case.images)
    some = sites[:: 1 + len(sites) // 60]  # of the large networks, for time's sake

    fast = pr.sweep_sites(target, source, case.batches, case.score, swaps=some)
    full = pr.sweep_sites(target, source, case.batches, case.score, swaps=some, engine="full")

    assert fast.notes == ()  # it was the fast engine
    assert [swap.name for swap in fast.swaps] == [site.name for site in some]
    assert fast.scores.keys() == full.scores.keys()
    for trial, scores in full.scores.items():
        np.testing.assert_array_equal(fast.scores[trial], scores, err_msg=str(trial))
    assert len({scores.tobytes() for scores in full.scores.values()}) > 1
    assert all(torch.equal(tensor, before[key]) for key, tensor in target.state_dict().items())


def check_plan(case: Case) -> None:
    """A plan loads what it says, and what it freezes does not move in a training step."""
    source, fresh = case.built(1), case.built(2)
    sites = pr.sites_of(source, example_input=case.images)
    left = sites[len(sites) // 2]
    plan = pr.plan_leaving(sites, [left.name])

    applied = pr.apply_plan(fresh, source, plan, mode="freeze")

    ours, theirs = fresh.state_dict(), source.state_dict()
    loaded = {site.key for site in sites if not site.is_output} - {left.key}
    assert set(applied.loaded) == set(applied.frozen) == loaded
    assert all(torch.equal(ours[key], theirs[key]) for key in loaded)
    own = {key: ours[key].clone() for key in ours.keys() - loaded if ours[key].is_floating_point()}
    optimiser = torch.optim.SGD(trainable_parameters(fresh.train()), lr=0.1)

    def step() -> None:
        cross_entropy(fresh(case.images), case.labels).backward()
        optimiser.step()

    report = pr.check_frozen(fresh, frozen_keys(fresh), step, example_input=case.images)

    assert loaded <= report.checksums.keys()
    moved = {key for key in own if not torch.equal(fresh.state_dict()[key], own[key])}
    assert {site.key for site in sites if site.is_output} <= moved


CHECKS = (check_sites, check_comparison, check_sweep, check_plan)
