"""The recipe: how a model is trained once a plan has loaded it, and what is done afterwards."""

from dataclasses import dataclass

from paramreuse.errors import PlanError


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a plan asks of the training, beside its actions.

    Attributes:
        recalibrate: Whether the running statistics that are not frozen are recomputed on the
            training images at the end (REPAIR, arXiv 2211.08403; Schneider et al., 2006.16971).
        anchor: Strength of the pull of what was loaded towards its loaded values, the
            ``alpha`` of L2-SP (arXiv 1802.01483, equation 2); 0 for none.
        head_first: Share of the steps in which only what was not loaded, and the output layer,
            are trained (LP-FT, arXiv 2202.10054); 0 for none, below 1.
        mix: Where between the loaded values (0) and the trained ones (1) the result lies
            (WiSE-FT, arXiv 2109.01903, equation 1); above 0.

    Raises:
        PlanError: A value is out of range.
    """

    recalibrate: bool = False
    anchor: float = 0.0
    head_first: float = 0.0
    mix: float = 1.0

    def __post_init__(self) -> None:
        ranges = {
            "anchor": (0 <= self.anchor < float("inf"), "a number from 0 up"),
            "head_first": (0 <= self.head_first < 1, "a share from 0 to below 1"),
            "mix": (0 < self.mix <= 1, "a share above 0, at most 1"),
        }
        for name, (fits, expected) in ranges.items():
            if not fits:
                raise PlanError(f"the plan has {name}={getattr(self, name)!r}: expected {expected}")


PLAIN = Recipe()
"""Train what is not frozen, and do nothing afterwards."""
