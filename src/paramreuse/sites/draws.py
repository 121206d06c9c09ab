"""How often a random control is drawn at a swap, where one draw decides too much.

The drop of shuffled running means and variances varies between draws by more than a tolerance at
many sites, so that one draw alone would decide between *reusable* and *indifferent*. Source:
docs/results/calibration.md, "Control draws".
"""

from collections.abc import Mapping

from paramreuse.sites.layers import Kind
from paramreuse.sites.swaps import SHUFFLED, Swap

DRAWS: Mapping[Kind, int] = {Kind.RM: 3, Kind.RV: 3}
"""Draws of the shuffled control of a single swap by kind; one of every other kind."""


def num_draws(swap: Swap, replacement: str) -> int:
    """Return how often a replacement is drawn for a swap.

    Args:
        swap: What is filled.
        replacement: ``"source"`` or a control; only ``"shuffled"`` is drawn more than once.
    """
    if replacement != SHUFFLED or len(swap.sites) > 1:
        return 1
    return DRAWS.get(swap.sites[0].kind, 1)


def draw_name(replacement: str, draw: int) -> str:
    """Name one draw of a replacement; the first bears the replacement's own name.

    Examples:
        >>> draw_name("shuffled", 0), draw_name("shuffled", 2)
        ('shuffled', 'shuffled, draw 3')
    """
    return replacement if draw == 0 else f"{replacement}, draw {draw + 1}"
