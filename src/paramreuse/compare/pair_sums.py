"""Additive statistics of two tensors of one shape, in one pass over their bytes.

Squares and products are taken in float32 (float64 for wider types), in rows short enough to be
exact to about 1e-7, and the rows are added up in float64: as fast as memory delivers, and no copy
larger than a block that stays in the processor's cache.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import isfinite, nan, sqrt
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paramreuse.errors import SiteMismatchError

_ROW = 4096  # products added up in float32; longer rows lose digits where values are all alike
_BLOCK = 32 * _ROW  # what stays in cache between the passes over it
_SPAN = 32 * _BLOCK  # what a thread is given, or is fetched from another device, at a time
# Below this mean square float32 squares leave the normal range and lose digits.
_SMALLEST_MEAN_SQUARE = 1e-28
# Up to this ratio of squares the products follow from the three sums of squares without cancelling.
_SIMILAR_SIZE = 100.0

_Values: TypeAlias = NDArray[Any]
_Parts: TypeAlias = tuple[int, float, float, float, float, int, int]  # the fields of PairSums


@dataclass(frozen=True, slots=True)
class PairSums:
    """What RMSE, relative RMSE and cosine of two tensors are computed from; parts add up.

    Attributes:
        elements: Number of elements of each tensor.
        squares_target: Sum of the squares of the first tensor.
        squares_source: Sum of the squares of the second.
        squares_difference: Sum of the squares of their difference.
        products: Sum of their products.
        equal: Number of elements with equal values; NaN equals NaN. (A 0.0 and a -0.0 may count as
            different.)
        non_finite: Number of places where either tensor holds NaN or an infinity.
    """

    elements: int = 0
    squares_target: float = 0.0
    squares_source: float = 0.0
    squares_difference: float = 0.0
    products: float = 0.0
    equal: int = 0
    non_finite: int = 0

    def __add__(self, other: "PairSums") -> "PairSums":
        return _total((self.parts, other.parts))

    @property
    def parts(self) -> _Parts:
        """The seven fields in order, a plain tuple."""
        return (
            self.elements,
            self.squares_target,
            self.squares_source,
            self.squares_difference,
            self.products,
            self.equal,
            self.non_finite,
        )

    @property
    def rmse(self) -> float:
        """``sqrt(mean((p - p')^2))``; NaN where a value is not finite, or there is none."""
        if self.non_finite or not self.elements:
            return nan
        return sqrt(self.squares_difference / self.elements)

    @property
    def relative_rmse(self) -> float:
        """``rmse / sqrt(mean(p^2) + mean(p'^2))``; 0 where both tensors are all zero."""
        if self.non_finite or not self.elements:
            return nan
        size = self.squares_target + self.squares_source
        return sqrt(self.squares_difference / size) if size else 0.0

    @property
    def cosine(self) -> float:
        """Cosine of the angle between both tensors; NaN where either is all zero."""
        if self.non_finite or not self.squares_target or not self.squares_source:
            return nan
        if not self.squares_difference:
            return 1.0
        cosine = self.products / sqrt(self.squares_target) / sqrt(self.squares_source)
        return min(1.0, max(-1.0, cosine))


def pair_sums(a: Tensor, b: Tensor) -> PairSums:
    """Add up the statistics of two tensors, reading each once.

    Works in as many threads as PyTorch does; the result does not depend on their number.

    Args:
        a: Real tensor of any shape and device.
        b: The other one, of the same shape; the dtype may differ.

    Raises:
        SiteMismatchError: The shapes differ, or a tensor is complex, quantised, sparse or without
            values.
    """
    if a.shape != b.shape:
        raise SiteMismatchError(
            f"cannot compare tensors of the shapes {tuple(a.shape)} and {tuple(b.shape)}: every "
            "element needs its counterpart. Leave the site out, or compare layers that match"
        )
    for tensor in (a, b):
        if (reason := incomparable(tensor)) is not None:
            raise SiteMismatchError(
                f"cannot compare tensors: one {reason}. Expected real numbers in a dense tensor; "
                "convert it first"
            )
    one, two = a.detach().reshape(-1), b.detach().reshape(-1)
    starts = range(0, one.numel(), _SPAN)
    num_threads = min(torch.get_num_threads(), len(starts))
    if num_threads < 2:
        return _total(_span_sums(one, two, start) for start in starts)
    with ThreadPoolExecutor(num_threads) as pool:
        return _total(pool.map(lambda start: _span_sums(one, two, start), starts))


def incomparable(tensor: Tensor) -> str | None:
    """Say why no distance can be taken from a tensor; None where it can."""
    if tensor.is_complex():
        return f"is complex ({tensor.dtype})"
    if tensor.is_quantized:
        return f"is quantised ({tensor.dtype})"
    if tensor.layout is not torch.strided:
        return f"is not dense ({tensor.layout})"
    if tensor.is_meta:
        return "has no values (meta device)"
    return None


def _total(parts: Iterable[_Parts]) -> PairSums:
    elements, target, source, difference, products, equal, non_finite = zip(
        PairSums().parts, *parts, strict=True
    )
    return PairSums(
        sum(elements),
        sum(target),
        sum(source),
        sum(difference),
        sum(products),
        sum(equal),
        sum(non_finite),
    )


def _span_sums(a: Tensor, b: Tensor, start: int) -> _Parts:
    one, two = a[start : start + _SPAN].cpu(), b[start : start + _SPAN].cpu()
    wide = _wide(one.dtype) or _wide(two.dtype)
    dtype = torch.float64 if wide else torch.float32
    scratch = np.empty(min(_BLOCK, one.numel()), dtype=np.float64 if wide else np.float32)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        blocks = zip(_blocks(one, dtype), _blocks(two, dtype), strict=True)
        return _total(_block_sums(x, y, scratch[: x.size]) for x, y in blocks).parts


def _blocks(values: Tensor, dtype: torch.dtype) -> Iterator[_Values]:
    if values.dtype is dtype:
        array = values.numpy()
        for start in range(0, array.size, _BLOCK):
            yield array[start : start + _BLOCK]
    else:  # one small copy at a time, since a whole one would go through memory
        for start in range(0, values.numel(), _BLOCK):
            yield values[start : start + _BLOCK].to(dtype).numpy()


def _wide(dtype: torch.dtype) -> bool:
    """Tell whether float32 cannot hold every value of a dtype."""
    return dtype is torch.float64 or (not dtype.is_floating_point and dtype.itemsize > 2)


def _block_sums(x: _Values, y: _Values, difference: _Values) -> _Parts:
    np.subtract(x, y, out=difference)
    squares = _dot(x, x), _dot(y, y), _dot(difference, difference)
    equal = _num_zeros(difference)
    floor = _SMALLEST_MEAN_SQUARE * x.size
    digits_kept = min(squares[:2]) > floor and (squares[2] > floor or equal == x.size)
    if not digits_kept or not all(map(isfinite, squares)):
        return _careful_sums(x.astype(np.float64), y.astype(np.float64))
    if max(squares[:2]) > _SIMILAR_SIZE * min(squares[:2]):
        return x.size, *squares, _dot(x, y), equal, 0
    return x.size, *squares, (squares[0] + squares[1] - squares[2]) / 2, equal, 0


def _dot(x: _Values, y: _Values) -> float:
    """Return the scalar product, added up in float64 over rows of products in their own type."""
    num_rows = x.size // _ROW
    whole = num_rows * _ROW
    rows = np.matmul(x[:whole].reshape(num_rows, 1, _ROW), y[:whole].reshape(num_rows, _ROW, 1))
    total = float(rows.sum(dtype=np.float64))
    return total + float(np.dot(x[whole:], y[whole:])) if whole < x.size else total


def _num_zeros(difference: _Values) -> int:
    # The smallest bit pattern is found several times faster than zeros are counted, and two models
    # rarely have an equal element without having all of them equal.
    bits = difference.view(f"u{difference.itemsize}")
    if bits.size == 0 or bits.min():
        return 0
    return bits.size - int(np.count_nonzero(difference))


def _careful_sums(x: _Values, y: _Values) -> _Parts:
    """Return the sums of float64 blocks that float32 cannot hold, or that are not finite."""
    equal = int(np.count_nonzero((x == y) | (np.isnan(x) & np.isnan(y))))
    non_finite = int(np.count_nonzero(~(np.isfinite(x) & np.isfinite(y))))
    difference = x - y
    squares = _dot(x, x), _dot(y, y), _dot(difference, difference)
    return x.size, *squares, _dot(x, y), equal, non_finite
