"""How often the words are wrong: studies of some subjects drawn from many, against all of them.

python benchmarks/calibration_words.py unet.npz pspnet.npz
Files of benchmarks/calibration_facts.py. Subjects are drawn with replacement, 100 studies each;
what is true of a site is what the mean over all subjects says. Numbers are in percent.
"""

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from paramreuse.reuse.verdict import ROUNDING
from paramreuse.sweep.intervals import FEWEST_SUBJECTS, mean_interval
from paramreuse.sweep.stopping import TOLERANCE

Array = np.ndarray
Drops = tuple[Array, list[Array]]
Facts = Mapping[tuple[str, str], Drops]
"""Drops of the source, and of each draw of the shuffled control, by source and swap."""
NUMBERS = (4, 8, 12, 20, 40)
STUDIES = 100
WORDS = ("reusable", "indifferent", "not reusable", "undecided")
BOUND = TOLERANCE + ROUNDING


def read_facts(path: str) -> Facts:
    """Return the drops of the source and of each shuffled draw, by source and swap."""
    source: dict[tuple[str, str], Array] = {}
    draws: dict[tuple[str, str], list[Array]] = defaultdict(list)
    with np.load(path) as held:
        for name in held.files:
            lender, swap, replacement = name.split("|")
            if replacement == "source":
                source[lender, swap] = held[name]
            elif replacement.startswith("shuffled"):
                draws[lender, swap].append(held[name])
    return {key: (drops, draws[key]) for key, drops in source.items() if key in draws}


def percentile(values: Array) -> tuple[Array, Array]:
    """The interval of earlier versions: percentile bootstrap."""
    number = len(values)
    weights = np.random.default_rng(0).multinomial(number, np.full(number, 1 / number), 1000)
    low, high = np.percentile(weights @ values / number, [2.5, 97.5], axis=0)
    return low, high


def true_word(source: Array, control: Array) -> str:
    if source.mean() > BOUND:
        return "not reusable"
    return "indifferent" if control.mean() <= BOUND else "reusable"


def words(source: Array, control: Array, interval: object = mean_interval) -> Array:
    """Return the word of each study; drops are of shape (subjects, studies)."""
    (low, high), (control_low, control_high) = interval(source), interval(control)  # type: ignore[operator]
    found = np.full(source.shape[1], "undecided", dtype=object)
    passes = high <= BOUND
    found[passes & (control_high <= BOUND)] = "indifferent"
    found[passes & (control_low > BOUND)] = "reusable"
    found[low > BOUND] = "not reusable"
    return found


def confusion(facts: Facts, number: int, interval: object) -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for row, (source, draws) in enumerate(facts.values()):
        rng = np.random.default_rng([row, number])
        picked = rng.integers(0, len(source), (number, STUDIES))
        control = np.mean(draws, axis=0)
        truth = true_word(source, control)
        found = words(source[picked], control[picked], interval)
        for word in WORDS:
            counts[truth, word] += int((found == word).sum())
    return counts


def show(counts: Mapping[tuple[str, str], int], number: int, rule: str) -> None:
    for truth in WORDS[:3]:
        total = sum(counts[truth, word] for word in WORDS)
        if total:
            cells = " | ".join(f"{100 * counts[truth, word] / total:.1f}" for word in WORDS)
            print(f"| {number} | {rule} | {truth} ({total // STUDIES} sites) | {cells} |")


def share_of_words(
    facts: Mapping[tuple[str, str], tuple[Array, list[Array]]], names: Sequence[str]
) -> None:
    print("\n| source | true | " + " | ".join(f"{n} subjects" for n in NUMBERS[1:]) + " |")
    print("|---|---|" + "---|" * len(NUMBERS[1:]))
    for name in names:
        held = {key: value for key, value in facts.items() if key[0] == name}
        truth = [true_word(source, np.mean(draws, axis=0)) for source, draws in held.values()]
        told = " / ".join(str(truth.count(word)) for word in WORDS[:3])
        cells = []
        for number in NUMBERS[1:]:
            counts = confusion(held, number, mean_interval)
            total = sum(counts.values())
            per_word = [sum(counts[t, word] for t in WORDS) / total for word in WORDS]
            cells.append(" / ".join(f"{100 * part:.0f}" for part in per_word))
        print(f"| {name} | {told} | " + " | ".join(cells) + " |")


def broken_layers(facts: Facts) -> None:
    random = {k: v for k, v in facts.items() if k[0] == "random"}
    held = {k: v for k, v in random.items() if k[1].startswith("W ")}
    true = {k: v for k, v in held.items() if v[0].mean() > BOUND}
    if not true:
        return
    print(f"\nkernels of random values: {len(held)}, true drop above the tolerance at {len(true)}")
    for number in NUMBERS[1:]:
        named = confusion(true, number, mean_interval)
        every = confusion(
            {k: v for k, v in facts.items() if k[0] == "random"}, number, mean_interval
        )
        total = sum(named.values())
        passed = sum(every[truth, "reusable"] for truth in WORDS) / max(1, sum(every.values()))
        print(
            f"{number} subjects: named {100 * named['not reusable', 'not reusable'] / total:.1f}, "
            f"called reusable {100 * named['not reusable', 'reusable'] / total:.2f}; of all random "
            f"sites reusable {100 * passed:.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("facts", nargs="+")
    facts: dict[tuple[str, str], Drops] = {}
    for path in parser.parse_args().facts:
        held = read_facts(path)
        print(f"\n## {path}")
        share_of_words(held, list(dict.fromkeys(source for source, _ in held)))
        broken_layers(held)
        facts |= {(source, f"{path} {swap}"): drops for (source, swap), drops in held.items()}
    print("\n| subjects | rule | true | " + " | ".join(WORDS) + " |\n|---|---|---|" + "---|" * 4)
    for number in NUMBERS:
        show(confusion(facts, number, percentile), number, "percentile")
        # With fewer subjects the verdict is "too few subjects".
        if number >= FEWEST_SUBJECTS:
            show(confusion(facts, number, mean_interval), number, "adopted")


if __name__ == "__main__":
    main()
