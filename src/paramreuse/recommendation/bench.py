"""The bench: candidates measured in folds over the labelled subjects, each fold once."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from paramreuse.distribution.pool import Pool
from paramreuse.errors import ModelError, ScoreError
from paramreuse.recommendation.audit import rewind_drops
from paramreuse.recommendation.candidates import FULL, MIXES, SCRATCH, Candidate
from paramreuse.recommendation.labelled import LabelledSet, held_out_folds
from paramreuse.recommendation.ledger import Ledger
from paramreuse.recommendation.likeness import SourceFeatures
from paramreuse.recommendation.trials import Course, Trained, subject_scores, train_candidate
from paramreuse.reuse.blocks import Block
from paramreuse.reuse.starts import mixed
from paramreuse.sites.swaps import seed_of

Array = NDArray[np.float64]


FOLD_SHARE = 1 / 3
"""Steps of a training in a fold, as a share of a full one; its schedule is complete."""


@dataclass(eq=False)
class Evidence:
    """What was measured so far.

    Attributes:
        scores: Held-out score per subject, by source and candidate.
        drops: Drops of the rewind audit ``(blocks, 2, subjects)`` by source.
        likenesses: CKA of each source with the pilots that folds trained from scratch, per fold.
        problems: What went wrong, by source and candidate.
    """

    scores: dict[tuple[str, str], dict[Hashable, float]] = field(default_factory=dict)
    drops: dict[str, Array] = field(default_factory=dict)
    likenesses: dict[str, list[float]] = field(default_factory=dict)
    problems: dict[tuple[str, str], str] = field(default_factory=dict)

    def of(self, source: str, candidate: str) -> dict[Hashable, float]:
        """Return the held-out score per subject, empty where it was not measured."""
        return self.scores.get((source, candidate), {})

    def likeness(self, source: str) -> float:
        """Return the mean CKA with pilots trained from scratch, NaN where there is none."""
        known = self.likenesses.get(source, [])
        return float(np.mean(known)) if known else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class _Fold:
    """A candidate, and which fold it is scored on."""

    candidate: Candidate
    index: int

    @property
    def name(self) -> str:
        """What it is called in the ledger."""
        return f"{self.index}/{self.candidate.name}/{self.candidate.source}"


def _ignore(units: float) -> None:
    """Tell nobody what was spent."""


@dataclass(eq=False)
class Bench:
    """Trains candidates in folds and notes what they score.

    Attributes:
        course: How candidates are trained.
        data: The labelled samples.
        tensors: Tensors of each source.
        blocks: Blocks of each source's sites, for the audit.
        features: What each source sees, to be compared with what is trained from scratch.
        ledger: Where every fold is kept; None on a worker, which keeps nothing.
        steps: Optimiser steps of a full training.
        seed: Of folds and trainings.
        on_unit: Called with the trainings spent by each fold, measured now or before.
        pool: Workers, each of which takes a fold; None measures here.
    """

    course: Course
    data: LabelledSet
    tensors: Mapping[str, Mapping[str, Tensor]]
    blocks: Mapping[str, tuple[Block, ...]]
    features: SourceFeatures
    ledger: Ledger | None
    steps: int
    seed: int
    on_unit: Callable[[float], object] = _ignore
    pool: Pool | None = None
    evidence: Evidence = field(default_factory=Evidence)
    spent: float = 0.0

    @property
    def folds(self) -> tuple[tuple[Hashable, ...], ...]:
        """The subjects that each fold holds out."""
        return held_out_folds(self.data.subjects, seed=self.seed)

    @property
    def units(self) -> float:
        """What measuring one candidate costs, in full trainings."""
        return FOLD_SHARE * len(self.folds)

    def measure(self, candidates: Sequence[Candidate]) -> None:
        """Measure candidates with each fold held out; what was measured before is read.

        Processes that share the ledger share the folds, too.
        """
        assert self.ledger is not None, "a worker is asked for single folds"
        if self.pool is not None:
            self._measure_on_workers(self.pool, self.ledger, self._folds_of(*candidates))
        for candidate in candidates:
            self._gather(candidate, self.ledger)

    def _folds_of(self, *candidates: Candidate) -> list["_Fold"]:
        return [_Fold(each, index) for each in candidates for index in range(len(self.folds))]

    def _gather(self, candidate: Candidate, ledger: Ledger) -> None:
        folds = self._folds_of(candidate)

        def count() -> None:
            if self.pool is None:
                self._spend(candidate)

        entries = ledger.gather(
            [fold.name for fold in folds], lambda index: self._run_fold(folds[index]), count
        )
        for entry in entries:
            self._note(candidate, entry)

    def _measure_on_workers(self, pool: Pool, ledger: Ledger, folds: Sequence["_Fold"]) -> None:
        """Have the ledger filled with what it lacks."""
        missing = [fold for fold in folds if ledger.read(fold.name) is None]
        for fold in folds:
            if fold not in missing:
                self._spend(fold.candidate)
        if not missing:
            return
        tensors = {name: dict(lent) for name, lent in self.tensors.items()}
        twin = replace(
            self,
            tensors=tensors,
            features=replace(self.features, tensors=tensors),
            ledger=None,
            pool=None,
            on_unit=_ignore,
            evidence=Evidence(),
        )
        for number, entry in pool.map(_prepare, twin, missing):
            ledger.write(missing[number].name, entry)
            self._spend(missing[number].candidate)

    def _steps(self, candidate: Candidate) -> int:
        return max(2, round(self.steps * FOLD_SHARE)) if candidate.trained else 0

    def _spend(self, candidate: Candidate) -> None:
        units = self._steps(candidate) / self.steps
        self.spent += units
        self.on_unit(units)

    def _run_fold(self, fold: "_Fold") -> dict[str, object]:
        candidate, held = fold.candidate, self.folds[fold.index]
        seen = [subject for subject in self.data.subjects if subject not in held]
        unseen = self.data.of(held)
        try:
            trained = train_candidate(
                self.course,
                self.tensors.get(candidate.source),
                candidate,
                self.data.of(seen),
                self._steps(candidate),
                seed_of(self.seed, "fold", str(fold.index)) % 2**31,
            )
            names = self._scored(candidate, trained, unseen)
        except (ModelError, ScoreError) as error:
            zeros = {self._number(subject): 0.0 for subject in held}
            return {"scores": {candidate.name: zeros}, "problem": str(error)}
        entry: dict[str, object] = {"scores": names}
        # Where no subject that is held out has a foreground class, nothing can be put back on it.
        if candidate.name == FULL and names[FULL]:
            entry["drops"] = self._rewound(candidate, trained, unseen)
        if candidate.name == SCRATCH:
            alike = self.features.likeness(trained.model)
            entry["likeness"] = {n: v for n, v in alike.items() if np.isfinite(v)}
        return entry

    def _scored(
        self, candidate: Candidate, trained: Trained, unseen: LabelledSet
    ) -> dict[str, dict[str, float]]:
        """Score a training, and what else it gives by forward passes alone."""
        plans = {candidate.name: candidate.plan}
        if candidate.name == FULL and candidate.plan is not None:
            plans |= {name: mixed(candidate.plan, mix) for name, mix in MIXES.items()}
        scored = {}
        for name, plan in plans.items():
            scores = subject_scores(trained.finished(plan), unseen, self.course.score)
            scored[name] = {self._number(s): value for s, value in scores.items()}
        return scored

    def _rewound(self, candidate: Candidate, trained: Trained, unseen: LabelledSet) -> object:
        assert candidate.plan is not None, "everything is loaded by a plan"
        drops = rewind_drops(
            trained.finished(candidate.plan),
            self.tensors[candidate.source],
            self.blocks[candidate.source],
            unseen,
            self.course.score,
            seed=self.seed,
        )
        return np.where(np.isfinite(drops), drops, 0.0).tolist()

    def _number(self, subject: Hashable) -> str:
        """Name a subject by its place: ids can be anything, and the ledger holds JSON."""
        return str(self.data.subjects.index(subject))

    def _note(self, candidate: Candidate, entry: Mapping[str, object]) -> None:
        scores = entry["scores"]
        assert isinstance(scores, dict), "the ledger keeps what was put into it"
        for name, by_number in scores.items():
            held = self.evidence.scores.setdefault((candidate.source, name), {})
            held |= {self.data.subjects[int(n)]: float(v) for n, v in by_number.items()}
        if "problem" in entry:
            self.evidence.problems[candidate.source, candidate.name] = str(entry["problem"])
        likeness = entry.get("likeness", {})
        assert isinstance(likeness, dict), "the ledger keeps what was put into it"
        for source, value in likeness.items():
            self.evidence.likenesses.setdefault(source, []).append(float(value))
        if "drops" in entry:
            new = np.array(entry["drops"])
            known = self.evidence.drops.get(candidate.source)
            joined = new if known is None else np.concatenate([known, new], axis=2)
            self.evidence.drops[candidate.source] = joined


def _prepare(bench: Bench) -> Callable[[_Fold], dict[str, object]]:
    return bench._run_fold
