"""One sweep in progress: walks the batches, has them measured, adds up, logs, stops."""

from collections.abc import (
    Callable,
    Collection,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    Sized,
)
from dataclasses import dataclass, field
from itertools import groupby
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from paramreuse.errors import ScoreError
from paramreuse.sites.matching import SkippedTensor
from paramreuse.sites.swaps import SOURCE, Replacements
from paramreuse.sweep.batches import Batch, Batches, check_second_pass, regrouped, walk_batches
from paramreuse.sweep.lent_tensors import PutIn
from paramreuse.sweep.measuring import Meter, Order
from paramreuse.sweep.outcomes import Sweep
from paramreuse.sweep.scores import Score, subject_means
from paramreuse.sweep.stopping import Side, StoppingRule
from paramreuse.sweep.trials import (
    BASELINE,
    Trial,
    TrialName,
    all_draws_in,
    any_draw_in,
    combine_draws,
    group_draws,
    mean_over_draws,
    several_draws,
)

Array = NDArray[np.float64]
Progress: TypeAlias = Callable[[int, int | None], None]
"""Called with the number of evaluations done and, where it is known, of all."""


class SweepLog(Protocol):
    """Where statistics go as they are measured, so that a killed sweep goes on where it was."""

    def read_batch(self, batch: int, digest: str) -> Mapping[TrialName, Array]:
        """Return the statistics ``(N, K, S)`` that were recorded of a batch, by trial name."""

    def record(self, batch: int, digest: str, trial: TrialName, statistics: Array) -> None:
        """Keep the statistics ``(N, K, S)`` of one trial on one batch."""


@dataclass
class _Ledger:
    """Statistics per trial and subject, added up batch by batch."""

    subjects: dict[Hashable, int] = field(default_factory=dict)
    sums: dict[TrialName, Array] = field(default_factory=dict)

    def add(self, trial: TrialName, subjects: Sequence[Hashable], statistics: Array) -> None:
        rows = [self.subjects.setdefault(subject, len(self.subjects)) for subject in subjects]
        if trial not in self.sums:
            self.sums[trial] = np.zeros((0, *statistics.shape[1:]))
        total = self.sums[trial] = self.of(trial)
        np.add.at(total, rows, statistics)

    def of(self, trial: TrialName) -> Array:
        """Return the sums of a trial, zero for subjects that it has not seen."""
        total = self.sums[trial]
        missing = len(self.subjects) - len(total)
        if missing == 0:
            return total
        return np.concatenate([total, np.zeros((missing, *total.shape[1:]))])


@dataclass
class _OpenBatch:
    """A batch of which not every trial is known yet."""

    batch: Batch
    wanted: frozenset[TrialName]
    measured: dict[TrialName, Array] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        return len(self.measured) == len(self.wanted)


