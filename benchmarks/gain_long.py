"""What a source gains once training has run three times as long as in `gain.py`.

After 200 steps a network trained from scratch is far from where it ends, so much of a gain is
speed. Here scratch and everything of each source are trained for 600 steps, with two seeds, and
in folds on a third of them, as `recommend` does. The facts have the columns of `gain.py`, one CSV
per problem; what `recommend` ships as its prior is learned from them.

    python benchmarks/gain_long.py acdc --out docs/results/gain-long      # needs PARAMREUSE_DATA
    python benchmarks/gain_long.py phantom --out docs/results/gain-long --part 0/2
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import paramreuse as pr
from gain import (
    BASIC_RUNG,
    GRIDS,
    HIDDEN,
    SHUFFLED,
    Facts,
    Lender,
    Problem,
    run_fold,
    train_one,
    variants_of,
)
from paramreuse.recommendation.audit import audit_blocks, rewind_drops
from paramreuse.recommendation.candidates import Candidate, full, head, scratch
from paramreuse.recommendation.labelled import held_out_folds
from paramreuse.recommendation.likeness import SourceFeatures
from paramreuse.recommendation.trials import subject_scores
from paramreuse.reuse.blocks import blocks_of

STEPS = 600
SEEDS = (0, 1)
LIKENESS = "cka folds"


class LongRun:
    """One problem, its basics alone."""

    def __init__(self, problem: Problem) -> None:
        self.problem = replace(problem, steps=STEPS)
        self.facts = Facts(self.problem)
        self.score = pr.Dice(num_classes=problem.num_classes)
        self.folds = held_out_folds(problem.labelled.subjects, seed=problem.seed)

    def run(self) -> Facts:
        """Train scratch, everything of each source, and the head of the first."""
        self._run_scratch()
        for lender in self.problem.sources:
            self._run_source(lender)
        return self.facts

    def _run_scratch(self) -> None:
        for seed in SEEDS:
            self._train(scratch(), None, seed)
        likeness = SourceFeatures(
            self.problem.factory(),
            {lender.name: lender.weights for lender in self.problem.sources},
            self.problem.labelled,
            self.problem.seed,
        )
        pilots = [self._fold(scratch(), None, k) for k in range(len(self.folds))]
        alike = [likeness.likeness(pilot) for pilot in pilots]
        for lender in self.problem.sources:
            mean = float(np.mean([each[lender.name] for each in alike]))
            self.facts.add(Candidate(LIKENESS, lender.name), "1", "labelled", {"mean": mean}, 0.0)

    def _run_source(self, lender: Lender) -> None:
        sites = pr.match_sites(self.problem.factory(), lender.weights)
        blocks = blocks_of(sites)
        everything = full(sites, lender.name)
        drops = []
        for index, held in enumerate(self.folds):
            tuned = self._fold(everything, lender, index)
            unseen = self.problem.labelled.of(held)
            drops.append(rewind_drops(tuned, lender.weights, blocks, unseen, self.score))
        for audit in audit_blocks(blocks, np.concatenate(drops, axis=2)):
            pair = {"rewind": audit.rewind, "reinit": audit.reinit}
            place = Candidate(f"audit {audit.block}", lender.name)
            self.facts.add(place, BASIC_RUNG, "all", pair, 0.0)
        for seed in SEEDS[:1] if lender.name == SHUFFLED else SEEDS:
            self._train(everything, lender, seed)
        if lender is self.problem.sources[0]:
            for index in range(len(self.folds)):
                self._fold(head(sites, lender.name), lender, index)
            self._train(head(sites, lender.name), lender, SEEDS[0])

    def _fold(self, candidate: Candidate, lender: Lender | None, index: int) -> nn.Module:
        held: tuple[Any, ...] = self.folds[index]
        return run_fold(self.facts, candidate, lender, index, held, BASIC_RUNG)

    def _train(self, candidate: Candidate, lender: Lender | None, seed: int) -> None:
        problem = self.problem
        started = time.perf_counter()
        trained = train_one(
            problem, candidate, lender, problem.labelled, problem.steps, problem.seed + 100 * seed
        )
        seconds = time.perf_counter() - started
        for name, variant in variants_of(candidate, trained):
            if "raw" in name or "recalibrated" in name:
                continue
            label = name if seed == SEEDS[0] else f"{name}@{seed}"
            scores = subject_scores(variant, problem.hidden, self.score)
            self.facts.add(replace(candidate, name=label), "1", HIDDEN, scores, seconds)
            seconds = 0.0


def measure(grid: str, out: Path, weights: Path, part: Sequence[int]) -> None:
    """Measure the problems of one grid, those that are missing."""
    out.mkdir(parents=True, exist_ok=True)
    for name, make in list(GRIDS[grid](weights))[part[0] :: part[1]]:
        path = out / f"{name}.csv"
        if not path.exists():
            started = time.perf_counter()
            LongRun(make()).run().write(path)
            print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)


def main() -> None:
    """Measure one part of one grid."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("grid", choices=sorted(GRIDS))
    parser.add_argument("--out", type=Path, required=True, help="folder of the facts")
    parser.add_argument("--weights", type=Path, default=Path("runs/gain-sources"))
    parser.add_argument("--part", default="0/1", help="K/N: every N-th problem, from the K-th")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    part = [int(word) for word in arguments.part.split("/")]
    measure(arguments.grid, arguments.out, arguments.weights, part)


if __name__ == "__main__":
    main()
