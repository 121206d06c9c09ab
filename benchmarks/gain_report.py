"""What the facts of `gain.py` teach: the prior of `recommend`, and how well it then chooses.

    python benchmarks/gain_report.py docs/results/gain     # the tables of docs/results/gain.md
    python benchmarks/gain_report.py docs/results/gain \
        --prior src/paramreuse/recommendation/prior.json   # learn the prior from all facts

Each target is judged with a prior learned from the other targets alone. A *setting* is a problem
with one source; a *problem* is judged with all of its sources, as a user would call it.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau, weightedtau

from gain_facts import Problem, read_problems
from paramreuse.recommendation.candidates import AS_IS, FULL, HEAD, MIXES, SCRATCH
from paramreuse.recommendation.decision import decide, is_worthy, paired, zero_shot_share
from paramreuse.recommendation.prior import Line, Prior

HALFWAYS = (1.0, 2.0, 4.0, 8.0, 16.0)
RIDGE = 0.05
SHUFFLED = "shuffled"


# Learning the prior.


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
    for name in (SCRATCH, HEAD, AS_IS, *MIXES):
        cases = [case for problem in problems for case in _cases(problem, name)]
        lines[name] = _fit(cases)
    slope, halfway, likeness = _between_sources(problems)
    level, spread = _level(problems)
    return Prior(lines, slope, halfway, likeness, level, spread, (0.0, 0.0), (0.0, 0.0))


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
        own = "" if name == SCRATCH else source
        full = problem.evidence.of(source, FULL)
        differences = paired(problem.evidence.of(own, name), full)
        truth = problem.truth(own, name) - problem.truth(source, FULL)
        if len(differences) and np.isfinite(truth):
            share = 0.0 if name == SCRATCH else zero_shot_share(problem.evidence, source)
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


def _between_sources(problems: Sequence[Problem]) -> tuple[float, float, float]:
    """Fit true on measured differences between the sources of a problem, and on their likeness."""
    best: tuple[float, tuple[float, float, float]] | None = None
    for halfway in HALFWAYS:
        rows = [row for problem in problems for row in _against_mean(problem, halfway)]
        measured, likeness, true = np.array(rows).T
        design = np.column_stack([measured, likeness])
        slopes, *_ = np.linalg.lstsq(design, true, rcond=None)
        error = float(np.mean((true - design @ slopes) ** 2))
        if best is None or error < best[0]:
            best = error, (float(slopes[0]), halfway, float(slopes[1]))
    assert best is not None
    return best[1]


def _against_mean(problem: Problem, halfway: float) -> list[tuple[float, float, float]]:
    """Return trusted measured, likeness and true difference of each source to the sources' mean."""
    evidence = problem.evidence
    sources = [source for source in problem.sources if is_worthy(evidence, source)]
    scores = [evidence.of(s, FULL) for s in sources]
    means = np.array([np.mean(list(each.values())) for each in scores])
    alike = np.array([evidence.likeness(source) for source in sources])
    if not np.isfinite(alike).all():
        alike = np.zeros_like(means)
    truths = np.array([problem.truth(s, FULL) for s in sources])
    trust = len(scores[0]) / (len(scores[0]) + halfway)
    columns = (trust * (means - means.mean()), alike - alike.mean(), truths - truths.mean())
    return list(zip(*columns, strict=True))


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


# Judging.


@dataclass(frozen=True)
class Outcome:
    """How one choice did."""

    name: str
    number: int
    regret: float
    fair: float
    """Regret towards what looked best by other seeds than those that score it."""
    shortfall: float
    gain: float
    covered: bool | None = None
    chosen: str = ""


Chooser = Callable[[Problem, Sequence[str]], tuple[str, str, tuple[float, float] | None]]


def judge(problem: Problem, sources: Sequence[str], choose: Chooser) -> Outcome:
    source, candidate, interval = choose(problem, sources)
    score = problem.truth(source, candidate)
    scratch = problem.truth("", SCRATCH)
    every = [problem.truth(s, c) for s in ("", *sources) for c in problem.candidates(s)]
    basics = [scratch, *(problem.truth(s, c) for s in sources for c in (FULL, HEAD))]
    gain = score - scratch
    covered = None if interval is None else interval[0] <= gain <= interval[1]
    return Outcome(
        problem.name,
        problem.number,
        float(np.nanmax(every)) - score,
        fair_regret(problem, sources, (source, candidate)),
        float(np.nanmax(basics)) - score,
        gain,
        covered,
        f"{candidate} {source}".strip(),
    )


def fair_regret(problem: Problem, sources: Sequence[str], choice: tuple[str, str]) -> float:
    """Score what looked best by seeds it was not chosen by, less the choice by the same seeds.

    The best of many candidates trained once each is partly the luckiest. So one set of seeds names
    the best and the other scores it, and the other way round; the mean of both is returned.
    """
    pairs = {("", SCRATCH): (problem.truth("", SCRATCH), problem.again("", SCRATCH))} | {
        (s, c): (problem.truth(s, c), problem.again(s, c))
        for s in sources
        for c in problem.candidates(s)
    }
    twice = {key: pair for key, pair in pairs.items() if np.isfinite(pair).all()}
    if len(twice) < 2:
        return float("nan")
    # What was trained with one set of seeds only was not chosen by its hidden score either.
    first, second = twice.get(choice, (problem.truth(*choice),) * 2)
    by_first = max(twice, key=lambda key: twice[key][0])
    by_second = max(twice, key=lambda key: twice[key][1])
    return float((twice[by_first][1] - second + twice[by_second][0] - first) / 2)


