"""``recommend``: which source to load, what of it, how to train it, and the trained model."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn

from paramreuse.distribution.pool import Pool
from paramreuse.engine.plain import checked_output, device_of
from paramreuse.errors import ModelError, ParamReuseError, ScoreError, SiteMismatchError
from paramreuse.notebook import progress_bar
from paramreuse.recommendation.averaged import AveragedModel
from paramreuse.recommendation.bench import Bench
from paramreuse.recommendation.candidates import ENSEMBLE, FULL, MIXES, Candidate
from paramreuse.recommendation.decision import Decision, Option, decide
from paramreuse.recommendation.labelled import LabelledSet, gather_labelled
from paramreuse.recommendation.ledger import Ledger
from paramreuse.recommendation.likeness import SourceFeatures
from paramreuse.recommendation.result import Recommendation
from paramreuse.recommendation.screening import FirstLook, look_at_sources, rank_looks
from paramreuse.recommendation.search import Search, check_budget, smallest_budget
from paramreuse.recommendation.telling import candidate_rows, ranked_starts, reason_for
from paramreuse.recommendation.trials import Course, Train, subject_scores, train_candidate
from paramreuse.reuse.blocks import blocks_of
from paramreuse.reuse.freezing import checksum
from paramreuse.reuse.starts import mixed
from paramreuse.sites.lending import Lent, Weights, lend
from paramreuse.sites.matching import Site, match_sites
from paramreuse.sites.swaps import seed_of
from paramreuse.sweep.batches import Batches
from paramreuse.sweep.scores import Dice, Score
from paramreuse.training import initial_model
from paramreuse.training.steps import train_steps
from paramreuse.untouched import untouched_random_state

Report = Callable[[float, float], object]
"""Called with the trainings spent so far, and the most that will be."""

TOO_FEW = 2
"""Labelled subjects up to which nothing can be told apart: an ensemble is returned."""

FEW_MEMBERS = 3
"""Trainings that an ensemble has."""

MEMBERS_WITHIN = 0.1
"""How far below the best a member's predicted gain may be: a poor member pulls the mean down."""

_STEPS_PER_SAMPLE, _FEWEST_STEPS, _MOST_STEPS = 24, 600, 1200
"""Default length of a training: 24 steps for each labelled slice. A third of them leaves a training
from scratch far from where it ends, and calls speed a gain: docs/results/gain.md."""


def recommend(  # noqa: PLR0913 - the agreed surface; everything after labelled has a default
    factory: Callable[[], nn.Module],
    sources: Mapping[str, Weights],
    labelled: Batches,
    unlabelled: Iterable[Tensor] | None = None,
    budget: float = 10.0,
    steps: int | None = None,
    train: Train | None = None,
    score: Score | None = None,
    seed: int = 0,
    folder: str | PathLike[str] | None = None,
    *,
    progress: Report | None = None,
    pool: Pool | None = None,
) -> Recommendation:
    """Choose a source, what of it to load and how to train, seeing only the labelled subjects.

    Every candidate is trained with some of the labelled subjects held out in turn, on a short but
    complete schedule, and scored on those. Differences are shrunk towards what the same candidate
    gained on the grid of docs/results/gain.md, since few subjects cannot tell small differences.

    Args:
        factory: Gives a fresh network that takes the inputs and returns ``(N, K, ...)``; its
            values come from the global random state, which is given back.
        sources: Model, state dict or checkpoint path by name.
        labelled: Re-iterable of ``(inputs, labels, subjects)`` of the labelled subjects only, at
            least two, all samples of one size.
        unlabelled: Yields further inputs, used for running statistics alone.
        budget: Trainings that may be spent, each of ``steps`` steps, the returned one included.
        steps: Optimiser steps of one full training; 24 per labelled slice, 600 to 1200, if not
            given.
        train: ``train(model, labelled, plan, steps, seed) -> model`` instead of ours: it is given
            a network that the plan has been applied to; ``plan`` is None from scratch.
        score: How networks are scored; Dice over as many classes as the network has outputs if not
            given.
        seed: Of folds, fresh networks and trainings.
        folder: Keeps each measured fold, so that the same call goes on where it was.
        progress: Called with the trainings spent, and the most that will be; a notebook shows a
            bar where it is left out.
        pool: Workers, each of which trains a candidate with one fold held out (``ray_pool``).

    Returns:
        The start, the trained model and the gain to expect.

    Raises:
        ParamReuseError: There is no source, only one labelled subject, no step, or the budget does
            not reach for training from scratch, everything and the head.
        DataError: Samples differ in size.
        ScoreError: The batches cannot be used, or too few subjects have a foreground class.
        StudyError: The folder holds another recommendation, or cannot be written.
        ModelError: The network cannot be evaluated, or every training diverged.
    """
    if not sources:
        raise ParamReuseError(
            "cannot recommend: there is no source. Give at least one by name, or train from scratch"
        )
    data = gather_labelled(labelled)
    _check_subjects(data)
    extra = _inputs(unlabelled)
    example = initial_model(factory, seed).eval()
    chosen = score or Dice(num_classes=_num_outputs(example, data))
    length = _default_steps(data) if steps is None else steps
    if length < 1:
        raise ParamReuseError(f"cannot train for {length} steps: expected at least 1")
    course = Course(factory, chosen, train or train_steps, extra)
    lent, sites, misfits = _matched(example, sources, data)
    fingerprint = _fingerprint(example, lent, data, (length, seed, train is None))
    ledger = Ledger(None if folder is None else Path(folder), fingerprint)
    try:
        bench = Bench(
            course,
            data,
            lent,
            {n: blocks_of(s) for n, s in sites.items()},
            SourceFeatures(example, lent, data, seed),
            ledger,
            length,
            seed,
        )
        bench.pool = pool
        shown = progress or progress_bar("recommend")
        return _Run(bench, sites, misfits, budget, shown).result()
    finally:
        ledger.close()


