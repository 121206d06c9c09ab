"""Every score of one source, from its frozen features on a few labelled subjects."""

from collections.abc import Hashable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from paramreuse.checkpoint import load_checkpoint
from paramreuse.engine.plain import checked_output, device_of
from paramreuse.sites.lending import Weights, lend
from paramreuse.sites.matching import sites_of
from paramreuse.sites.swaps import reinitialised, seed_of
from paramreuse.sweep.batches import Batches, walk_batches
from paramreuse.sweep.scores import Dice, subject_means
from paramreuse.transferability.cc_fv import cc_fv
from paramreuse.transferability.cka import label_cka, linear_cka
from paramreuse.transferability.features import (
    MIDDLE,
    OUTPUT,
    FrozenFeatures,
    Pixels,
    features_as_is,
    fitted_to,
    sample_pixels,
)
from paramreuse.transferability.h_score import h_score, h_score_regularised
from paramreuse.transferability.heads import held_out_neighbours, held_out_ridge
from paramreuse.transferability.leep import leep
from paramreuse.transferability.logme import logme
from paramreuse.untouched import untouched_random_state

Array = NDArray[np.float64]

PIXELS = 1024
"""Pixels drawn of each subject, fewer where there are more than ``MAX_PIXELS`` in all."""

MAX_PIXELS = 8192

FEATURE_SCORES = ("ridge", "knn", "logme", "h_score", "h_score_regularised", "cka_labels", "cc_fv")
"""Scores of features, once per depth; those of the middle end with ``_middle``."""

SCORE_NAMES = (
    *FEATURE_SCORES,
    *(f"{name}_middle" for name in FEATURE_SCORES),
    *("cka_pilot", "cka_pilot_middle", "leep", "zero_shot"),
)


@dataclass(frozen=True, slots=True, eq=False)
class LoadedSource:
    """A source in the target's architecture.

    Attributes:
        network: Copy of the target that holds whatever of the source fits, in evaluation mode;
            the rest of it knows nothing.
        output_fits: Whether the output layer is the source's as well.
    """

    network: nn.Module
    output_fits: bool


def load_source(target: nn.Module, source: Weights, *, seed: int = 0) -> LoadedSource:
    """Put whatever of a source fits into a copy of the target; the target is left as it was.

    What does not fit is drawn at random, so that nothing the target has learnt counts as the
    source's.

    Args:
        target: The network to load into.
        source: Model, state dict or checkpoint path.
        seed: Seed of the draws; the global random state is given back.

    Raises:
        CheckpointError: Nothing of the source fits.
        ModelError: ``source`` is not a model, a state dict or a path.
    """
    twin = deepcopy(target).eval()
    loaded = set(load_checkpoint(twin, dict(lend(target, source))).loaded)
    sites = sites_of(twin)
    left = [site for site in sites if not loaded.intersection((site.key, *site.aliases))]
    with torch.no_grad():
        for site in left:
            layer = twin.get_submodule(site.path)
            drawn = reinitialised(layer, site.attribute, seed=seed_of(seed, "reinit", site.key))
            getattr(layer, site.attribute).copy_(drawn)
    return LoadedSource(twin, not any(site.is_output for site in left))


