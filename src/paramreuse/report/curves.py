"""The numbers behind the figures, as tables."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from paramreuse.sites.swaps import SOURCE
from paramreuse.sweep.outcomes import Sweep

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = (
    *("position", "label", "family", "layer", "path", "class"),
    *("baseline", "score", "drop", "drop_low", "drop_high"),
)


def sweep_curve(
    sweep: Sweep, kind: str = "W", *, replacement: str = SOURCE, confidence: float = 0.95
) -> "pd.DataFrame":
    """Return what a figure of one kind draws: every layer's score after its single swap.

    Args:
        sweep: What was measured.
        kind: ``W``, ``B``, ``RM``, ``RV``, ``RW`` or ``RB``.
        replacement: ``"source"`` or a control.
        confidence: Coverage of ``drop_low`` to ``drop_high``.

    Returns:
        Columns ``position label family layer path class baseline score drop drop_low drop_high``,
        front to back; ``position`` is the layer number if all layers are of one family, else the
        place in the network, and ``label`` says which layer that is. Empty when no single swap of
        the kind was swept.
    """
    return curve_in(sweep.frame(confidence=confidence), sweep, kind, replacement)


def curve_in(frame: "pd.DataFrame", sweep: Sweep, kind: str, replacement: str) -> "pd.DataFrame":
    """Return the same from the table of a sweep, which several curves share.

    Args:
        frame: ``sweep.frame()``.
        sweep: What was measured.
        kind: As for ``sweep_curve``.
        replacement: As for ``sweep_curve``.
    """
    single = {swap.name for swap in sweep.swaps if swap.is_single}
    frame = frame[
        frame["swap"].isin(single) & (frame["kind"] == kind) & (frame["replacement"] == replacement)
    ]
    frame = frame.drop_duplicates(["path", "class"]).reset_index(drop=True)
    places = layer_places(frame["family"].tolist(), frame["layer"].tolist(), frame["path"].tolist())
    frame["position"] = [place for place, _ in places]
    frame["label"] = [label for _, label in places]
    return frame[list(_COLUMNS)]


def layer_places(
    families: Sequence[str], layers: Sequence[int], paths: Sequence[str]
) -> list[tuple[int, str]]:
    """Return position and label of each row's layer on the x axis of a figure.

    Args:
        families: Family of each row's layer.
        layers: Number of each row's layer.
        paths: Path of each row's layer; rows of one path share a position.
    """
    if len(set(families)) <= 1:
        return [(layer, str(layer)) for layer in layers]
    position = {path: number for number, path in enumerate(dict.fromkeys(paths), start=1)}
    return [
        (
            position[path],
            str(layer) if family in ("conv", "norm") else f"{family[0].upper()}{layer}",
        )
        for family, layer, path in zip(families, layers, paths, strict=True)
    ]
