"""Connections between layers, as the map of the report draws them."""

import pytest
import torch
from torch import Tensor, nn

from paramreuse.networks import pspnet, unet
from paramreuse.report.connections import layer_edges

pytestmark = pytest.mark.slow


class TwoSums(nn.Module):
    """Two blocks ``x + conv(x)`` behind a stem, then a head on the sum and the stem."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 1)
        self.first = nn.Conv2d(2, 2, 1)
        self.second = nn.Conv2d(2, 2, 1)
        self.head = nn.Conv2d(4, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = start = self.stem(x).relu()
        x = x + self.first(x)
        x = x + self.second(x)
        y: Tensor = self.head(torch.cat([x, start], 1))
        return y


def test_short_and_long_connections_are_told_apart_from_the_chain() -> None:
    edges = layer_edges(TwoSums().eval(), torch.zeros(2, 1, 4, 4))

    assert edges == [
        ("stem", "first"),
        # The first sum is named by each branch's last layer, so the second one by `first` alone.
        ("stem", "second"),
        ("first", "second"),
        ("second", "head"),
        ("stem", "head"),
    ]


def numbered_edges(model: nn.Module, edges: list[tuple[str, str]]) -> set[tuple[int, int]]:
    """Return connections between convolutions, numbered from 1 in the papers' order."""
    convs = [path for path, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    norms = {a: b for b, a in edges if b in convs and a not in convs}
    number = {path: n for n, path in enumerate(convs, start=1)}
    number |= {norm: number[conv] for norm, conv in norms.items()}
    return {(number[a], number[b]) for a, b in edges if number[a] != number[b]}


def test_pspnet_has_its_short_connections_and_its_pyramid() -> None:
    model = pspnet(width=4).eval()

    edges = numbered_edges(model, layer_edges(model, torch.zeros(2, 1, 32, 32)))

    assert {(1, 2), (2, 3), (1, 4), (3, 4)} <= edges  # around layer1.0
    assert {(6, 7), (5, 8), (7, 9), (8, 9)} <= edges  # the down-sampling branch of layer2.0
    assert {(20, n) for n in (21, 22, 23, 24, 25)} <= edges
    assert {(n, 25) for n in (21, 22, 23, 24)} <= edges
    assert (21, 22) not in edges
    assert (25, 26) in edges


def test_unet_has_its_four_long_connections() -> None:
    model = unet(width=4).eval()

    edges = numbered_edges(model, layer_edges(model, torch.zeros(2, 1, 32, 32)))

    chain = {(n, n + 1) for n in range(1, 19)}
    assert edges == chain | {(8, 11), (6, 13), (4, 15), (2, 17)}
