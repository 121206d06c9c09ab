"""Figures in the papers' look, drawn without a display: functions that return matplotlib axes.

Every function draws into ``ax`` or, without one, into a figure of its own (``axes.figure``), and
leaves matplotlib's global state alone. ``axes.figure.savefig("x.svg")`` writes it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from paramreuse.compare.batchnorm import BatchNormComparison
from paramreuse.compare.distance import Comparison
from paramreuse.errors import ScoreError
from paramreuse.plain_text import plain_text
from paramreuse.report.canvas import new_axes, new_figure
from paramreuse.report.colours import (
    CLASS_COLOURS,
    GREY,
    VERDICT_COLOURS,
    VERDICT_GLYPHS,
)
from paramreuse.report.curves import curve_in
from paramreuse.report.transfer_table import summarise_transfer
from paramreuse.reuse.verdict import Verdict
from paramreuse.sites.layers import Kind
from paramreuse.sites.swaps import SOURCE
from paramreuse.sweep.outcomes import MEAN, Sweep

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Table: TypeAlias = "pd.DataFrame"

_INK = "#1c2326"
_DASHES = ("-", "--", ":", "-.")


def plot_sweep(
    sweep: Sweep,
    ax: "Axes | None" = None,
    *,
    kind: str = "W",
    replacement: str = SOURCE,
    title: str | None = None,
) -> "Axes":
    """Draw the score of every class after each single swap of a kind, with the baselines.

    Source: arXiv 2008.03411, figures 3, 4, 7 and 8.

    Args:
        sweep: What was measured.
        kind: ``W``, ``B``, ``RM``, ``RV``, ``RW`` or ``RB``.
        ax: Axes to draw into.
        replacement: ``"source"`` or a control.
        title: Title; left out, the kind.

    Raises:
        ScoreError: No single swap of the kind was swept.
        MissingExtraError: matplotlib is not installed.
    """
    axes = ax if ax is not None else new_axes()
    _draw_curve(axes, sweep, sweep.frame(), kind=kind, replacement=replacement)
    axes.set_title(kind if title is None else title)
    axes.legend(fontsize="small", frameon=False)
    return axes


def _draw_curve(axes: "Axes", sweep: Sweep, frame: Table, *, kind: str, replacement: str) -> None:
    curve = curve_in(frame, sweep, kind, replacement)
    if curve.empty:
        raise ScoreError(
            f"cannot draw kind {kind!r}: no single swap of it was swept. Swept kinds: "
            f"{sorted({swap.kind for swap in sweep.swaps if swap.is_single})}"
        )
    styles = class_styles(sweep.classes, sweep.foreground)
    for name, of_class in curve.groupby("class", sort=False):
        colour, dashes, width = styles[str(name)]
        axes.axhline(of_class["baseline"].iloc[0], color=colour, lw=0.8, ls=(0, (5, 4)), alpha=0.7)
        axes.plot(
            of_class["position"],
            of_class["score"],
            color=colour,
            ls=dashes,
            lw=width,
            marker="o",
            ms=3,
            label=str(name),
        )
    _label_layers(axes, curve["position"].tolist(), curve["label"].tolist())
    axes.set(xlabel="layer", ylabel="score after the swap")


def figure_sweep(sweep: Sweep, *, replacement: str = SOURCE) -> "Figure":
    """Draw one panel per kind that was swept, all on one scale.

    Args:
        sweep: What was measured.
        replacement: ``"source"`` or a control.

    Raises:
        ScoreError: No single swap was swept.
        MissingExtraError: matplotlib is not installed.
    """
    present = {swap.kind for swap in sweep.swaps if swap.is_single}
    kinds = [kind.value for kind in Kind if kind in present]
    if not kinds:
        raise ScoreError("cannot draw the sweep: it swapped no site by itself")
    figure = new_figure((4.2 * min(3, len(kinds)), 3.2 * -(-len(kinds) // 3)))
    grid = figure.subplots(-(-len(kinds) // 3), min(3, len(kinds)), sharey=True, squeeze=False)
    frame = sweep.frame()
    for axes, kind in zip(grid.flat, kinds, strict=False):
        _draw_curve(axes, sweep, frame, kind=kind, replacement=replacement)
        axes.set_title(kind)
    for axes in grid[:, 1:].flat:
        axes.set_ylabel("")
    for axes in grid.flat[len(kinds) :]:
        axes.remove()
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    return figure


def plot_distance(
    frame: "Comparison | Table",
    ax: "Axes | None" = None,
    *,
    kind: str = "W",
    measure: str = "relative_rmse",
) -> "Axes":
    """Draw the distance between target and source, layer by layer.

    Source: arXiv 2008.03411, figures 6, 10, 11 and 12, which draw the RMSE.

    Args:
        frame: What ``compare_models`` gave, or its table; a column ``source`` makes a line each.
        kind: Kind to draw.
        measure: ``relative_rmse`` (with a line at 1, where tensors are unrelated), ``rmse`` or
            ``cosine``.
        ax: Axes to draw into.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    axes = ax if ax is not None else new_axes()
    table = frame.frame() if isinstance(frame, Comparison) else frame
    of_kind = table[table["kind"] == kind]
    names = of_kind["source"] if "source" in of_kind else np.full(len(of_kind), "")
    for index, (name, lines) in enumerate(of_kind.groupby(np.asarray(names), sort=False)):
        axes.plot(lines["layer"], lines[measure], marker="o", ms=3, label=name, **_style(index))
    if measure == "relative_rmse":
        axes.axhline(1, color=GREY, lw=1, ls="--")
        spot = axes.get_yaxis_transform()
        axes.text(0.995, 1.01, "unrelated", transform=spot, ha="right", color=GREY, fontsize=8)
    if measure != "cosine":
        axes.set_ylim(bottom=0)
    axes.set(xlabel="layer", ylabel=measure.replace("_", " ").replace("rmse", "RMSE"), title=kind)
    _whole_ticks(axes)
    if "source" in of_kind:
        axes.legend(fontsize="small", frameon=False)
    return axes


