"""Normalisation layers whose running statistics are frozen, in training as in evaluation.

``requires_grad`` does not reach running statistics: in training mode a BatchNorm normalises with
the batch and moves RM and RV, however frozen its weight is. Setting ``track_running_stats=False``
leaves the values alone but still normalises with the batch, so that training and evaluation
disagree. Here the layer keeps its tensors, its keys and its mode, and changes its class to a
subclass of itself whose forward pass heeds what is frozen; that survives ``model.train()``, DDP,
AMP, ``copy.deepcopy``, pickling and a state dict round trip, and can be taken back. Weight
averaging starts statistics again before it recomputes them, which the layer does not let happen to
frozen ones: ``torch.optim.swa_utils.update_bn`` asks it to, lightning's
``StochasticWeightAveraging`` writes the start values itself.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from paramreuse.errors import PlanError

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Buffers of a BatchNorm or InstanceNorm that a training step moves."""

_FROZEN = "frozen_statistics"
_COUNT = "frozen_count"
_LOADING = "is_loading_state_dict"
_STARTS = {"running_mean": 0, "running_var": 1, "num_batches_tracked": 0}
"""Value of every element of a statistic that has been started again."""

_FROZEN_CLASSES: dict[type[nn.Module], type[nn.Module]] = {}
_KNOWN_FORWARDS = (_BatchNorm.forward, _InstanceNorm.forward, nn.SyncBatchNorm.forward)


def frozen_statistics(layer: nn.Module) -> frozenset[str]:
    """Return which of the layer's statistics are frozen, e.g. ``{"running_mean"}``."""
    return frozenset(layer.__dict__.get(_FROZEN, ()))


def freeze_statistics(layer: nn.Module, attributes: frozenset[str], *, path: str) -> None:
    """Freeze some of a layer's running statistics, besides those already frozen.

    Where RM and RV are both frozen, the layer is in training what it is in evaluation. Where one
    of them is, training normalises with the frozen one, exactly as evaluation does, and with the
    batch's value of the other, as every BatchNorm does, while the running estimate of that other
    keeps following the batches. The batch variance is taken about the batch mean also where RM is
    frozen, so that RV stays a variance and evaluation agrees with training as far as a running
    estimate agrees with a batch. Normalising with the moving estimate itself would agree exactly,
    but no gradient flows through it and training diverges (Ioffe, 2017, arXiv 1702.03275,
    section 3).

    Args:
        layer: A BatchNorm (any dimension, synchronised, subclassed) or InstanceNorm that tracks
            running statistics; its class becomes a subclass of itself.
        attributes: Names out of ``STATISTICS``.
        path: Where the layer is, for messages.

    Raises:
        PlanError: Only one of RM and RV of a layer with a forward pass of its own.
    """
    frozen = frozen_statistics(layer) | attributes
    original = _original_class(layer)
    if not _both(frozen) and original.forward not in _KNOWN_FORWARDS:
        raise PlanError(
            f"cannot freeze {sorted(frozen)} alone at {path!r}: {original.__name__} has a forward "
            "pass of its own, in which one statistic cannot be told from the other. Freeze its "
            "running_mean and running_var together, or neither"
        )
    layer.__class__ = _frozen_class(original)
    setattr(layer, _FROZEN, frozen)
    _remember_count(layer)


def unfreeze_statistics(layer: nn.Module, attributes: frozenset[str]) -> None:
    """Let some of a layer's running statistics move again; without any left, restore its class."""
    frozen = frozen_statistics(layer) - attributes
    if frozen:
        setattr(layer, _FROZEN, frozen)
    elif _FROZEN in layer.__dict__:
        layer.__class__ = _original_class(layer)
        delattr(layer, _FROZEN)
        layer.__dict__.pop(_COUNT, None)


def _both(frozen: frozenset[str]) -> bool:
    return {"running_mean", "running_var"} <= frozen


def _original_class(layer: nn.Module) -> type[nn.Module]:
    return type(layer).__bases__[0] if _FROZEN in layer.__dict__ else type(layer)


def _frozen_class(original: type[nn.Module]) -> type[nn.Module]:
    """Return the subclass of a normalisation class that heeds ``frozen_statistics``, one each."""
    if original not in _FROZEN_CLASSES:
        _FROZEN_CLASSES[original] = type(
            f"FrozenStatistics{original.__name__}",
            (original,),
            {
                "forward": _forward,
                "reset_running_stats": _reset_running_stats,
                "__setattr__": _set_attribute,
                "_load_from_state_dict": _load_from_state_dict,
                "__reduce_ex__": _reduce,
                "__module__": __name__,
            },
        )
    return _FROZEN_CLASSES[original]


def _reduce(layer: nn.Module, protocol: Any) -> tuple[Any, ...]:
    """Pickle by the original class: the subclass is made at run time and has no importable name."""
    reduced: Any = object.__reduce_ex__(layer, protocol)
    return (_new_frozen, (_original_class(layer),), *reduced[2:])


def _new_frozen(original: type[nn.Module]) -> nn.Module:
    cls = _frozen_class(original)
    return cls.__new__(cls)


def _reset_running_stats(layer: Any) -> None:
    """Start those statistics again that are not frozen."""
    kept = {name: layer._buffers[name].clone() for name in layer.frozen_statistics}
    _original_class(layer).reset_running_stats(layer)  # type: ignore[attr-defined]
    for name, values in kept.items():
        layer._buffers[name].copy_(values)


