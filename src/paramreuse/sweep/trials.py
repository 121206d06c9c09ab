"""What a sweep scores: a swap with a replacement, drawn once or several times."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from paramreuse.sites.draws import draw_name, num_draws
from paramreuse.sites.swaps import Swap

Array = NDArray[np.float64]
TrialName: TypeAlias = tuple[str, str]
"""Name of the swap, and of the replacement or of one of its draws."""

BASELINE: TrialName = ("", "baseline")
"""The trial that puts nothing in."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One swap with one draw of one replacement.

    Attributes:
        swap: What is filled.
        replacement: By what: ``"source"`` or a control.
        draw: Which draw of the control, from 0.
    """

    swap: Swap
    replacement: str
    draw: int = 0

    @property
    def name(self) -> TrialName:
        """Name of the swap, and of the draw."""
        return self.swap.name, draw_name(self.replacement, self.draw)

    @property
    def drawn_from(self) -> TrialName:
        """Name of the swap, and of the replacement that this is a draw of."""
        return self.swap.name, self.replacement


def make_trials(swaps: Iterable[Swap], replacements: Sequence[str]) -> list[Trial]:
    """Return every draw of every replacement at every swap.

    Args:
        swaps: What is filled.
        replacements: ``"source"`` and the controls.
    """
    return [
        Trial(swap, name, draw)
        for swap in swaps
        for name in replacements
        for draw in range(num_draws(swap, name))
    ]


def group_draws(trials: Iterable[Trial]) -> dict[TrialName, list[TrialName]]:
    """Return the names of the draws of every swap and replacement, in order."""
    groups: dict[TrialName, list[TrialName]] = {}
    for trial in trials:
        groups.setdefault(trial.drawn_from, []).append(trial.name)
    return groups


def all_draws_in(
    found: Collection[TrialName], groups: Mapping[TrialName, Sequence[TrialName]]
) -> frozenset[TrialName]:
    """Return the swaps and replacements all of whose draws are among some trials."""
    return frozenset(name for name, draws in groups.items() if all(d in found for d in draws))


def any_draw_in(
    found: Collection[TrialName], groups: Mapping[TrialName, Sequence[TrialName]]
) -> frozenset[TrialName]:
    """Return the swaps and replacements with a draw that is among some trials."""
    return frozenset(name for name, draws in groups.items() if any(d in found for d in draws))


def mean_over_draws(draws: Sequence[Array]) -> Array:
    """Return the mean of scores over the draws of a control, subject by subject.

    Args:
        draws: Scores of each draw, all of one shape; NaN where a subject does not count.

    Returns:
        The same shape; the scores themselves where there is a single draw.
    """
    return draws[0] if len(draws) == 1 else np.mean(draws, axis=0)


def combine_draws(
    scores: Mapping[TrialName, Array], groups: Mapping[TrialName, Sequence[TrialName]]
) -> dict[TrialName, Array]:
    """Return the scores of every swap and replacement, the mean over its draws.

    Args:
        scores: Scores of each draw, by its name.
        groups: As from ``group_draws``.
    """
    return {name: mean_over_draws([scores[d] for d in draws]) for name, draws in groups.items()}


def several_draws(
    scores: Mapping[TrialName, Array], groups: Mapping[TrialName, Sequence[TrialName]]
) -> dict[TrialName, tuple[Array, ...]]:
    """Return the scores of each draw of what was drawn more than once; arguments as above."""
    return {
        name: tuple(scores[d] for d in draws) for name, draws in groups.items() if len(draws) > 1
    }
