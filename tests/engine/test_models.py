"""Networks as others write them: each once wrong, crashed or changed by a sweep."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paramreuse.sweep.scores import Dice
from paramreuse.sweep.sweeping import sweep_sites


class NamedTwice(nn.Module):
    """One convolution under two names, as in MONAI's DynUNet."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Conv2d(4, 3, 1)
        self.layers = nn.ModuleList([self.first, self.head])

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers[1](F.relu(self.norm(self.first(x))))
        return y


class PreActivation(nn.Module):
    """A residual block whose convolution has neither bias nor normalisation behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.norm1, self.norm2 = nn.BatchNorm2d(4), nn.BatchNorm2d(6)
        self.conv1 = nn.Conv2d(4, 6, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.short = nn.Conv2d(4, 6, 1, bias=False)
        self.head = nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        z = F.relu(self.norm1(self.stem(x)))
        y = self.conv2(F.relu(self.norm2(self.conv1(z))))
        out: Tensor = self.head(y + self.short(z))
        return out


class KeepsAGrid(nn.Module):
    """Remembers what it made for an image of this size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.head = nn.Conv2d(4, 3, 1)
        self.grid: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.grid is None or self.grid.shape[-1] != x.shape[-1]:
            self.grid = torch.linspace(-1, 1, x.shape[-1])
        y: Tensor = self.head(F.relu(self.conv(x) + self.grid))
        return y


def with_statistics(kind: type[nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = kind()
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.running_mean = torch.randn(norm.num_features) * 0.2
                norm.running_var = torch.rand(norm.num_features) + 0.5
    return model.eval()


def one_batch() -> list[tuple[Tensor, Tensor, list[str]]]:
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(4, 1, 12, 12, generator=generator)
    y = torch.randint(0, 3, (4, 12, 12), generator=generator)
    return [(x, y, ["a", "b", "c", "d"])]


@pytest.mark.parametrize("engine", ["full", "partial"])
@pytest.mark.parametrize("kind", [NamedTwice, PreActivation, KeepsAGrid])
def test_scores_are_those_of_a_copy_and_the_model_stays(kind: type[nn.Module], engine: str) -> None:
    target, source = with_statistics(kind, 0), with_statistics(kind, 1)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    score, (x, y, _) = Dice(3), one_batch()[0]

    sweep = sweep_sites(target, source, one_batch(), score, controls=(), engine=engine)

    for swap in sweep.swaps:
        twin = copy.deepcopy(target)
        slots, lent = twin.state_dict(keep_vars=True), source.state_dict()
        with torch.no_grad():
            for site in swap.sites:
                slots[site.key].copy_(lent[site.key])
            expected = score.score(score.statistics(twin(x), y).numpy())
        measured = sweep.scores[swap.name, "source"]
        assert measured == pytest.approx(expected, abs=1e-6, nan_ok=True), swap.name
    assert all(torch.equal(before[key], value) for key, value in target.state_dict().items())
    assert target(x).shape == (4, 3, 12, 12)
