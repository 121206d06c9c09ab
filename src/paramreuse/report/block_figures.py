"""Figures of how much of a network is loaded, and of what putting its blocks back costs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from paramreuse.errors import ScoreError
from paramreuse.plain_text import plain_text
from paramreuse.recommendation.audit import BlockAudit, audit_rewind
from paramreuse.report.canvas import new_axes
from paramreuse.report.colours import CLASS_COLOURS, GREY
from paramreuse.sweep.outcomes import Sweep

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Table: TypeAlias = "pd.DataFrame"


def plot_depth_curve(frame: Table, ax: "Axes | None" = None) -> "Axes":
    """Draw the gain over scratch against how much of the network is loaded, front to back.

    Args:
        frame: One row per source and cut: ``share`` of the kernel layers that is loaded, 0 to 1,
            ``gain`` over training from scratch, and optionally ``gain_low``, ``gain_high``,
            ``source`` and ``num_subjects``.
        ax: Axes to draw into.

    Raises:
        ScoreError: The table has no row.
        MissingExtraError: matplotlib is not installed.
    """
    if frame.empty:
        raise ScoreError("cannot draw the depth curve: no prefix of a source was trained")
    axes = ax if ax is not None else new_axes()
    curves: dict[str, list[Mapping[str, Any]]] = {}
    for row in frame.to_dict("records"):
        curves.setdefault(_curve_name(row), []).append(row)
    for index, (name, rows) in enumerate(curves.items()):
        colour = CLASS_COLOURS[index % len(CLASS_COLOURS)]
        placed = sorted(rows, key=lambda row: float(row["share"]))
        nudge = 0.008 * (index - (len(curves) - 1) / 2)
        places = [100 * (float(row["share"]) + nudge) for row in placed]
        gains = [row["gain"] for row in placed]
        axes.plot(places, gains, marker="o", ms=4, color=colour, label=plain_text(name))
        for x, row in zip(places, placed, strict=True):
            ends = [row.get("gain_low", float("nan")), row.get("gain_high", float("nan"))]
            axes.plot([x, x], ends, color=colour, lw=1.4, alpha=0.6)
    axes.axhline(0, color=GREY, lw=1, ls="--")
    axes.set(
        xlabel="kernel layers loaded, front to back (%)", ylabel="gain over training from scratch"
    )
    if list(curves) != [""]:
        axes.legend(fontsize="small", frameon=False)
    return axes


def _curve_name(row: Mapping[Any, Any]) -> str:
    source, number = row.get("source"), row.get("num_subjects")
    parts = [str(source) if isinstance(source, str) else ""]
    parts += [f"{int(number)} subjects"] if number is not None else []
    return ", ".join(part for part in parts if part)


def plot_rewind(sweep: "Sweep | Sequence[BlockAudit]", ax: "Axes | None" = None) -> "Axes":
    """Draw what putting each block back costs: to the source, and to a fresh draw.

    Args:
        sweep: What ``rewind_sweep`` measured, or its audits.
        ax: Axes to draw into.

    Raises:
        ScoreError: The sweep has no control ``reinit``, or there is no block.
        MissingExtraError: matplotlib is not installed.
    """
    audits = audit_rewind(sweep) if isinstance(sweep, Sweep) else sweep
    if not audits:
        raise ScoreError("cannot draw a rewind sweep: it has no block")
    axes = ax if ax is not None else new_axes((6.4, 1.2 + 0.34 * len(audits)))
    series = (("back to the source", "rewind", -0.12), ("drawn afresh", "reinit", 0.12))
    for index, (name, measured, nudge) in enumerate(series):
        colour = CLASS_COLOURS[index]
        drops = [getattr(audit, measured) for audit in audits]
        places = [k + nudge for k in range(len(audits))]
        axes.plot(drops, places, "o", ms=5, color=colour, label=name)
        for y, audit in zip(places, audits, strict=True):
            axes.plot(getattr(audit, f"{measured}_interval"), [y, y], color=colour, lw=1.4)
    axes.axvline(0, color=GREY, lw=1, ls="--")
    names = [plain_text(audit.block).replace("$", r"\$") for audit in audits]
    axes.set_yticks(range(len(audits)), names, fontsize=8)
    axes.set(xlabel="drop of the score", ylim=(len(audits) - 0.5, -0.5))
    axes.legend(fontsize="small", frameon=False)
    return axes
