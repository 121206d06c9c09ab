"""What the facts of `gain_long.py` teach: the prior that `recommend` ships.

    python benchmarks/gain_prior.py docs/results/gain-long \
        --out src/paramreuse/recommendation/prior.json
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear

from gain_facts import Problem, read_problems
from paramreuse.recommendation.candidates import AS_IS, FULL, HEAD, MIXES, SCRATCH
from paramreuse.recommendation.decision import (
    against_mean,
    decide,
    is_worthy,
    paired,
    zero_shot_share,
)
from paramreuse.recommendation.prior import GainLine, Line, Prior

Array = NDArray[np.float64]

HALFWAYS = (1.0, 2.0, 4.0, 8.0, 16.0)
RIDGE = 0.05


def learn(problems: Sequence[Problem]) -> Prior:
    """Fit a line per candidate, then how far predictions are off on targets not fitted to."""
    prior = _lines(problems)
    gains, differences = [], []
    for target in sorted({problem.target for problem in problems}):
        others = _lines([problem for problem in problems if problem.target != target])
        for problem in problems:
            if problem.target == target:
                for number, gain, difference in _errors(problem, others):
                    gains.append((number, gain))
                    differences.append((number, difference))
    return replace(
        prior, gain_variance=_variance(gains), difference_variance=_variance(differences)
    )


def _lines(problems: Sequence[Problem]) -> Prior:
    lines = {}
    for name in (HEAD, AS_IS, *MIXES):
        cases = [case for problem in problems for case in _cases(problem, name)]
        lines[name] = _fit(cases)
    level, spread = _level(problems)
    return Prior(lines, _gain_line(problems), level, spread, (0.0, 0.0), (0.0, 0.0))


def _errors(problem: Problem, prior: Prior) -> Iterator[tuple[int, float, float]]:
    """Yield how far the predicted gains of each choice are off: over scratch, over everything."""
    for source in problem.sources:
        choice = decide(problem.evidence, [source], problem.number, prior=prior)
        taken = problem.truth(choice.chosen.source, choice.chosen.candidate)
        over_scratch = taken - problem.truth("", SCRATCH) - choice.gain[0]
        over_full = taken - problem.truth(source, FULL) - choice.gain_over_full[0]
        if choice.chosen.source:
            yield problem.number, over_scratch, over_full


def _cases(problem: Problem, name: str) -> list[tuple[float, int, float, float]]:
    """Return measured mean, held-out subjects, share without training, and the truth."""
    cases = []
    for source in problem.sources:
        full = problem.evidence.of(source, FULL)
        differences = paired(problem.evidence.of(source, name), full)
        truth = problem.truth(source, name) - problem.truth(source, FULL)
        if len(differences) and np.isfinite(truth):
            share = zero_shot_share(problem.evidence, source)
            cases.append((float(differences.mean()), len(differences), share, truth))
    return cases


def _level(problems: Sequence[Problem]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Fit hidden scores of full trainings from everything on held-out ones of short trainings."""
    rows = [
        (p.number, float(np.mean(list(p.evidence.of(s, FULL).values()))), p.truth(s, FULL))
        for p in problems
        for s in p.sources
    ]
    numbers, measured, true = (np.array(column) for column in zip(*rows, strict=True))
    slope, intercept = np.polyfit(measured, true, 1)
    errors = true - intercept - slope * measured
    return (float(intercept), float(slope)), _variance(zip(numbers, errors, strict=True))


def _gain_line(problems: Sequence[Problem]) -> GainLine:
    """Fit what everything gains over scratch; each source alone, and all of a problem at once.

    No slope is below nothing: that a source which does better on held-out subjects, or sees more of
    what pilots see, gained less on some problems is chance.
    """
    known = [p.evidence.likeness(s) for p in problems for s in _worthy(p)]
    centre = float(np.nanmean(known)) if np.isfinite(known).any() else 0.0
    best: tuple[float, GainLine] | None = None
    for halfway in HALFWAYS:
        rows = [row for problem in problems for row in _gain_rows(problem, halfway, centre)]
        table = np.array(rows)
        weights, error = _rising(table[:, :-1], table[:, -1])
        if best is None or error < best[0]:
            intercept, slope, source, likeness, source_likeness = (float(w) for w in weights)
            line = GainLine(intercept, slope, source, halfway, likeness, source_likeness, centre)
            best = error, line
    assert best is not None
    return best[1]


