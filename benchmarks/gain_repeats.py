"""The trainings of `gain.py` once more: with other seeds, longer and shorter, and averaged.

The best of many candidates trained once each is partly the luckiest one. Here every candidate is
trained again with other seeds, so that what looked best can be scored by trainings that it was not
chosen by. Besides: twice the steps (is it converged?), a third of them (what is speed?), means of
weights and of outputs, and CKA with pilots that `recommend` trains anyway. Facts have the columns
of `gain.py`, one CSV per problem.

    python benchmarks/gain_repeats.py phantom --out docs/results/gain-repeats --part 0/2
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import paramreuse as pr
from gain import (
    GRIDS,
    HIDDEN,
    SHUFFLED,
    Facts,
    Lender,
    Problem,
    fixed_candidate,
    mean_dice,
    probabilities,
    train_one,
    variants_of,
)
from paramreuse.recommendation.bench import FOLD_SHARE
from paramreuse.recommendation.candidates import FULL, SCRATCH, Candidate, scratch
from paramreuse.recommendation.labelled import held_out_folds
from paramreuse.recommendation.trials import Trained, subject_scores
from paramreuse.transferability.cka import linear_cka
from paramreuse.transferability.features import OUTPUT, frozen_features, sample_pixels
from paramreuse.transferability.scoring import PIXELS, load_source

SEEDS = (2, 3)
"""`gain.py` has used 0 and 1."""

OTHERS = ("body", "gentle", "prefix-1/2", "prefix-3/4")
LENGTHS = {"third": 1 / 3, "twice": 2.0}


class Repeats:
    """Trainings of one problem on all labelled subjects, scored on the hidden ones."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.facts = Facts(problem)
        self.score = pr.Dice(num_classes=problem.num_classes)
        self.outputs: dict[tuple[str, str], Tensor] = {}

    def run(self) -> Facts:
        """Train everything there is to train."""
        self._all_lengths(scratch(), None)
        for seed in SEEDS:
            self._train(scratch(), None, seed)
        for lender in self.problem.sources:
            self._run_source(lender)
        self._average_outputs()
        self._compare_with_pilots()
        return self.facts

    def _run_source(self, lender: Lender) -> None:
        sites = pr.match_sites(self.problem.factory(), lender.weights)
        everything = replace(
            fixed_candidate(FULL, lender.name, sites), plan=pr.full_plan(sites, source=lender.name)
        )
        trained = [self._train(everything, lender, seed) for seed in SEEDS]
        self._average_weights(lender.name, trained)
        if lender.name != SHUFFLED:
            self._all_lengths(everything, lender)
            for name in OTHERS:
                self._train(fixed_candidate(name, lender.name, sites), lender, SEEDS[0])

    def _all_lengths(self, candidate: Candidate, lender: Lender | None) -> None:
        for word, share in LENGTHS.items():
            self._train(candidate, lender, SEEDS[0], word, share)

    def _train(
        self,
        candidate: Candidate,
        lender: Lender | None,
        seed: int,
        length: str = "1",
        share: float = 1.0,
    ) -> Trained:
        problem = self.problem
        started = time.perf_counter()
        trained = train_one(
            problem,
            candidate,
            lender,
            problem.labelled,
            round(share * problem.steps),
            problem.seed + 100 * seed,
        )
        seconds = time.perf_counter() - started
        for name, variant in variants_of(candidate, trained):
            if "raw" in name or "recalibrated" in name or name == "as-is":
                continue
            own = replace(candidate, name=f"{name}@{seed}")
            self._add(own, length, variant, seconds)
            seconds = 0.0
            if length == "1" and name in (FULL, SCRATCH):
                self.outputs[candidate.source, own.name] = probabilities(variant, problem.hidden)
        return trained

    def _add(self, candidate: Candidate, length: str, model: nn.Module, seconds: float) -> None:
        scores = subject_scores(model, self.problem.hidden, self.score)
        self.facts.add(candidate, length, HIDDEN, scores, seconds)

    def _average_weights(self, source: str, trained: Sequence[Trained]) -> None:
        """Score the mean of the weights of several seeds, its statistics recomputed."""
        states = [each.model.state_dict() for each in trained]
        mean = self.problem.factory()
        mean.load_state_dict(_mean_of(states))
        soup = pr.recalibrated(mean.eval(), trained[0].inputs)
        self._add(Candidate("soup", source), "1", soup, 0.0)

    def _average_outputs(self) -> None:
        """Score means of outputs: of two seeds, and of one seed of every two or three starts."""
        first = SEEDS[0]
        starts = ["", *(lender.name for lender in self.problem.sources)]
        for source in starts:
            name = FULL if source else SCRATCH
            pair = [(source, f"{name}@{seed}") for seed in SEEDS]
            self._score_mean(Candidate("both seeds", source), pair)
        for size in (2, 3):
            for group in combinations(starts, size):
                members = [(s, f"{FULL if s else SCRATCH}@{first}") for s in group]
                label = " & ".join(s or SCRATCH for s in group)
                self._score_mean(Candidate("starts", label), members)

    def _score_mean(self, candidate: Candidate, members: Sequence[tuple[str, str]]) -> None:
        mean = sum(self.outputs[member].float() for member in members)
        hidden = self.problem.hidden
        score = mean_dice(mean, hidden.labels, hidden.owners, self.problem.num_classes)
        self.facts.add(candidate, "1", HIDDEN, {"mean": score}, 0.0)

    def _compare_with_pilots(self) -> None:
        """Note CKA with networks trained from scratch: on all subjects, and in folds."""
        pilots = {"cka": [self._pilot(self.problem.labelled, 1.0, SEEDS[0])]}
        folds = held_out_folds(self.problem.labelled.subjects, seed=self.problem.seed)
        pilots["cka folds"] = [
            self._pilot(
                self.problem.labelled.of([s for s in self.problem.labelled.subjects if s not in f]),
                FOLD_SHARE,
                index,
            )
            for index, f in enumerate(folds)
        ]
        for name, networks in pilots.items():
            for source, value in self._cka(networks):
                self.facts.add(Candidate(name, source), "1", "labelled", {"mean": value}, 0.0)

    def _pilot(self, data: Any, share: float, seed: int) -> nn.Module:
        steps = round(share * self.problem.steps)
        return train_one(self.problem, scratch(), None, data, steps, self.problem.seed + seed).model

    def _cka(self, pilots: Sequence[nn.Module]) -> Iterator[tuple[str, float]]:
        batches = self.problem.labelled.batches()
        ours = [_pixels(pilot, batches) for pilot in pilots]
        for lender in self.problem.sources:
            loaded = load_source(pilots[0], lender.weights).network
            theirs = _pixels(loaded, batches)
            yield lender.name, float(np.mean([linear_cka(theirs, own) for own in ours]))


def _pixels(network: nn.Module, batches: Any) -> Tensor:
    features = frozen_features(network, batches)[OUTPUT]
    return sample_pixels(features, PIXELS, seed=0).values


def _mean_of(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {
        key: torch.stack([state[key].double() for state in states]).mean(0).to(value.dtype)
        for key, value in states[0].items()
    }


def main() -> None:
    """Measure the problems of one grid, those that are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("grid", choices=sorted(GRIDS))
    parser.add_argument("--out", type=Path, required=True, help="folder of the facts")
    parser.add_argument("--weights", type=Path, default=Path("runs/gain-sources"))
    parser.add_argument("--part", default="0/1", help="K/N: every N-th problem, from the K-th")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    first, step = (int(word) for word in arguments.part.split("/"))
    for name, make in list(GRIDS[arguments.grid](arguments.weights))[first::step]:
        path = arguments.out / f"{name}.csv"
        if not path.exists():
            started = time.perf_counter()
            Repeats(make()).run().write(path)
            print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
