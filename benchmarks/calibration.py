"""How often intervals of a mean drop are wrong: candidates, populations, real drops.

python benchmarks/calibration.py                          simulated populations, as Markdown
python benchmarks/calibration.py --drops drops.npz        and real drops: one array per trial, (P,)
A number is the coverage in percent, in brackets how often the true mean is above the upper end: a
swap whose true drop is at the tolerance then passes. Aimed at are 95 and 2.5.
"""

import argparse
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from paramreuse.sweep.intervals import estimate_means, mean_interval

Array = NDArray[np.float64]
Interval = tuple[Array, Array]
RESAMPLES = 1000


def percentile(values: Array) -> Interval:
    """Percentile bootstrap: Efron and Tibshirani (1993), chapter 13."""
    low, high = np.percentile(_resamples(len(values)) @ values / len(values), [2.5, 97.5], axis=0)
    return low, high


def student(values: Array) -> Interval:
    """Student's interval."""
    means = estimate_means(values)
    reach = student_t.ppf(0.975, len(values) - 1) * means.error
    return means.mean - reach, means.mean + reach


def hall(values: Array) -> Interval:
    """Hall's cubic transformation: Hall (1992)."""
    n, means = len(values), estimate_means(values)
    k = means.skew / (2 * (1 + 10 / n))
    k = np.where(np.abs(k) < 1e-9, 1e-9, k)
    q = student_t.ppf(0.975, n - 1)
    low, high = ((np.cbrt(1 + 3 * k * (x - k / 2)) - 1) / k for x in (q, -q))
    return means.mean - low * means.error, means.mean - high * means.error


def bootstrap_t(values: Array) -> Interval:
    """Studentised bootstrap; unbounded where resamples have no spread."""
    n, means, weights = len(values), estimate_means(values), _resamples(len(values))
    apart = values - means.mean
    mean = weights @ apart / n
    variance = (weights @ apart**2 / n - mean**2) / (n - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.where(mean == 0, 0.0, mean / np.sqrt(np.maximum(variance, 0.0)))
    steps.sort(axis=0)
    with np.errstate(invalid="ignore"):
        low = means.mean - steps[-int(0.025 * RESAMPLES)] * means.error
        high = means.mean - steps[int(0.025 * RESAMPLES)] * means.error
    return np.where(means.error > 0, low, means.mean), np.where(means.error > 0, high, means.mean)


def wider(first: Callable[[Array], Interval], second: Callable[[Array], Interval]) -> object:
    """Take the outer ends of two intervals."""

    def interval(values: Array) -> Interval:
        (a, b), (c, d) = first(values), second(values)
        return np.minimum(a, c), np.maximum(b, d)

    return interval


def _resamples(number: int) -> Array:
    rng = np.random.default_rng(0)
    return rng.multinomial(number, np.full(number, 1 / number), RESAMPLES).astype(np.float64)


CANDIDATES: Mapping[str, object] = {
    "percentile": percentile,
    "Student": student,
    "Hall": hall,
    "bootstrap-t": bootstrap_t,
    "Student or Hall": wider(student, hall),
    "Student or bootstrap-t": wider(student, bootstrap_t),
    "adopted": mean_interval,
}

Draw = Callable[[np.random.Generator, tuple[int, int]], Array]


def zero_inflated(share: float) -> Draw:
    """Exponential drops, a share of which is nothing."""
    return lambda rng, shape: rng.exponential(1, shape) * (rng.random(shape) >= share)


POPULATIONS: Mapping[str, tuple[Draw, float]] = {
    "normal": (lambda rng, shape: rng.normal(1, 1, shape), 1.0),
    "uniform": (lambda rng, shape: rng.random(shape), 0.5),
    "Student, 5 degrees": (lambda rng, shape: 1 + rng.standard_t(5, shape), 1.0),
    "gamma, shape 2": (lambda rng, shape: rng.gamma(2, 1, shape), 2.0),
    "exponential": (lambda rng, shape: rng.exponential(1, shape), 1.0),
    "gamma, shape 1/2": (lambda rng, shape: rng.gamma(0.5, 1, shape), 0.5),
    "log-normal": (lambda rng, shape: np.exp(rng.normal(0, 1, shape)), float(np.exp(0.5))),
    "30 % zero": (zero_inflated(0.3), 0.7),
    "50 % zero": (zero_inflated(0.5), 0.5),
    "60 % zero": (zero_inflated(0.6), 0.4),
}


def cell(interval: Callable[[Array], Interval], values: Array, mean: Array | float) -> str:
    low, high = interval(values)
    covered = 100 * np.mean((low <= mean + 1e-12) & (mean - 1e-12 <= high))
    return f"{covered:.1f} ({100 * np.mean(high < mean - 1e-12):.1f})"


def table(cases: Mapping[str, tuple[Array, Array | float]]) -> None:
    print("| drops | " + " | ".join(CANDIDATES) + " |\n|---|" + "---|" * len(CANDIDATES))
    for name, (values, mean) in cases.items():
        cells = [cell(f, values, mean) for f in CANDIDATES.values()]  # type: ignore[arg-type]
        print(f"| {name} | " + " | ".join(cells) + " |")


def resampled(path: str, number: int, per_trial: int) -> dict[str, tuple[Array, Array]]:
    """Draw studies of some subjects from real drops, with replacement."""
    rng = np.random.default_rng(number)
    trials = [held for held in np.load(path).values() if held.std() > 0]
    means = np.array([held.mean() for held in trials])
    ranges = {
        "all real drops": np.isfinite(means),
        "real, mean .002 to .01": (means >= 0.002) & (means < 0.01),
        "real, mean .01 to .1": (means >= 0.01) & (means < 0.1),
        "real, mean above .1": means >= 0.1,
    }
    cases = {}
    for name, chosen in ranges.items():
        rows = np.flatnonzero(chosen)
        picks = [trials[i][rng.integers(0, len(trials[i]), (number, per_trial))] for i in rows]
        cases[f"{name} ({len(rows)})"] = np.concatenate(picks, 1), np.repeat(means[rows], per_trial)
    return cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=6000)
    parser.add_argument("--drops", help="file of real drops")
    asked = parser.parse_args()
    for number in (5, 8, 12, 20, 40):
        rng = np.random.default_rng(number)
        cases: dict[str, tuple[Array, Array | float]] = {
            name: (draw(rng, (number, asked.studies)), mean)
            for name, (draw, mean) in POPULATIONS.items()
        }
        print(f"\n### {number} subjects\n")
        table({**cases, **(resampled(asked.drops, number, 20) if asked.drops else {})})


if __name__ == "__main__":
    main()
