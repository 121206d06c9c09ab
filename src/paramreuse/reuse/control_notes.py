"""What the reader should know of a sweep's controls."""

from collections.abc import Iterator, Sequence

import numpy as np

from paramreuse.sweep.outcomes import Sweep

_MOST_NAMES = 10
_WIDEST = 3
"""How many of the swaps whose draws differ most are named."""


def control_notes(sweep: Sweep) -> Iterator[str]:
    """Say where a control cannot differ from the source, and where its draws differ most.

    Args:
        sweep: What was measured.
    """
    for control in sweep.controls:
        names = [swap.name for swap in sweep.swaps if (swap.name, control) in sweep.alike]
        if names:
            more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
            yield (
                f"the control {control} puts in the same values as the source at "
                f"{', '.join(names[:_MOST_NAMES])}{more} (all values alike), so it shows nothing "
                "there"
            )
        yield from _draw_notes(sweep, control)


def _draw_notes(sweep: Sweep, control: str) -> Iterator[str]:
    drawn = {
        swap.name: sweep.draw_drops(swap.name, control)
        for swap in sweep.swaps
        if (swap.name, control) in sweep.draws and (swap.name, control) not in sweep.alike
    }
    spread = {name: _span(drops) for name, drops in drawn.items() if np.isfinite(drops).all()}
    if not spread:
        return
    widest = sorted(spread, key=lambda name: spread[name][0] - spread[name][1])[:_WIDEST]
    named = ", ".join("{} {:.3f} to {:.3f}".format(name, *spread[name]) for name in widest)
    number = max(len(drops) for drops in drawn.values())
    yield (
        f"the control {control} was drawn {number} times at {len(drawn)} swaps and counts by the "
        f"mean of its draws; smallest and largest drop where they differ most: {named}"
    )


def _span(drops: Sequence[float]) -> tuple[float, float]:
    return min(drops), max(drops)
