"""PNG pictures, their checksums compared and their size known before they are unpacked.

Source: PNG (Portable Network Graphics) Specification, third edition (W3C, 2025), sections 5 and 11.
Pillow unpacks the pixels; it skips the checksums of the image data.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from paramreuse.errors import DataError
from paramreuse.extras import missing_extra

Array = npt.NDArray[Any]

_START = b"\x89PNG\r\n\x1a\n"
_CHANNELS: Mapping[int, int] = {0: 1, 2: 3, 3: 1, 4: 1, 6: 3}
"""Per colour type, transparency left out: it is not a channel of the image."""
_PALETTE = 3


@dataclass(frozen=True, slots=True, eq=False)
class PngFile:
    """What the first chunk of a PNG file promises.

    Attributes:
        path: The file.
        shape: Rows, columns and colours.
        num_bytes: Of the unpacked pixels, transparency included.
        is_palette: Whether pixels are indices of a palette, which order nothing.
    """

    path: Path
    shape: tuple[int, int, int]
    num_bytes: int
    is_palette: bool

    def unpack(self) -> Array:
        """Read the pixels ``(H, W, C)``; the indices of a palette are kept, they are classes.

        Raises:
            DataError: The file is damaged.
            MissingExtraError: Pillow is not installed.
        """
        try:
            from PIL import Image
        except ImportError as error:
            raise missing_extra("read PNG files", "pillow") from error
        content = self.path.read_bytes()
        try:
            _compare_checksums(content)
            with warnings.catch_warnings():
                # Its size was checked; Pillow would warn of much smaller ones.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                with Image.open(io.BytesIO(content), formats=("PNG",)) as picture:
                    opaque = {"LA": "L", "RGBA": "RGB"}.get(picture.mode)
                    values = np.asarray(picture.convert(opaque) if opaque else picture)
        except (
            *(OSError, EOFError, SyntaxError, ValueError, ArithmeticError, LookupError),
            *(struct.error, zlib.error, Image.DecompressionBombError),
        ) as error:
            raise _damaged(self.path, error) from error
        return values.reshape(self.shape)


def open_png(path: Path) -> PngFile:
    """Read the size of a PNG picture.

    Raises:
        DataError: It is not a PNG file.
    """
    with path.open("rb") as stream:
        start = stream.read(33)
    try:
        if start[:8] != _START or start[12:16] != b"IHDR":
            raise ValueError("it does not begin as one")
        width, height, depth, colour = struct.unpack(">IIBB", start[16:26])
        if not width or not height or colour not in _CHANNELS or depth not in (1, 2, 4, 8, 16):
            raise ValueError(f"its size is {height} x {width}, its colour type {colour}")
    except (ValueError, struct.error) as error:
        raise _damaged(path, error) from error
    channels = _CHANNELS[colour]
    stored = channels + (colour >= 4)
    num_bytes = height * width * stored * max(1, depth // 8)
    return PngFile(path, (height, width, channels), num_bytes, is_palette=colour == _PALETTE)


def _damaged(path: Path, error: BaseException) -> DataError:
    return DataError(
        f"cannot read {path}: it is not a complete PNG file ({error}); copy the file again"
    )


def _compare_checksums(content: bytes) -> None:
    place = len(_START)
    while place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        end = place + 8 + length
        named, stored = content[place + 4 : end], content[end : end + 4]
        if len(stored) < 4 or zlib.crc32(named) != int.from_bytes(stored, "big"):
            raise ValueError(f"the checksum at byte {end} is wrong")
        if named[:4] == b"IEND":
            return
        place = end + 4
    raise ValueError("its end is missing")
