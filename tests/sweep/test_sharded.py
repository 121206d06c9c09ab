"""Sweeps on workers: the same numbers, however the work is divided."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from paramreuse.errors import ModelError, ScoreError
from paramreuse.sweep import sharded
from paramreuse.sweep.measuring import Order
from paramreuse.sweep.outcomes import Sweep
from paramreuse.sweep.scores import Dice
from paramreuse.sweep.sharded import ShardedMeter, _Report
from paramreuse.sweep.sweeping import sweep_sites
from samples.pools import Elsewhere
from samples.studies import seeded

BATCH = tuple[Tensor, Tensor, list[str]]


def batches(number: int, *, subjects: int = 10) -> list[BATCH]:
    """Batches of three samples; subjects run across batches."""
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(3, 1, 8, 8, generator=generator),
            torch.randint(0, 4, (3, 8, 8), generator=generator),
            [f"patient {(3 * index + k) % subjects}" for k in range(3)],
        )
        for index in range(number)
    ]


def assert_same(first: Sweep, second: Sweep) -> None:
    """Bit for bit, rows in the same order."""
    assert first.subjects == second.subjects
    assert first.notes == second.notes
    assert first.not_finite == second.not_finite
    np.testing.assert_array_equal(first.baseline, second.baseline)
    assert list(first.scores) == list(second.scores)
    for name, scores in first.scores.items():
        np.testing.assert_array_equal(scores, second.scores[name])
    assert first.frame().equals(second.frame())


@pytest.mark.parametrize("options", [{}, {"engine": "full"}, {"stop": "decided"}], ids=str)
def test_a_sweep_on_workers_is_that_of_one_process(options: dict[str, Any]) -> None:
    target, source, walked = seeded(0), seeded(1), batches(7)
    pool = Elsewhere()

    alone = sweep_sites(target, source, walked, Dice(num_classes=4), **options)
    shared = sweep_sites(target, source, walked, Dice(num_classes=4), pool=pool, **options)

    assert_same(alone, shared)
    assert pool.num_tasks >= 7


def test_a_worker_takes_a_whole_batch() -> None:
    pool = Elsewhere()

    sweep_sites(seeded(0), seeded(1), batches(5), Dice(num_classes=4), pool=pool)

    assert pool.num_tasks == 5


class Log:
    """Remembers what was measured."""

    def __init__(self) -> None:
        self.kept: dict[int, dict[tuple[str, str], NDArray[np.float64]]] = {}

    def read_batch(self, batch: int, digest: str) -> dict[tuple[str, str], NDArray[np.float64]]:
        return self.kept.get(batch, {})

    def record(
        self, batch: int, digest: str, trial: tuple[str, str], statistics: NDArray[np.float64]
    ) -> None:
        held = self.kept.setdefault(batch, {})
        assert trial not in held, "measured twice"
        held[trial] = statistics


@pytest.mark.parametrize("last", [1, 29, 60, 100])
def test_a_sweep_on_workers_goes_on_where_it_was_killed(last: int) -> None:
    target, source, walked, log = seeded(0), seeded(1), batches(5), Log()

    def kill(done: int, total: int | None) -> None:
        assert total == 5 * 36
        if done == last:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep_sites(
            *(target, source, walked, Dice(num_classes=4)),
            log=log,
            progress=kill,
            pool=Elsewhere(),
        )
    pool = Elsewhere()
    found = sweep_sites(target, source, walked, Dice(num_classes=4), log=log, pool=pool)

    assert_same(sweep_sites(target, source, walked, Dice(num_classes=4)), found)
    assert pool.num_tasks == 5 - last // 36


def test_a_swap_that_fails_on_one_batch_has_no_score_on_workers_either() -> None:
    target, source = seeded(0), seeded(1)
    with torch.no_grad():
        source[3].weight[0, 0, 0, 0] = torch.inf  # type: ignore[index]
    walked = batches(4)

    alone = sweep_sites(target, source, walked, Dice(num_classes=4))
    shared = sweep_sites(target, source, walked, Dice(num_classes=4), pool=Elsewhere())

    assert ("W 2", "source") in shared.not_finite
    assert_same(alone, shared)


def test_what_is_wrong_with_the_target_is_said_as_in_one_process() -> None:
    broken = seeded(0)
    with torch.no_grad():
        broken[6].bias[0] = torch.nan  # type: ignore[index]

    def complaint(error: type[Exception], run: Callable[[], object]) -> str:
        with pytest.raises(error) as raised:
            run()
        return str(raised.value)

    for model, error in ((broken, ScoreError), (nn.Sequential(Noisy()).eval(), ModelError)):
        alone, shared = (
            complaint(
                error,
                lambda pool=pool, model=model: sweep_sites(  # type: ignore[misc]
                    model, model.state_dict(), batches(2), Dice(num_classes=4), pool=pool
                ),
            )
            for pool in (None, Elsewhere())
        )
        assert alone == shared


class Noisy(nn.Module):
    """Gives other outputs at each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.conv(inputs)
        return outputs + torch.rand_like(outputs)


class Rewired(nn.Module):
    """Goes by its input, so that the fast engine cannot take it apart."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.network = seeded(seed)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.network(inputs if inputs.mean() > -100 else -inputs)
        return outputs


def test_notes_of_a_sweep_on_workers_outlive_an_interruption_after_the_last_batch() -> None:
    models = Rewired(0).eval(), Rewired(1).eval()
    log, pool = Log(), Elsewhere()
    whole = sweep_sites(*models, batches(4), Dice(num_classes=4), log=log, pool=Elsewhere())
    assert whole.notes

    found = sweep_sites(*models, batches(4), Dice(num_classes=4), log=log, pool=pool)

    assert_same(whole, found)
    assert pool.num_tasks == 1


def noting(_: object) -> Callable[[Order | None], _Report]:
    return lambda order: _Report(("all", f"batch {order.index}"), False, [])  # type: ignore[union-attr]


def test_notes_stand_in_the_order_of_the_batches_whichever_came_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sharded, "_prepare", noting)
    meter = ShardedMeter(None, Elsewhere())  # type: ignore[arg-type]
    orders = [Order(index, None, ()) for index in range(5)]  # type: ignore[arg-type]

    assert list(meter.measure(orders)) == []

    assert meter.notes == ("all", *(f"batch {index}" for index in range(5)))
