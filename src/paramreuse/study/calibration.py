"""The images that BatchNorm is recalibrated on: the target's training slices, labels unseen."""

from collections import Counter
from dataclasses import replace

import numpy as np
import torch

from paramreuse.data.preparation import PreparedBatches, PreparedSet, training_batches

NUM_SLICES = 256
"""Most slices that statistics are recomputed on. Each takes part in a forward pass per swap, and
few suffice: 32 images of a photograph's size did for Schneider et al. (2020, arXiv 2006.16971)."""


def calibration_batches(prepared: PreparedSet, batch_size: int, *, seed: int) -> PreparedBatches:
    """Draw slices for recalibration, labelled or not, as evenly over subjects as they go.

    Slices are put in random order; then the first of every subject is taken, then the second of
    every subject, and so on, up to ``NUM_SLICES``.

    Args:
        prepared: The target's training slices.
        batch_size: Slices per batch; a last batch of one joins the batch before it.
        seed: Of the order.
    """
    order = np.random.default_rng(seed).permutation(len(prepared)).tolist()
    seen: Counter[str] = Counter()
    turns: list[tuple[int, int]] = []
    for index in order:
        turns.append((seen[prepared.subjects[index]], index))
        seen[prepared.subjects[index]] += 1
    chosen = [index for _, index in sorted(turns, key=lambda turn: turn[0])[:NUM_SLICES]]
    picked = torch.tensor(chosen)
    drawn = replace(
        prepared,
        images=prepared.images[picked],
        labels=prepared.labels[picked],
        subjects=tuple(prepared.subjects[index] for index in chosen),
        names=tuple(prepared.names[index] for index in chosen),
    )
    return training_batches(drawn, batch_size, seed=seed, epoch=0, labelled_only=False)