def _default_steps(data: LabelledSet) -> int:
    return min(max(_STEPS_PER_SAMPLE * len(data.owners), _FEWEST_STEPS), _MOST_STEPS)


def _check_subjects(data: LabelledSet) -> None:
    if len(data.subjects) < 2:
        raise ParamReuseError(
            "cannot choose with one labelled subject: a choice needs one to train on and one to "
            "score. Train from scratch or from everything instead (pr.full_plan, pr.apply_plan, "
            "pr.train_steps), or label a second subject"
        )


def _check_foreground(bench: Bench) -> None:
    """Refuse labels by which no subject can be scored."""
    model = initial_model(bench.course.factory, bench.seed).eval()
    scored = subject_scores(model, bench.data, bench.course.score)
    if len(scored) < len(bench.folds):
        raise ScoreError(
            f"cannot choose: of {len(bench.data.subjects)} labelled subjects {len(scored)} can be "
            "scored, since the labels of the others hold no foreground class. Label more of them, "
            "or leave those out"
        )


def _inputs(unlabelled: Iterable[Tensor] | None) -> tuple[Tensor, ...]:
    if unlabelled is None:
        return ()
    with untouched_random_state():
        return tuple(unlabelled)


def _num_outputs(example: nn.Module, data: LabelledSet) -> int:
    inputs = data.inputs[:2].to(device_of(example))
    with untouched_random_state(), torch.no_grad():
        channels = int(checked_output(example(inputs)).shape[1])
    return max(2, channels)


def _matched(
    example: nn.Module, sources: Mapping[str, Weights], data: LabelledSet
) -> tuple[dict[str, Lent], dict[str, list[Site]], dict[str, str]]:
    """Return tensors and sites of each source that fits, and why the others do not."""
    lent: dict[str, Lent] = {}
    sites: dict[str, list[Site]] = {}
    misfits: dict[str, str] = {}
    inputs = data.inputs[:2].to(device_of(example))
    for name, weights in sources.items():
        try:
            tensors = lend(example, weights)
            sites[name] = match_sites(example, tensors, example_input=inputs)
            lent[name] = tensors
        except SiteMismatchError as error:
            misfits[name] = str(error)
    return lent, sites, misfits


def _fingerprint(
    example: nn.Module, lent: Mapping[str, Lent], data: LabelledSet, settings: object
) -> str:
    """Say what a recommendation is of: all that its result depends on, save a custom training."""
    network = [(key, tuple(value.shape)) for key, value in example.state_dict().items()]
    sources = [
        (name, key, checksum(tensors[key])) for name, tensors in lent.items() for key in tensors
    ]
    facts = repr(
        (network, sources, checksum(data.inputs), checksum(data.labels), data.owners, settings)
    )
    return hashlib.sha256(facts.encode()).hexdigest()