def always(candidate: str) -> Chooser:
    def choose(problem: Problem, sources: Sequence[str]) -> tuple[str, str, None]:
        known = candidate in problem.candidates(sources[0])
        return sources[0], candidate if known else FULL, None

    return choose


def recommended(priors: Mapping[str, Prior]) -> Chooser:
    def choose(problem: Problem, sources: Sequence[str]) -> tuple[str, str, tuple[float, float]]:
        prior = priors[problem.target]
        decision = decide(problem.evidence, sources, problem.number, prior=prior)
        chosen = decision.chosen
        return chosen.source, chosen.candidate, (decision.gain[1], decision.gain[2])

    return choose


def held_out_best(names: Sequence[str]) -> Chooser:
    """Take whatever scored best on held-out subjects, as measured."""

    def choose(problem: Problem, sources: Sequence[str]) -> tuple[str, str, None]:
        options = {("", SCRATCH): problem.evidence.of("", SCRATCH)} | {
            (s, name): problem.evidence.of(s, name) for s in sources for name in names
        }
        means = {key: float(np.mean(list(v.values()))) for key, v in options.items() if v}
        return (*max(means, key=lambda key: means[key]), None)

    return choose


def by_promise(problem: Problem, sources: Sequence[str]) -> tuple[str, str, None]:
    """Load everything from the source that does best without training."""
    best = max(sources, key=lambda s: zero_shot_share(problem.evidence, s))
    return best, FULL, None


def noise_of(problems: Sequence[Problem]) -> float:
    """Return the standard deviation of a hidden score between two seeds of loading everything."""
    pairs = [
        problem.truth(source, "full recalibrated") - problem.truth(source, f"{FULL}#2")
        for problem in problems
        for source, name in problem.hidden
        if name == f"{FULL}#2"
    ]
    return float(np.sqrt(np.mean(np.square(pairs)) / 2))