def plot_batchnorm(frame: "BatchNormComparison | Table", ax: "Axes | None" = None) -> "Axes":
    """Draw the shifts and scales that the source's BatchNorm tensors would cause.

    Source: arXiv 2008.03411, figures 5 and 9; the median of MRW stands for its mean, which one
    weight near 0 can carry away.

    Args:
        frame: What ``compare_batchnorms`` gave, or its table.
        ax: Axes to draw into.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    axes = ax if ax is not None else new_axes()
    table = frame.frame() if isinstance(frame, BatchNormComparison) else frame
    labels = {
        "mrm": "MRM, shift",
        "mrb": "MRB, shift",
        "mrv": "MRV, scale",
        "mrw_median": "MRW, scale (median)",
    }
    for index, (column, label) in enumerate(labels.items()):
        values = table[column].where(np.isfinite(table[column].astype(float)))
        axes.plot(table["layer"], values, marker="o", ms=3, label=label, **_style(index))
    for level in (0, 1):
        axes.axhline(level, color=GREY, lw=0.8, ls="--")
    axes.set(xlabel="normalisation layer", ylabel="shift, scale")
    _whole_ticks(axes)
    axes.legend(fontsize="small", frameon=False)
    return axes


def plot_map(verdict: "Verdict | Table", ax: "Axes | None" = None) -> "Axes":
    """Draw the verdict of every site: kinds down, layers front to back.

    Args:
        verdict: A verdict, or its ``frame()``.
        ax: Axes to draw into.

    Raises:
        ScoreError: No site was judged by itself.
        MissingExtraError: matplotlib is not installed.
    """
    frame = verdict.frame() if isinstance(verdict, Verdict) else verdict
    kinds = [kind.value for kind in Kind if (frame["kind"] == kind.value).any()]
    frame = frame[frame["kind"].isin(kinds)].drop_duplicates(["path", "kind"])
    if frame.empty:
        raise ScoreError("cannot draw the map: the verdict judges no site by itself")
    columns = map_columns(frame["family"].tolist(), frame["path"].tolist())
    places = [columns[path] for path in frame["path"]]
    num_columns = max(places) + 1
    axes = ax if ax is not None else new_axes((max(3.5, 0.32 * num_columns + 1), 2.9))
    for place, kind, word in zip(places, frame["kind"], frame["verdict"], strict=True):
        _draw_cell(axes, place, kinds.index(kind), str(word))
    heads = frame.assign(place=places).drop_duplicates("place")
    axes.set_xticks(heads["place"], heads["layer"], fontsize=7)
    axes.set_yticks(range(len(kinds)), kinds)
    axes.set(xlim=(-0.6, num_columns - 0.4), ylim=(len(kinds) - 0.4, -0.6), xlabel="layer")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    _add_verdict_legend(axes, [word for word in VERDICT_COLOURS if word in set(frame["verdict"])])
    return axes


def map_columns(families: Sequence[str], paths: Sequence[str]) -> dict[str, int]:
    """Return the column of each layer: a normalisation stands under the kernel in front of it."""
    columns: dict[str, int] = {}
    before = ""
    for family, path in zip(families, paths, strict=True):
        if path in columns:
            continue
        joins = family == "norm" and before not in ("", "norm")
        columns[path] = max(columns.values(), default=-1) + (0 if joins else 1)
        before = family
    return columns


def _draw_cell(axes: "Axes", column: int, row: int, word: str) -> None:
    from matplotlib.patches import Rectangle

    colour = VERDICT_COLOURS.get(word, "white")
    axes.add_patch(Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, facecolor=colour, lw=0))
    axes.text(
        *(column, row, VERDICT_GLYPHS.get(word, "")),
        ha="center",
        va="center",
        fontsize=8,
        color="white" if word in ("reusable", "not reusable") else "black",
    ).set_in_layout(False)


def _add_verdict_legend(axes: "Axes", words: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(color=VERDICT_COLOURS[word], label=f"{VERDICT_GLYPHS[word]} {word}") for word in words
    ]
    axes.legend(
        handles=handles,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=len(handles) or 1,
        fontsize="small",
        frameon=False,
    )


def plot_transfer(frame: Table, ax: "Axes | None" = None) -> "Axes":
    """Draw the mean score of every start, each seed as a dot and an interval over the seeds.

    Args:
        frame: One row per training: ``strategy num_subjects seed mean``, optionally ``source``.
        ax: Axes to draw into.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    axes = ax if ax is not None else new_axes()
    rows = frame.to_dict("records")
    starts = list(dict.fromkeys(_start_of(row) for row in rows))
    sizes = sorted({int(row["num_subjects"]) for row in rows})
    for index, size in enumerate(sizes):
        nudge = 0.18 * (index - (len(sizes) - 1) / 2)
        colour = CLASS_COLOURS[index % len(CLASS_COLOURS)]
        of_size = [row for row in rows if int(row["num_subjects"]) == size]
        spots = [starts.index(_start_of(row)) + nudge for row in of_size]
        axes.plot(spots, [row["mean"] for row in of_size], "o", ms=3, alpha=0.45, color=colour)
        for row in summarise_transfer(of_size):
            x, mean = starts.index(_start_of(row)) + nudge, float(str(row["mean"]))
            ends = [float(str(row[name])) for name in ("mean_low", "mean_high")]
            axes.plot([x, x], ends, color=colour, lw=1.6)
            axes.plot([x - 0.05, x + 0.05], [mean, mean], color=colour, lw=2.4)
        axes.plot([], [], "o", color=colour, label=f"{size} subjects")
    axes.set_xticks(range(len(starts)), starts, rotation=20, ha="right")
    axes.set(ylabel="mean score")
    axes.legend(fontsize="small", frameon=False)
    return axes


