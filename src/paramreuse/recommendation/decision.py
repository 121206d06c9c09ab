"""The decision: held-out differences, shrunk towards what the same candidate gained elsewhere.

Few subjects cannot tell a difference of a few hundredths of Dice: the best of many candidates on
four held-out subjects is mostly the luckiest. So a difference counts by how well such differences
predicted the truth on a grid of problems with hidden subjects (docs/results/gain.md), and where
they did not, the grid's mean stands.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paramreuse.recommendation.audit import MATTERS
from paramreuse.recommendation.bench import Evidence
from paramreuse.recommendation.candidates import AS_IS, FULL, HEAD, SCRATCH
from paramreuse.recommendation.prior import Measured, Prior, read_prior

Array = NDArray[np.float64]

TIE = 0.005
"""Predicted differences within this are a tie, in units of the score."""

WORTH = 0.7
"""Least share of what a fresh draw costs that a source's own values must save. In 104 audits of the
grid every real source saved at least 0.72, every shuffled one at most 0.69."""

PREFERRED = (FULL, SCRATCH, AS_IS, HEAD)
"""Who wins a tie; those not named come last, in their own order. Everything of a worthy source
costs no more than scratch, and on the grid seldom lost to it: docs/results/gain.md."""

_NORMAL_80 = 1.2816
"""Ninetieth percentile of the normal distribution: 80 % lie within so many deviations."""


@dataclass(frozen=True, slots=True)
class Option:
    """One candidate with what is predicted of it.

    Attributes:
        source: Name of the source, ``""`` for scratch.
        candidate: Name of the candidate.
        gain: Predicted gain over scratch on new subjects.
        difference: Predicted difference to loading everything from the same source.
    """

    source: str
    candidate: str
    gain: float
    difference: float


@dataclass(frozen=True, slots=True)
class Decision:
    """What is chosen, and what it is expected to gain.

    Attributes:
        options: Every measured candidate, the one with the largest predicted gain first.
        chosen: The one to take: of those within a tie of the best, the preferred one.
        gain: Predicted gain of the chosen one over scratch: mean, low, high, 80 %.
        gain_over_full: Likewise over loading everything from the best source.
        scratch: Predicted score of scratch on new subjects.
        score_reach: Half the width of the 80 % interval of a predicted score.
        worthless: Sources that are worth no more than a fresh draw, by their rewind audit.
    """

    options: tuple[Option, ...]
    chosen: Option
    gain: tuple[float, float, float]
    gain_over_full: tuple[float, float, float]
    scratch: float
    score_reach: float
    worthless: tuple[str, ...] = ()


def decide(
    evidence: Evidence, sources: Sequence[str], num_subjects: int, *, prior: Prior | None = None
) -> Decision:
    """Predict each candidate's gain on new subjects, and choose.

    Args:
        evidence: Held-out scores per subject.
        sources: Sources that were trained from, the most promising first.
        num_subjects: Labelled subjects.
        prior: What the grid taught; the one that is shipped if not given.
    """
    learned = prior or read_prior()
    options = [Option("", SCRATCH, 0.0, 0.0)]
    measured = [source for source in sources if evidence.of(source, FULL)]
    worthy = [source for source in measured if is_worthy(evidence, source)]
    for source, gain in _gains_of_full(evidence, worthy, learned).items():
        options += options_of(evidence, source, gain, learned)
    options.sort(key=lambda option: (-option.gain, _preference(option)))
    within = [option for option in options if option.gain >= options[0].gain - TIE]
    chosen = min(within, key=_preference)
    full = max((o.gain for o in options if o.candidate == FULL), default=0.0)
    over_full = chosen.gain - full
    return Decision(
        tuple(options),
        chosen,
        _interval(chosen.gain, learned.gain_sd(num_subjects)),
        _interval(over_full, learned.difference_sd(num_subjects)),
        _score_of_scratch(evidence, options, learned),
        _NORMAL_80 * learned.score_sd(num_subjects),
        tuple(source for source in measured if source not in worthy),
    )


def is_worthy(evidence: Evidence, source: str) -> bool:
    """Tell whether a source is worth more than a fresh draw, by its rewind audit."""
    drops = evidence.drops.get(source)
    return drops is None or worth_of(drops) >= WORTH


def worth_of(drops: Array) -> float:
    """Return how much of what a fresh draw costs the source's own values save, front half.

    Late blocks are trained anew for another task in any case, so they say nothing of the source.

    Args:
        drops: Of the rewind audit, blocks front to back, the output layer last: shape
            ``(blocks, 2, subjects)``.

    Returns:
        1 where putting the source back costs nothing, 0 where it costs as much as a fresh draw;
        1 where no block of the front half matters at all, since then nothing speaks against it.
    """
    rewind, reinit = np.nanmean(drops, axis=2)[:-1].T
    front = np.flatnonzero(reinit > MATTERS)[: max(1, (len(reinit) + 1) // 2)]
    if not len(front):
        return 1.0
    return float(1.0 - rewind[front].sum() / reinit[front].sum())


def _gains_of_full(evidence: Evidence, sources: Sequence[str], prior: Prior) -> dict[str, float]:
    """Predict what loading everything gains over scratch, for each source.

    From the held-out gains, and from how much of what pilots see the source sees too: of a training
    cut short the first tells more of speed than of where it ends.
    """
    scratch = evidence.of("", SCRATCH)
    gains = against_mean({s: float(paired(evidence.of(s, FULL), scratch).mean()) for s in sources})
    alike = against_mean({source: evidence.likeness(source) for source in sources})
    known = all(np.isfinite(likeness.own) for likeness in alike.values())
    return {
        source: prior.gain.at(gain, len(scratch), alike[source] if known else None)
        for source, gain in gains.items()
    }


def against_mean(values: Mapping[str, float]) -> dict[str, Measured]:
    """Split what is known of each source into the mean over the sources and its own part."""
    mean = float(np.mean(list(values.values()))) if values else 0.0
    return {source: Measured(mean, value - mean) for source, value in values.items()}


def options_of(evidence: Evidence, source: str, base: float, prior: Prior) -> list[Option]:
    """Predict the gain of every candidate that was measured of one source.

    Args:
        evidence: Held-out scores.
        source: Name of the source.
        base: Predicted gain of loading everything from it.
        prior: What the grid taught.
    """
    zero_shot = zero_shot_share(evidence, source)
    options = [Option(source, FULL, base, 0.0)]
    full = evidence.of(source, FULL)
    for name in [name for owner, name in evidence.scores if owner == source and name != FULL]:
        if prior.knows(name):
            differences = paired(evidence.of(source, name), full)
            shrunk = prior.difference(name, differences, zero_shot)
            options.append(Option(source, name, base + shrunk, shrunk))
    return options


def paired(own: Mapping[Hashable, float], other: Mapping[Hashable, float]) -> Array:
    """Return differences of the subjects that both have."""
    return np.array([own[subject] - other[subject] for subject in own if subject in other])


def zero_shot_share(evidence: Evidence, source: str) -> float:
    """Return the score without training as a share of that of everything, from 0 to 1."""
    as_is = evidence.of(source, AS_IS)
    full = evidence.of(source, FULL)
    if not as_is or not full:
        return 0.0
    top = float(np.mean(list(full.values())))
    return float(np.clip(np.mean(list(as_is.values())) / top, 0.0, 1.0)) if top > 0 else 0.0


def _preference(option: Option) -> tuple[int, str]:
    known = option.candidate in PREFERRED
    return (PREFERRED.index(option.candidate) if known else len(PREFERRED)), option.candidate


def _score_of_scratch(evidence: Evidence, options: Sequence[Option], prior: Prior) -> float:
    """Predict it by way of the best training from everything, which varies less."""
    full = max((o for o in options if o.candidate == FULL), key=lambda o: o.gain, default=None)
    known = evidence.of("", SCRATCH) if full is None else evidence.of(full.source, FULL)
    level = prior.score(float(np.mean(list(known.values()))))
    return level - (0.0 if full is None else full.gain)


def _interval(mean: float, deviation: float) -> tuple[float, float, float]:
    reach = _NORMAL_80 * deviation
    return mean, mean - reach, mean + reach
