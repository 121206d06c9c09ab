"""A sweep's batches measured on workers, all swaps of a batch on one of them.

So what a worker keeps of a batch's clean pass serves every swap, and the counts that come back are
those that one process would have measured.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from paramreuse.distribution.pool import Pool
from paramreuse.engine.plain import device_of
from paramreuse.engine.precision import float32_arithmetic
from paramreuse.sites.swaps import Replacements
from paramreuse.sweep.engines import ChosenEngine, choose_engine
from paramreuse.sweep.lent_tensors import PutIn, put_in
from paramreuse.sweep.measuring import EngineMeter, Measured, Order
from paramreuse.sweep.scores import Score
from paramreuse.sweep.trials import Trial
from paramreuse.untouched import untouched_random_state


@dataclass(frozen=True, slots=True, eq=False)
class SweepPart:
    """What a worker needs to measure any batch of a sweep.

    Attributes:
        score: What is measured.
        lenders: The target, and where tensors come from; those of files are read.
        trials: What is put in.
        example: One batch of inputs, on the target's device.
        engine: As for ``sweep_sites``.
        memory_limit_gb: As for ``sweep_sites``.
    """

    score: Score
    lenders: Replacements
    trials: tuple[Trial, ...]
    example: Tensor
    engine: str
    memory_limit_gb: float | None

    def detached(self) -> "SweepPart":
        """Return the same with its tensors in memory, apart from the files they came from."""
        lenders = self.lenders
        in_memory = replace(
            lenders,
            source=dict(lenders.source),
            models={name: dict(tensors) for name, tensors in lenders.models.items()},
        )
        return replace(self, lenders=in_memory)

    def choose(self) -> ChosenEngine:
        """Try out the target and the engine."""
        return choose_engine(
            *(self.engine, self.lenders, self.trials, self.example),
            memory_limit_gb=self.memory_limit_gb,
        )

    def meter(self, chosen: ChosenEngine, known: PutIn) -> EngineMeter:
        """Measure with an engine.

        Args:
            chosen: The engine.
            known: The tensors of the trials.
        """
        return EngineMeter(
            self.score,
            chosen.engine,
            tensors=known.tensors,
            identical=known.identical,
            not_finite=known.not_finite,
            device=device_of(self.lenders.target),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Report:
    """What a worker measured, and what it found out about the target."""

    notes: tuple[str, ...]
    mixes_samples: bool
    measured: list[Measured]


class ShardedMeter:
    """Measures on workers; a ``Meter``.

    Args:
        part: What every worker needs.
        pool: The workers.
    """

    def __init__(self, part: SweepPart, pool: Pool) -> None:
        self._part = part
        self._pool = pool
        # In the order of the batches; a note is said once.
        self._notes: dict[str, None] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What the workers found out about the target."""
        return tuple(self._notes)

    def mixes_samples(self) -> bool:
        """Have one worker tell whether batches have to be taken as they were given."""
        ((_, report),) = self._ask()
        return report.mixes_samples

    def _ask(self) -> "Iterator[tuple[int, _Report]]":
        """Have one worker try out the target, and measure nothing."""
        return self._pool.map(_prepare, self._part, [None])

    def measure(self, orders: Iterable[Order]) -> Iterator[Measured]:
        """Measure batches as workers become free."""
        found: dict[int, tuple[str, ...]] = {}
        for number, report in self._pool.map(_prepare, self._part, orders):
            found[number] = report.notes
            yield from report.measured
        if not found:  # all of it was in the log, which has no notes
            found = {number: report.notes for number, report in self._ask()}
        for number in sorted(found):
            self._notes |= dict.fromkeys(found[number])


def _prepare(part: SweepPart) -> Callable[[Order | None], _Report]:
    with untouched_random_state(), torch.no_grad(), float32_arithmetic():
        chosen = part.choose()
        # Drawn here again by their seeds: to send them would take several times the source.
        meter = part.meter(chosen, put_in(part.lenders, part.trials))

    def measure(order: Order | None) -> _Report:
        with untouched_random_state(), torch.no_grad(), float32_arithmetic():
            measured = [] if order is None else list(meter.measure([order]))
        return _Report((*chosen.notes, *meter.notes), chosen.mixes_samples, measured)

    return measure
