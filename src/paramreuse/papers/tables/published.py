"""The numbers that the papers print in their tables 1 to 3, Dice of classes 0 to 3.

Source: arXiv 2008.03414, tables 1 to 3; the means arXiv 2008.03411, table of the reuse experiment.
"""

from collections.abc import Mapping
from dataclasses import dataclass

UNET = (1.00, 0.81, 0.83, 0.92)
"""Table 1."""

PSPNET: Mapping[bool, tuple[float, float, float, float]] = {
    True: (1.00, 0.86, 0.86, 0.93),
    False: (1.00, 0.86, 0.86, 0.92),
}
"""Table 2, by whether the convolutions have biases."""


@dataclass(frozen=True, slots=True)
class Reuse:
    """One row of table 3.

    Attributes:
        num_subjects: Number of training subjects.
        source: The papers' letter of the source, ``""`` where nothing was loaded.
        strategy: ``scratch``, ``plan-freeze`` or ``plan-finetune``.
        dice: Dice of classes 0 to 3.
        mean: Their mean as printed, or what it should be.
        note: What was mended.
    """

    num_subjects: int
    source: str
    strategy: str
    dice: tuple[float, float, float, float]
    mean: float
    note: str = ""


REUSE = (
    Reuse(10, "", "scratch", (0.99, 0.62, 0.60, 0.70), 0.73),
    Reuse(10, "B1", "plan-freeze", (0.99, 0.47, 0.56, 0.67), 0.67),
    Reuse(10, "B1", "plan-finetune", (1.00, 0.48, 0.55, 0.71), 0.69),
    Reuse(10, "B2", "plan-freeze", (0.99, 0.70, 0.70, 0.84), 0.81),
    Reuse(10, "B2", "plan-finetune", (1.00, 0.75, 0.75, 0.88), 0.85),
    Reuse(10, "C1", "plan-freeze", (0.99, 0.57, 0.53, 0.72), 0.70),
    Reuse(10, "C1", "plan-finetune", (0.99, 0.54, 0.55, 0.74), 0.70),
    Reuse(50, "", "scratch", (1.00, 0.81, 0.82, 0.90), 0.88),
    Reuse(50, "B1", "plan-freeze", (0.99, 0.69, 0.75, 0.84), 0.82),
    Reuse(50, "B1", "plan-finetune", (0.99, 0.67, 0.75, 0.84), 0.81),
    Reuse(50, "B2", "plan-freeze", (1.00, 0.84, 0.83, 0.90), 0.89),
    Reuse(50, "B2", "plan-finetune", (1.00, 0.86, 0.86, 0.93), 0.91),
    Reuse(
        50, "C1", "plan-freeze", (0.99, 0.70, 0.70, 0.86), 0.81, "printed .72; the four give .81"
    ),
    Reuse(50, "C1", "plan-finetune", (0.99, 0.67, 0.74, 0.82), 0.81),
)
"""Table 3: B1 is T1 segmentation, B2 T1 auto-encoding, C1 RVSC segmentation."""
