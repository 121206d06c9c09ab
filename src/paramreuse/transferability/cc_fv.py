"""CC-FV: classes that look alike in all subjects, features that are spread out."""

from collections.abc import Hashable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from paramreuse.transferability.pixels import check_owners, check_pixels, classes_in

Array = NDArray[np.float64]

SAMPLE = 128
"""Pixels drawn for a distance between two subjects, and for the spread."""

_TINY = 1e-6


def cc_fv(features: Tensor, labels: Tensor, owners: Sequence[Hashable], *, seed: int = 0) -> float:
    """Return ``log(feature variety / class inconsistency)`` of one layer.

    Class inconsistency is the sum over the foreground classes (all but 0) of the mean
    2-Wasserstein distance between the features of that class in two subjects. Feature variety is
    the inverse of the hyperspherical potential energy, the mean of ``1 / |u - v|`` over pairs of
    pixels on the unit sphere. Both are taken from ``SAMPLE`` pixels at most. The published score is
    the mean of this number over the layers of the decoder. Departures: subjects instead of images,
    and features divided by their root mean square before distances are taken, so that their scale,
    which a normalisation behind them undoes, changes nothing.

    Source: Yang et al. (MICCAI 2023), arXiv 2307.11958, section 2.

    Args:
        features: Shape ``(n, D)``.
        labels: Class of each row, shape ``(n,)``, integer; 0 is the background.
        owners: Subject of each row.
        seed: Seed of the draw; the global random state is neither read nor moved.

    Returns:
        Higher is better; NaN where a feature is not finite or all are zero, or where no two
        subjects share a foreground class.

    Raises:
        ScoreError: The shapes do not fit together, or there are fewer than two subjects.
    """
    check_pixels(features, labels)
    check_owners(labels, owners)
    values = features.double().numpy()
    size = np.sqrt(np.mean(values**2))
    if not np.isfinite(size) or size == 0:
        return float("nan")
    rng = np.random.default_rng(seed)
    groups = _groups(values / size, labels, owners)
    inconsistency = class_inconsistency(groups, rng)
    return float(np.log(feature_variety(_drawn(values, SAMPLE, rng)) / max(inconsistency, _TINY)))


def class_inconsistency(groups: Sequence[Sequence[Array]], rng: np.random.Generator) -> float:
    """Return the sum over classes of the mean 2-Wasserstein distance between two subjects.

    Args:
        groups: For each class, the features of each subject that shows it, ``(n, D)``.
        rng: Draws as many pixels of the one as of the other.

    Returns:
        NaN where no class is shown by two subjects.
    """
    sums = [
        float(np.mean([_distance(a, b, rng) for a, b in combinations(subjects, 2)]))
        for subjects in groups
        if len(subjects) > 1
    ]
    return float(np.sum(sums)) if sums else float("nan")


def feature_variety(values: Array) -> float:
    """Return the inverse of the mean of ``1 / |u - v|`` over pairs of rows on the unit sphere.

    Args:
        values: Shape ``(n, D)``; rows of zeros are left out.

    Returns:
        NaN for fewer than two rows.
    """
    from scipy.spatial.distance import pdist

    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    on_sphere = values[lengths[:, 0] > 0] / lengths[lengths[:, 0] > 0]
    if len(on_sphere) < 2:
        return float("nan")
    return float(1 / np.mean(1 / np.maximum(pdist(on_sphere), _TINY)))


def _groups(values: Array, labels: Tensor, owners: Sequence[Hashable]) -> list[list[Array]]:
    rows: dict[tuple[int, Hashable], list[int]] = {}
    for row, (label, owner) in enumerate(zip(labels.tolist(), owners, strict=True)):
        rows.setdefault((label, owner), []).append(row)
    return [
        [values[members] for (of, _), members in rows.items() if of == label]
        for label in classes_in(labels)
        if label > 0
    ]


def _distance(a: Array, b: Array, rng: np.random.Generator) -> float:
    """Return the 2-Wasserstein distance of two samples, cut to the size of the smaller."""
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    number = min(len(a), len(b), SAMPLE)
    costs = cdist(_drawn(a, number, rng), _drawn(b, number, rng), "sqeuclidean")
    return float(np.sqrt(costs[linear_sum_assignment(costs)].mean()))


def _drawn(values: Array, number: int, rng: np.random.Generator) -> Array:
    return values if len(values) <= number else values[rng.permutation(len(values))[:number]]
