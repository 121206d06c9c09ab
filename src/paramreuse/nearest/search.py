"""The checkpoints nearest to a pilot: by their sketches first, the best of those by every element.

Source of the order: arXiv 2008.03411, "PR-RMSE", mean over the kernels; here of the relative RMSE,
so that a source of small weights is not near for that alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from heapq import nsmallest
from math import isfinite, isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paramreuse.checkpoint.names import match_keys
from paramreuse.checkpoint.storage import is_stored_address, read_stored
from paramreuse.compare.distance import Comparison, compare_models
from paramreuse.errors import ParamReuseError, SiteMismatchError
from paramreuse.nearest.index import DTYPES, Layout, SketchIndex, opened_index
from paramreuse.nearest.listing import LeftOut, LocalSource, list_sources
from paramreuse.nearest.sketch import estimated_relative_rmse, sketch_tensor
from paramreuse.nearest.sketching import Progress, sketch_sources
from paramreuse.sites.lending import Weights, tensors_of
from paramreuse.sites.matching import compare_sites, sites_of, source_key
from paramreuse.sites.swaps import kernel_sites

if TYPE_CHECKING:
    import pandas as pd

_UNRELATED = 1.0
"""Relative RMSE of two tensors that have nothing in common; a kernel that is missing counts so."""

_SHORTLIST = 4
"""Sources that are compared element by element, for each that is asked for."""


@dataclass(frozen=True, slots=True)
class NearSource:
    """A source, and how far it is from the pilot.

    Attributes:
        source: Path or address.
        distance: Mean over the pilot's kernels of the relative RMSE, output layer aside; a kernel
            that the source lacks counts 1, as an unrelated one.
        rmse: Mean over the kernels that both have of the RMSE.
        kernels: How many both have.
        lineage: ``shared``, ``independent`` or ``undecided``.
        estimate: What the sketches said of ``distance``.
    """

    source: str
    distance: float
    rmse: float
    kernels: int
    lineage: str
    estimate: float


@dataclass(frozen=True, slots=True)
class NearestSources:
    """What was found.

    Attributes:
        sources: The nearest first, by every element.
        left_out: What was not compared, by name.
        kernels: How many kernels the pilot has, output layer aside.
        sketched: Sources that were read for their sketch.
        unchanged: Sources whose sketch was in the index.
    """

    sources: tuple[NearSource, ...]
    left_out: tuple[LeftOut, ...]
    kernels: int
    sketched: int
    unchanged: int

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per source, columns ``rank source distance rmse kernels lineage``."""
        return [
            {
                "rank": rank,
                "source": near.source,
                "distance": near.distance,
                "rmse": near.rmse,
                "kernels": f"{near.kernels} of {self.kernels}",
                "lineage": near.lineage,
                "estimate": near.estimate,
            }
            for rank, near in enumerate(self.sources, start=1)
        ]

    def frame(self) -> "pd.DataFrame":
        """Return the rows as a table."""
        import pandas as pd

        return pd.DataFrame(self.rows())

    def to_dict(self) -> dict[str, Any]:
        """Return what ``paramreuse rank PILOT SOURCES --json`` writes."""
        return {
            "sources": self.rows(),
            "left_out": [{"source": item.source, "reason": item.reason} for item in self.left_out],
            "sketched": self.sketched,
            "unchanged": self.unchanged,
        }


def nearest_sources(
    pilot: Weights,
    places: Sequence[str],
    *,
    index: Path | None = None,
    top: int = 10,
    workers: int = 1,
    progress: Progress | None = None,
) -> NearestSources:
    """Find the checkpoints whose kernels are nearest to a pilot's.

    Every file is read once for a sketch of its kernels, 256 bytes each; the ``4 * top`` that look
    nearest are then compared element by element. Between independent starts no distance means
    anything, which ``lineage`` tells.

    Args:
        pilot: Model, state dict, checkpoint path or address; held in memory.
        places: Files, folders, and addresses of stores (``s3://bucket/folder``).
        index: File that keeps the sketches, so that another pilot, or the same command after an
            interruption, reads only files that are new or have changed. None keeps nothing.
        top: How many sources to return.
        workers: How many files to read side by side; each holds one tensor in memory.
        progress: Called with the number of sources that have been sketched.

    Raises:
        CheckpointError: A place does not exist, may not be read or holds no checkpoint, none of
            its files can be read, or the index is not one.
        SiteMismatchError: No kernel of any source fits the pilot, or it has none.
        MissingExtraError: The library of a store is not installed.
    """
    if top < 1 or workers < 1:
        raise ParamReuseError(f"expected at least 1 of top and workers, got {top} and {workers}")
    ours = _in_memory(pilot)
    kernels = _kernels_of(ours)
    with opened_index(index) as sketches:
        done = sketch_sources(sketches, list_sources(places), workers=workers, progress=progress)
        left_out = [*done.left_out, *(LeftOut(*item) for item in sketches.problems())]
        shortlist = shortlisted(ours, sketches, number=_SHORTLIST * top, left_out=left_out)
    _require_some(shortlist, left_out)
    found = _compared(ours, kernels, shortlist, workers, left_out)
    return NearestSources(
        tuple(sorted(found, key=lambda near: (near.distance, near.source))[:top]),
        tuple(left_out),
        len(kernels),
        done.sketched,
        done.unchanged,
    )