class Runner:
    """One sweep in progress.

    Args:
        score: What is measured.
        lenders: Where the tensors come from.
        trials: What is put in, with its tensors.
        meter: Measures, here or on workers.
        log: Where statistics are kept as they are measured.
        progress: Called with the number of evaluations done, and of all.
    """

    def __init__(
        self,
        score: Score,
        lenders: Replacements,
        trials: PutIn,
        meter: Meter,
        *,
        log: SweepLog | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._score = score
        self._draws = group_draws(trials.trials)
        self._lenders = lenders
        self._known = trials
        self._trials = trials.trials
        self._meter = meter
        self._log = log
        self._progress = progress
        self._ledger = _Ledger()
        self._not_finite = set(trials.not_finite)
        self._done = 0

    def run(self, batches: Batches) -> None:
        """Score every trial on every batch."""
        num_batches = len(batches) if isinstance(batches, Sized) else None
        total = None if num_batches is None else num_batches * len(self._trials)
        digests: list[str] = []

        def orders() -> Iterator[Order]:
            for index, batch in enumerate(walk_batches(batches)):
                digests.append(batch.digest)
                yield Order(index, batch, self._trials)

        self._take(orders(), total)
        check_second_pass(batches, digests)

    def run_until_decided(self, batches: Batches, rule: StoppingRule) -> None:
        """Score every trial, subject by subject in random order, until its verdict stands."""
        walked = list(walk_batches(batches))
        check_second_pass(batches, [batch.digest for batch in walked])
        for batch in walked:
            for subject in batch.subjects:
                self._ledger.subjects.setdefault(subject, len(self._ledger.subjects))
        groups = regrouped(walked, seed=self._lenders.seed)
        total = len(groups) * len(self._trials)
        baselines = self._baselines(groups)
        looks = rule.looks(len(self._ledger.subjects))
        active = list(self._trials)
        seen: dict[Hashable, None] = {}
        numbered = zip(_looks_before(groups, looks), enumerate(groups), strict=True)
        for number, part in groupby(numbered, key=lambda each: each[0]):
            between = [each for _, each in part]
            if number:
                active = self._undecided(active, list(seen), baselines, rule, len(looks))
            self._done += (len(self._trials) - len(active)) * len(between)
            self._take((Order(index, batch, active) for index, batch in between), total)
            seen.update(dict.fromkeys(s for _, batch in between for s in batch.subjects))

    def _baselines(self, groups: Sequence[Batch]) -> Array:
        """Return every subject's score of the untouched target, which bounds what it can lose."""
        ledger = _Ledger(dict(self._ledger.subjects))
        orders = (Order(index, batch, ()) for index, batch in enumerate(groups))
        measured = {index: statistics for index, _, statistics in self._meter.measure(orders)}
        for index, batch in enumerate(groups):
            ledger.add(BASELINE, batch.subjects, measured[index])
        return self._subject_scores(ledger.of(BASELINE))

    def _subject_scores(self, sums: Array) -> Array:
        return subject_means(self._score.score(sums), self._score.foreground)

    def _undecided(
        self,
        active: Sequence[Trial],
        seen: Sequence[Hashable],
        baselines: Array,
        rule: StoppingRule,
        num_looks: int,
    ) -> list[Trial]:
        rows = [self._ledger.subjects[subject] for subject in seen]
        unseen = np.delete(baselines, rows)
        sides = {}
        for name, draws in self._draws.items():
            scores = [self._subject_scores(self._ledger.of(draw))[rows] for draw in draws]
            drops = baselines[rows] - mean_over_draws(scores)
            sides[name] = rule.side(drops, unseen, num_looks=num_looks)
        return [trial for trial in active if self._is_open(trial, sides)]

    def _is_open(self, trial: Trial, sides: Mapping[TrialName, Side]) -> bool:
        """Tell whether a trial may still change the verdict on its swap."""
        name = trial.swap.name
        if trial.name in self._not_finite or (name, SOURCE) in self._not_finite:
            return False
        source = sides[name, SOURCE]
        controls = [sides[name, control] for control in self._lenders.names if control != SOURCE]
        if (name, SOURCE) in self._known.identical or source is Side.ABOVE:
            return False
        if source is Side.BELOW and Side.BELOW in controls:
            return False
        return sides[trial.drawn_from] is Side.OPEN

    def _take(self, orders: Iterable[Order], total: int | None) -> None:
        """Have orders measured, and add up in the order of the batches, whichever comes first."""
        waiting: dict[int, _OpenBatch] = {}
        for index, name, statistics in self._meter.measure(self._pending(orders, waiting, total)):
            opened = waiting[index]
            if name not in opened.wanted or name in opened.measured:
                continue
            if self._log is not None:
                self._log.record(index, opened.batch.digest, name, statistics)
            self._note(opened, name, statistics, total)
            self._settle(waiting)
        self._settle(waiting)
        assert not waiting, "every trial of an order is measured"

    def _pending(
        self, orders: Iterable[Order], waiting: dict[int, _OpenBatch], total: int | None
    ) -> Iterator[Order]:
        """Yield what is still to be measured, after noting what the log has."""
        for order in orders:
            wanted = frozenset({BASELINE, *(trial.name for trial in order.trials)})
            opened = waiting[order.index] = _OpenBatch(order.batch, wanted)
            recorded = (
                {} if self._log is None else self._log.read_batch(order.index, order.batch.digest)
            )
            for name in recorded.keys() & wanted:
                self._note(opened, name, recorded[name], total)
            trials = [trial for trial in order.trials if trial.name not in recorded]
            if not opened.is_complete:
                yield Order(order.index, order.batch, trials)
            self._settle(waiting)

    def _note(
        self, opened: _OpenBatch, name: TrialName, statistics: Array, total: int | None
    ) -> None:
        opened.measured[name] = statistics
        if np.isnan(statistics).any():
            self._not_finite.add(name)
        self._done += name != BASELINE
        if self._progress is not None:
            self._progress(self._done, total)

    def _settle(self, waiting: dict[int, _OpenBatch]) -> None:
        """Add up the batches that are known in full, as far as all before them are."""
        while waiting:
            index, opened = next(iter(waiting.items()))
            if not opened.is_complete:
                return
            for name, statistics in opened.measured.items():
                self._ledger.add(name, opened.batch.subjects, statistics)
            del waiting[index]

    def sweep(self, skipped: tuple[SkippedTensor, ...]) -> Sweep:
        """Divide the sums and return what was measured."""
        score = self._score
        baseline = score.score(self._ledger.of(BASELINE))
        if not np.isfinite(subject_means(baseline, score.foreground)).any():
            raise ScoreError(
                "cannot sweep: no subject's labels contain a foreground class, so nothing can "
                f"drop. Expected labels of the classes {list(score.classes)}, background first"
            )
        scores = {name: self._scores_of(name, baseline) for name in self._known.tensors}
        not_finite = any_draw_in(self._not_finite, self._draws)
        return Sweep(
            swaps=tuple(dict.fromkeys(trial.swap for trial in self._trials)),
            replacements=self._lenders.names,
            classes=score.classes,
            foreground=score.foreground,
            subjects=tuple(self._ledger.subjects),
            baseline=baseline,
            scores=combine_draws(scores, self._draws),
            identical=all_draws_in(self._known.identical, self._draws),
            not_finite=not_finite,
            skipped=skipped,
            seed=self._lenders.seed,
            notes=(*self._meter.notes, *remarks_on(self._trials, not_finite)),
            alike=all_draws_in(self._known.alike, self._draws),
            draws=several_draws(scores, self._draws),
        )

    def _scores_of(self, name: TrialName, baseline: Array) -> Array:
        if name in self._not_finite:
            return np.full_like(baseline, np.nan)
        return self._score.score(self._ledger.of(name))


def _looks_before(groups: Sequence[Batch], looks: Collection[int]) -> Iterator[int]:
    """Yield for each batch how often its trials were looked at before it."""
    seen: set[Hashable] = set()
    number = 0
    for batch in groups:
        number += bool(set(batch.subjects) - seen) and len(seen) in looks
        seen.update(batch.subjects)
        yield number


def remarks_on(trials: Sequence[Trial], not_finite: Collection[TrialName]) -> Iterator[str]:
    """Name the swaps that have no score.

    Args:
        trials: What was put in.
        not_finite: Swaps and replacements that have none.
    """
    names = [
        trial.swap.name + ("" if trial.replacement == SOURCE else f" ({trial.replacement})")
        for trial in trials
        if trial.name in not_finite
        and (trial.replacement == SOURCE or (trial.swap.name, SOURCE) not in not_finite)
    ]
    if names:
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        yield (
            "without a score, as values put in or outputs are not finite: "
            f"{', '.join(names[:10])}{more}"
        )
