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
class Prior:
    """Lines by candidate, and how far predictions were off.

    Attributes:
        lines: By candidate.
        source_slope: How far the difference between two sources on one held-out subject can be
            trusted, with very many subjects.
        source_halfway: Number of subjects with which half of that counts.
        likeness_slope: What a source gains over another per unit of likeness to pilots trained from
            scratch (linear CKA, 0 to 1), besides.
        level: Intercept and slope of a score on new subjects from the held-out one, which comes
            from shorter trainings.
        level_variance: Of the predicted score, as for the next.
        gain_variance: Of the predicted gain over scratch: constant part, part per 1/subject.
        difference_variance: Of the predicted gain over everything, likewise.
    """

    lines: Mapping[str, Line]
    source_slope: float
    source_halfway: float
    likeness_slope: float
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

    def between_sources(self, differences: Array, likeness: float) -> float:
        """Predict how a source differs from the mean of the sources, on new subjects.

        Args:
            differences: Held-out, one per subject.
            likeness: Of the source, less the mean of the sources.
        """
        number = len(differences)
        trust = number / (number + self.source_halfway)
        measured = self.source_slope * trust * float(differences.mean())
        return measured + self.likeness_slope * likeness

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
    lines = content["lines"]
    assert isinstance(lines, dict), "prior.json is part of the package"
    rest = {name: value for name, value in content.items() if name != "lines"}
    return Prior(
        {name: Line(**line) for name, line in lines.items()},
        **{n: tuple(v) if isinstance(v, list) else v for n, v in rest.items()},  # type: ignore[arg-type]
    )
