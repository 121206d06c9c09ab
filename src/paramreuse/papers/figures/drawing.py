"""The papers' figures 3 to 14, drawn from their tables alone.

Source: arXiv 2008.03411 and 2008.03414. A table says by itself which figure it is, so that each can
be drawn again from the CSV file beside it.
"""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from paramreuse.papers.figures.table import Table, number_of, read_frame, title_of
from paramreuse.report.colours import CLASS_COLOURS, GREY
from paramreuse.report.requirements import require_report_extra
from paramreuse.sites.swaps import SOURCE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = ("o", "s", "^", "D", "v", "P")
"""One marker per curve, so that colour is never the only cue."""

_DASHES = ("-", "--", ":")
"""For curves beyond the sixth, where colours and markers begin again."""

_OFF_SCALE = 3.0
"""How many times as far as all other curves a mean of MRW may reach before it is cut off."""

_KINDS = {
    "W": "W (kernel)",
    "B": "B (bias)",
    "RM": "RM (running mean)",
    "RV": "RV (running variance)",
    "RW": "RW (weight)",
    "RB": "RB (bias)",
}
_QUANTITIES = ("MRM", "MRB", "MRV", "MRW", "MRW median")
_NORM_PANELS = (
    ("shift", 1, ("MRM", "MRB")),
    ("shift, layer 1 left out", 2, ("MRM", "MRB")),
    ("scale", 1, ("MRV", "MRW", "MRW median")),
)
"""Title, first layer drawn, and quantities of each panel of figures 5 and 9."""


def redraw(path: str | PathLike[str]) -> "Figure":
    """Draw a figure from the CSV file beside it.

    Args:
        path: E.g. ``figures/figure-03.csv``.

    Raises:
        StudyError: The file cannot be read, or is not the table of a figure.
        MissingExtraError: matplotlib is not installed.
    """
    return draw(read_frame(path))


def draw(frame: Table) -> "Figure":
    """Draw one of the papers' figures.

    Args:
        frame: Its table, as ``papers.figures.data.figure_frames`` makes it.

    Raises:
        StudyError: The table does not name one of the papers' figures.
        MissingExtraError: matplotlib is not installed.
    """
    number = number_of(frame)
    require_report_extra()
    figure = _DRAWINGS[number](frame)
    figure.suptitle(_literal(title_of(frame)), fontsize=10)
    return figure


def _draw_sweep(frame: Table, kinds: Sequence[str]) -> "Figure":
    """Draw the foreground classes after each swap of the source, their baselines dashed."""
    shown = frame[(frame["replacement"] == SOURCE) & frame["foreground"] & ~frame["is_output"]]
    figure, panels = _panels(len(kinds), label="Dice", share_y=True)
    for axes, kind in zip(panels, kinds, strict=True):
        of_kind = shown[shown["kind"] == kind]
        for index, (name, of_class) in enumerate(of_kind.groupby("class", sort=False)):
            colour = CLASS_COLOURS[index % len(CLASS_COLOURS)]
            _curve(axes, of_class, "dice", str(name), index)
            baseline, base = of_class["baseline"].iloc[0], _literal(f"{name}, baseline")
            axes.axhline(baseline, color=colour, lw=1.1, ls=(0, (5, 3)), label=base)
        axes.set(title=_KINDS[kind], xlabel="layer", ylim=(-0.03, 1.03))
        _layer_ticks(axes, of_kind["layer"])
    _legend_below(figure, panels[:1])
    return figure


def _draw_norm_sweep(frame: Table) -> "Figure":
    return _draw_sweep(frame, ("RM", "RV", "RW", "RB"))


def _draw_conv_sweep(frame: Table) -> "Figure":
    return _draw_sweep(frame, ("W", "B"))


def _draw_batchnorm(frame: Table) -> "Figure":
    """Draw the shifts, the shifts without the first layer, and the scales."""
    figure, panels = _panels(3)
    for axes, (title, first_layer, names) in zip(panels, _NORM_PANELS, strict=True):
        layers = frame[frame["layer"] >= first_layer]
        for name in names:
            _curve(axes, layers[layers["quantity"] == name], "value", name, _QUANTITIES.index(name))
        axes.set(title=title, xlabel="layer", ylabel=title.split(",")[0])
        _layer_ticks(axes, frame["layer"])
    _cut_off(panels[2], frame)
    _legend_below(figure, (panels[0], panels[2]))
    return figure


def _cut_off(axes: "Axes", frame: Table) -> None:
    """Keep a mean of MRW that one weight near 0 carried away from flattening all other curves."""
    scales = frame[frame["quantity"].isin(["MRV", "MRW", "MRW median"]) & frame["value"].notna()]
    is_mean = scales["quantity"] == "MRW"
    others = scales.loc[~is_mean & np.isfinite(scales["value"]), "value"]
    low, high = min([0.0, *others]), max([1.0, *others])
    is_near = scales["value"].between(
        high - _OFF_SCALE * (high - low), low + _OFF_SCALE * (high - low)
    )
    far = [
        f"{row.value:.3g} (layer {row.layer})" for row in scales[is_mean & ~is_near].itertuples()
    ]
    if not far:
        return
    shown = [*others, *scales.loc[is_mean & is_near, "value"], 1.0]
    margin = 0.05 * (max(shown) - min(shown) or 1.0)
    axes.set_ylim(min(shown) - margin, max(shown) + margin)
    said = ", ".join(far[:3]) + (f" and {len(far) - 3} more" if len(far) > 3 else "")
    axes.set_title(f"{axes.get_title()}; MRW off the scale: {said}", fontsize=8, wrap=True)


