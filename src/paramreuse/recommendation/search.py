"""Which candidates are measured, in which order, for how much: the search within a budget."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from paramreuse.errors import ParamReuseError
from paramreuse.recommendation.bench import Bench
from paramreuse.recommendation.candidates import Candidate, as_is, full, head, scratch
from paramreuse.sites.matching import Site

_ROUNDING = 1e-9
"""Thirds do not add up to whole numbers exactly."""


def smallest_budget(bench: Bench, num_members: int) -> float:
    """Return what scratch, everything and the head cost, with the trainings that are returned."""
    return 3 * bench.units + num_members


def check_budget(budget: float, smallest: float) -> None:
    """Refuse a budget that does not reach for the basics.

    Raises:
        ParamReuseError: It does not.
    """
    if not budget >= smallest - _ROUNDING:
        raise ParamReuseError(
            f"cannot choose within a budget of {budget:g} trainings: training from scratch, from "
            f"everything and the head only, each with subjects held out, and the training that is "
            f"returned take {smallest:.3g}. Raise budget=, or shorten each training with steps="
        )


@dataclass(eq=False)
class Search:
    """Measures scratch, then everything of as many sources as the budget allows, then the head.

    Attributes:
        bench: Where candidates are measured.
        sites: What each source can fill, front to back.
        left: Trainings that may still be spent on measuring.
        rank: Names the sources, the most promising first, once scratch has been measured.
        prefer: Names the best source so far, ``""`` for none.
        tried: Every candidate that was measured, by source and name.
    """

    bench: Bench
    sites: Mapping[str, Sequence[Site]]
    left: float
    rank: Callable[[], Sequence[str]]
    prefer: Callable[[], str]
    tried: dict[tuple[str, str], Candidate] = field(default_factory=dict)

    def run(self) -> None:
        """Search."""
        self._measure([scratch()])
        ranked = self.rank()
        chosen: list[Candidate] = []
        left = self.left
        for place, source in enumerate(ranked):
            # The head of the best source comes last and is never given up for one more source.
            if place and left < 2 * self.bench.units - _ROUNDING:
                break
            chosen += [as_is(self.sites[source], source), full(self.sites[source], source)]
            left -= self.bench.units
        self._measure(chosen)
        best = self.prefer() or next(iter(ranked), "")
        if best:
            self._measure([head(self.sites[best], best)])

    def _measure(self, candidates: Sequence[Candidate]) -> None:
        self.tried |= {(each.source, each.name): each for each in candidates}
        self.bench.measure(candidates)
        self.left -= self.bench.units * sum(each.trained for each in candidates)
