"""Empty figures and axes to draw into, without a display."""

from typing import TYPE_CHECKING

from paramreuse.report.requirements import require_report_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_figure(size: tuple[float, float]) -> "Figure":
    """Return an empty figure.

    Args:
        size: Width and height in inches.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    require_report_extra()
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def new_axes(size: tuple[float, float] = (6.4, 3.6)) -> "Axes":
    """Return axes in a figure of their own, without a frame at the top and on the right.

    Args:
        size: Width and height in inches.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    axes = new_figure(size).subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return axes