def table(outcomes: Mapping[str, Sequence[Outcome]], allowed: float) -> list[str]:
    lines = [
        "| choice | settings | regret (95 %) | n >= 4 | by other seeds | n >= 4 "
        "| worse than the best basic | gain | 80 % covers |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, rows in outcomes.items():
        mean, low, high = _interval(rows)
        later = [row.regret for row in rows if row.number >= 4]
        fair = [row.fair for row in rows]
        fair_later = [row.fair for row in rows if row.number >= 4]
        worse = np.mean([row.shortfall > allowed for row in rows])
        covered = [row.covered for row in rows if row.covered is not None]
        share = f"{np.mean(covered):.0%}" if covered else ""
        lines.append(
            f"| {name} | {len(rows)} | {mean:.4f} ({low:.4f} to {high:.4f}) "
            f"| {np.mean(later):.4f} | {np.nanmean(fair):.4f} | {np.nanmean(fair_later):.4f} "
            f"| {worse:.0%} | {np.mean([r.gain for r in rows]):+.4f} "
            f"| {share} |"
        )
    return lines


def _interval(rows: Sequence[Outcome]) -> tuple[float, float, float]:
    """Bootstrap the mean regret over problems: settings of one problem hang together."""
    groups: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        groups[row.name].append(row.regret)
    sums = np.array([[sum(values), len(values)] for values in groups.values()])
    rng = np.random.default_rng(0)
    drawn = sums[rng.integers(0, len(sums), (2000, len(sums)))].sum(axis=1)
    low, high = np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
    return float(sums[:, 0].sum() / sums[:, 1].sum()), float(low), float(high)


def source_order(problems: Sequence[Problem], priors: Mapping[str, Prior]) -> dict[str, float]:
    """Return Kendall's tau, plain and weighted, of predicted and true gains of the sources."""
    plain, weighted = [], []
    for problem in problems:
        options = decide(
            problem.evidence, problem.sources, problem.number, prior=priors[problem.target]
        ).options
        predicted = {o.source: o.gain for o in options if o.candidate == FULL}
        truths = [problem.truth(source, FULL) for source in predicted]
        plain.append(kendalltau(list(predicted.values()), truths).statistic)
        weighted.append(weightedtau(truths, list(predicted.values())).statistic)
    return {"tau": float(np.nanmean(plain)), "weighted tau": float(np.nanmean(weighted))}


def main() -> None:
    """Print the tables, and write the prior where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("facts", type=Path)
    parser.add_argument("--repeats", type=Path, help="facts of gain_repeats.py")
    parser.add_argument("--prior", type=Path, help="learn the prior from all facts, into this file")
    arguments = parser.parse_args()
    problems = read_problems(arguments.facts, arguments.repeats)
    if arguments.prior:
        arguments.prior.write_text(_as_json(learn(problems)), encoding="utf-8")
        return
    targets = sorted({problem.target for problem in problems})
    priors = {t: learn([p for p in problems if p.target != t]) for t in targets}
    noise = noise_of(problems)
    allowed = max(0.01, 2 * noise)
    print(f"{len(problems)} problems; seed standard deviation {noise:.4f}, allowed {allowed:.4f}\n")
    choices: dict[str, Chooser] = {
        "recommend": recommended(priors),
        "everything": always(FULL),
        "everything, recalibrated": always("full recalibrated"),
        "everything, a quarter of the way back": always("mix-0.75"),
        "everything, half the way back": always("mix-0.5"),
        "best of scratch, everything, head on held-out subjects": held_out_best((FULL, HEAD)),
        "everything but the head": always("body"),
        "front three quarters": always("prefix-3/4"),
        "front half": always("prefix-1/2"),
        "everything, gently (rate 0.3, L2-SP)": always("gentle"),
        "the rewind plan": always("rewind"),
        "the papers' plan": always("papers"),
        "head only": always(HEAD),
    }
    for title, chosen in _groups(problems):
        settings = {
            name: [judge(p, [s], choose) for p in chosen for s in p.sources]
            for name, choose in choices.items()
        }
        print(f"## {title}: one source at a time\n")
        print("\n".join(table(settings, allowed)), "\n")
    print("## How much to load: mean gain over scratch\n")
    print("\n".join(depth_table(problems)), "\n")
    real = {
        name: [judge(p, [s], choose) for p in problems for s in p.sources if s != SHUFFLED]
        for name, choose in choices.items()
    }
    print("## Without the shuffled sources\n")
    print("\n".join(table(real, allowed)), "\n")
    together: dict[str, Chooser] = {
        "recommend": recommended(priors),
        "everything of the source best without training": by_promise,
        "everything of the first source": always(FULL),
        "best held-out score": held_out_best((FULL, HEAD)),
    }
    outcomes = {
        name: [judge(p, p.sources, choose) for p in problems] for name, choose in together.items()
    }
    print("## All sources of a problem at once\n")
    print("\n".join(table(outcomes, allowed)), "\n")
    print("order of the sources:", source_order(problems, priors))
    picks = [row.chosen for row in outcomes["recommend"]]
    print("chosen:", {pick: picks.count(pick) for pick in sorted(set(picks))})
    shuffled = [
        judge(p, [SHUFFLED], choices["recommend"]) for p in problems if SHUFFLED in p.sources
    ]
    bad = [row.chosen for row in shuffled if SHUFFLED in row.chosen]
    print(f"shuffled source recommended when alone: {len(bad)} of {len(shuffled)}")
    print(f"shuffled source recommended beside others: {sum(SHUFFLED in p for p in picks)}")


def _groups(problems: Sequence[Problem]) -> list[tuple[str, list[Problem]]]:
    sets = sorted({problem.target.split("-")[0] for problem in problems})
    return [("All", list(problems))] + [
        (name, [p for p in problems if p.target.startswith(name)]) for name in sets
    ]


KINDS = {"-ae": "auto-encoder of its own images", "-seg": "segmentation of other images"}
DEPTHS = ("prefix-1/2", "prefix-3/4", "body", FULL, "mix-0.75", "gentle", "rewind", "papers")


def depth_table(problems: Sequence[Problem]) -> list[str]:
    """Return the mean gain over scratch by kind of source: how much of it should be loaded."""
    gains: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    for problem in problems:
        for source in problem.sources:
            kind = next((word for end, word in KINDS.items() if source.endswith(end)), source)
            key = (problem.target.split("-")[0], kind)
            scratch = problem.truth("", SCRATCH)
            gains[key].append([problem.truth(source, name) - scratch for name in DEPTHS])
    lines = [f"| target | source | settings | {' | '.join(DEPTHS)} |"]
    lines.append("|---|---|--:|" + "--:|" * len(DEPTHS))
    for (target, kind), rows in sorted(gains.items()):
        means = [
            f"{np.nanmean(column):+.3f}" if np.isfinite(column).any() else ""
            for column in np.array(rows).T
        ]
        lines.append(f"| {target} | {kind} | {len(rows)} | {' | '.join(means)} |")
    return lines


def _as_json(prior: Prior) -> str:
    lines: dict[str, Any] = {
        name: {part: round(getattr(line, part), 4) for part in Line.__dataclass_fields__}
        for name, line in prior.lines.items()
    }
    return (
        json.dumps(
            {
                "lines": lines,
                "source_slope": round(prior.source_slope, 4),
                "source_halfway": prior.source_halfway,
                "likeness_slope": round(prior.likeness_slope, 4),
                "level": [round(v, 4) for v in prior.level],
                "level_variance": [round(v, 6) for v in prior.level_variance],
                "gain_variance": [round(v, 6) for v in prior.gain_variance],
                "difference_variance": [round(v, 6) for v in prior.difference_variance],
            },
            indent=1,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
