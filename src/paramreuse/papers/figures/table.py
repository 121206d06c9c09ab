"""The table of one of the papers' figures: which one it is, what it is called, how it is read."""

import re
from os import PathLike, fspath
from typing import TYPE_CHECKING, TypeAlias

from paramreuse.errors import StudyError

if TYPE_CHECKING:
    import pandas as pd

Table: TypeAlias = "pd.DataFrame"

_NUMBERS = frozenset(
    {"baseline", "dice", "drop_low", "drop_high", "value", "rmse", "relative_rmse"}
)
_TRUTHS = frozenset({"is_output", "foreground"})
_SWEPT = ("kind", "is_output", "replacement", "class", "foreground", "baseline", "dice")
_SCALED = ("quantity", "value")
_PAIRED = ("kind", "is_output", "label", "first_words", "second_words", "rmse")

_TITLES = {
    3: "Dice after one layer's BatchNorm tensor is replaced",
    4: "Dice after one layer's convolution tensor is replaced",
    5: "shift and scale that the source's BatchNorm tensors cause",
    6: "RMSE of the convolutions between target and first source",
    7: "Dice after one layer's BatchNorm tensor is replaced",
    8: "Dice after one layer's convolution tensor is replaced",
    9: "shift and scale that the source's BatchNorm tensors cause",
    10: "RMSE of the convolutions between target and first source",
    11: "RMSE of the kernels between models of two data sets",
    12: "RMSE of the kernels between models of three data sets",
    13: "RMSE to the ideal model after reuse of B2",
    14: "RMSE to the ideal model after reuse of C1",
}
_SAME, _OWN = "all models start from the same weights", "each model starts from weights of its own"
_STARTS = {
    ("PSPNet", "shared"): f"{_SAME}, as the papers' did from ImageNet's",
    ("PSPNet", "independent"): f"{_OWN}, unlike the papers'",
    ("UNet", "shared"): f"{_SAME}; the papers do not say how theirs did",
    ("UNet", "independent"): f"{_OWN}; the papers do not say how theirs did",
}


def title_of(frame: Table) -> str:
    """Return what a figure is: its number, network, content and start.

    Args:
        frame: Table of one figure.
    """
    network, start = str(frame["network"].iloc[0]), str(frame["start"].iloc[0])
    began = _STARTS.get((network, start), f"{start} start")
    number = number_of(frame)
    return f"Figure {number}. {network}: {_TITLES[number]}\n({began})"


def number_of(frame: Table) -> int:
    """Return the papers' number of a figure.

    Args:
        frame: Table of one figure.

    Raises:
        StudyError: The table says of no figure of the papers that it is it.
    """
    name = str(frame["figure"].iloc[0]) if "figure" in frame and len(frame) else ""
    named = re.fullmatch(r"figure-(\d{2})(-independent)?", name)
    if named is None or int(named[1]) not in _TITLES:
        raise StudyError(
            f"cannot draw a table whose figure is {name!r}: expected figure-03 to figure-14 in a "
            "column 'figure'"
        )
    return int(named[1])


def read_frame(path: str | PathLike[str]) -> Table:
    """Read the table of a figure as it was written: names stay text, numbers keep every digit.

    Args:
        path: CSV file beside a figure.

    Raises:
        StudyError: It cannot be read, or is not the table of a figure.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        for name in frame.columns:
            frame[name] = [_value(name, cell) for cell in frame[name]]
    except (OSError, ValueError) as error:
        raise StudyError(f"cannot read the figure's table {fspath(path)!r}: {error}") from error
    lacking = sorted(_columns_of(number_of(frame)) - set(frame.columns))
    if lacking:
        raise StudyError(f"cannot draw {fspath(path)!r}: it has no column {', '.join(lacking)}")
    return frame


def _columns_of(number: int) -> set[str]:
    """Return the columns that a figure is drawn from."""
    drawn = _SWEPT if number in (3, 4, 7, 8) else _PAIRED
    return {"network", "start", "layer"} | set(_SCALED if number in (5, 9) else drawn)


def _value(name: str, cell: str) -> str | float | bool:
    """Return a cell as it was before it was written: a class called ``1`` or ``NA`` is text."""
    if name == "layer":
        return int(cell)
    if name in _TRUTHS:
        return cell == "True"
    return cell if name not in _NUMBERS else float(cell or "nan")
