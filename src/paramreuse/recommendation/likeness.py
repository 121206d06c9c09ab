"""How much a source sees as networks trained on the target do: CKA with pilots from scratch."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor, nn

from paramreuse.errors import ModelError, ScoreError
from paramreuse.recommendation.labelled import LabelledSet
from paramreuse.transferability.cka import linear_cka
from paramreuse.transferability.features import OUTPUT, frozen_features, sample_pixels
from paramreuse.transferability.scoring import MAX_PIXELS, PIXELS, load_source


@dataclass(eq=False)
class SourceFeatures:
    """Features of every source on the labelled images, taken once.

    Attributes:
        example: A network of the target's architecture.
        tensors: Tensors of each source.
        data: The labelled samples; their labels are not looked at.
        seed: Of the pixels that are drawn.
    """

    example: nn.Module
    tensors: Mapping[str, Mapping[str, Tensor]]
    data: LabelledSet
    seed: int
    _known: dict[str, Tensor | None] = field(default_factory=dict)

    def likeness(self, pilot: nn.Module) -> dict[str, float]:
        """Return linear CKA between each source and a pilot, in front of the output layer.

        On the grid of docs/results/gain.md it orders sources by what they gain better than any
        other score. NaN where features cannot be taken.
        """
        own = self._features_of(pilot)
        return {name: _alike(self._of_source(name), own) for name in self.tensors}

    def _of_source(self, name: str) -> Tensor | None:
        if name not in self._known:
            self._known[name] = self._features_of(self._loaded(name))
        return self._known[name]

    def _loaded(self, name: str) -> nn.Module:
        return load_source(self.example, self.tensors[name], seed=self.seed).network

    def _features_of(self, network: nn.Module) -> Tensor | None:
        per_subject = max(1, min(PIXELS, MAX_PIXELS // len(self.data.subjects)))
        try:
            features = frozen_features(network, self.data.batches())[OUTPUT]
            return sample_pixels(features, per_subject, seed=self.seed).values
        except (ModelError, ScoreError, KeyError):
            return None


def _alike(one: Tensor | None, other: Tensor | None) -> float:
    if one is None or other is None:
        return float("nan")
    value = linear_cka(one, other)
    return value if np.isfinite(value) else float("nan")
