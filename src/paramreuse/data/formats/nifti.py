"""NIfTI files: header, voxels and place in space, checked before they are unpacked.

Source: NIfTI-1 data format (Cox et al. 2004), ``nifti1.h``, and NIfTI-2, ``nifti2.h``. nibabel
parses the header and scales the voxels; its own way of opening files stops reading before gzip's
checksum and repairs headers by guessing (a pixel size of 0 becomes 1 mm), so neither is used.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from paramreuse.data.formats.bounded import read_exactly
from paramreuse.errors import DataError
from paramreuse.extras import missing_extra

Array = npt.NDArray[Any]

_GZIP_START = b"\x1f\x8b"
_MAGIC: Mapping[int, tuple[int, bytes]] = {348: (344, b"n+1\0"), 540: (4, b"n+2\0\r\n\x1a\n")}
"""Per length of the header, where its magic text stands and what it is; NIfTI-1, then NIfTI-2."""
_TYPES: Mapping[int, str] = {
    **{2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8"},
    **{256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"},
}
_OTHER_TYPES: Mapping[int, str] = {
    **{1: "single bits", 32: "complex numbers", 128: "RGB colours", 1536: "128-bit numbers"},
    **{1792: "complex numbers", 2048: "complex numbers", 2304: "RGBA colours"},
}
_UNITS: Mapping[int, str] = {1: "metres", 3: "micrometres"}
_MOST_HEADER_BYTES = 1 << 24
_DAMAGE = (OSError, EOFError, ValueError, ArithmeticError, zlib.error, struct.error)


@dataclass(frozen=True, slots=True, eq=False)
class NiftiFile:
    """What the header of a NIfTI file promises.

    Attributes:
        path: The file.
        shape: Of the voxels, 2 to 4 axes.
        spacing_mm: Height (first axis) and width (second axis) of a pixel.
        affine: Shape ``(4, 4)``: indices of a voxel to mm in space; None where the header does not
            say.
        dtype: Of the stored voxels.
        offset: Where in the file they begin.
        scaling: What voxels are multiplied by and what is added; None for nothing.
    """

    path: Path
    shape: tuple[int, ...]
    spacing_mm: tuple[float, float]
    affine: Array | None
    dtype: np.dtype[Any]
    offset: int
    scaling: tuple[float, float] | None

    @property
    def num_bytes(self) -> int:
        """Bytes of header and voxels, unpacked."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize

    def unpack(self) -> Array:
        """Read all voxels, scaled; the file is read to its end, so that checksums count.

        Raises:
            DataError: The file is shorter than its header promises, or damaged.
        """
        from nibabel.volumeutils import apply_read_scaling

        with _whole_file(self.path), _opened(self.path) as stream:
            content = read_exactly(stream, self.num_bytes)
        stored = np.frombuffer(content, self.dtype, offset=self.offset)
        voxels = stored.reshape(self.shape, order="F")
        if self.scaling is None:
            return voxels
        slope, intercept = (np.asanyarray(number) for number in self.scaling)
        return np.asarray(apply_read_scaling(voxels, slope, intercept))


def open_nifti(path: Path) -> NiftiFile:
    """Read and check the header of a NIfTI file, compressed or not.

    Raises:
        DataError: It is not a NIfTI file, is damaged, or its voxels are not numbers on 2 to 4 axes
            with a pixel size in mm.
        MissingExtraError: nibabel is not installed.
    """
    try:
        from nibabel.nifti1 import Nifti1Header
        from nibabel.nifti2 import Nifti2Header
    except ImportError as error:
        raise missing_extra("read NIfTI files", "nibabel") from error
    with _whole_file(path):
        with _opened(path) as stream:
            start = stream.read(max(_MAGIC))
        size, order = _size_and_order(start)
        place, magic = _MAGIC[size]
        if start[place : place + len(magic)] != magic:
            raise ValueError("it lacks the mark of a NIfTI file that holds its voxels")
        kind = {348: Nifti1Header, 540: Nifti2Header}[size]
        header = kind(start[:size], endianness=order, check=False)
        dtype = _dtype(path, header, order)
        return NiftiFile(
            path=path,
            shape=_shape(path, header),
            spacing_mm=_spacing_mm(path, header),
            affine=_affine(header),
            dtype=dtype,
            offset=_offset(header, size),
            scaling=_scaling(header),
        )


