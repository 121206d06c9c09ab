"""Trials measured on a batch: the engine asked, its outputs settled and scored."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paramreuse.engine.plain import Engine
from paramreuse.errors import ScoreError
from paramreuse.sweep.batches import Batch
from paramreuse.sweep.lent_tensors import is_finite
from paramreuse.sweep.scores import Score
from paramreuse.sweep.trials import BASELINE, Trial, TrialName

Array = NDArray[np.float64]

_SAFETY = 2.0
"""How many times larger than on the untouched target a swap's rounding is taken to be. Measured: at
most 1.9 over 440 swapped batches of a trained UNet, where the largest of half a million differences
was five times the typical one."""


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """What to measure on one batch.

    Attributes:
        index: Number of the batch.
        batch: The batch.
        trials: What to put in besides nothing; none to measure the untouched target alone.
    """

    index: int
    batch: Batch
    trials: Sequence[Trial]


Measured: TypeAlias = tuple[int, TrialName, Array]
"""Number of the batch, name of the trial, and its statistics ``(N, K, S)``; NaN all over where the
trial has no score on that batch."""


class Meter(Protocol):
    """Measures orders, here or elsewhere."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader of the results should know, once they are measured."""

    def measure(self, orders: Iterable[Order]) -> Iterator[Measured]:
        """Yield the statistics of every trial of every order, and of the untouched target.

        Orders may be done in any order.

        Raises:
            ScoreError: The untouched target's outputs cannot be scored.
        """


class EngineMeter:
    """Measures with an engine of this process; a ``Meter``.

    Args:
        score: What is measured.
        engine: How outputs are computed.
        tensors: What each trial puts in, by key.
        identical: Trials that put in what the target already holds.
        not_finite: Trials that have no score; those found on the way are added to a copy.
        device: Where the target is.
    """

    def __init__(
        self,
        score: Score,
        engine: Engine,
        *,
        tensors: Mapping[TrialName, Mapping[str, Tensor]],
        identical: Iterable[TrialName],
        not_finite: Iterable[TrialName],
        device: torch.device,
    ) -> None:
        self._score = score
        self._engine = engine
        self._tensors = tensors
        self._identical = frozenset(identical)
        self._not_finite = set(not_finite)
        self._device = device

    @property
    def notes(self) -> tuple[str, ...]:
        """What the engine has to say."""
        return self._engine.notes

    def measure(self, orders: Iterable[Order]) -> Iterator[Measured]:
        """Measure orders one after the other, each trial as soon as it is known."""
        for order in orders:
            for name, statistics in self._batch(order):
                if np.isnan(statistics).any():
                    self._not_finite.add(name)
                yield order.index, name, statistics

    def _batch(self, order: Order) -> Iterator[tuple[TrialName, Array]]:
        """Yield statistics as they come, or, where a batch does not fit at once, in the end."""
        batch = order.batch
        pieces = list(_pieces(batch, self._engine.fitting(batch.inputs.to(self._device))))
        gathered: dict[TrialName, list[Array]] = {}
        for inputs, labels in pieces:
            parts = self._piece(inputs.to(self._device), labels.to(self._device), order.trials)
            for name, statistics in parts:
                gathered.setdefault(name, []).append(statistics)
                if len(gathered[name]) == len(pieces):
                    yield name, np.concatenate(gathered.pop(name))

    def _piece(
        self, inputs: Tensor, labels: Tensor, trials: Sequence[Trial]
    ) -> Iterator[tuple[TrialName, Array]]:
        if not trials:
            yield BASELINE, self._baseline_statistics(self._engine.plain(inputs), labels)
            return
        reference = self._engine.baseline(inputs)
        baseline = self._baseline_statistics(reference, labels)
        nothing = np.full_like(baseline, np.nan)
        yield BASELINE, baseline
        known = self._identical | self._not_finite
        for trial in trials:
            if trial.name in known:
                yield trial.name, baseline if trial.name in self._identical else nothing
        moving = [trial for trial in trials if trial.name not in known]
        outputs = self._engine.swapped([self._tensors[trial.name] for trial in moving])
        for trial, output in zip(moving, outputs, strict=True):
            settled = self._settled(trial.name, output, reference)
            statistics = None if settled is None else self._statistics(settled, labels)
            yield trial.name, nothing if statistics is None else statistics

    def _settled(self, name: TrialName, output: Tensor, reference: Tensor) -> Tensor | None:
        """Take a plain forward pass where rounding could turn the score of a single pixel.

        Returns:
            Outputs; ``None`` if they are not finite where those of the untouched target are, by a
            plain forward pass too.
        """
        if not _is_finite_where(output, reference):
            output = self._engine.settled(self._tensors[name])
            return output if _is_finite_where(output, reference) else None
        is_near_tie = getattr(self._score, "is_near_tie", None)
        if not self._engine.rounding or is_near_tie is None:
            return output
        if is_near_tie(output, _SAFETY * self._engine.rounding):
            return self._engine.settled(self._tensors[name])
        return output

    def _statistics(self, outputs: Tensor, labels: Tensor) -> Array | None:
        """Return what the score counts, if that is finite."""
        statistics: Array = self._score.statistics(outputs, labels).cpu().numpy()
        return statistics if np.isfinite(statistics).all() else None

    def _baseline_statistics(self, outputs: Tensor, labels: Tensor) -> Array:
        has_nan = not is_finite(outputs) and bool(torch.isnan(outputs).any())
        statistics = None if has_nan else self._statistics(outputs, labels)
        if statistics is not None:
            return statistics
        what = "NaN outputs" if has_nan else "outputs or labels that are not finite"
        raise ScoreError(
            f"the untouched target gives {what}, which no score can judge. Look at its weights: "
            "paramreuse compare counts values that are not finite"
        )


def _is_finite_where(outputs: Tensor, reference: Tensor) -> bool:
    """Tell whether outputs are finite where the reference is, and nowhere NaN."""
    if is_finite(outputs):
        return True
    allowed = torch.isinf(outputs) & torch.isinf(reference)
    return bool((torch.isfinite(outputs) | allowed).all())


def _pieces(batch: Batch, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(batch.inputs), size):
        part = slice(start, start + size)
        yield batch.inputs[part], batch.labels[part]