def score_source(
    source: LoadedSource,
    batches: Batches,
    *,
    pilot: Mapping[str, FrozenFeatures] = MappingProxyType({}),
    per_subject: int = PIXELS,
    seed: int = 0,
) -> dict[str, float]:
    """Score a source by what its frozen features and outputs say about some labelled subjects.

    BatchNorm statistics are recomputed on the subjects' images first, on a copy.

    Args:
        source: What ``load_source`` returned; left as it was.
        batches: Re-iterable of ``(inputs, labels, subjects)`` with integer labels, 0 the
            background.
        pilot: ``frozen_features`` of a network trained on the target, on the same batches; without
            it there is no ``cka_pilot``.
        per_subject: Pixels drawn of each subject at most; ``MAX_PIXELS`` bounds their sum.
        seed: Seed of the draws; the global random state is given back.

    Returns:
        A number for each of ``SCORE_NAMES``, higher is better. NaN where it cannot be computed:
        ``leep`` and ``zero_shot`` (Dice without training) where the output layer is not the
        source's or has fewer channels than there are classes, heads and CC-FV for a single subject,
        all where features are not finite.

    Raises:
        ModelError: As for ``frozen_features``.
        ScoreError: As for ``frozen_features``.
    """
    scores = dict.fromkeys(SCORE_NAMES, float("nan"))
    fitted = fitted_to(source.network, batches)
    features = features_as_is(fitted, batches)
    num_subjects = len(set(features[OUTPUT].owners))
    per_subject = max(1, min(per_subject, MAX_PIXELS // num_subjects))
    for depth, suffix in ((OUTPUT, ""), (MIDDLE, "_middle")):
        if depth in features:
            pixels = sample_pixels(features[depth], per_subject, seed=seed)
            scores |= {f"{k}{suffix}": v for k, v in _of_features(pixels, seed).items()}
            if depth in pilot:
                others = sample_pixels(pilot[depth], per_subject, seed=seed)
                scores[f"cka_pilot{suffix}"] = linear_cka(pixels.values, others.values)
    return scores | (_of_outputs(fitted, batches) if source.output_fits else {})


def _of_features(pixels: Pixels, seed: int) -> dict[str, float]:
    values, labels, owners = pixels.values, pixels.labels, pixels.owners
    scores = {
        "logme": logme(values, labels),
        "h_score": h_score(values, labels),
        "h_score_regularised": h_score_regularised(values, labels),
        "cka_labels": label_cka(values, labels),
    }
    if len(set(owners)) < 2:
        return scores
    num_classes = int(labels.max()) + 1
    return scores | {
        "ridge": _mean(held_out_ridge(values, labels, owners, num_classes)),
        "knn": _mean(held_out_neighbours(values, labels, owners, num_classes)),
        "cc_fv": cc_fv(values, labels, owners, seed=seed),
    }


def _mean(scores: Mapping[Hashable, float]) -> float:
    finite = [score for score in scores.values() if np.isfinite(score)]
    return float(np.mean(finite)) if finite else float("nan")


def _of_outputs(network: nn.Module, batches: Batches) -> dict[str, float]:
    """Score what the source itself predicts."""
    device = device_of(network)
    with untouched_random_state(), torch.no_grad():
        walked = list(walk_batches(batches))
        outputs = [checked_output(network(batch.inputs.to(device))).cpu() for batch in walked]
    labels = [batch.labels.cpu().long() for batch in walked]
    num_outputs = max(2, outputs[0].shape[1])
    too_few = num_outputs <= max(int(each.max()) for each in labels)
    if too_few or not all(bool(output.isfinite().all()) for output in outputs):
        return {}
    score = Dice(num_classes=num_outputs)
    sums: dict[Hashable, Array] = {}
    for batch, output, wanted in zip(walked, outputs, labels, strict=True):
        # Dice counts positions: one label of a whole image is one position.
        place = (..., None) if wanted.ndim == 1 else ...
        counts = score.statistics(output[place], wanted[place]).numpy()
        for subject, part in zip(batch.subjects, counts, strict=True):
            sums[subject] = sums.get(subject, 0.0) + part
    dice = subject_means(score.score(np.stack(list(sums.values()))), score.foreground)
    rows = [_as_rows(output, wanted) for output, wanted in zip(outputs, labels, strict=True)]
    probabilities, flat = (torch.cat(parts) for parts in zip(*rows, strict=True))
    return {
        "zero_shot": _mean(dict(zip(sums, dice.tolist(), strict=True))),
        "leep": leep(probabilities[flat >= 0], flat[flat >= 0]),
    }


def _as_rows(outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return class probabilities ``(n, K)`` and labels ``(n,)`` of every position."""
    if outputs.shape[1] == 1:
        outputs = torch.cat([torch.zeros_like(outputs), outputs], dim=1)
    probabilities = outputs.double().softmax(1).movedim(1, -1)
    return probabilities.reshape(-1, outputs.shape[1]), labels.reshape(-1)
