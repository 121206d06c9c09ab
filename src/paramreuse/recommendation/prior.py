"""What the grid of docs/results/gain.md taught: how far a held-out difference can be trusted."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Line:
    """Linear prediction of a true difference from the measured one.

    Attributes:
        intercept: Where nothing was measured and the source does not fit without training.
        slope: Of the measured mean, with very many subjects.
        zero_shot: Of the source's score without training as a share of that of everything.
        halfway: Number of held-out subjects with which half of the slope counts.
    """

    intercept: float
    slope: float
    zero_shot: float
    halfway: float

    def at(self, differences: Array, zero_shot: float) -> float:
        """Predict from paired differences, one per held-out subject."""
        number = len(differences)
        trust = number / (number + self.halfway)
        mean = float(differences.mean()) if number else 0.0
        return self.intercept + self.slope * trust * mean + self.zero_shot * zero_shot


@dataclass(frozen=True, slots=True)
class Measured:
    """Something measured of a source: the mean over the sources, and how far it is from that.

    Attributes:
        mean: Over the sources that are compared.
        own: Of the source, less that mean.
    """

    mean: float
    own: float


@dataclass(frozen=True, slots=True)
class GainLine:
    """Linear prediction of what loading everything from a source gains over scratch.

    Attributes:
        intercept: Where no gain was measured and the likeness is that of the grid.
        slope: Of the measured gain, mean over the sources, with very many subjects.
        source_slope: Of how the source's measured gain differs from that mean.
        halfway: Number of held-out subjects with which half of both slopes counts.
        likeness_slope: Of the likeness to pilots trained from scratch (linear CKA, 0 to 1), mean
            over the sources.
        source_likeness_slope: Of how the source's likeness differs from that mean.
        likeness_mean: The mean likeness of the sources of the grid.
    """

    intercept: float
    slope: float
    source_slope: float
    halfway: float
    likeness_slope: float
    source_likeness_slope: float
    likeness_mean: float

    def at(self, gain: Measured, number: int, likeness: Measured | None) -> float:
        """Predict the gain on new subjects.

        Args:
            gain: Held-out gain over scratch.
            number: Held-out subjects.
            likeness: To pilots; None where it is not known.
        """
        trust = number / (number + self.halfway)
        predicted = self.intercept + trust * (self.slope * gain.mean + self.source_slope * gain.own)
        if likeness is None:
            return predicted
        level = self.likeness_slope * (likeness.mean - self.likeness_mean)
        return predicted + level + self.source_likeness_slope * likeness.own


@dataclass(frozen=True, slots=True)
class Prior:
    """Lines by candidate, and how far predictions were off.

    Attributes:
        lines: By candidate, its difference to loading everything.
        gain: What loading everything gains over scratch.
        level: Intercept and slope of a score on new subjects from the held-out one, which comes
            from shorter trainings.
        level_variance: Of the predicted score, as for the next.
        gain_variance: Of the predicted gain over scratch: constant part, part per 1/subject.
        difference_variance: Of the predicted gain over everything, likewise.
    """

    lines: Mapping[str, Line]
    gain: GainLine
    level: tuple[float, float]
    level_variance: tuple[float, float]
    gain_variance: tuple[float, float]
    difference_variance: tuple[float, float]

    def knows(self, candidate: str) -> bool:
        """Tell whether the grid holds a candidate."""
        return candidate in self.lines

    def difference(self, candidate: str, differences: Array, zero_shot: float) -> float:
        """Predict how a candidate differs from loading everything, on new subjects."""
        return self.lines[candidate].at(differences, zero_shot)

    def score(self, held_out: float) -> float:
        """Predict a score on new subjects after a full training from a held-out one."""
        return self.level[0] + self.level[1] * held_out

    def score_sd(self, num_subjects: int) -> float:
        """Return the standard deviation of a predicted score."""
        return _deviation(self.level_variance, num_subjects)

    def gain_sd(self, num_subjects: int) -> float:
        """Return the standard deviation of a predicted gain over scratch."""
        return _deviation(self.gain_variance, num_subjects)

    def difference_sd(self, num_subjects: int) -> float:
        """Return the standard deviation of a predicted gain over everything."""
        return _deviation(self.difference_variance, num_subjects)


def _deviation(parts: tuple[float, float], num_subjects: int) -> float:
    return float(np.sqrt(parts[0] + parts[1] / num_subjects))


@cache
def read_prior() -> Prior:
    """Read the prior that is shipped; ``benchmarks/gain_report.py`` writes it."""
    text = files("paramreuse.recommendation").joinpath("prior.json").read_text(encoding="utf-8")
    return prior_from(json.loads(text))


def prior_from(content: Mapping[str, object]) -> Prior:
    """Build a prior from what ``prior.json`` holds."""
    lines, gain = content["lines"], content["gain"]
    assert isinstance(lines, dict), "prior.json is part of the package"
    assert isinstance(gain, dict), "prior.json is part of the package"
    rest = {name: value for name, value in content.items() if name not in ("lines", "gain")}
    return Prior(
        {name: Line(**line) for name, line in lines.items()},
        GainLine(**gain),
        **{n: tuple(v) if isinstance(v, list) else v for n, v in rest.items()},  # type: ignore[arg-type]
    )
