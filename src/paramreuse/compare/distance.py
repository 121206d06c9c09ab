"""How far two models are apart, tensor by tensor: RMSE, relative RMSE, cosine, and lineage.

Source: arXiv 2008.03411 and 2008.03414 (RMSE of a site); the relative RMSE is
``rmse / sqrt(mean(p^2) + mean(p'^2))``, which is 0 for identical and 1 for unrelated tensors.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite, nan
from os import PathLike
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from paramreuse.compare.lineage import KernelEvidence, Lineage, judge_lineage, kernel_evidence
from paramreuse.compare.pair_sums import PairSums, incomparable, pair_sums
from paramreuse.notebook import html_sentence, html_table
from paramreuse.sites.layers import KERNEL_FAMILIES, Kind
from paramreuse.sites.lending import Weights, dtype_in, is_swappable, lend, tensors_of, view_in
from paramreuse.sites.matching import (
    Site,
    SiteMatch,
    SkippedTensor,
    compare_sites,
    require_sites,
    source_key,
)

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ["layer", "path", "kind", "key", "elements", "rmse", "relative_rmse", "cosine"]
_COUNTER = "num_batches_tracked"


def rmse(a: Tensor, b: Tensor) -> float:
    """Return the root mean square difference ``sqrt(mean((a - b)^2))``.

    Source: arXiv 2008.03411, "PR-RMSE".

    Args:
        a: Real tensor of any shape, dtype and device.
        b: The other one, of the same shape.

    Returns:
        0 exactly where both hold equal values; NaN where a value is NaN or infinite, or where there
        is not an element.

    Raises:
        SiteMismatchError: The shapes differ, or a tensor is complex, quantised or sparse.

    Examples:
        >>> import torch
        >>> rmse(torch.tensor([0.0, 0.0]), torch.tensor([3.0, 4.0]))  # sqrt((9 + 16) / 2)
        3.5355339059327378
    """
    return pair_sums(a, b).rmse


def relative_rmse(a: Tensor, b: Tensor) -> float:
    """Return ``rmse / sqrt(mean(a^2) + mean(b^2))``: 0 identical, 1 unrelated, at most sqrt(2).

    Two tensors that are all zero have distance 0. Arguments and errors as for ``rmse``.

    Raises:
        SiteMismatchError: The shapes differ, or a tensor is complex, quantised or sparse.
    """
    return pair_sums(a, b).relative_rmse


def cosine(a: Tensor, b: Tensor) -> float:
    """Return the cosine of the angle between two tensors, ``sum(a b) / (|a| |b|)``.

    NaN where either is all zero: it has no direction. Arguments and errors as for ``rmse``.

    Raises:
        SiteMismatchError: The shapes differ, or a tensor is complex, quantised or sparse.
    """
    return pair_sums(a, b).cosine


@dataclass(frozen=True, slots=True)
class Distance:
    """How far one site of the target is from the source's.

    Attributes:
        site: Where.
        sums: What all distances are computed from.
    """

    site: Site
    sums: PairSums

    @property
    def rmse(self) -> float:
        """Root mean square difference, in units of the tensor."""
        return self.sums.rmse

    @property
    def relative_rmse(self) -> float:
        """RMSE over the size of both tensors: 0 identical, 1 unrelated."""
        return self.sums.relative_rmse

    @property
    def cosine(self) -> float:
        """Cosine of the angle between both tensors; NaN where either is all zero."""
        return self.sums.cosine

    @property
    def non_finite(self) -> int:
        """Number of places where either tensor holds NaN or an infinity."""
        return self.sums.non_finite

    def to_dict(self) -> dict[str, Any]:
        """Return the row by column name, NaN as it is."""
        values = (
            self.site.layer,
            self.site.path,
            str(self.site.kind),
            self.site.key,
            self.sums.elements,
            self.rmse,
            self.relative_rmse,
            self.cosine,
        )
        return dict(zip(_COLUMNS, values, strict=True))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Every distance between a target and a source.

    Attributes:
        target: Name of the target.
        source: Name of the source.
        rows: One per site that both have, front to back.
        skipped: Every other tensor, with the reason.
        lineage: Whether the two share an initialisation.
        lineage_reason: Why, in words.
    """

    target: str
    source: str
    rows: tuple[Distance, ...]
    skipped: tuple[SkippedTensor, ...]
    lineage: Lineage
    lineage_reason: str

    @property
    def identical_share(self) -> float:
        """Share of the compared elements, of all kinds, whose values are equal in both models."""
        return _identical_share(self.rows)

    @property
    def non_finite(self) -> tuple[Distance, ...]:
        """Rows where a value is NaN or infinite; their distances are NaN."""
        return tuple(row for row in self.rows if row.non_finite)

    def _repr_html_(self) -> str:
        """Show a notebook how the two are related, and the first distances."""
        told = f"{self.source} and {self.target}: {self.lineage} start, {self.lineage_reason}"
        rows = (row.to_dict() for row in self.rows)
        return html_sentence(told) + html_table(rows, total=len(self.rows))

    def frame(self) -> "pd.DataFrame":
        """Return the rows as a table, columns ``layer path kind key elements rmse ...``."""
        import pandas as pd

        return pd.DataFrame([row.to_dict() for row in self.rows], columns=_COLUMNS)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``paramreuse compare --json`` writes for one source; None for NaN."""
        return {
            "name": self.source,
            "lineage": str(self.lineage),
            "lineage_reason": self.lineage_reason,
            "identical_share": _json_number(self.identical_share),
            "rows": [
                {name: _json_number(value) for name, value in row.to_dict().items()}
                for row in self.rows
            ],
            "skipped": [{"key": item.key, "reason": item.reason} for item in self.skipped],
        }


def _json_number(value: Any) -> Any:
    return None if isinstance(value, float) and not isfinite(value) else value


def compare_models(
    target: Weights,
    source: Weights,
    *,
    exclude: Iterable[str] = (),
    names: tuple[str, str] | None = None,
    example_input: Tensor | None = None,
) -> Comparison:
    """Measure how far every site of a target is from a source, without data or model class.

    Each tensor is read once and none is copied whole, so two files that are read lazily need the
    memory of their largest tensors only.

    Args:
        target: Model, state dict or checkpoint path.
        source: Model, state dict or checkpoint path.
        exclude: Keys of the target to leave out.
        names: What to call target and source; their paths if left out, or "target" and "source".
        example_input: One batch for the target, a model: layers are then numbered in the order in
            which they are executed.

    Returns:
        The distances, what was left out and why, and whether the two share a start.

    Raises:
        SiteMismatchError: No tensor of the source fits any site of the target, or a key to exclude
            is not a site.
        CheckpointError: A file holds no tensors that can be read safely.
    """
    names = names or (_name(target, "target"), _name(source, "source"))
    ours = tensors_of(target)
    theirs = lend(ours, source)
    numbered = target if isinstance(target, nn.Module) else ours
    match = compare_sites(numbered, theirs, exclude=exclude, example_input=example_input)
    require_sites(match)
    measured = [_measure(site, ours, theirs) for site in match.sites]
    rows = tuple(item for item, _ in measured if isinstance(item, Distance))
    skipped = tuple(item for item, _ in measured if isinstance(item, SkippedTensor))
    lineage, reason = judge_lineage(
        [evidence for _, evidence in measured if evidence is not None],
        identical_share=_identical_share(rows),
    )
    skipped = (*match.skipped, *skipped, *_no_sites(ours, match))
    return Comparison(*names, rows, skipped, lineage, reason)


def _name(weights: Weights, default: str) -> str:
    return str(weights) if isinstance(weights, str | PathLike) else default


def _no_sites(target: Mapping[str, Tensor], match: SiteMatch) -> Iterator[SkippedTensor]:
    """Yield the tensors of the target that are not sites because of their dtype."""
    named = {item.key for item in match.skipped}
    for key in target:
        dtype = dtype_in(target, key)
        if key not in named and not is_swappable(dtype) and not key.endswith(_COUNTER):
            reason = f"the target tensor is {dtype}, not a plain floating-point tensor"
            yield SkippedTensor(key, reason)


def _measure(
    site: Site, target: Mapping[str, Tensor], source: Mapping[str, Tensor]
) -> tuple[Distance | SkippedTensor, KernelEvidence | None]:
    """Read one pair of tensors, and let go of them before the next is read."""
    key = source_key(site, source)
    assert key is not None, f"{site.key} was matched"
    a, b = view_in(target, site.key), view_in(source, key)
    reason = incomparable(a) or incomparable(b)
    if reason is not None:
        return SkippedTensor(site.key, f"one tensor {reason}"), None
    sums = pair_sums(a, b)
    is_kernel = site.kind is Kind.W and site.family in KERNEL_FAMILIES and len(site.shape) >= 2
    return Distance(site, sums), kernel_evidence(a, b, sums) if is_kernel else None


def _identical_share(rows: Iterable[Distance]) -> float:
    total = sum((row.sums for row in rows), PairSums())
    return total.equal / total.elements if total.elements else nan
