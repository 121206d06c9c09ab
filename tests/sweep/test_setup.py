"""What a sweep pays before its first swap."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, fx, nn

from paramreuse.sweep import engines
from paramreuse.sweep.scores import Dice
from paramreuse.sweep.sweeping import sweep_sites

SEEN: list[int] = []
"""Samples of each pass through a ``Counted``, its copies included."""


class Counted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, fx.Proxy):
            SEEN.append(len(x))
        hidden: Tensor = self.norm(self.conv(x))
        output: Tensor = self.head(hidden.relu())
        return output


def batches(number: int = 16) -> list[tuple[Tensor, Tensor, Sequence[int]]]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(number, 1, 6, 6, generator=generator)
    return [(images, torch.randint(0, 2, (number, 6, 6), generator=generator), range(number))]


def networks() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return Counted().eval(), Counted().eval()


def test_a_sweep_runs_few_samples_before_its_first_swap() -> None:
    target, source = networks()
    SEEN.clear()

    sweep = sweep_sites(target, source, batches(), Dice(num_classes=2), controls=())

    assert len(sweep.swaps) == 8
    assert sweep.notes == ()
    # The order of layers 2; trying out 2 and its halves 2; the graph with other tensors 1; the
    # engine on one sample 1, and a fresh copy for each of W, B and RM, RV, RW, RB that moves.
    assert sum(SEEN) - 16 <= 2 + 4 + 1 + 1 + 6
    assert max(SEEN) == 16
    assert SEEN.count(16) == 1


def test_one_or_two_trials_take_plain_passes_and_give_the_same_scores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target, source = networks()
    many = sweep_sites(target, source, batches(), Dice(num_classes=2), controls=())

    def refuse(*_arguments: object, **_options: object) -> None:
        raise AssertionError("captured")

    monkeypatch.setattr(engines, "partial_engine", refuse)
    few = sweep_sites(
        target, source, batches(), Dice(num_classes=2), swaps=many.swaps[:2], controls=()
    )

    for swap in many.swaps[:2]:
        name = swap.name, "source"
        assert (few.scores[name] == many.scores[name]).all()
    with pytest.raises(AssertionError, match="captured"):
        sweep_sites(
            target, source, batches(), Dice(num_classes=2), swaps=many.swaps[:3], controls=()
        )
