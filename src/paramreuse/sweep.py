"""The sweep: every swap scored on the validation set, per subject, nothing retrained.

Source: arXiv 2008.03411 and 2008.03414, "parameter reuse"; the controls and the intervals are ours.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence, Sized
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from paramreuse.batches import Batch, Batches, check_second_pass, walk_batches
from paramreuse.engine import Engine, FullEngine, device_of, require_evaluation_mode
from paramreuse.errors import ModelError, ScoreError
from paramreuse.lending import Weights, lend, tensors_of
from paramreuse.outcomes import Sweep
from paramreuse.scores import Score, subject_means
from paramreuse.sites import SkippedTensor, compare_sites, require_sites
from paramreuse.swaps import (
    Controls,
    Replacements,
    Swap,
    SwapChoice,
    is_identical,
    make_swaps,
    replacements_for,
)
from paramreuse.untouched import untouched_random_state

Array = NDArray[np.float64]
Evaluate: TypeAlias = Callable[[nn.Module], float | Mapping[str, float]]
"""A score of a whole model; higher is better."""
Progress: TypeAlias = Callable[[int, int | None], None]
"""Called with the number of evaluations done and, where it is known, of all."""

BASELINE = ("", "baseline")
"""The trial that puts nothing in."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One swap with one replacement."""

    swap: Swap
    replacement: str

    @property
    def name(self) -> tuple[str, str]:
        """Name of the swap and of the replacement."""
        return self.swap.name, self.replacement


class SweepLog(Protocol):
    """Where statistics go as they are measured, so that a killed sweep goes on where it was."""

    def read_batch(self, batch: int, digest: str) -> Mapping[tuple[str, str], Array]:
        """Return the statistics ``(N, K, S)`` that were recorded of a batch, by trial name."""

    def record(self, batch: int, digest: str, trial: tuple[str, str], statistics: Array) -> None:
        """Keep the statistics ``(N, K, S)`` of one trial on one batch."""


@dataclass
class _Ledger:
    """Statistics per trial and subject, added up batch by batch."""

    subjects: dict[Hashable, int] = field(default_factory=dict)
    sums: dict[tuple[str, str], Array] = field(default_factory=dict)

    def add(self, trial: tuple[str, str], subjects: Sequence[Hashable], statistics: Array) -> None:
        rows = [self.subjects.setdefault(subject, len(self.subjects)) for subject in subjects]
        held = self.sums.get(trial, np.zeros((0, *statistics.shape[1:])))
        missing = len(self.subjects) - len(held)
        if missing > 0:
            held = np.concatenate([held, np.zeros((missing, *statistics.shape[1:]))])
        np.add.at(held, rows, statistics)
        self.sums[trial] = held


