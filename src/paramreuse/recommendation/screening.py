"""Which sources are worth training from: a first look that trains nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from paramreuse.errors import ModelError
from paramreuse.recommendation.bench import Bench, Evidence
from paramreuse.recommendation.candidates import AS_IS, as_is
from paramreuse.recommendation.trials import train_candidate
from paramreuse.sites.matching import Site
from paramreuse.transferability.features import OUTPUT, features_as_is, sample_pixels
from paramreuse.transferability.heads import held_out_ridge
from paramreuse.transferability.scoring import PIXELS


@dataclass(frozen=True, slots=True)
class FirstLook:
    """What is known of a source before anything is trained.

    Attributes:
        source: Name of the source.
        as_is: Score on the labelled subjects without training, running statistics recomputed.
        ridge: Held-out score of a linear head on its frozen features.
    """

    source: str
    as_is: float
    ridge: float

    @property
    def promise(self) -> float:
        """The better of the two."""
        return float(np.nanmax([self.as_is, self.ridge, 0.0]))


def rank_looks(looks: Sequence[FirstLook], evidence: Evidence) -> list[FirstLook]:
    """Order sources by their likeness to pilots trained from scratch, the most promising first.

    Where the likeness of one of them is not known, by what they score without training.
    """
    likeness = {look.source: evidence.likeness(look.source) for look in looks}
    if all(np.isfinite(value) for value in likeness.values()):
        return sorted(looks, key=lambda look: -likeness[look.source])
    return sorted(looks, key=lambda look: -look.promise)


def look_at_sources(bench: Bench, sites: Mapping[str, Sequence[Site]]) -> list[FirstLook]:
    """Score every source without training."""
    looks = []
    bench.measure([as_is(fitting, source) for source, fitting in sites.items()])
    for source, fitting in sites.items():
        scores = list(bench.evidence.of(source, AS_IS).values())
        looks.append(
            FirstLook(source, float(np.mean(scores)), held_out_ridge_score(bench, fitting, source))
        )
    return looks


def held_out_ridge_score(bench: Bench, fitting: Sequence[Site], source: str) -> float:
    """Score a linear head on the frozen features of a source, subjects held out in turn.

    NaN where the network has no output layer that features could be taken in front of.
    """
    candidate = as_is(fitting, source)
    loaded = train_candidate(
        bench.course, bench.tensors[source], candidate, bench.data, 0, bench.seed
    )
    try:
        features = features_as_is(loaded.finished(candidate.plan), bench.data.batches())[OUTPUT]
    except (ModelError, KeyError):
        return float("nan")
    pixels = sample_pixels(features, PIXELS, seed=bench.seed)
    scores = held_out_ridge(
        pixels.values, pixels.labels, pixels.owners, int(bench.data.labels.max()) + 1
    )
    counted = [score for score in scores.values() if np.isfinite(score)]
    return float(np.mean(counted)) if counted else float("nan")