def _worthy(problem: Problem) -> list[str]:
    return [source for source in problem.sources if is_worthy(problem.evidence, source)]


def _gain_rows(problem: Problem, halfway: float, centre: float) -> Iterator[tuple[float, ...]]:
    """Yield what is measured as `GainLine` weighs it, and the true gain."""
    evidence, worthy = problem.evidence, _worthy(problem)
    scratch = evidence.of("", SCRATCH)
    trust = len(scratch) / (len(scratch) + halfway)
    for group in [worthy, *([s] for s in worthy if len(worthy) > 1)]:
        gains = against_mean(
            {s: float(paired(evidence.of(s, FULL), scratch).mean()) for s in group}
        )
        alike = against_mean({s: evidence.likeness(s) for s in group})
        for source in group:
            gain, likeness = gains[source], alike[source]
            level = (likeness.mean - centre, likeness.own)
            known = level if np.isfinite(level).all() else (0.0, 0.0)
            true = problem.over_seeds(source, FULL) - problem.over_seeds("", SCRATCH)
            yield trust * gain.mean, trust * gain.own, *known, true


def _rising(measured: Array, true: Array) -> tuple[Array, float]:
    """Return an intercept and slopes from nothing up, weakly pulled to nothing, and the error."""
    number = measured.shape[1]
    design = np.column_stack([np.ones(len(measured)), measured])
    pull = np.sqrt(RIDGE) * np.eye(number + 1)[1:]
    bounds = ([-np.inf] + [0.0] * number, np.inf)
    fitted = lsq_linear(np.vstack([design, pull]), np.append(true, np.zeros(number)), bounds)
    return fitted.x, float(np.mean((true - design @ fitted.x) ** 2))


def _fit(cases: Sequence[tuple[float, int, float, float]]) -> Line:
    """Least squares with a weak pull to nothing; the trust in few subjects by leave-one-out."""
    means, numbers, shares, truths = (np.array(column) for column in zip(*cases, strict=True))
    best: tuple[float, Line] | None = None
    for halfway in HALFWAYS:
        design = np.column_stack(
            [np.ones_like(means), means * numbers / (numbers + halfway), shares]
        )
        gram = design.T @ design + np.diag([0.0, RIDGE, RIDGE])
        weights = np.linalg.solve(gram, design.T @ truths)
        leverage = np.einsum("ij,jk,ik->i", design, np.linalg.inv(gram), design)
        error = float(np.mean(((truths - design @ weights) / (1 - leverage)) ** 2))
        line = Line(float(weights[0]), float(weights[1]), float(weights[2]), halfway)
        if best is None or error < best[0]:
            best = error, line
    assert best is not None
    return best[1]


def _variance(errors: Iterable[tuple[int, float]]) -> tuple[float, float]:
    """Fit a constant and a part per 1/subject to squared errors, neither below zero."""
    from scipy.optimize import nnls

    numbers, values = (np.array(column, dtype=float) for column in zip(*errors, strict=True))
    parts, _ = nnls(np.column_stack([np.ones_like(numbers), 1 / numbers]), values**2)
    return float(parts[0]), float(parts[1])


def as_json(prior: Prior) -> str:
    lines: dict[str, Any] = {
        name: {part: round(getattr(line, part), 4) for part in Line.__dataclass_fields__}
        for name, line in prior.lines.items()
    }
    return (
        json.dumps(
            {
                "lines": lines,
                "gain": {name: round(value, 4) for name, value in asdict(prior.gain).items()},
                "level": [round(v, 4) for v in prior.level],
                "level_variance": [round(v, 6) for v in prior.level_variance],
                "gain_variance": [round(v, 6) for v in prior.gain_variance],
                "difference_variance": [round(v, 6) for v in prior.difference_variance],
            },
            indent=1,
        )
        + "\n"
    )


def main() -> None:
    """Learn the prior from all facts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("facts", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.write_text(as_json(learn(read_problems(arguments.facts))), encoding="utf-8")


if __name__ == "__main__":
    main()