def _set_attribute(layer: Any, name: str, value: Any) -> None:
    """Assign, but for start values of a frozen statistic: that is how lightning starts it again."""
    attributes = layer.__dict__
    is_frozen = name in attributes.get(_FROZEN, ()) and _LOADING not in attributes
    if is_frozen and isinstance(value, Tensor) and bool((value == _STARTS[name]).all()):
        if name == "num_batches_tracked":
            value.fill_(attributes[_COUNT])  # lightning has zeroed it in place: ``*= 0``
        return
    # By its bases, as the layer is not marked as frozen while its marks are set.
    parent: Any = type(layer).__bases__[0]
    parent.__setattr__(layer, name, value)


def _load_from_state_dict(layer: Any, *args: Any, **kwargs: Any) -> None:
    """Load whatever values a state dict has: ``assign=True`` assigns them."""
    layer.__dict__[_LOADING] = True
    try:
        _original_class(layer)._load_from_state_dict(layer, *args, **kwargs)
    finally:
        del layer.__dict__[_LOADING]
        _remember_count(layer)


def _remember_count(layer: Any) -> None:
    if "num_batches_tracked" in layer.frozen_statistics and not layer.running_mean.is_meta:
        layer.__dict__[_COUNT] = int(layer.num_batches_tracked)


def _forward(layer: Any, input: Tensor) -> Any:
    original = _original_class(layer).forward
    if not layer.training:
        return original(layer, input)
    if not _both(layer.frozen_statistics):
        return _normalise_with_some_frozen(layer, input)
    # Through the layer's own forward pass, which may do more than normalise.
    layer.training = False
    try:
        return original(layer, input)
    finally:
        layer.training = True


def _normalise_with_some_frozen(layer: Any, input: Tensor) -> Tensor:
    """Normalise in training with the frozen statistics and the batch's value of the others."""
    per_sample = isinstance(layer, _InstanceNorm)
    # Only InstanceNorm takes a single sample without a batch dimension.
    unbatched = per_sample and input.dim() == layer._get_no_batch_dim()
    batch = input.unsqueeze(0) if unbatched else input
    # Under AMP the batch comes in half precision, in which its moments would be lost.
    batch = batch.to(torch.promote_types(batch.dtype, torch.float32))
    mean, var, count = _moments(layer, batch, per_sample=per_sample)
    _follow(layer, mean, var, count)
    per_channel = (1, -1) + (1,) * (batch.dim() - 2)
    if "running_mean" in layer.frozen_statistics:
        mean = layer.running_mean.view(per_channel)
    if "running_var" in layer.frozen_statistics:
        var = layer.running_var.view(per_channel)
    output = (batch - mean) * torch.rsqrt(var + layer.eps)
    if layer.weight is not None:
        output = output * layer.weight.view(per_channel)
    if layer.bias is not None:
        output = output + layer.bias.view(per_channel)
    output = output.to(input.dtype)
    return output.squeeze(0) if unbatched else output


def _moments(layer: Any, batch: Tensor, *, per_sample: bool) -> tuple[Tensor, Tensor, float]:
    """Return mean and biased variance, with dimensions kept, and how many values gave each."""
    space = tuple(range(2, batch.dim()))
    dims = space if per_sample else (0, *space)
    values = batch.numel() / batch.shape[1] / (batch.shape[0] if per_sample else 1)
    group = _process_group(layer)
    if group is None:
        mean = batch.mean(dims, keepdim=True)
        var = (batch - mean).square().mean(dims, keepdim=True)
    else:
        values = float(_sum_over(group, batch.new_tensor(values)))
        mean = _sum_over(group, batch.sum(dims, keepdim=True)) / values
        var = _sum_over(group, (batch - mean).square().sum(dims, keepdim=True)) / values
    if values <= 1:
        raise ValueError(
            f"expected more than 1 value per channel when training, got input size "
            f"{tuple(batch.shape)}"
        )
    return mean, var, values


@torch.no_grad()
def _follow(layer: Any, mean: Tensor, var: Tensor, count: float) -> None:
    """Move the statistics that are not frozen as PyTorch's own layer moves them."""
    frozen = layer.frozen_statistics
    factor = layer.momentum
    if not isinstance(layer, _InstanceNorm):  # which never counts its batches
        if "num_batches_tracked" not in frozen:
            layer.num_batches_tracked.add_(1)
        if factor is None:
            factor = 1.0 / max(float(layer.num_batches_tracked), 1.0)
    factor = factor or 0.0
    batch_values = {"running_mean": mean, "running_var": var * (count / (count - 1))}
    for attribute, value in batch_values.items():
        if attribute not in frozen:
            running = getattr(layer, attribute)
            over_batch = value.mean(0).flatten().to(running.dtype)
            running.mul_(1 - factor).add_(over_batch, alpha=factor)


def _process_group(layer: nn.Module) -> Any:
    """Return the process group a SyncBatchNorm shares its batch with, None without company."""
    if not isinstance(layer, nn.SyncBatchNorm) or not torch.distributed.is_initialized():
        return None
    group = layer.process_group or torch.distributed.group.WORLD
    return group if torch.distributed.get_world_size(group) > 1 else None


def _sum_over(group: Any, tensor: Tensor) -> Tensor:
    total: Tensor = _AllReduce.apply(tensor, group)  # type: ignore[no-untyped-call]
    return total


class _AllReduce(torch.autograd.Function):
    """Sum over processes; the gradient of a sum is the sum of the gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, group: Any) -> Tensor:
        ctx.group = group
        total = tensor.detach().clone().contiguous()
        torch.distributed.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient.clone().contiguous()
        torch.distributed.all_reduce(total, group=ctx.group)
        return total, None
