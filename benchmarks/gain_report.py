"""How well `recommend` chooses, by the facts of `gain.py`, `gain_repeats.py` and `gain_long.py`.

    python benchmarks/gain_report.py docs/results/gain-long     # the tables of docs/results/gain.md
    python benchmarks/gain_report.py docs/results/gain --repeats docs/results/gain-repeats

Each target is judged with a prior learned from the other targets alone. A *setting* is a problem
with one source; a *problem* is judged with all of its sources, as a user would call it.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau, weightedtau

from gain_facts import Problem, read_problems
from gain_prior import learn
from paramreuse.recommendation.candidates import FULL, HEAD, SCRATCH
from paramreuse.recommendation.decision import decide, zero_shot_share
from paramreuse.recommendation.prior import Prior

SHUFFLED = "shuffled"


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
        return sources[0], candidate, None

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
        scores[0] - scores[1]
        for problem in problems
        for source in problem.sources
        if np.isfinite(scores := problem.two_seeds(source, FULL)).all()
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


CHOICES = {
    FULL: "everything",
    "full recalibrated": "everything, recalibrated",
    "mix-0.75": "everything, a quarter of the way back",
    "mix-0.5": "everything, half the way back",
    "body": "everything but the head",
    "prefix-3/4": "front three quarters",
    "prefix-1/2": "front half",
    "gentle": "everything, gently (rate 0.3, L2-SP)",
    "rewind": "the rewind plan",
    "papers": "the papers' plan",
    HEAD: "head only",
}


def choices_of(problems: Sequence[Problem], priors: Mapping[str, Prior]) -> dict[str, Chooser]:
    """Return every rule that the facts allow to be judged; each counts where it was trained."""
    every = [{*p.candidates(s)} for p in problems for s in p.sources if s != SHUFFLED]
    known = set.intersection(*every) | (set.union(*every) & {"papers"})
    fixed = {words: always(name) for name, words in CHOICES.items() if name in known}
    tried = held_out_best((FULL, HEAD))
    best = {"best of scratch, everything, head on held-out subjects": tried}
    return {"recommend": recommended(priors)} | fixed | best


def print_one_source(problems: Sequence[Problem], priors: Mapping[str, Prior], bar: float) -> None:
    """Print how each rule does with one source at a time."""
    choices = choices_of(problems, priors)
    groups = [(title, p, lambda s: True) for title, p in _groups(problems)]
    groups.append(("Without the shuffled sources", list(problems), lambda s: s != SHUFFLED))
    for title, chosen, counts in groups:
        settings = {
            name: [
                row
                for p in chosen
                for s in p.sources
                if counts(s) and np.isfinite((row := judge(p, [s], choose)).gain)
            ]
            for name, choose in choices.items()
        }
        print(f"## {title}: one source at a time\n")
        print("\n".join(table(settings, bar)), "\n")
    alone = [judge(p, [SHUFFLED], choices["recommend"]) for p in problems if SHUFFLED in p.sources]
    bad = [row.chosen for row in alone if SHUFFLED in row.chosen]
    print(f"shuffled source recommended when alone: {len(bad)} of {len(alone)}\n")


def print_all_sources(problems: Sequence[Problem], priors: Mapping[str, Prior], bar: float) -> None:
    """Print how each rule does with all sources of a problem at once."""
    together: dict[str, Chooser] = {
        "recommend": recommended(priors),
        "everything of the source best without training": by_promise,
        "everything of the nearest source, known by construction": always(FULL),
        "best held-out score": held_out_best((FULL, HEAD)),
        "scratch": lambda problem, sources: ("", SCRATCH, None),
    }
    if all(np.isfinite(p.evidence.likeness(s)) for p in problems for s in p.sources):
        together["everything of the source that pilots are most like"] = by_likeness
    for title, chosen in _groups(problems):
        outcomes = {
            name: [judge(p, p.sources, choose) for p in chosen] for name, choose in together.items()
        }
        outcomes["everything of a source drawn by lot"] = [
            judge(p, p.sources, of_source(s)) for p in chosen for s in p.sources if s != SHUFFLED
        ]
        print(f"## {title}: all sources of a problem at once\n")
        print("\n".join(table(outcomes, bar)), "\n")
        print("order of the sources:", source_order(chosen, priors))
        picks = [row.chosen for row in outcomes["recommend"]]
        print("chosen:", {pick: picks.count(pick) for pick in sorted(set(picks))}, "\n")


def of_source(source: str) -> Chooser:
    return lambda problem, sources: (source, FULL, None)


def by_likeness(problem: Problem, sources: Sequence[str]) -> tuple[str, str, None]:
    """Load everything from the source whose features are most like those of pilots."""
    return max(sources, key=problem.evidence.likeness), FULL, None


REPEATED = {
    "both seeds": "mean of the outputs of two seeds",
    "soup": "mean of the weights of two seeds, recalibrated",
}


def print_repeats(problems: Sequence[Problem]) -> None:
    """Print what averages and longer trainings from everything give."""
    pairs = [(p, s) for p in problems for s in p.sources if s != SHUFFLED and p.repeats]
    print("## Averages of two seeds, less the mean of the two\n")
    for name, words in REPEATED.items():
        values = [p.again(s, name) - p.again(s, FULL) for p, s in pairs]
        print(f"{words}: {np.nanmean(values):+.4f} ({len(values)} settings)")
    print("\n## Gain of everything over scratch by length\n")
    for length in ("third", "1", "twice"):
        values = [p.again(s, FULL, length) - p.again("", SCRATCH, length) for p, s in pairs]
        print(f"{length}: {np.nanmean(values):+.4f}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("facts", type=Path)
    parser.add_argument("--repeats", type=Path, help="facts of gain_repeats.py")
    arguments = parser.parse_args()
    problems = read_problems(arguments.facts, arguments.repeats)
    targets = sorted({problem.target for problem in problems})
    priors = {t: learn([p for p in problems if p.target != t]) for t in targets}
    noise = noise_of(problems)
    bar = max(0.01, 2 * noise)
    print(f"{len(problems)} problems; seed standard deviation {noise:.4f}, allowed {bar:.4f}\n")
    print_one_source(problems, priors, bar)
    print("## How much to load: mean gain over scratch\n")
    print("\n".join(depth_table(problems)), "\n")
    print_all_sources(problems, priors, bar)
    if arguments.repeats:
        print_repeats(problems)


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


if __name__ == "__main__":
    main()
