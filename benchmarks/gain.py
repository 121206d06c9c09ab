"""What each way of starting from a source gains, and what could be known of it beforehand.

One *problem* is a target, a number of labelled subjects and a draw of them. For each problem every
candidate is trained to its end on all labelled subjects and scored on hidden ones (hindsight), and
trained in folds on short schedules (what `recommend` may look at). The facts go into one CSV per
problem, so the grid can be stopped, continued and shared between processes.

    python benchmarks/gain.py phantom --out docs/results/gain --part 0/2
    python benchmarks/gain.py acdc --out docs/results/gain        # needs PARAMREUSE_DATA
"""

import argparse
import csv
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import paramreuse as pr
from paramreuse.data.preparation import PreparedSet, batches, prepare_subjects
from paramreuse.data.slices import ImageSet
from paramreuse.networks import pspnet
from paramreuse.recommendation.audit import audit_blocks, rewind_drops, rewind_plan
from paramreuse.recommendation.candidates import FULL, HEAD, SCRATCH, Candidate, scratch
from paramreuse.recommendation.labelled import LabelledSet, gather_labelled, held_out_folds
from paramreuse.recommendation.trials import Course, Trained, subject_scores, train_candidate
from paramreuse.reuse.blocks import blocks_of
from paramreuse.training import TrainingSettings, initial_model, train_model
from paramreuse.training.steps import train_steps

COLUMNS = ("source", "candidate", "rung", "fold", "subject", "score", "seconds")
WIDTH = 8
HIDDEN = "hidden"
BASIC_RUNG, SCREEN_RUNG = "1/3", "1/6"
SCREEN_FOLDS = 2
MIXES = (0.5, 0.75)
BUILDERS: dict[str, Callable[[Sequence[pr.Site]], pr.Plan]] = {
    FULL: lambda sites: pr.recalibrating(pr.full_plan(sites)),
    HEAD: pr.head_plan,
    "body": pr.body_plan,
    "gentle": pr.gentle_plan,
    "prefix-1/2": lambda sites: pr.prefix_plan(blocks_of(sites), 1 / 2),
    "prefix-3/4": lambda sites: pr.prefix_plan(blocks_of(sites), 3 / 4),
}
CANDIDATES = tuple(BUILDERS)
SHUFFLED = "shuffled"
OF_SHUFFLED = (FULL, HEAD, "prefix-1/2")
"""A shuffled source shows what a recommendation must not fall for; these are enough for that."""


@dataclass(frozen=True)
class Lender:
    """A source: its weights and how many classes it has."""

    name: str
    weights: dict[str, Tensor]


@dataclass(frozen=True)
class Problem:
    """One target with some labelled subjects."""

    name: str
    num_classes: int
    labelled: LabelledSet
    hidden: LabelledSet
    sources: tuple[Lender, ...]
    steps: int
    seed: int
    with_papers: bool = False

    def factory(self) -> nn.Module:
        return pspnet(num_classes=self.num_classes, width=WIDTH)


