"""What a network reaches that predicts the same class everywhere: the least a target must beat."""

from collections.abc import Hashable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from paramreuse.sweep.batches import Batches, walk_batches
from paramreuse.sweep.scores import Accuracy, Dice, IoU, Score, subject_means

Array = NDArray[np.float64]

_SCORES_OF_CLASSES = (Dice, IoU, Accuracy)


def constant_score(batches: Batches, score: Score) -> float | None:
    """Return the best mean score over subjects that one class everywhere reaches.

    Args:
        batches: As for ``sweep_sites``; iterated once, only labels are looked at.
        score: How predictions are scored; known for ``Dice``, ``IoU`` and ``Accuracy``.

    Returns:
        That mean; None for other scores, and where no class counts.

    Raises:
        ScoreError: The batches cannot be used.
    """
    kind = next((kind for kind in _SCORES_OF_CLASSES if isinstance(score, kind)), None)
    if kind is None:
        return None
    num_classes = len(score.classes)
    sums: dict[Hashable, Array] = {}
    for batch in walk_batches(batches):
        outputs = (_one_class(batch.labels, label, num_classes) for label in range(num_classes))
        # That of the class itself: a subclass may count what only a network's outputs have.
        by_label = [kind.statistics(score, out, batch.labels) for out in outputs]  # type: ignore[arg-type]
        for index, subject in enumerate(batch.subjects):
            added = np.stack([statistics[index].cpu().numpy() for statistics in by_label])
            sums[subject] = sums.get(subject, 0.0) + added
    by_class = np.stack(list(sums.values()), axis=1)
    means = [subject_means(score.score(scores), score.foreground) for scores in by_class]
    best = [
        float(scores[np.isfinite(scores)].mean()) for scores in means if np.isfinite(scores).any()
    ]
    return max(best, default=None)


def _one_class(labels: Tensor, label: int, num_classes: int) -> Tensor:
    """Return outputs ``(N, K, ...)`` that predict one class everywhere."""
    wanted = F.one_hot(labels.new_tensor(label).long(), num_classes).float()
    return wanted.view(1, num_classes, *(1,) * (labels.ndim - 1)).expand(
        labels.shape[0], num_classes, *labels.shape[1:]
    )