def sweep_sites(  # noqa: PLR0913 - the agreed surface; everything after score has a default
    target: nn.Module,
    source: Weights,
    batches: Batches | None = None,
    score: Score | None = None,
    *,
    evaluate: Evaluate | None = None,
    swaps: SwapChoice = "single",
    controls: Controls = ("shuffled",),
    engine: str = "full",
    exclude: Sequence[str] = (),
    seed: int = 0,
    log: SweepLog | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Score every swap of a list, with the baseline and the controls.

    The target, the source and the global random state are the same afterwards.

    Args:
        target: Network in evaluation mode; ``target(inputs)`` returns a tensor.
        source: Model, state dict or checkpoint path whose tensors are put in.
        batches: Re-iterable of ``(inputs, labels, subjects)``, the same every time.
        score: ``Dice(num_classes=4)`` or another ``Score``.
        evaluate: Instead of batches and score: a function from a model to a number, or to named
            numbers, higher is better. Runs in full for every swap and gives no intervals.
        swaps: As for ``make_swaps``.
        controls: ``"shuffled"``, ``"reinit"``, models; or names of your own and models.
        engine: ``"full"``: a plain forward pass per swap.
        exclude: Keys of sites to leave out.
        seed: Seed of controls and intervals.
        log: Keeps statistics as they are measured and gives them back after an interruption.
        progress: Called with the number of evaluations done, and of all.

    Returns:
        Scores per swap, replacement, subject and class.

    Raises:
        SiteMismatchError: Nothing of the source fits the target, or a set of swaps is unknown.
        ModelError: The target is in training mode, or does not return a tensor.
        ScoreError: The batches cannot be used, no subject has a foreground class, or an output is
            NaN; the message names the swap.
    """
    require_evaluation_mode(target)
    if evaluate is None and (batches is None or score is None):
        raise ScoreError("cannot sweep: give batches and a score, or evaluate=")
    lent = lend(target, source)
    with untouched_random_state():
        match = compare_sites(
            target, lent, exclude=exclude, example_input=_example(target, batches)
        )
        require_sites(match)
        chosen = make_swaps(match.sites, swaps)
        lenders = replacements_for(target, lent, controls, seed=seed)
        trials = [Trial(swap, name) for swap in chosen for name in lenders.names]
        if evaluate is not None:
            return _evaluated(evaluate, trials, lenders, match.skipped, progress)
        assert batches is not None
        assert score is not None
        with torch.no_grad():
            runner = _Runner(score, trials, lenders, _engine(engine, target), log, progress)
            runner.run(batches)
            return runner.outcome(match.skipped)


def _example(target: nn.Module, batches: Batches | None) -> Tensor | None:
    if batches is None:
        return None
    return next(walk_batches(batches)).inputs.to(device_of(target))


def _engine(name: str, target: nn.Module) -> Engine:
    if name == "full":
        return FullEngine(target)
    raise ModelError(f"unknown engine {name!r}: expected 'full'")


def _lent_tensors(
    lenders: Replacements, trials: Sequence[Trial]
) -> dict[tuple[str, str], dict[str, Tensor]]:
    """Return the tensors of every trial; those that several swaps share are held once."""
    held: dict[tuple[str, str], Tensor] = {}
    tensors: dict[tuple[str, str], dict[str, Tensor]] = {}
    for trial in trials:
        for site in trial.swap.sites:
            place = (site.key, trial.replacement)
            if place not in held:
                held[place] = lenders.tensor(site, trial.replacement)
            tensors.setdefault(trial.name, {})[site.key] = held[place]
    return tensors


class _Runner:
    """One sweep in progress: walks the batches, asks the engine, adds up, logs."""

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
        self._done = 0

    def run(self, batches: Batches) -> None:
        """Score every trial on every batch."""
        num_batches = len(batches) if isinstance(batches, Sized) else None
        total = None if num_batches is None else num_batches * len(self._trials)
        digests: list[str] = []
        for index, batch in enumerate(walk_batches(batches)):
            digests.append(batch.digest)
            for trial, statistics in self._batch(index, batch):
                self._ledger.add(trial, batch.subjects, statistics)
                self._done += trial != BASELINE
                if self._progress is not None:
                    self._progress(self._done, total)
        check_second_pass(batches, digests)

    def _batch(self, index: int, batch: Batch) -> Iterator[tuple[tuple[str, str], Array]]:
        recorded = {} if self._log is None else self._log.read_batch(index, batch.digest)
        yield from ((name, held) for name, held in recorded.items() if self._wanted(name))
        pending = [trial for trial in self._trials if trial.name not in recorded]
        if BASELINE in recorded and not pending:
            return
        for name, statistics in self._measure(batch, pending):
            if name not in recorded:
                if self._log is not None:
                    self._log.record(index, batch.digest, name, statistics)
                yield name, statistics

    def _wanted(self, name: tuple[str, str]) -> bool:
        return name == BASELINE or name in self._tensors

    def _measure(
        self, batch: Batch, pending: Sequence[Trial]
    ) -> Iterator[tuple[tuple[str, str], Array]]:
        device = device_of(self._lenders.target)
        inputs, labels = batch.inputs.to(device), batch.labels.to(device)
        baseline = self._statistics(BASELINE, self._engine.baseline(inputs), labels)
        yield BASELINE, baseline
        for trial in pending:
            if trial.name in self._identical:
                yield trial.name, baseline
        moving = [trial for trial in pending if trial.name not in self._identical]
        outputs = self._engine.swapped([self._tensors[trial.name] for trial in moving])
        for trial, output in zip(moving, outputs, strict=True):
            yield trial.name, self._statistics(trial.name, output, labels)

    def _statistics(self, name: tuple[str, str], outputs: Tensor, labels: Tensor) -> Array:
        if bool(torch.isnan(outputs).any()):
            what = "the untouched target" if name == BASELINE else f"swap {name[0]!r} ({name[1]})"
            raise ScoreError(
                f"{what} gives NaN outputs, which no score can judge. Look at the weights "
                "(paramreuse compare counts values that are not finite), or leave the site out"
            )
        return self._score.statistics(outputs, labels).cpu().numpy()

    def outcome(self, skipped: tuple[SkippedTensor, ...]) -> Sweep:
        """Divide the sums and return what was measured."""
        score = self._score
        baseline = score.score(self._ledger.sums[BASELINE])
        if not np.isfinite(subject_means(baseline, score.foreground)).any():
            raise ScoreError(
                "cannot sweep: no subject's labels contain a foreground class, so nothing can "
                f"drop. Expected labels of the classes {list(score.classes)}, background first"
            )
        return Sweep(
            swaps=tuple(dict.fromkeys(trial.swap for trial in self._trials)),
            replacements=self._lenders.names,
            classes=score.classes,
            foreground=score.foreground,
            subjects=tuple(self._ledger.subjects),
            baseline=baseline,
            scores={
                trial.name: score.score(self._ledger.sums[trial.name]) for trial in self._trials
            },
            identical=self._identical,
            skipped=skipped,
            seed=self._lenders.seed,
        )


def _evaluated(
    evaluate: Evaluate,
    trials: Sequence[Trial],
    lenders: Replacements,
    skipped: tuple[SkippedTensor, ...],
    progress: Progress | None,
) -> Sweep:
    """Score whole models with the caller's function: one number for all subjects together."""
    twin = deepcopy(lenders.target)
    original = {key: t.clone() for key, t in tensors_of(twin).items()}
    base = _named(evaluate(twin), BASELINE)
    scores: dict[tuple[str, str], Array] = {}
    identical: set[tuple[str, str]] = set()
    for done, trial in enumerate(trials, start=1):
        tensors = lenders.tensors(trial.swap, trial.replacement)
        if is_identical(trial.swap, tensors, lenders.target):
            identical.add(trial.name)
            scores[trial.name] = np.array([list(base.values())])
        else:
            _write(twin, original)
            _write(twin, tensors)
            values = _named(evaluate(twin.eval()), trial.name)
            scores[trial.name] = np.array([[values[name] for name in base]])
        if progress is not None:
            progress(done, len(trials))
    return Sweep(
        swaps=tuple(dict.fromkeys(trial.swap for trial in trials)),
        replacements=lenders.names,
        classes=tuple(base),
        foreground=(True,) * len(base),
        subjects=(),
        baseline=np.array([list(base.values())]),
        scores=scores,
        identical=frozenset(identical),
        skipped=skipped,
        seed=lenders.seed,
    )


def _write(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    slots = tensors_of(model)
    with torch.no_grad():
        for key, tensor in tensors.items():
            slots[key].copy_(tensor)


def _named(result: float | Mapping[str, float], name: tuple[str, str]) -> dict[str, float]:
    values = dict(result) if isinstance(result, Mapping) else {"score": result}
    numbers = {str(key): float(value) for key, value in values.items()}
    wrong = [key for key, value in numbers.items() if not np.isfinite(value)]
    if wrong or not numbers:
        what = "the untouched target" if name == BASELINE else f"swap {name[0]!r} ({name[1]})"
        raise ScoreError(
            f"evaluate gave {numbers or 'no number'} for {what}; expected finite numbers"
        )
    return numbers