class Facts:
    """Rows of one problem, written whole at the end."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.rows: list[tuple[Any, ...]] = []

    def add(
        self, candidate: Candidate, rung: str, fold: str, scores: dict[Any, float], seconds: float
    ) -> None:
        for subject, score in scores.items():
            row = (candidate.source, candidate.name, rung, fold, subject, f"{score:.4f}")
            self.rows.append((*row, f"{seconds:.2f}"))

    def write(self, path: Path) -> None:
        part = path.with_suffix(".part")
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(self.rows)
        part.replace(path)


def run_problem(problem: Problem) -> Facts:
    """Measure every candidate of one problem."""
    facts = Facts(problem)
    hidden = _Hindsight(problem, facts)
    for seed, name in ((0, SCRATCH), (1, f"{SCRATCH}#2")):
        hidden.train(replace(scratch(), name=name), None, seed)
    folds = held_out_folds(problem.labelled.subjects, seed=problem.seed)
    for index, held in enumerate(folds):
        run_fold(facts, scratch(), None, index, held, BASIC_RUNG)
    pilot = hidden.models[SCRATCH]
    for lender in problem.sources:
        _run_source(problem, facts, hidden, lender, folds, pilot)
    return facts


def _run_source(
    problem: Problem,
    facts: Facts,
    hidden: "_Hindsight",
    lender: Lender,
    folds: Sequence[tuple[Any, ...]],
    pilot: nn.Module,
) -> None:
    sites = pr.match_sites(problem.factory(), lender.weights)
    blocks = blocks_of(sites)
    drops = []
    for index, held in enumerate(folds):
        for name in (FULL, HEAD):
            tuned = run_fold(
                facts, fixed_candidate(name, lender.name, sites), lender, index, held, BASIC_RUNG
            )
            if name == FULL:
                unseen = problem.labelled.of(held)
                measured = rewind_drops(tuned, lender.weights, blocks, unseen, _score(problem))
                drops.append(measured)
    audits = audit_blocks(blocks, np.concatenate(drops, axis=2))
    for audit in audits:
        pair = {"rewind": audit.rewind, "reinit": audit.reinit}
        facts.add(Candidate(f"audit {audit.block}", lender.name), BASIC_RUNG, "all", pair, 0.0)
    rewound = Candidate(
        "rewind",
        lender.name,
        rewind_plan(
            blocks, audits, num_subjects=len(problem.labelled.subjects), source=lender.name
        ),
    )
    names = OF_SHUFFLED if lender.name == SHUFFLED else CANDIDATES
    fixed = [fixed_candidate(name, lender.name, sites) for name in names]
    extra = [] if lender.name == SHUFFLED else [rewound]
    derived = [each for each in fixed if each.name != HEAD] + extra
    for index, held in enumerate(folds[:SCREEN_FOLDS]):
        for candidate in derived:
            run_fold(facts, candidate, lender, index, held, SCREEN_RUNG)
    if extra and problem.with_papers:
        extra.append(Candidate("papers", lender.name, _papers_plan(problem, pilot, lender)))
    hidden.forget()
    for candidate in fixed + extra:
        hidden.train(candidate, lender, 0)
    if lender is problem.sources[0]:
        hidden.train(replace(fixed[0], name=f"{FULL}#2"), lender, 1)
    hidden.combine(lender.name)


def fixed_candidate(name: str, source: str, sites: Sequence[pr.Site]) -> Candidate:
    return Candidate(name, source, BUILDERS[name](sites))


def _papers_plan(problem: Problem, pilot: nn.Module, lender: Lender) -> pr.Plan:
    some = problem.labelled.of(problem.labelled.subjects[:2])
    sweep = pr.sweep_sites(pilot, lender.weights, some.batches(), _score(problem), controls=())
    return pr.plan_by_papers(pr.judge(sweep), source=lender.name)


def _score(problem: Problem) -> pr.Dice:
    return pr.Dice(num_classes=problem.num_classes)


def run_fold(
    facts: Facts,
    candidate: Candidate,
    lender: Lender | None,
    index: int,
    held: tuple[Any, ...],
    rung: str,
) -> nn.Module:
    """Train in one fold, score what is held out, and return the trained network."""
    problem = facts.problem
    seen = [s for s in problem.labelled.subjects if s not in held]
    steps = round(problem.steps * {BASIC_RUNG: 1 / 3, SCREEN_RUNG: 1 / 6}[rung])
    data, unseen = problem.labelled.of(seen), problem.labelled.of(held)
    started = time.perf_counter()
    trained = train_one(problem, candidate, lender, data, steps, problem.seed + index)
    seconds = time.perf_counter() - started
    variants = dict(variants_of(candidate, trained))
    for name, variant in variants.items():
        scores = subject_scores(variant, unseen, _score(problem))
        facts.add(replace(candidate, name=name), rung, str(index), scores, seconds)
        seconds = 0.0
    return variants[candidate.name]


def train_one(
    problem: Problem,
    candidate: Candidate,
    lender: Lender | None,
    data: LabelledSet,
    steps: int,
    seed: int,
) -> Trained:
    course = Course(problem.factory, _score(problem), train_steps)
    weights = None if lender is None else lender.weights
    return train_candidate(course, weights, candidate, data, steps, seed)


def variants_of(candidate: Candidate, trained: Trained) -> Iterator[tuple[str, nn.Module]]:
    """Yield what one training gives, also by forward passes alone."""
    if candidate.plan is None:
        yield candidate.name, trained.model
        yield f"{candidate.name} recalibrated", pr.recalibrated(trained.model, trained.inputs)
        return
    yield candidate.name, trained.finished(candidate.plan)
    if candidate.name == FULL:
        yield f"{FULL} raw", trained.model
        for mix in MIXES:
            yield f"mix-{mix}", trained.finished(pr.mixed(candidate.plan, mix))
        yield "as-is", trained.finished(pr.mixed(candidate.plan, 1e-9))


class _Hindsight:
    """Trainings on all labelled subjects, scored on the hidden ones."""

    def __init__(self, problem: Problem, facts: Facts) -> None:
        self.problem, self.facts = problem, facts
        self.models: dict[str, nn.Module] = {}
        self._outputs: dict[str, Tensor] = {}

    def train(self, candidate: Candidate, lender: Lender | None, seed: int) -> None:
        problem = self.problem
        started = time.perf_counter()
        trained = train_one(
            problem, candidate, lender, problem.labelled, problem.steps, problem.seed + 100 * seed
        )
        seconds = time.perf_counter() - started
        self.models[candidate.name] = trained.model
        for name, variant in variants_of(candidate, trained):
            scores = subject_scores(variant, problem.hidden, _score(problem))
            self.facts.add(replace(candidate, name=name), "1", HIDDEN, scores, seconds)
            self._outputs[name] = probabilities(variant, problem.hidden)
            seconds = 0.0

    def forget(self) -> None:
        """Keep nothing of the source before."""
        own = [name for name in self._outputs if name.startswith(SCRATCH)]
        self._outputs = {name: self._outputs[name] for name in own}

    def combine(self, source: str) -> None:
        """Score the mean of the outputs of every two candidates, and of three with `full`."""
        names = [name for name in self._outputs if "raw" not in name]
        groups = [*combinations(names, 2)]
        groups += [(FULL, a, b) for a, b in combinations([n for n in names if n != FULL], 2)]
        labels, owners = self.problem.hidden.labels, self.problem.hidden.owners
        for group in groups:
            mean = sum(self._outputs[name].float() for name in group)
            score = mean_dice(mean, labels, owners, self.problem.num_classes)
            self.facts.add(Candidate("+".join(group), source), "1", HIDDEN, {"mean": score}, 0.0)


def probabilities(model: nn.Module, data: LabelledSet) -> Tensor:
    with torch.no_grad():
        return torch.cat([model(b[0]).softmax(1).half() for b in data.batches()])


def mean_dice(outputs: Tensor, labels: Tensor, owners: Sequence[Any], num_classes: int) -> float:
    score = pr.Dice(num_classes=num_classes)
    statistics = score.statistics(outputs, labels).numpy()
    sums: dict[Any, Any] = {}
    for owner, row in zip(owners, statistics, strict=True):
        sums[owner] = sums.get(owner, 0) + row
    scores = score.score(np.stack(list(sums.values())))[:, np.array(score.foreground)]
    return float(np.nanmean(np.nanmean(scores, axis=1)))


# Sources, trained here and kept outside the results.


def _segmenter(prepared: PreparedSet, seed: int, steps: int) -> dict[str, Tensor]:
    classes = len(prepared.classes)
    model = initial_model(lambda: pspnet(num_classes=classes, width=WIDTH), seed)
    return train_steps(model, batches(prepared, 32), None, steps, seed).state_dict()


def _autoencoder(prepared: PreparedSet, num_classes: int, seed: int, steps: int) -> dict[str, Any]:
    model = initial_model(lambda: pspnet(num_classes=num_classes, width=WIDTH), seed)
    epochs = max(1, steps * 16 // len(prepared))
    settings = TrainingSettings(epochs=epochs, learning_rate=3e-3, seed=seed, validate_every=epochs)
    few = _some(prepared, 2)
    result = train_model(model, prepared, few, task="autoencoder", settings=settings)
    return result.model.state_dict()


def _some(prepared: PreparedSet, number: int) -> PreparedSet:
    return replace(
        prepared,
        images=prepared.images[:number],
        labels=prepared.labels[:number],
        subjects=prepared.subjects[:number],
        names=prepared.names[:number],
    )


def _kept(path: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return weights from a file, or make and keep them."""
    from safetensors.torch import load_file, save_file

    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".part{os.getpid()}")
        save_file({k: v.contiguous() for k, v in make().items()}, part)
        part.replace(path)
    return load_file(path)