def _in_memory(pilot: Weights) -> dict[str, Tensor]:
    stored = isinstance(pilot, str) and is_stored_address(pilot) and not pilot.startswith("hf:")
    held = read_stored(pilot) if stored else tensors_of(pilot)  # type: ignore[arg-type]
    return {key: held[key] for key in held}


def _require_some(shortlist: Sequence[object], left_out: Sequence[LeftOut]) -> None:
    if shortlist:
        return
    first = left_out[0] if left_out else LeftOut("", "nothing was found")
    raise SiteMismatchError(
        f"cannot rank: none of {len(left_out)} sources can be compared with the pilot. The first, "
        f"{first.source!r}: {first.reason}"
    )


def _kernels_of(pilot: Mapping[str, Tensor]) -> list[str]:
    """Return the keys of the kernels that count, in order."""
    kernels = [site.key for site in kernel_sites(sites_of(pilot))]
    if not kernels:
        raise SiteMismatchError(
            "cannot rank: the pilot has no kernel besides its output layer, so nothing is near it"
        )
    return kernels


def shortlisted(
    ours: Mapping[str, Tensor],
    index: SketchIndex,
    *,
    number: int,
    left_out: list[LeftOut] | None = None,
) -> list[tuple[float, str]]:
    """Return estimate and address of the sources that look nearest, in one pass over the index.

    Args:
        ours: The pilot.
        index: Holds the sketches of the sources that are wanted.
        number: How many to return.
        left_out: Is given what does not fit.

    Raises:
        SiteMismatchError: The pilot has no kernel besides its output layer.
    """
    kernels = _kernels_of(ours)
    left_out = [] if left_out is None else left_out
    own = [sketch_tensor(ours[key]) for key in kernels]
    squares = np.array([sketch.squares for sketch in own])
    buckets = np.array([sketch.buckets for sketch in own])

    def estimates() -> Iterator[tuple[float, str]]:
        for layout, content in index.layouts():
            places, reason = _places(ours, kernels, content)
            rows = [kernel for kernel, _ in places]
            columns = [column for _, column in places]
            for held in index.sketches(layout, num_tensors=len(content)):
                if not places:
                    left_out.extend(LeftOut(address, reason) for address in held.addresses)
                    continue
                estimated = estimated_relative_rmse(
                    *(squares[rows], buckets[rows]),
                    *(held.squares[:, columns], held.buckets[:, columns]),
                )
                yield from _known(estimated, held.addresses, len(kernels), left_out)

    return nsmallest(number, estimates())


def _known(
    estimated: NDArray[np.float64],
    addresses: Sequence[str],
    num_kernels: int,
    left_out: list[LeftOut],
) -> Iterator[tuple[float, str]]:
    missing = _UNRELATED * (num_kernels - estimated.shape[1])
    for distance, address in zip(estimated.sum(axis=1) + missing, addresses, strict=True):
        if isfinite(distance):
            yield float(distance) / num_kernels, address
        else:
            left_out.append(LeftOut(address, "values of a kernel are not finite"))


def _places(
    ours: Mapping[str, Tensor], kernels: Sequence[str], layout: Layout
) -> tuple[list[tuple[int, int]], str]:
    """Return which kernel of the pilot is which tensor of a layout; or why none is."""
    theirs = {
        key: torch.empty(shape, dtype=DTYPES[dtype], device="meta") for key, shape, dtype in layout
    }
    columns = {key: number for number, key in enumerate(theirs)}
    match = compare_sites(ours, theirs)
    pairs = match_keys(theirs, ours.keys()).pairs
    fitting = {site.key: pairs.get(source_key(site, pairs) or "") for site in match.sites}
    places = [
        (number, columns[name])
        for number, key in enumerate(kernels)
        if (name := fitting.get(key)) is not None
    ]
    reasons = {item.key: item.reason for item in match.skipped}
    first = kernels[0]
    told = f"no kernel fits the pilot, e.g. {first!r}: {reasons.get(first, 'it is not there')}"
    return places, told


def _compared(
    ours: Mapping[str, Tensor],
    kernels: Sequence[str],
    shortlist: Sequence[tuple[float, str]],
    workers: int,
    left_out: list[LeftOut],
) -> list[NearSource]:
    def compare(item: tuple[float, str]) -> NearSource | LeftOut:
        estimate, address = item
        try:
            theirs = read_stored(address) if is_stored_address(address) else _read(address)
            found = compare_models(ours, theirs, names=("pilot", address))
        except ParamReuseError as error:
            return LeftOut(address, str(error))
        return _near(found, set(kernels), estimate)

    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(compare, shortlist))
    left_out.extend(result for result in results if isinstance(result, LeftOut))
    return [result for result in results if isinstance(result, NearSource)]


def _read(address: str) -> Weights:
    return LocalSource(Path(address)).read()


def _near(found: Comparison, kernels: set[str], estimate: float) -> NearSource | LeftOut:
    rows = [row for row in found.rows if row.site.key in kernels]
    if any(isnan(row.relative_rmse) for row in rows):
        return LeftOut(found.source, "values of a kernel are not finite")
    missing = _UNRELATED * (len(kernels) - len(rows))
    return NearSource(
        source=found.source,
        distance=(sum(row.relative_rmse for row in rows) + missing) / len(kernels),
        rmse=float(np.mean([row.rmse for row in rows])),
        kernels=len(rows),
        lineage=str(found.lineage),
        estimate=estimate,
    )
