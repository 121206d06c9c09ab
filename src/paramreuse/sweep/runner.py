"""One sweep in progress: walks the batches, asks the engine, adds up, logs, stops."""

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paramreuse.engine.plain import Engine, device_of
from paramreuse.errors import ScoreError
from paramreuse.sites.matching import SkippedTensor
from paramreuse.sites.swaps import SOURCE, Replacements, is_identical, same_tensors
from paramreuse.sweep.batches import Batch, Batches, check_second_pass, regrouped, walk_batches
from paramreuse.sweep.outcomes import Sweep
from paramreuse.sweep.scores import Score, subject_means
from paramreuse.sweep.stopping import Side, StoppingRule
from paramreuse.sweep.trials import (
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

BASELINE = ("", "baseline")
"""The trial that puts nothing in."""

_SAFETY = 2.0
"""How many times larger than on the untouched target a swap's rounding is taken to be. Measured: at
most 1.9 over 440 swapped batches of a trained UNet, where the largest of half a million differences
was five times the typical one."""


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


def _lent_tensors(
    lenders: Replacements, trials: Sequence[Trial]
) -> dict[TrialName, dict[str, Tensor]]:
    """Return the tensors of every trial; those that several swaps share are one."""
    by_place: dict[tuple[str, str, int], Tensor] = {}
    tensors: dict[TrialName, dict[str, Tensor]] = {}
    for trial in trials:
        for site in trial.swap.sites:
            place = (site.key, trial.replacement, trial.draw)
            if place not in by_place:
                by_place[place] = lenders.tensor(site, trial.replacement, trial.draw)
            tensors.setdefault(trial.name, {})[site.key] = by_place[place]
    return tensors


class Runner:
    """One sweep in progress.

    Args:
        score: What is measured.
        trials: What is put in.
        lenders: Where the tensors come from.
        engine: How outputs are computed.
        log: Where statistics are kept as they are measured.
        progress: Called with the number of evaluations done, and of all.
    """

    def __init__(
        self,
        score: Score,
        trials: Sequence[Trial],
        lenders: Replacements,
        engine: Engine,
        log: SweepLog | None,
        progress: Progress | None,
    ) -> None:
        self._score = score
        self._trials = trials
        self._draws = group_draws(trials)
        self._lenders = lenders
        self._engine = engine
        self._log = log
        self._progress = progress
        self._ledger = _Ledger()
        self._tensors = _lent_tensors(lenders, trials)
        self._identical = frozenset(
            trial.name
            for trial in trials
            if is_identical(trial.swap, self._tensors[trial.name], lenders.target)
        )
        self._not_finite = {
            trial.name
            for trial in trials
            if trial.name not in self._identical
            and not all(map(is_finite, self._tensors[trial.name].values()))
        }
        self._done = 0

    def run(self, batches: Batches) -> None:
        """Score every trial on every batch."""
        num_batches = len(batches) if isinstance(batches, Sized) else None
        total = None if num_batches is None else num_batches * len(self._trials)
        digests: list[str] = []
        for index, batch in enumerate(walk_batches(batches)):
            digests.append(batch.digest)
            self._take(index, batch, self._trials, total)
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
        for index, batch in enumerate(groups):
            new = set(batch.subjects) - set(seen)
            if new and len(seen) in looks:
                active = self._undecided(active, list(seen), baselines, rule, len(looks))
            seen.update(dict.fromkeys(batch.subjects))
            self._done += len(self._trials) - len(active)
            self._take(index, batch, active, total)

    def _baselines(self, groups: Sequence[Batch]) -> Array:
        """Return every subject's score of the untouched target, which bounds what it can lose."""
        ledger = _Ledger(dict(self._ledger.subjects))
        for batch in groups:
            device = device_of(self._lenders.target)
            size = self._engine.fitting(batch.inputs.to(device))
            for inputs, labels, subjects in _pieces(batch, size):
                output = self._engine.plain(inputs.to(device))
                statistics = self._baseline_statistics(output, labels.to(device))
                ledger.add(BASELINE, subjects, statistics)
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
        if (name, SOURCE) in self._identical or source is Side.ABOVE:
            return False
        if source is Side.BELOW and Side.BELOW in controls:
            return False
        return sides[trial.drawn_from] is Side.OPEN

    def _take(self, index: int, batch: Batch, trials: Sequence[Trial], total: int | None) -> None:
        for trial, statistics in self._batch(index, batch, trials):
            self._ledger.add(trial, batch.subjects, statistics)
            if np.isnan(statistics).any():
                self._not_finite.add(trial)
            self._done += trial != BASELINE
            if self._progress is not None:
                self._progress(self._done, total)

    def _batch(
        self, index: int, batch: Batch, trials: Sequence[Trial]
    ) -> Iterator[tuple[TrialName, Array]]:
        wanted = {BASELINE, *(trial.name for trial in trials)}
        recorded = {} if self._log is None else self._log.read_batch(index, batch.digest)
        yield from ((name, sums) for name, sums in recorded.items() if name in wanted)
        pending = [trial for trial in trials if trial.name not in recorded]
        if BASELINE in recorded and not pending:
            return
        for name, statistics in self._measure(batch, pending):
            if name not in recorded:
                if self._log is not None:
                    self._log.record(index, batch.digest, name, statistics)
                yield name, statistics

    def _measure(self, batch: Batch, pending: Sequence[Trial]) -> Iterator[tuple[TrialName, Array]]:
        """Yield statistics as they come, or, where a batch does not fit at once, in the end."""
        device = device_of(self._lenders.target)
        pieces = list(_pieces(batch, self._engine.fitting(batch.inputs.to(device))))
        gathered: dict[TrialName, list[Array]] = {}
        for inputs, labels, _ in pieces:
            for name, statistics in self._piece(inputs.to(device), labels.to(device), pending):
                gathered.setdefault(name, []).append(statistics)
                if len(gathered[name]) == len(pieces):
                    yield name, np.concatenate(gathered.pop(name))

    def _piece(
        self, inputs: Tensor, labels: Tensor, pending: Sequence[Trial]
    ) -> Iterator[tuple[TrialName, Array]]:
        reference = self._engine.baseline(inputs)
        baseline = self._baseline_statistics(reference, labels)
        nothing = np.full_like(baseline, np.nan)
        yield BASELINE, baseline
        known = self._identical | self._not_finite
        for trial in pending:
            if trial.name in known:
                yield trial.name, baseline if trial.name in self._identical else nothing
        moving = [trial for trial in pending if trial.name not in known]
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

    def sweep(self, skipped: tuple[SkippedTensor, ...]) -> Sweep:
        """Divide the sums and return what was measured."""
        score = self._score
        baseline = score.score(self._ledger.of(BASELINE))
        if not np.isfinite(subject_means(baseline, score.foreground)).any():
            raise ScoreError(
                "cannot sweep: no subject's labels contain a foreground class, so nothing can "
                f"drop. Expected labels of the classes {list(score.classes)}, background first"
            )
        scores = {name: self._scores_of(name, baseline) for name in self._tensors}
        not_finite = any_draw_in(self._not_finite, self._draws)
        return Sweep(
            swaps=tuple(dict.fromkeys(trial.swap for trial in self._trials)),
            replacements=self._lenders.names,
            classes=score.classes,
            foreground=score.foreground,
            subjects=tuple(self._ledger.subjects),
            baseline=baseline,
            scores=combine_draws(scores, self._draws),
            identical=all_draws_in(self._identical, self._draws),
            not_finite=not_finite,
            skipped=skipped,
            seed=self._lenders.seed,
            notes=(*self._engine.notes, *remarks_on(self._trials, not_finite)),
            alike=self._alike(),
            draws=several_draws(scores, self._draws),
        )

    def _alike(self) -> frozenset[TrialName]:
        """Return the controls that put in the same values as the source, whatever the draw."""
        same = {
            trial.name
            for trial in self._trials
            if trial.replacement != SOURCE
            and same_tensors(self._tensors[trial.name], self._tensors[trial.swap.name, SOURCE])
        }
        return all_draws_in(same, self._draws)

    def _scores_of(self, name: TrialName, baseline: Array) -> Array:
        if name in self._not_finite:
            return np.full_like(baseline, np.nan)
        return self._score.score(self._ledger.of(name))


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


def is_finite(values: Tensor) -> bool:
    """Tell whether no value is NaN or infinite."""
    # A sum is finite only if all terms are, and takes a tenth of the time of looking at each.
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())


def _is_finite_where(outputs: Tensor, reference: Tensor) -> bool:
    """Tell whether outputs are finite where the reference is, and nowhere NaN."""
    if is_finite(outputs):
        return True
    allowed = torch.isinf(outputs) & torch.isinf(reference)
    return bool((torch.isfinite(outputs) | allowed).all())


def _pieces(batch: Batch, size: int) -> Iterator[tuple[Tensor, Tensor, Sequence[Hashable]]]:
    for start in range(0, len(batch.inputs), size):
        part = slice(start, start + size)
        yield batch.inputs[part], batch.labels[part], batch.subjects[part]