def _shuffled(weights: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return {
        key: value.flatten()[torch.randperm(value.numel(), generator=rng)].view(value.shape)
        for key, value in weights.items()
    }


# The three grids.

DOMAINS = ("cine", "t1", "rvsc")
NUMBERS = (2, 4, 8)


def _phantom(domain: str, seed: int, subjects: Sequence[int]) -> PreparedSet:
    from paramreuse.data.phantom import read_phantom

    images = read_phantom(domain=domain, subjects=64, seed=seed, slices=6, size=48)
    return prepare_subjects(images, [images.subjects[i] for i in subjects], size=48)


def phantom_problems(kept: Path) -> Iterator[tuple[str, Callable[[], Problem]]]:
    """Three targets, three numbers of subjects, five draws: 45 problems of four sources each."""
    for draw in range(5):
        for domain in DOMAINS:
            for number in NUMBERS:
                name = f"phantom-{domain}-n{number}-d{draw}"
                yield name, lambda d=domain, n=number, r=draw: _phantom_problem(d, n, r, kept)


def _phantom_problem(domain: str, number: int, draw: int, kept: Path) -> Problem:
    others = [other for other in DOMAINS if other != domain]
    lenders = []
    for kind, origin in (("seg", others[0]), ("seg", others[1]), ("ae", domain)):
        name = f"{origin}-{kind}"
        make = lambda k=kind, o=origin: _phantom_source(k, o, draw)  # noqa: E731
        lenders.append(Lender(name, _kept(kept / f"phantom-{name}-{draw}.safetensors", make)))
    lenders.append(Lender(SHUFFLED, _shuffled(lenders[draw % 2].weights, draw)))
    people = 100 + draw
    return Problem(
        name=f"phantom-{domain}-n{number}-d{draw}",
        num_classes=4,
        labelled=gather_labelled(batches(_phantom(domain, people, range(number)), 32)),
        hidden=gather_labelled(batches(_phantom(domain, people, range(8, 24)), 32)),
        sources=tuple(lenders),
        steps=200,
        seed=1000 * draw + number,
        with_papers=draw < 2,
    )


def _phantom_source(kind: str, domain: str, draw: int) -> dict[str, Tensor]:
    prepared = _phantom(domain, 200 + draw, range(24))
    seed = 10 + draw
    if kind == "seg":
        return _segmenter(prepared, seed, 500)
    return _autoencoder(prepared, 4, seed, 500)


def _root() -> Path:
    return Path(os.environ["PARAMREUSE_DATA"])


@cache
def _prepared(name: str, size: int) -> PreparedSet:
    from paramreuse.data.acdc import read_acdc
    from paramreuse.data.decathlon import read_decathlon
    from paramreuse.data.sunnybrook import read_sunnybrook

    readers: dict[str, Callable[[], ImageSet]] = {
        "acdc": lambda: read_acdc(_root() / "acdc" / "training"),
        "sunnybrook": lambda: read_sunnybrook(_root() / "sunnybrook"),
        "hippocampus": lambda: read_decathlon(_root() / "Task04_Hippocampus"),
    }
    images = readers[name]()
    number = {"acdc": 40, "sunnybrook": 5, "hippocampus": 60}[name]
    spacing = {"acdc": 2.5, "sunnybrook": 2.5, "hippocampus": 1.0}[name]
    subjects = images.subjects[:number]
    return prepare_subjects(images, subjects, size=size, spacing_mm=spacing)


def _of(prepared: PreparedSet, subjects: Sequence[str], every: int) -> PreparedSet:
    """Keep some subjects, and every so many of their slices that show a structure."""
    seen: dict[str, int] = {}
    kept = []
    for index, subject in enumerate(prepared.subjects):
        if subject in subjects and bool((prepared.labels[index] > 0).any()):
            seen[subject] = seen.get(subject, -1) + 1
            if seen[subject] % every == 0:
                kept.append(index)
    picked = torch.tensor(kept)
    return replace(
        prepared,
        images=prepared.images[picked],
        labels=prepared.labels[picked],
        subjects=tuple(prepared.subjects[i] for i in kept),
        names=tuple(prepared.names[i] for i in kept),
    )


def _draw(name: str, size: int, hidden: int, draw: int) -> tuple[list[str], list[str]]:
    """Return the pool and the hidden subjects of a draw."""
    subjects = sorted(set(_prepared(name, size).subjects))
    order = [subjects[i] for i in np.random.default_rng(draw).permutation(len(subjects))]
    return order[hidden:], order[:hidden]


def _real_source(name: str, size: int, draw: int, pool: Sequence[str]) -> dict[str, Tensor]:
    origin, kind = name.rsplit("-", 1)
    if origin == "phantom":
        from paramreuse.data.phantom import read_phantom

        images = read_phantom(domain="cine", subjects=24, seed=300 + draw, slices=6, size=size)
        prepared = prepare_subjects(images, images.subjects, size=size)
    else:
        whole = _prepared(origin, size)
        prepared = _of(whole, pool or sorted(set(whole.subjects)), 2)
    if kind == "seg":
        return _segmenter(prepared, 10 + draw, 500)
    return _autoencoder(prepared, len(prepared.classes), 10 + draw, 500)


@dataclass(frozen=True)
class RealGrid:
    """Problems on one set of real images."""

    target: str
    size: int
    hidden: int
    every: int
    sources: tuple[str, ...]
    draws: int

    def problems(self, kept: Path) -> Iterator[tuple[str, Callable[[], Problem]]]:
        """Yield every problem by name, to be made when it is due."""
        for draw in range(self.draws):
            for number in NUMBERS:
                yield (
                    f"{self.target}-n{number}-d{draw}",
                    lambda n=number, d=draw: self._problem(n, d, kept),  # type: ignore[misc]
                )

    def _problem(self, number: int, draw: int, kept: Path) -> Problem:
        pool, unseen = _draw(self.target, self.size, self.hidden, draw)
        lenders = []
        for name in self.sources:
            own = pool if name.startswith(self.target) else []
            path = kept / f"for-{self.target}-{name}-{draw}.safetensors"
            make = lambda n=name, o=own: _real_source(n, self.size, draw, o)  # noqa: E731
            lenders.append(Lender(name, _kept(path, make)))
        prepared = _prepared(self.target, self.size)
        few, many = (_of(prepared, some, self.every) for some in (pool[:number], unseen))
        return Problem(
            name=f"{self.target}-n{number}-d{draw}",
            num_classes=len(prepared.classes),
            labelled=gather_labelled(batches(few, 32)),
            hidden=gather_labelled(batches(many, 32)),
            sources=tuple(lenders),
            steps=200,
            seed=1000 * draw + number,
            with_papers=draw < 1,
        )


# 28 patients in the pool and 12 hidden; 50 volumes and 10.
ACDC = RealGrid(
    "acdc", 48, 12, 2, ("sunnybrook-seg", "hippocampus-seg", "acdc-ae", "phantom-seg"), 3
)
HIPPOCAMPUS = RealGrid("hippocampus", 48, 10, 4, ("acdc-seg", "phantom-seg", "hippocampus-ae"), 2)

GRIDS = {
    "phantom": phantom_problems,
    "acdc": ACDC.problems,
    "hippocampus": HIPPOCAMPUS.problems,
}


def main() -> None:
    """Measure the problems of one grid, those that are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("grid", choices=sorted(GRIDS))
    parser.add_argument("--out", type=Path, required=True, help="folder of the facts")
    parser.add_argument("--weights", type=Path, default=Path("runs/gain-sources"))
    parser.add_argument("--part", default="0/1", help="K/N: every N-th problem, from the K-th")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    first, step = (int(word) for word in arguments.part.split("/"))
    problems = list(GRIDS[arguments.grid](arguments.weights))
    for name, make in problems[first::step]:
        path = arguments.out / f"{name}.csv"
        if path.exists():
            continue
        started = time.perf_counter()
        run_problem(make()).write(path)
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