def _training_of(option: Option) -> tuple[str, str]:
    """Name the training behind an option: what ``full`` gives by the way is no other one."""
    return option.source, FULL if option.candidate in MIXES else option.candidate


@dataclass
class _Run:
    """One recommendation, from the search to the trained model."""

    bench: Bench
    sites: Mapping[str, Sequence[Site]]
    misfits: Mapping[str, str]
    budget: float
    progress: Report | None
    tried: dict[tuple[str, str], Candidate] = field(default_factory=dict)

    @property
    def _num_subjects(self) -> int:
        return len(self.bench.data.subjects)

    def result(self) -> Recommendation:
        bench = self.bench
        check_budget(self.budget, smallest_budget(bench, self._num_members))
        bench.on_unit = self._tell
        _check_foreground(bench)
        looks = look_at_sources(bench, self.sites)
        left = self.budget - self._num_members

        def ranked() -> list[str]:
            return [look.source for look in rank_looks(looks, bench.evidence)]

        Search(bench, self.sites, left, ranked, self._preferred, self.tried).run()
        if set(bench.evidence.problems) >= set(self.tried):
            raise ModelError(
                f"cannot recommend: every training diverged, first: "
                f"{next(iter(bench.evidence.problems.values()))}"
            )
        decision = decide(bench.evidence, ranked(), self._num_subjects)
        members = self._members(decision)
        models = [self._final(member) for member in members]
        model = models[0] if len(models) == 1 else AveragedModel(models).eval()
        return self._recommendation(decision, looks, members, model)

    @property
    def _num_members(self) -> int:
        return FEW_MEMBERS if self._num_subjects <= TOO_FEW else 1

    def _tell(self, _: float) -> None:
        if self.progress is not None:
            self.progress(self.bench.spent, self.budget)

    def _preferred(self) -> str:
        """Name the most promising source so far, empty if none is worth anything."""
        options = decide(self.bench.evidence, list(self.sites), self._num_subjects).options
        return next((option.source for option in options if option.source), "")

    def _members(self, decision: Decision) -> list[Option]:
        """Return what is trained in the end: the chosen one, and with few subjects some more."""
        close = [o for o in decision.options if o.gain >= decision.chosen.gain - MEMBERS_WITHIN]
        apart = {_training_of(option): option for option in reversed([decision.chosen, *close])}
        return list(reversed(apart.values()))[: self._num_members]

    def _candidate(self, option: Option) -> Candidate:
        """Return the candidate of an option; what ``full`` gives by the way has a plan too."""
        mix = MIXES.get(option.candidate)
        if mix is None:
            return self.tried[option.source, option.candidate]
        full = self.tried[option.source, FULL]
        assert full.plan is not None, "everything is loaded by a plan"
        return replace(full, name=option.candidate, plan=mixed(full.plan, mix))

    def _final(self, option: Option) -> nn.Module:
        """Train an option on all labelled subjects."""
        bench = self.bench
        candidate = self._candidate(option)
        steps = bench.steps if candidate.trained else 0
        trained = train_candidate(
            bench.course,
            bench.tensors.get(candidate.source),
            candidate,
            bench.data,
            steps,
            seed_of(bench.seed, "final") % 2**31,
        )
        bench.spent += steps / bench.steps
        self._tell(0.0)
        return trained.finished(candidate.plan)

    def _recommendation(
        self,
        decision: Decision,
        looks: Sequence[FirstLook],
        members: Sequence[Option],
        model: nn.Module,
    ) -> Recommendation:
        bench, chosen = self.bench, decision.chosen
        plan = self._candidate(chosen).plan
        return Recommendation(
            source=chosen.source,
            candidate=ENSEMBLE if len(members) > 1 else chosen.candidate,
            plan=plan,
            model=model,
            gain=decision.gain,
            gain_over_full=decision.gain_over_full,
            sources=ranked_starts(decision, looks, self.misfits, bench.evidence),
            rows=candidate_rows(decision, bench),
            spent=bench.spent,
            reason=reason_for(decision, members, self.misfits, self._num_subjects),
            problems={
                f"{name} {source}".strip(): text
                for (source, name), text in bench.evidence.problems.items()
            },
        )