@contextmanager
def _whole_file(path: Path) -> Iterator[None]:
    from nibabel.spatialimages import HeaderDataError

    try:
        yield
    except DataError:
        raise
    except (*_DAMAGE, HeaderDataError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(
            f"cannot read {path}: it is not a complete NIfTI file ({error}); copy the file again"
        ) from error


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as stream:
        start = stream.read(len(_GZIP_START))
        stream.seek(0)
        if start != _GZIP_START:
            yield stream
            return
        with gzip.open(stream, "rb") as unpacked:
            yield unpacked  # type: ignore[misc]


def _size_and_order(start: bytes) -> tuple[int, str]:
    for order, sign in (("little", "<"), ("big", ">")):
        size = int.from_bytes(start[:4], order)  # type: ignore[arg-type]
        if size in _MAGIC and len(start) >= size:
            return size, sign
    raise ValueError("it does not begin with a NIfTI header")


def _dtype(path: Path, header: Any, order: str) -> np.dtype[Any]:
    code, bits = int(header["datatype"]), int(header["bitpix"])
    if code not in _TYPES:
        kind = _OTHER_TYPES.get(code, "a type that NIfTI does not know")
        raise DataError(
            f"cannot read {path}: its voxels are stored as {kind} (datatype {code}), expected "
            f"whole or floating-point numbers; convert the file"
        )
    dtype = np.dtype(order + _TYPES[code])
    if bits != 8 * dtype.itemsize:
        raise ValueError(f"datatype {code} has {8 * dtype.itemsize} bits, its bitpix is {bits}")
    return dtype


def _shape(path: Path, header: Any) -> tuple[int, ...]:
    number, *lengths = (int(length) for length in header["dim"])
    shape = tuple(lengths[: max(number, 0)])
    if not 2 <= number <= 4 or min(shape) < 1:
        raise DataError(
            f"cannot read {path}: its header gives {number} axes of {lengths} voxels, expected "
            f"rows x columns x slices, perhaps x channels or frames"
        )
    return shape


def _spacing_mm(path: Path, header: Any) -> tuple[float, float]:
    height, width = (float(side) for side in header["pixdim"][1:3])
    if not (0 < height < math.inf and 0 < width < math.inf):
        raise DataError(
            f"cannot read {path}: its pixels measure {(height, width)} mm, expected positive "
            f"numbers; write the pixel spacing into the header"
        )
    unit = int(header["xyzt_units"]) & 7
    # 0 is unknown, which everybody who writes it means as mm.
    if unit not in (0, 2):
        name = _UNITS.get(unit, f"the unknown unit {unit}")
        raise DataError(
            f"cannot read {path}: its header gives pixels of {(height, width)} in {name}, expected "
            f"mm; write the pixel spacing into the header in mm (xyzt_units 2)"
        )
    return height, width


def _affine(header: Any) -> Array | None:
    if int(header["sform_code"]) <= 0 and int(header["qform_code"]) <= 0:
        return None
    if header["pixdim"][0] == 0:
        header["pixdim"][0] = 1  # "if qfac = 0, then use qfac = 1" (nifti1.h)
    return np.asarray(header.get_best_affine(), dtype=np.float64)


def _offset(header: Any, size: int) -> int:
    offset = float(header["vox_offset"])
    if not size <= offset <= _MOST_HEADER_BYTES:
        raise ValueError(f"its voxels are said to begin at byte {offset:g}")
    return int(offset)


def _scaling(header: Any) -> tuple[float, float] | None:
    slope, intercept = header.get_slope_inter()
    return None if slope is None or (slope, intercept) == (1.0, 0.0) else (slope, intercept)
