"""Which score of a source, taken before anything is trained, tells what the source will gain?

Reads the facts that `benchmarks/gain.py` measured, computes every score of every source on the
labelled subjects alone, and holds the order of the sources of a problem against the order of their
gains: mean hidden Dice of loading everything (`full`) less that of training from scratch.

    python benchmarks/scores.py --facts docs/results/gain --out docs/results/gain-scores.csv
    python benchmarks/scores.py --out docs/results/gain-scores.csv --only-table

What the CSV already holds is not computed again. The tables go to stdout, in Markdown.
"""

import argparse
import csv
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau, weightedtau
from torch import nn

import paramreuse as pr
from gain import GRIDS
from paramreuse.sites.swaps import kernel_sites
from paramreuse.training import initial_model
from paramreuse.transferability.cka import linear_cka
from paramreuse.transferability.features import MIDDLE, OUTPUT, frozen_features, sample_pixels
from paramreuse.transferability.scoring import PIXELS, load_source, score_source

COLUMNS = ("problem", "source", "score", "value", "gain", "gain_again")
SHUFFLED = "shuffled"
SWEPT_SUBJECTS = 2
DRAWS = 500
SIMULATIONS = 40


@dataclass(frozen=True)
class Gains:
    """Hidden Dice of loading everything less that of scratch, per source of one problem."""

    by_source: Mapping[str, float]
    again: Mapping[str, float]
    """The same from other seeds of both trainings, where the grid has them."""


