"""Which slices of a prepared set take part: those of drawn subjects, or a few of every subject."""

from collections import Counter

import numpy as np

from paramreuse.data.preparation import PreparedBatches, PreparedSet, training_batches
from paramreuse.errors import DataError

NUM_SLICES = 256
"""Most slices that statistics are recomputed on. Each takes part in a forward pass per swap, and
few suffice: 32 images of a photograph's size did for Schneider et al. (2020, arXiv 2006.16971)."""


def drawable_subjects(prepared: PreparedSet, *, labelled_only: bool = True) -> list[str]:
    """Return the subjects that have a slice to train on, sorted."""
    usable = prepared.is_labelled.tolist()
    return sorted(
        {
            subject
            for subject, labelled in zip(prepared.subjects, usable, strict=True)
            if labelled or not labelled_only
        }
    )


def draw_subjects(
    prepared: PreparedSet, number: int | None, seed: int, *, labelled_only: bool = True
) -> PreparedSet:
    """Keep the slices of some subjects; a smaller number is part of a larger one of one seed.

    Args:
        prepared: Slices of all training subjects.
        number: How many subjects to keep; all if None.
        seed: Of the draw.
        labelled_only: Whether to draw only subjects with labels.

    Raises:
        DataError: There are not as many.
    """
    if number is None:
        return prepared
    names = drawable_subjects(prepared, labelled_only=labelled_only)
    if number > len(names):
        with_labels = " with labels" if labelled_only else ""
        raise DataError(
            f"cannot train on {number} subjects: the training fold has {len(names)}{with_labels}; "
            "ask for fewer"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    chosen = {names[index] for index in order[:number]}
    return prepared.select([i for i, name in enumerate(prepared.subjects) if name in chosen])


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
    drawn = prepared.select(chosen)
    return training_batches(drawn, batch_size, seed=seed, epoch=0, labelled_only=False)
