"""What swapping a BatchNorm tensor shifts or scales, and what of it is invariant.

At inference BatchNorm is ``y = w (x - mu) / sqrt(var + eps) + b``. Putting the source's values
(primed) in one at a time shifts or scales a channel; the measures are means over the channels of a
layer. Source: arXiv 2008.03411, MRM, MRB, MRV and MRW.

Statistics that have gone stale explain much of these effects: ``recalibrated`` in
``sweep.recalibration`` renews them.
"""

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor, nn

from paramreuse.compare.pair_sums import pair_sums
from paramreuse.errors import ModelError
from paramreuse.sites.layers import Kind, key_of
from paramreuse.sites.lending import Weights, lend, tensors_of
from paramreuse.sites.matching import Site, compare_sites, require_sites, units_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "BatchNormComparison",
    "BatchNormShift",
    "EffectiveComparison",
    "EffectiveDistance",
    "compare_batchnorms",
    "compare_effective",
    "mrb",
    "mrm",
    "mrv",
    "mrw",
    "mrw_median",
    "scale_and_shift",
]

_Find: TypeAlias = Callable[[str], Tensor | None]

DEFAULT_EPS = 1e-5
"""PyTorch's default, taken where no model is there to say which ``eps`` a layer has."""


def scale_and_shift(
    *, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Fold the four BatchNorm tensors into ``y = scale * x + shift``.

    Source: Ioffe and Szegedy (2015), Algorithm 2, step 11.

    Args:
        mean: RM, shape ``(C,)``, in units of the layer's input.
        var: RV, shape ``(C,)``, in squared units of the input, not negative.
        weight: RW, shape ``(C,)``, without unit.
        bias: RB, shape ``(C,)``, in units of the layer's output.
        eps: The layer's own ``eps``; not a tuning knob.

    Returns:
        ``scale`` and ``shift``, each of shape ``(C,)``.

    Raises:
        ModelError: A running variance is negative, which no variance can be.
    """
    scale = weight / _deviation(var, eps)
    return scale, bias - mean * scale


def _deviation(var: Tensor, eps: float) -> Tensor:
    if (var < 0).any():
        channel = int((var < 0).nonzero()[0])
        raise ModelError(
            f"running variance is {float(var[channel]):.3g} in channel {channel}: a variance is "
            "not negative. The tensors may have been averaged or mixed up; check the checkpoint"
        )
    return torch.sqrt(var + eps)


def mrm(*, mean: Tensor, other_mean: Tensor, var: Tensor, weight: Tensor, eps: float) -> float:
    """Return ``mean_j(w_j |mu_j - mu'_j| / sqrt(var_j + eps))``: the shift caused by swapping RM.

    Source: arXiv 2008.03411, MRM. As printed there: a negative weight counts negatively.

    Args:
        mean: RM of the target, shape ``(C,)``.
        other_mean: RM of the source, shape ``(C,)``.
        var: RV of the target, shape ``(C,)``, not negative.
        weight: RW of the target, shape ``(C,)``.
        eps: The layer's own ``eps``.

    Raises:
        ModelError: A running variance is negative.
    """
    return float((weight * (mean - other_mean).abs() / _deviation(var, eps)).mean())


def mrb(*, bias: Tensor, other_bias: Tensor) -> float:
    """Return ``mean_j(|b_j - b'_j|)``: the shift caused by swapping RB.

    Source: arXiv 2008.03411, MRB.

    Args:
        bias: RB of the target, shape ``(C,)``.
        other_bias: RB of the source, shape ``(C,)``.
    """
    return float((bias - other_bias).abs().mean())


def mrv(*, var: Tensor, other_var: Tensor, eps: float) -> float:
    """Return ``mean_j(sqrt(var_j + eps) / sqrt(var'_j + eps))``: the scale caused by swapping RV.

    Source: arXiv 2008.03411, MRV.

    Args:
        var: RV of the target, shape ``(C,)``, not negative.
        other_var: RV of the source, shaped alike.
        eps: The target layer's own ``eps``: the swap leaves it in place.

    Raises:
        ModelError: A running variance is negative.
    """
    return float((_deviation(var, eps) / _deviation(other_var, eps)).mean())


def mrw(*, weight: Tensor, other_weight: Tensor) -> float:
    """Return ``mean_j(w'_j / w_j)``: the scale caused by swapping RW.

    One weight near 0 outweighs all others (infinite at 0), so read ``mrw_median`` beside it. A
    channel whose weight is the same in both has ratio 1, also where both are 0.

    Source: arXiv 2008.03411, MRW.

    Args:
        weight: RW of the target, shape ``(C,)``.
        other_weight: RW of the source, shape ``(C,)``.
    """
    return float(_weight_ratios(weight, other_weight).mean())


def mrw_median(*, weight: Tensor, other_weight: Tensor) -> float:
    """Return ``median_j(w'_j / w_j)``, of an even number the mean of the two in the middle.

    Arguments as for ``mrw``.
    """
    ordered = _weight_ratios(weight, other_weight).sort().values
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return float(ordered[middle])
    return float((ordered[middle - 1] + ordered[middle]) / 2)


def _weight_ratios(weight: Tensor, other_weight: Tensor) -> Tensor:
    return torch.where(weight == other_weight, torch.ones_like(weight), other_weight / weight)


@dataclass(frozen=True, slots=True)
class BatchNormShift:
    """What swapping each tensor of one BatchNorm layer would shift or scale.

    Attributes:
        layer: Number of the normalisation layer, front to back.
        path: Dotted path of the layer.
        mrm: Shift caused by RM, in units of the layer's output.
        mrv: Scale caused by RV.
        mrw: Scale caused by RW, mean over channels.
        mrw_median: The same, median over channels.
        mrb: Shift caused by RB, in units of the layer's output.
    """

    layer: int
    path: str
    mrm: float
    mrv: float
    mrw: float
    mrw_median: float
    mrb: float


@dataclass(frozen=True, slots=True)
class EffectiveDistance:
    """How far a convolution with its BatchNorm is from the source's, whatever the free choices.

    Attributes:
        layer: Number of the kernel layer within its family.
        path: Dotted path of the kernel layer.
        rmse_scale: RMSE of the effective scale ``w / sqrt(var + eps)``.
        rmse_shift: RMSE of the effective shift ``b + w (b_conv - mu) / sqrt(var + eps)``.
        relative_kernel: Relative RMSE of the kernels after each output channel is divided by its
            norm and multiplied by the sign of its RW: 0 identical, 1 unrelated.
    """

    layer: int
    path: str
    rmse_scale: float
    rmse_shift: float
    relative_kernel: float


@dataclass(frozen=True, slots=True)
class BatchNormComparison:
    """The BatchNorm layers of a target against a source's.

    Attributes:
        rows: One per layer whose running statistics both have, front to back.
    """

    rows: tuple[BatchNormShift, ...]

    def frame(self) -> "pd.DataFrame":
        """Return the rows as a table, columns ``layer path mrm mrv mrw mrw_median mrb``."""
        return _frame(self.rows, BatchNormShift)


@dataclass(frozen=True, slots=True)
class EffectiveComparison:
    """The convolutions of a target, each with its BatchNorm, against a source's.

    Attributes:
        rows: One per kernel layer that a BatchNorm follows in both, front to back.
    """

    rows: tuple[EffectiveDistance, ...]

    def frame(self) -> "pd.DataFrame":
        """Return the rows as a table, columns ``layer path rmse_scale rmse_shift ...``."""
        return _frame(self.rows, EffectiveDistance)


def _frame(
    rows: Sequence[BatchNormShift] | Sequence[EffectiveDistance], kind: type
) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame([astuple(row) for row in rows], columns=[f.name for f in fields(kind)])


def compare_batchnorms(target: Weights, source: Weights) -> BatchNormComparison:
    """Measure what swapping each BatchNorm tensor of a target would shift or scale.

    A layer without weight and bias (``affine=False``) counts as weight 1, bias 0. ``eps`` is the
    target layer's own where the target is a model, and 1e-5, PyTorch's default, for a state dict or
    a file. Computed in float64.

    Args:
        target: Model, state dict or checkpoint path.
        source: Model, state dict or checkpoint path.

    Returns:
        One row per layer with running statistics in both; none for a network without BatchNorm.

    Raises:
        SiteMismatchError: No tensor of the source fits any site of the target.
        ModelError: A running variance is negative; the message names the channel.
    """
    ours, theirs, sites = _matched(target, source)
    rows = []
    for mean in (site for site in sites if site.kind is Kind.RM):
        eps = _eps(target, mean.path)
        a, b = _norm(mean, ours, eps), _norm(mean, theirs, eps)
        if a is None or b is None:
            continue
        rows.append(
            BatchNormShift(
                mean.layer,
                mean.path,
                mrm=mrm(mean=a.mean, other_mean=b.mean, var=a.var, weight=a.weight, eps=eps),
                mrv=mrv(var=a.var, other_var=b.var, eps=eps),
                mrw=mrw(weight=a.weight, other_weight=b.weight),
                mrw_median=mrw_median(weight=a.weight, other_weight=b.weight),
                mrb=mrb(bias=a.bias, other_bias=b.bias),
            )
        )
    return BatchNormComparison(tuple(rows))


def compare_effective(target: Weights, source: Weights) -> EffectiveComparison:
    """Measure what differs between convolutions followed by BatchNorm, and what only seems to.

    A bias in front of BatchNorm is absorbed by RM, and a kernel's size by RV: the effective scale
    and shift, and the kernel's direction, are what inference sees. ``eps`` as for
    ``compare_batchnorms``. Computed in float64, one layer at a time.

    Args:
        target: Model, state dict or checkpoint path.
        source: Model, state dict or checkpoint path.

    Raises:
        SiteMismatchError: No tensor of the source fits any site of the target.
        ModelError: A running variance is negative; the message names the channel.
    """
    ours, theirs, sites = _matched(target, source)
    rows = []
    for unit in units_of(sites):
        kernel = unit.sites[0]
        mean = next((site for site in unit.sites if site.kind is Kind.RM), None)
        if mean is None or kernel.kind is not Kind.W:
            continue
        eps = _eps(target, mean.path)
        a, b = _norm(mean, ours, eps), _norm(mean, theirs, eps)
        if a is not None and b is not None:
            rows.append(_effective_distance(kernel, (ours, a), (theirs, b)))
    return EffectiveComparison(tuple(rows))


@dataclass(frozen=True, slots=True, eq=False)
class _Norm:
    """The four tensors of a BatchNorm layer, float64, shape ``(C,)``, and its ``eps``."""

    mean: Tensor
    var: Tensor
    weight: Tensor
    bias: Tensor
    eps: float


def _matched(target: Weights, source: Weights) -> tuple[_Find, _Find, tuple[Site, ...]]:
    """Return how to find a tensor of target and source by key, and the sites of both."""
    ours, theirs = tensors_of(target), tensors_of(source)
    lent = lend(ours, theirs)
    match = compare_sites(target if isinstance(target, nn.Module) else ours, lent)
    require_sites(match)

    def find(key: str) -> Tensor | None:
        # The weight of a layer that has none in the target is not a site, but still takes part.
        return lent[key] if key in lent else theirs.get(key)

    return ours.get, find, match.sites


def _eps(target: Weights, path: str) -> float:
    if not isinstance(target, nn.Module):
        return DEFAULT_EPS
    return float(getattr(target.get_submodule(path), "eps", DEFAULT_EPS))


def _norm(mean: Site, find: _Find, eps: float) -> _Norm | None:
    names = (mean.attribute, "running_var", "weight", "bias")
    rm, rv, rw, rb = (_wide(find(key_of(mean.path, name)), mean.shape) for name in names)
    if rm is None or rv is None:
        return None
    weight = torch.ones_like(rm) if rw is None else rw
    return _Norm(rm, rv, weight, torch.zeros_like(rm) if rb is None else rb, eps)


def _wide(tensor: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
    if tensor is None or tuple(tensor.shape) != shape:
        return None
    return tensor.detach().to("cpu", torch.float64)


def _effective_distance(
    kernel: Site, target: tuple[_Find, _Norm], source: tuple[_Find, _Norm]
) -> EffectiveDistance:
    scales, shifts, directions = [], [], []
    for find, norm in (target, source):
        bias = _wide(find(key_of(kernel.path, "bias")), tuple(norm.mean.shape))
        mean = norm.mean if bias is None else norm.mean - bias
        scale, shift = scale_and_shift(
            mean=mean, var=norm.var, weight=norm.weight, bias=norm.bias, eps=norm.eps
        )
        weights = (find(key) for key in (kernel.key, *kernel.aliases))
        weight = next(tensor for tensor in weights if tensor is not None)
        scales.append(scale)
        shifts.append(shift)
        directions.append(_direction(weight, norm.weight, kernel.family))
    return EffectiveDistance(
        kernel.layer,
        kernel.path,
        rmse_scale=pair_sums(*scales).rmse,
        rmse_shift=pair_sums(*shifts).rmse,
        relative_kernel=pair_sums(*directions).relative_rmse,
    )


def _direction(kernel: Tensor, weight: Tensor, family: str) -> Tensor:
    """Divide each output channel by its norm, and give it the sign that its RW applies to it."""
    by_output = kernel.transpose(0, 1) if family == "conv_transpose" else kernel
    flat = by_output.detach().cpu().double().flatten(1)
    sign = torch.where(weight < 0, -1.0, 1.0)
    norms = flat.norm(dim=1).clamp_min(torch.finfo(torch.float64).tiny)
    directions: Tensor = flat * (sign / norms)[:, None]
    return directions
