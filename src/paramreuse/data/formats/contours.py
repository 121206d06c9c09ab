"""Contours as drawn by hand, filled to masks; shared by the readers of RVSC, T1 and Sunnybrook.

Coordinates: pixel (row r, column c) has its centre at x = c, y = r, so the image covers x from -0.5
to W - 0.5. A pixel belongs to the contour when its centre lies inside it or on it. Hand-drawn
outlines cross themselves now and then, so inside means a winding number other than 0: a small loop
stays filled, where the even-odd rule would leave a hole. The libraries at hand do neither: Pillow
and OpenCV round the points and paint the outline itself, matplotlib leaves points on the outline
undefined.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from paramreuse.data.formats.bounded import read_text
from paramreuse.errors import DataError

Points = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

ON_OUTLINE_PX = 1e-9
"""Distance at which a pixel centre counts as on the outline: above rounding, below any drawing."""


def read_contour(path: Path, shape: tuple[int, int]) -> Points:
    """Read a contour from a text file, one "x y" per line.

    Args:
        path: The file; CRLF and LF, a first point repeated at the end, and blank lines are fine.
        shape: Rows and columns of the image it was drawn on.

    Returns:
        Points ``(N, 2)``, x (column) and y (row) in pixels of the stored array.

    Raises:
        DataError: The file is not there or too long; a line is not two numbers, or its point is
            outside the image; there are fewer than 3 different points.
        OSError: It cannot be opened.
    """
    if not path.is_file():
        raise DataError(f"cannot read contour {path}: no such file; copy the set again")
    lines = read_text(path).splitlines()
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    points = [_point(line, f"{path}, line {number}") for number, line in numbered]
    array = np.array(points, dtype=np.float64).reshape(-1, 2)
    _check_points(array, shape, str(path), [f"line {number}" for number, _ in numbered])
    return array


def _point(line: str, where: str) -> tuple[float, float]:
    try:
        x, y = (float(word) for word in line.split())
    except ValueError:
        raise DataError(
            f"cannot read contour {where}: it is {line.strip()[:40]!r}, expected two numbers, x "
            f"(column) and y (row)"
        ) from None
    return x, y


def fill_contour(points: Points, shape: tuple[int, int], *, name: str = "contour") -> Mask:
    """Fill a contour: nonzero winding, pixel centres on the outline included.

    Args:
        points: Shape ``(N, 2)``, x (column) and y (row); closed by itself from last to first.
        shape: Rows and columns of the mask.
        name: Where the contour came from, for messages.

    Returns:
        Shape ``(H, W)``, True inside.

    Raises:
        DataError: There are fewer than 3 different points, or one is outside the image.

    Examples:
        >>> square = np.array([[1.0, 1.0], [2.0, 1.0], [2.0, 2.0], [1.0, 2.0]])
        >>> int(fill_contour(square, (4, 4)).sum())
        4
    """
    _check_points(points, shape, name, [f"point {index + 1}" for index in range(len(points))])
    # Only the rows and columns that the contour reaches can be inside.
    low = np.maximum(np.floor(points.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(points.max(axis=0)).astype(int) + 1, shape[::-1])
    x, y = np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]))
    mask = np.zeros(shape, dtype=np.bool_)
    mask[low[1] : high[1], low[0] : high[0]] = _is_inside(x.astype(float), y.astype(float), points)
    return mask


def _is_inside(x: Points, y: Points, points: Points) -> Mask:
    """Count how often the outline winds around each position (Sunday 2001, winding number)."""
    winding = np.zeros(x.shape, dtype=np.int64)
    touched = np.zeros(x.shape, dtype=np.bool_)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        length = float(np.hypot(x1 - x0, y1 - y0))
        if length == 0.0:  # a closing point, or one drawn twice
            continue
        # An edge counts only for the rows it passes: 10 times fewer pixels to compute.
        reach = slice(
            max(0, math.floor(min(y0, y1) - y[0, 0])), math.ceil(max(y0, y1) - y[0, 0]) + 1
        )
        dx, dy = x[reach] - x0, y[reach] - y0
        left = (x1 - x0) * dy - dx * (y1 - y0)
        along = (x1 - x0) * dx + (y1 - y0) * dy
        slack = ON_OUTLINE_PX * length
        touched[reach] |= (np.abs(left) <= slack) & (along >= -slack) & (along <= length**2 + slack)
        winding[reach] += (dy >= 0) & (y[reach] < y1) & (left > 0)
        winding[reach] -= (dy < 0) & (y[reach] >= y1) & (left < 0)
    return (winding != 0) | touched


def _check_points(points: Points, shape: tuple[int, int], name: str, places: Sequence[str]) -> None:
    if points.ndim != 2 or points.shape[1] != 2 or len(np.unique(points, axis=0)) < 3:
        raise DataError(
            f"cannot fill contour {name}: it has {len(np.unique(points, axis=0))} different "
            f"points, expected 3 or more; copy the file again, or take its image out of the set"
        )
    height, width = shape
    is_in = (points >= -0.5).all(axis=1) & (points <= (width - 0.5, height - 0.5)).all(axis=1)
    if not is_in.all():  # NaN compares as outside, too
        first = int(np.flatnonzero(~is_in)[0])
        raise DataError(
            f"cannot fill contour {name}, {places[first]}: the point x={points[first, 0]:g}, "
            f"y={points[first, 1]:g} is outside the image of {height} rows and {width} columns; "
            f"expected x (column) first, in pixels of the stored image. It may belong to another "
            f"image"
        )
