"""The facts of `gain.py` and `gain_repeats.py`, read."""

import csv
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from paramreuse.recommendation.bench import Evidence
from paramreuse.recommendation.candidates import FULL

RUNG = "1/3"
"""What `recommend` measures; the shorter schedules of the grid told too little."""

RENAMED = {"full raw": FULL, "full": "full recalibrated"}
"""Recalibrating after a training from everything gained nothing, so that `full` goes without."""

LIKENESS = "cka folds"


@dataclass
class Problem:
    """The facts of one problem."""

    name: str
    evidence: Evidence = field(default_factory=Evidence)
    hidden: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)
    audits: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    repeats: dict[tuple[str, str, str], dict[str, float]] = field(default_factory=dict)
    """Hidden scores of trainings with other seeds, by source, candidate with seed, and length."""

    @property
    def target(self) -> str:
        return self.name.rsplit("-n", 1)[0]

    @property
    def number(self) -> int:
        return int(self.name.rsplit("-n", 1)[1].split("-")[0])

    @property
    def sources(self) -> list[str]:
        return list(dict.fromkeys(source for source, _ in self.hidden if source))

    def truth(self, source: str, candidate: str) -> float:
        scores = self.hidden.get((source, candidate), {})
        return float(np.mean(list(scores.values()))) if scores else float("nan")

    def again(self, source: str, candidate: str, length: str = "1") -> float:
        """Return the mean score of a candidate over other seeds than the first, NaN if none."""
        means = [
            np.mean(list(scores.values()))
            for (owner, name, long), scores in self.repeats.items()
            if (owner, name.partition("@")[0], long) == (source, candidate, length)
        ]
        return float(np.mean(means)) if means else float("nan")

    def two_seeds(self, source: str, candidate: str) -> tuple[float, float]:
        """Return the scores of the first two seeds there are, NaN where there are fewer."""
        known = [self.truth(source, candidate)]
        known += [
            float(np.mean(list(scores.values())))
            for (owner, name, long), scores in self.repeats.items()
            if (owner, name.partition("@")[0], long) == (source, candidate, "1")
        ]
        return (*known, float("nan"))[:2]

    def over_seeds(self, source: str, candidate: str) -> float:
        """Return the mean of the first seed's score and the mean over the others."""
        both = np.array([self.truth(source, candidate), self.again(source, candidate)])
        return float(np.nanmean(both)) if np.isfinite(both).any() else float("nan")

    def candidates(self, source: str) -> list[str]:
        return [c for s, c in self.hidden if s == source and "#" not in c and "+" not in c]


def read_problems(facts: Path, repeats: Path | None = None) -> list[Problem]:
    """Read every problem of a folder, with its repeats where there are any."""
    problems = [read_problem(path) for path in sorted(facts.glob("*.csv"))]
    for problem in problems:
        path = None if repeats is None else repeats / f"{problem.name}.csv"
        if path is not None and path.exists():
            _take_repeats(problem, path)
    return problems


def _take_repeats(problem: Problem, path: Path) -> None:
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            source, name, score = row["source"], row["candidate"], float(row["score"])
            if name == LIKENESS:
                problem.evidence.likenesses[source] = [score]
            elif row["fold"] == "hidden":
                scores = problem.repeats.setdefault((source, name, row["rung"]), {})
                scores[row["subject"]] = score


def read_problem(path: Path) -> Problem:
    """Read one problem."""
    problem = Problem(path.stem)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    renamed = RENAMED if any(row["candidate"] == "full raw" for row in rows) else {}
    for row in rows:
        _take_row(problem, row | {"candidate": renamed.get(row["candidate"], row["candidate"])})
    for source, blocks in problem.audits.items():
        pairs = [[audit["rewind"], audit["reinit"]] for audit in blocks.values()]
        problem.evidence.drops[source] = np.array(pairs)[:, :, None]
    return problem


def _take_row(problem: Problem, row: Mapping[str, str]) -> None:
    source, score, candidate = row["source"], float(row["score"]), row["candidate"]
    if candidate == LIKENESS:
        problem.evidence.likenesses[source] = [score]
    elif "@" in candidate:
        scores = problem.repeats.setdefault((source, candidate, row["rung"]), {})
        scores[row["subject"]] = score
    elif candidate.startswith("audit "):
        blocks = problem.audits.setdefault(source, defaultdict(dict))
        blocks[candidate.removeprefix("audit ")][row["subject"]] = score
    elif row["fold"] == "hidden":
        problem.hidden.setdefault((source, candidate), {})[row["subject"]] = score
    elif row["rung"] == RUNG:
        problem.evidence.scores.setdefault((source, candidate), {})[row["subject"]] = score
