"""What a sweep takes, by sweeping few and more of its swaps on one batch and on two."""

import tempfile
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from paramreuse.data.preparation import PreparedBatches
from paramreuse.reuse.verdict import judge
from paramreuse.sites.swaps import Swap
from paramreuse.study.config import SweepSpec
from paramreuse.study.records import TrialStatistics
from paramreuse.study.store import Store
from paramreuse.study.stored_sweep import read_sweep, write_sweep
from paramreuse.sweep.outcomes import Sweep
from paramreuse.sweep.scores import Score
from paramreuse.sweep.sweeping import sweep_sites
from paramreuse.sweep.trials import make_trials

Clock = Callable[[], float]
_SOME, _MORE = 2, 7
"""Layers of the smaller and of the larger sample."""


@dataclass(frozen=True, slots=True)
class SweepCost:
    """What the parts of a sweep take.

    Attributes:
        setup: Seconds before the first batch.
        batch: Seconds per batch for the untouched target.
        prepare: Seconds for one swap with one replacement, however many batches there are.
        trial: Seconds per batch for one swap with one replacement.
        keep: Seconds to store one score of a subject and class.
        judge: Seconds to judge one swap.
        log_bytes: Bytes that a trial on a batch takes while the sweep runs.
        score_bytes: Bytes of one stored score.
    """

    setup: float
    batch: float
    prepare: float
    trial: float
    keep: float
    judge: float
    log_bytes: float
    score_bytes: float

    def seconds(self, *, trials: int, batches: int, scores: int) -> float:
        """Return the time of a sweep.

        Args:
            trials: Swaps times replacements.
            batches: Validation batches.
            scores: Subjects times classes.
        """
        measured = self.setup + trials * self.prepare + batches * (self.batch + trials * self.trial)
        return measured + self.keep * (trials + 1) * scores


def stand_in(model: nn.Module) -> nn.Module:
    """Return a source that differs from a model in every tensor, as a trained one would."""
    other = deepcopy(model)
    with torch.no_grad():
        for value in other.state_dict().values():
            if value.is_floating_point():
                value.mul_(1.01).add_(0.01)
    return other


def sweep_cost(
    target: nn.Module,
    swaps: Sequence[Swap],
    batches: PreparedBatches,
    score: Score,
    *,
    spec: SweepSpec,
    clock: Clock = time.perf_counter,
) -> tuple[SweepCost, Sweep]:
    """Measure a sweep: few swaps and more of them, each on one batch and on two.

    Args:
        target: In evaluation mode.
        swaps: All swaps of the sweep; the samples are spread evenly over them.
        batches: Validation batches, two at least being better.
        score: What is scored.
        spec: How it is swept.
        clock: Tells the time in seconds.

    Returns:
        What it takes, and the larger sample on two batches.

    Raises:
        ModelError: The network does not take the images.
        ScoreError: Its outputs do not fit the labels.
    """
    source = stand_in(target)
    controls = [name for name in spec.controls if name in ("shuffled", "reinit")]
    one, two = _first(batches, 1), _first(batches, 2)
    some, more = _spread(swaps, _SOME), _spread(swaps, _MORE)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "results.sqlite")

        def timed(
            name: str, chosen: Sequence[Swap], images: PreparedBatches
        ) -> tuple[float, Sweep]:
            before = clock()
            sweep = sweep_sites(
                target,
                source,
                images,
                score,
                swaps=list(chosen),
                controls=controls or ("shuffled",),
                engine=spec.engine,
                memory_limit_gb=spec.memory_limit_gb,
                log=store.sweep_log(name),
            )
            return clock() - before, sweep

        timed("warm", some[:1], one)
        some_once, _ = timed("a", some, one)
        some_twice, _ = timed("b", some, two)
        more_once, _ = timed("c", more, one)
        before_more = _size(store)
        more_twice, sweep = timed("more", more, two)
        kept = _kept(store, sweep, before_more, clock)
        store.close()
    few, many = (len(make_trials(chosen, sweep.replacements)) for chosen in (some, more))
    if many == few or len(two) == len(one):
        # Too few swaps or slices to tell the parts apart: all of it is sweeping.
        return SweepCost(0.0, 0.0, 0.0, more_twice / (many * len(two)), *kept), sweep
    few_batch, many_batch = some_twice - some_once, more_twice - more_once
    trial = max(0.0, many_batch - few_batch) / (many - few)
    batch = max(0.0, few_batch - few * trial)
    prepare = max(0.0, (more_once - some_once) / (many - few) - trial)
    setup = max(0.0, some_once - few * (prepare + trial) - batch)
    return SweepCost(setup, batch, prepare, trial, *kept), sweep


def _kept(
    store: Store, sweep: Sweep, size_before: int, clock: Clock
) -> tuple[float, float, float, float]:
    """Return seconds per score and per judged swap, and bytes per logged trial and per score."""
    num_logged = store.count(TrialStatistics, sweep="more")
    logged = _size(store) - size_before
    num_scores = (len(sweep.scores) + 1) * len(sweep.subjects) * len(sweep.classes)
    before = clock()
    write_sweep(store, "kept", sweep)
    keep = (clock() - before) / num_scores
    scored = _size(store) - size_before - logged
    again = read_sweep(store, "kept")
    assert again is not None, "it has just been written"
    before = clock()
    judge(again)
    judged = (clock() - before) / len(sweep.swaps)
    return keep, judged, logged / max(1, num_logged), scored / num_scores


def _size(store: Store) -> int:
    """Return the bytes of a store, closed and opened again: until then some are kept twice."""
    store.close()
    size = store.path.stat().st_size
    store.__init__(store.path)  # type: ignore[misc]
    return size


def _first(batches: PreparedBatches, number: int) -> PreparedBatches:
    return PreparedBatches(batches.prepared, batches.indices[:number])


def _spread(swaps: Sequence[Swap], number: int) -> list[Swap]:
    """Return the swaps of about as many layers, in the middle of equal parts of the network.

    Whole layers, since swaps that begin at one layer share work.
    """
    layers: dict[int, list[Swap]] = {}
    for swap in swaps:
        layers.setdefault(swap.anchor.layer, []).append(swap)
    groups = list(layers.values())
    width = max(1.0, len(groups) / number)
    chosen = [groups[int((index + 0.5) * width)] for index in range(min(number, len(groups)))]
    return [swap for group in chosen for swap in group]