def _start_of(row: "dict[str, object] | pd.Series") -> str:
    source = row.get("source")
    named = isinstance(source, str) and source
    return f"{row['strategy']} · {source}" if named else str(row["strategy"])


def class_styles(
    classes: Sequence[str], foreground: Sequence[bool]
) -> dict[str, tuple[str, str, float]]:
    """Return colour, dashes and line width of each class and of their mean."""
    styles = {MEAN: (_INK, "-", 2.0)}
    rank = 0
    for name, counts in zip(classes, foreground, strict=True):
        if not counts:
            styles[name] = (GREY, "-", 1.2)
            continue
        dashes = _DASHES[rank // len(CLASS_COLOURS) % len(_DASHES)]
        styles[name] = (CLASS_COLOURS[rank % len(CLASS_COLOURS)], dashes, 1.2)
        rank += 1
    return styles


def _style(index: int) -> dict[str, Any]:
    dashes = _DASHES[index // len(CLASS_COLOURS) % len(_DASHES)]
    return {"color": CLASS_COLOURS[index % len(CLASS_COLOURS)], "linestyle": dashes}


def _whole_ticks(axes: "Axes") -> None:
    last = int(max(axes.dataLim.x1, 1))
    stride = next(step for step in (1, 2, 5, 10, 20, 50, 100, last) if last / step <= 16)
    axes.set_xticks([1, *range(stride, last + 1, stride)] if stride > 1 else range(1, last + 1))


def _label_layers(axes: "Axes", positions: Sequence[int], labels: Sequence[str]) -> None:
    plain = [plain_text(label).replace("$", r"\$") for label in labels]
    named = dict(zip(positions, plain, strict=True))
    if all(label == str(position) for position, label in named.items()):
        _whole_ticks(axes)
        return
    stride = -(-len(named) // 26)
    axes.set_xticks(list(named)[::stride], list(named.values())[::stride], fontsize=7)