def read_gains(path: Path) -> Gains:
    scores: dict[tuple[str, str], list[float]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["rung"] == "1" and row["fold"] == "hidden":
                scores[row["source"], row["candidate"]].append(float(row["score"]))
    means = {key: fmean(values) for key, values in scores.items()}

    def less_scratch(full: str, scratch: str) -> dict[str, float]:
        return {s: mean - means["", scratch] for (s, c), mean in means.items() if c == full}

    return Gains(less_scratch("full", "scratch"), less_scratch("full#2", "scratch#2"))


def feature_scores(problem: Any, _pilots: Path) -> Iterator[tuple[str, str, float]]:
    """Yield source, score and value of what asks for no training at all."""
    target = initial_model(problem.factory, problem.seed).eval()
    for lender in problem.sources:
        found = score_source(load_source(target, lender.weights), problem.labelled.batches())
        yield from (
            (lender.name, name, value) for name, value in found.items() if "pilot" not in name
        )


def pilot_scores(problem: Any, pilots: Path) -> Iterator[tuple[str, str, float]]:
    """Yield source, score and value of what compares with a network trained from scratch."""
    pilot = trained_pilot(problem, pilots / f"{problem.name}.safetensors")
    batches = problem.labelled.batches()
    of_pilot = frozen_features(pilot, batches)
    for lender in problem.sources:
        features = frozen_features(load_source(pilot, lender.weights).network, batches)
        for depth, suffix in ((OUTPUT, ""), (MIDDLE, "_middle")):
            ours, theirs = (sample_pixels(f[depth], PIXELS, seed=0) for f in (of_pilot, features))
            yield lender.name, f"cka_pilot{suffix}", linear_cka(theirs.values, ours.values)
        for name, value in weight_scores(pilot, lender.weights).items():
            yield lender.name, name, value


def sweep_scores(problem: Any, pilots: Path) -> Iterator[tuple[str, str, float]]:
    """Yield source, score and value of what swapping each kernel into the pilot costs."""
    pilot = trained_pilot(problem, pilots / f"{problem.name}.safetensors")
    some = problem.labelled.of(problem.labelled.subjects[:SWEPT_SUBJECTS]).batches()
    score = pr.Dice(num_classes=problem.num_classes)
    for lender in problem.sources:
        kernels = kernel_sites(pr.match_sites(pilot, lender.weights))
        verdict = pr.judge(pr.sweep_sites(pilot, lender.weights, some, score, swaps=kernels))
        judged = verdict.kernel_judgements
        yield lender.name, "kernel_share", verdict.kernel_share
        yield lender.name, "mean_drop", -fmean(j.drop for j in judged)
        yield lender.name, "sweep_advantage", fmean(j.control_drop - j.drop for j in judged)


PARTS: dict[str, tuple[str, Callable[[Any, Path], Iterator[tuple[str, str, float]]]]] = {
    "features": ("ridge", feature_scores),
    "pilot": ("rmse", pilot_scores),
    "sweep": ("kernel_share", sweep_scores),
}
"""What can be computed apart: a score that tells whether it has been, and how."""


def trained_pilot(problem: Any, path: Path) -> nn.Module:
    """Return the network trained from scratch as the grid does, kept in a file."""
    from safetensors.torch import load_file, save_file

    model = initial_model(problem.factory, problem.seed)
    if not path.exists():
        from paramreuse.training.steps import train_steps

        train_steps(model, problem.labelled.batches(), None, problem.steps, problem.seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
    model.load_state_dict(load_file(path))
    return model.eval()


def weight_scores(pilot: nn.Module, weights: Any) -> dict[str, float]:
    """Score the nearness of the kernels to the pilot's, the output layer aside."""
    rows = pr.compare_models(pilot, weights).rows
    kernels = {site.key for site in kernel_sites(row.site for row in rows)}
    near = [row for row in rows if row.site.key in kernels]
    return {
        "rmse": -fmean(row.rmse for row in near),
        "relative_rmse": -fmean(row.relative_rmse for row in near),
    }


# Scores against gains.


@dataclass(frozen=True)
class Problem:
    """Sources of one problem: their gains, and their values by score."""

    name: str
    gains: Mapping[str, float]
    again: Mapping[str, float]
    values: Mapping[str, Mapping[str, float]]

    @property
    def target(self) -> str:
        return self.name.rsplit("-n", 1)[0]


def read_problems(path: Path) -> list[Problem]:
    rows: dict[str, list[dict[str, str]]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rows[row["problem"]].append(row)
    found = []
    for name, held in rows.items():
        values: dict[str, dict[str, float]] = defaultdict(dict)
        for row in held:
            values[row["score"]][row["source"]] = float(row["value"])
        values["zero_shot_or_ridge"] = best_of(values["zero_shot"], values["ridge"])
        gains = {row["source"]: float(row["gain"]) for row in held}
        again = {row["source"]: float(row["gain_again"]) for row in held if row["gain_again"]}
        found.append(Problem(name, gains, again, values))
    return found


def best_of(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    """Return the larger of two values per source, where one of them is a number."""
    both = {
        source: [one.get(source, math.nan), other.get(source, math.nan)] for source in one | other
    }
    known = {source: [v for v in pair if math.isfinite(v)] for source, pair in both.items()}
    return {source: max(pair, default=math.nan) for source, pair in known.items()}


Statistic = Callable[[Sequence[float], Sequence[float]], float]


def tau(values: Sequence[float], gains: Sequence[float]) -> float:
    """Kendall's tau b; a score that is not a number ranks last, one that ties all says nothing."""
    known = np.nan_to_num(np.asarray(values, dtype=float), nan=-1e9, neginf=-1e9)
    if len(set(known)) < 2:
        return 0.0
    return float(kendalltau(known, gains).statistic)


def weighted_tau(values: Sequence[float], gains: Sequence[float]) -> float:
    """Kendall's tau with hyperbolic weights: the sources that gain most count most."""
    known = np.nan_to_num(np.asarray(values, dtype=float), nan=-1e9, neginf=-1e9)
    if len(set(known)) < 2:
        return 0.0
    return float(weightedtau(known, gains, rank=None).statistic)


def regret(values: Sequence[float], gains: Sequence[float]) -> float:
    """Gain that is missed by taking the source with the largest score."""
    known = np.nan_to_num(np.asarray(values, dtype=float), nan=-1e9, neginf=-1e9)
    return float(max(gains) - gains[int(np.argmax(known))])


def per_problem(
    problems: Sequence[Problem], score: str, statistic: Statistic, *, shuffled: bool
) -> dict[str, list[float]]:
    """Return a statistic of each problem that has the score, by target."""
    found: dict[str, list[float]] = defaultdict(list)
    for problem in problems:
        names = [n for n in problem.gains if shuffled or n != SHUFFLED]
        values = problem.values.get(score, {})
        if all(name in values for name in names):
            given = [problem.gains[name] for name in names]
            found[problem.target].append(statistic([values[name] for name in names], given))
    return dict(found)


def with_interval(found: Mapping[str, Sequence[float]], seed: int = 0) -> tuple[float, ...]:
    """Return mean and 95 % interval: targets are drawn, then problems within each."""
    rng = np.random.default_rng(seed)
    groups = [np.array(values) for values in found.values()]
    means = []
    for _ in range(DRAWS):
        drawn = [groups[i] for i in rng.integers(len(groups), size=len(groups))]
        means.append(np.concatenate([g[rng.integers(len(g), size=len(g))] for g in drawn]).mean())
    low, high = np.quantile(means, [0.025, 0.975])
    return float(np.concatenate(groups).mean()), float(low), float(high)


def seed_deviation(problems: Sequence[Problem]) -> float:
    """Return the standard deviation of a gain over the seeds of loading everything.

    All sources of a problem share one training from scratch, so it moves no order. Of the grid's
    second seeds only the difference of both trainings is kept, whose variance is halved for the two
    seeds and again for the two trainings.
    """
    pairs = [
        (problem.again[name] - problem.gains[name])
        for problem in problems
        for name in problem.again
    ]
    return float(np.sqrt(np.mean(np.square(pairs)) / 4)) if pairs else float("nan")


def ceiling(problems: Sequence[Problem], statistic: Statistic, *, shuffled: bool) -> float:
    """Return what a score would reach that is the gain averaged over seeds.

    Simulated: with the seeds' variance s^2 and that of the observed gains of a problem v^2, the
    seed-free gain is drawn from N(m + b (g - m), b s^2) with b = 1 - s^2 / v^2, and is held against
    itself plus N(0, s^2).
    """
    rng = np.random.default_rng(0)
    deviation = seed_deviation(problems)
    found = []
    for problem in problems:
        gains = np.array([g for n, g in problem.gains.items() if shuffled or n != SHUFFLED])
        share = max(0.0, 1 - deviation**2 / max(float(gains.var(ddof=1)), 1e-12))
        centre = gains.mean() + share * (gains - gains.mean())
        for _ in range(SIMULATIONS):
            free = centre + rng.normal(0, deviation * math.sqrt(share) + 1e-9, len(gains))
            found.append(statistic(free, free + rng.normal(0, deviation, len(gains))))
    return fmean(found)


def table(problems: Sequence[Problem], *, shuffled: bool) -> Iterator[str]:
    """Yield the lines of a Markdown table, the best score first."""
    names = dict.fromkeys(score for problem in problems for score in problem.values)
    rows = []
    for name in names:
        taus = per_problem(problems, name, tau, shuffled=shuffled)
        if taus:
            weighted = per_problem(problems, name, weighted_tau, shuffled=shuffled)
            missed = per_problem(problems, name, regret, shuffled=shuffled)
            count = sum(map(len, taus.values()))
            rows.append(
                (name, count, with_interval(taus), with_interval(weighted), with_interval(missed))
            )
    yield "| score | problems | tau | 95 % | weighted tau | 95 % | gain missed by its first |"
    yield "|---|--:|--:|---|--:|---|--:|"
    for name, count, first, second, missed in sorted(rows, key=lambda row: -row[2][0]):
        yield (
            f"| `{name}` | {count} | {first[0]:.2f} | {first[1]:.2f} to {first[2]:.2f} | "
            f"{second[0]:.2f} | {second[1]:.2f} to {second[2]:.2f} | {missed[0]:.3f} |"
        )
    tops = [ceiling(problems, each, shuffled=shuffled) for each in (tau, weighted_tau, regret)]
    yield (
        f"| ceiling by seeds | {len(problems)} | {tops[0]:.2f} | | {tops[1]:.2f} | | "
        f"{tops[2]:.3f} |"
    )


def write_table(path: Path) -> None:
    problems = read_problems(path)
    real = [p for p in problems if not p.name.startswith("phantom")]
    drawn = [p for p in problems if p.name.startswith("phantom")]
    print(f"{len(problems)} problems; deviation of a gain by seeds {seed_deviation(problems):.3f}")
    for title, chosen, shuffled in (
        ("All problems, shuffled sources left out", problems, False),
        ("Phantom, shuffled sources among them", drawn, True),
        ("Phantom, shuffled sources left out", drawn, False),
        ("Real images", real, False),
    ):
        if chosen:
            print(f"\n{title}:\n")
            print("\n".join(table(chosen, shuffled=shuffled)))


def measure(arguments: argparse.Namespace) -> None:
    """Add the rows of every problem that has facts, as far as they are missing."""
    known = set()
    if arguments.out.exists():
        with arguments.out.open(newline="", encoding="utf-8") as file:
            known = {(row["problem"], row["score"]) for row in csv.DictReader(file)}
    for part in arguments.parts:
        sentinel, compute = PARTS[part]
        for grid in GRIDS.values():
            for name, make in grid(arguments.weights):
                facts = arguments.facts / f"{name}.csv"
                if (name, sentinel) not in known and facts.exists():
                    started = time.perf_counter()
                    append(
                        arguments.out, name, compute(make(), arguments.pilots), read_gains(facts)
                    )
                    print(f"{name}, {part}: {time.perf_counter() - started:.0f} s", flush=True)


def append(path: Path, name: str, found: Iterator[tuple[str, str, float]], gains: Gains) -> None:
    rows = [
        (
            *(name, source, score, f"{value:.6g}", f"{gains.by_source[source]:.4f}"),
            f"{gains.again[source]:.4f}" if source in gains.again else "",
        )
        for source, score, value in found
    ]
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow(COLUMNS)
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--facts", type=Path, default=Path("docs/results/gain"))
    parser.add_argument("--weights", type=Path, default=Path("runs/gain-sources"))
    parser.add_argument("--pilots", type=Path, default=Path("runs/gain-pilots"))
    parser.add_argument("--out", type=Path, required=True, help="CSV to add to")
    parser.add_argument("--parts", nargs="+", choices=sorted(PARTS), default=["features", "pilot"])
    parser.add_argument("--only-table", action="store_true", help="compute nothing")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if not arguments.only_table:
        measure(arguments)
    write_table(arguments.out)


if __name__ == "__main__":
    main()
