"""Example images as small PNG files inside the page."""

from base64 import b64encode
from collections.abc import Iterable
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paramreuse.report.colours import CLASS_COLOURS
from paramreuse.report.contents import ExampleImage
from paramreuse.report.plain_values import plain

_MOST_PIXELS = 256
"""Longest side of a picture; a larger image is thinned out."""

_OPACITY = 0.55


def picture_rows(examples: Iterable[ExampleImage]) -> list[object]:
    """Return each example as a name and titled pictures, each a ``data:`` address."""
    rows: list[object] = []
    for example in examples:
        pictures: list[dict[str, object]] = [
            {"title": "image", "uri": _address(_painted(example.image, None))}
        ]
        layers = {} if example.labels is None else {"labels": example.labels}
        layers |= dict(example.predictions)
        pictures += [
            {
                "title": title,
                "uri": _address(_painted(example.image, classes)),
                "score": plain(example.scores.get(title)),
            }
            for title, classes in layers.items()
        ]
        rows.append({"name": example.name, "pictures": pictures})
    return rows


def _painted(image: NDArray[Any], classes: NDArray[Any] | None) -> NDArray[np.uint8]:
    """Return the image in grey with the classes in colour over it, shape ``(H, W, 3)``."""
    step = max(1, -(-max(image.shape) // _MOST_PIXELS))
    grey = np.nan_to_num(np.asarray(image, dtype=np.float64)[::step, ::step])
    low, high = np.percentile(grey, [1, 99])
    grey = np.clip((grey - low) / max(high - low, 1e-12), 0, 1)
    painted = np.repeat(grey[..., None], 3, axis=2)
    if classes is not None:
        numbers = np.asarray(classes)[::step, ::step]
        for index in np.unique(numbers[numbers > 0]):
            where = numbers == index
            colour = _rgb(CLASS_COLOURS[(int(index) - 1) % len(CLASS_COLOURS)])
            painted[where] = (1 - _OPACITY) * painted[where] + _OPACITY * colour
    return np.round(255 * painted).astype(np.uint8)


def _rgb(colour: str) -> NDArray[np.float64]:
    return np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])


def _address(pixels: NDArray[np.uint8]) -> str:
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    return "data:image/png;base64," + b64encode(buffer.getvalue()).decode("ascii")
