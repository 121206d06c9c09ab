"""The conditions under which every claim is judged: the columns of the claims table."""

from dataclasses import dataclass
from enum import StrEnum
from typing import get_args

from paramreuse.papers.evidence import Start


class Variant(StrEnum):
    """What else differs from the papers' way of judging."""

    PLAIN = ""
    """Nothing: a site is reusable when the source's tensor passes."""
    CONTROL = "control"
    """A site is reusable only if the shuffled control fails there as well."""
    RELATIVE = "relative"
    """The relative RMSE in place of the RMSE."""
    RECALIBRATED = "recalibrated"
    """Kernels swapped with the BatchNorm statistics recomputed after each swap."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One column of the claims table.

    Attributes:
        start: Whether the models of the arms began from the same weights.
        variant: What else differs.
    """

    start: Start
    variant: Variant = Variant.PLAIN

    @property
    def name(self) -> str:
        """Name of the column, e.g. ``shared_control``."""
        return "_".join(part for part in (self.start, self.variant) if part)


CONDITIONS = tuple(Condition(start, variant) for start in get_args(Start) for variant in Variant)
"""All conditions, in the order of the columns."""