def _draw_two_distances(frame: Table) -> "Figure":
    return _draw_distances(frame, ("W", "B"), _key(frame))


def _draw_kernel_distances(frame: Table) -> "Figure":
    return _draw_distances(frame, ("W",), _key(frame))


def _draw_reuse(frame: Table) -> "Figure":
    return _draw_distances(frame, ("W", "B", "RM", "RV", "RW", "RB"), _reuse_key(frame))


def _draw_distances(frame: Table, kinds: Sequence[str], key: str) -> "Figure":
    """Draw the RMSE of each pair of models, a panel per kind."""
    shown = frame[~frame["is_output"]]
    labels = list(dict.fromkeys(shown["label"]))
    figure, panels = _panels(len(kinds), label="RMSE")
    for axes, kind in zip(panels, kinds, strict=True):
        of_kind = shown[shown["kind"] == kind]
        for label, curve in of_kind.groupby("label", sort=False):
            _curve(axes, curve, "rmse", str(label), labels.index(label))
        axes.set(title=_KINDS[kind], xlabel="layer")
        axes.set_ylim(bottom=0)
        if of_kind.empty:
            axes.text(0.5, 0.5, "no layer has one", transform=axes.transAxes, ha="center")
        layers = shown.loc[shown["kind"].isin(_partners(kind)), "layer"]
        _layer_ticks(axes, layers, most=18 if len(kinds) > 1 else 36)
    _legend_below(figure, panels[:1], told=key)
    return figure


def _partners(kind: str) -> tuple[str, ...]:
    """Return the kinds whose layers share numbers with those of a kind."""
    return ("W", "B") if kind in ("W", "B") else ("RM", "RV", "RW", "RB")


def _key(frame: Table) -> str:
    """Say what the models of figures 6 and 10 to 12 were trained for, two a line."""
    told = list(dict.fromkeys([*frame["first_words"], *frame["second_words"]]))
    return "\n".join(";  ".join(told[start : start + 2]) for start in range(0, len(told), 2))


def _reuse_key(frame: Table) -> str:
    """Say what the signs of figures 13 and 14 mean: how loaded, and on how many subjects."""
    signs = frame["label"].str.rstrip("0123456789")
    meanings = dict(zip(signs, frame["first_words"], strict=True))
    told = ";  ".join(f"{sign}: {words}" for sign, words in meanings.items())
    return f"{told}\nthen the number of subjects;  RMSE to {frame['second_words'].iloc[0]}"


def _curve(axes: "Axes", points: Table, column: str, label: str, index: int) -> None:
    axes.plot(
        points["layer"],
        points[column].where(np.isfinite(points[column])),
        color=CLASS_COLOURS[index % len(CLASS_COLOURS)],
        marker=_MARKERS[index % len(_MARKERS)],
        ls=_DASHES[index // len(CLASS_COLOURS) % len(_DASHES)],
        ms=3.5,
        lw=1.3,
        label=_literal(label),
    )


def _panels(number: int, *, label: str = "", share_y: bool = False) -> "tuple[Figure, list[Axes]]":
    """Return a figure with panels in rows of two or three, a single one twice as wide.

    Args:
        number: Number of panels.
        label: Label of the y axis, written left of each row.
        share_y: Whether all panels have one scale.
    """
    from matplotlib.figure import Figure

    columns = 3 if number % 3 == 0 else min(2, number)
    rows = number // columns
    size = (13.0 / 3 * columns, 3.0 * rows + 0.6) if number > 1 else (8.0, 3.8)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, sharey=share_y, squeeze=False)
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color=GREY, alpha=0.25, lw=0.6)
        axes.yaxis.get_major_locator().set_params(nbins=5)
        axes.tick_params(labelsize=8)
    for axes in grid[:, 0]:
        axes.set_ylabel(label)
    return figure, list(grid.flat)


def _layer_ticks(axes: "Axes", layers: Any, *, most: int = 18) -> None:
    """Number the layers from 1: each of them, or every second, fifth, ... where they crowd.

    Args:
        axes: Where.
        layers: Numbers of the layers drawn.
        most: Number of ticks that fit.
    """
    last = int(layers.max()) if len(layers) else 1
    stride = next(step for step in (1, 2, 5, 10, 20, 50, 100, last) if last / step <= most)
    axes.set_xticks(range(1, last + 1, stride))
    axes.set_xlim(0.4, last + 0.6)


def _legend_below(figure: "Figure", panels: Sequence["Axes"], *, told: str = "") -> None:
    parts = [axes.get_legend_handles_labels() for axes in panels]
    handles = [handle for entries, _ in parts for handle in entries]
    figure.legend(
        handles,
        [label for _, entries in parts for label in entries],
        loc="outside lower center",
        ncols=min(6, len(handles) or 1),
        title=_literal(told) or None,
        title_fontsize=8,
        fontsize=8,
        frameon=False,
    )


def _literal(text: str) -> str:
    """Return text that matplotlib takes as it is, not as a formula."""
    return text.replace("$", r"\$")


_DRAWINGS: Mapping[int, Callable[[Table], "Figure"]] = {
    **dict.fromkeys((3, 7), _draw_norm_sweep),
    **dict.fromkeys((4, 8), _draw_conv_sweep),
    **dict.fromkeys((5, 9), _draw_batchnorm),
    **dict.fromkeys((6, 10), _draw_two_distances),
    **dict.fromkeys((11, 12), _draw_kernel_distances),
    **dict.fromkeys((13, 14), _draw_reuse),
}
