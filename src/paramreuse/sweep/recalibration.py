"""BatchNorm statistics recomputed on given inputs, without touching the caller's model."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from paramreuse.errors import ModelError
from paramreuse.sites.copies import private_copy
from paramreuse.sites.layers import key_of
from paramreuse.untouched import untouched_random_state


def recalibrated(model: nn.Module, batches: Iterable[Any]) -> nn.Module:
    """Return a copy of a model whose BatchNorm statistics are those of the given inputs.

    The copy runs once over the batches with every BatchNorm normalising by its batch, all else as
    in evaluation. RM and RV become the mean and the unbiased variance over all positions of all
    batches together, pooled exactly, so that a short last batch counts by its size. What enters a
    layer still depends on how the layers before it were normalised, and so on the batches' sizes.

    Source: Schneider et al. (NeurIPS 2020, arXiv 2006.16971); REPAIR (ICLR 2023, arXiv 2211.08403).

    Args:
        model: Network, left as it was.
        batches: Tensors ``(N, C, H, W)``, or tuples that begin with one; labels are not looked at.

    Returns:
        A deep copy in evaluation mode.

    Raises:
        ModelError: There is no batch, or one leaves a BatchNorm a single value per channel.
    """
    twin = private_copy(model).eval()
    norms = _norms_with_statistics(twin)
    moments: dict[str, _Moments] = {}
    hooks = [
        layer.register_forward_pre_hook(_watch(path, moments)) for path, layer in norms.items()
    ]
    for layer in norms.values():
        layer.train()
    num_batches = 0
    with untouched_random_state(), torch.no_grad():
        for batch in batches:
            num_batches += 1
            twin((batch if isinstance(batch, Tensor) else batch[0]).clone())
    for hook in hooks:
        hook.remove()
    if not num_batches:
        raise ModelError("cannot recalibrate: there is no batch. Give at least one, labels or not")
    for path, moment in moments.items():
        moment.write_to(norms[path], num_batches)
    return twin.eval()


def statistic_keys(model: nn.Module) -> frozenset[str]:
    """Return the keys of what ``recalibrated`` recomputes: RM and RV of every BatchNorm.

    Raises:
        ModelError: There is none.
    """
    names = ("running_mean", "running_var")
    keys = [key_of(path, name) for path in _norms_with_statistics(model) for name in names]
    if not keys:
        raise ModelError(
            f"there is nothing to recalibrate in {type(model).__name__}: expected an "
            "nn.BatchNorm that keeps running statistics. Other layers take theirs from each "
            "image, or hold them fixed"
        )
    return frozenset(keys)


def _norms_with_statistics(model: nn.Module) -> dict[str, _BatchNorm]:
    return {
        path: layer
        for path, layer in model.named_modules()
        if isinstance(layer, _BatchNorm) and layer.running_mean is not None
    }


class _Moments:
    """Count, mean and summed squared deviation per channel of what enters a layer, in float64."""

    def __init__(self, like: Tensor) -> None:
        self.count = 0
        self.mean = torch.zeros_like(like)
        self.deviation = torch.zeros_like(like)

    def add(self, values: Tensor) -> None:
        """Take in values of shape ``(C, positions)``.

        Source: Chan, Golub and LeVeque (1983), equation 2.1, which does not cancel.
        """
        count = values.shape[1]
        mean = values.mean(dim=1)
        step = mean - self.mean
        total = self.count + count
        self.deviation += (values - mean[:, None]).square().sum(dim=1)
        self.deviation += step.square() * (self.count * count / total)
        self.mean += step * (count / total)
        self.count = total

    def write_to(self, layer: _BatchNorm, num_batches: int) -> None:
        """Make these the running statistics of a layer."""
        assert layer.running_mean is not None
        assert layer.running_var is not None
        layer.running_mean.copy_(self.mean)
        layer.running_var.copy_(self.deviation / (self.count - 1))
        if layer.num_batches_tracked is not None:
            layer.num_batches_tracked.fill_(num_batches)


def _watch(path: str, moments: dict[str, _Moments]) -> Callable[[nn.Module, tuple[Tensor]], None]:
    def hook(_layer: nn.Module, arguments: tuple[Tensor]) -> None:
        inputs = arguments[0].detach()
        # Where the values are, lest every activation leave its GPU; MPS has no float64.
        device = "cpu" if inputs.device.type == "mps" else inputs.device
        values = inputs.transpose(0, 1).flatten(1).to(device, torch.float64)
        if values.shape[1] < 2:
            raise ModelError(
                f"cannot recalibrate {path!r}: the batch of shape {tuple(inputs.shape)} leaves one "
                "value per channel, which has no variance. Give batches of at least two samples"
            )
        moments.setdefault(path, _Moments(values[:, 0])).add(values)

    return hook
