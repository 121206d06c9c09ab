"""PSPNet on ResNet-18: 25 convolutions, each followed by BatchNorm, then a 1x1 classifier.

Source: Zhao et al. (2017), arXiv 1612.01105, section 3.2, on the ResNet-18 of He et al. (2016),
arXiv 1512.03385, table 1; layer numbers as in arXiv 2008.03414, section "PSPNet".
"""

from collections.abc import Mapping
from os import PathLike

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paramreuse.errors import CheckpointError
from paramreuse.networks.options import check_counts

_BINS = (1, 2, 3, 6)


def pspnet(
    in_channels: int = 1,
    num_classes: int = 4,
    width: int = 64,
    *,
    bias: bool = False,
    weights: Mapping[str, Tensor] | str | PathLike[str] | None = None,
) -> nn.Module:
    """Build the papers' PSPNet: layers 1-20 ResNet-18, 21-24 the pyramid, 25 the bottleneck.

    Modules are registered in the order in which they are executed, so that counting convolutions
    and normalisations from the first registered to the last gives the papers' numbers. The
    backbone's output is 8 times smaller than the image: its last two stages are dilated by 2 and 4
    instead of strided. The network takes ``(N, in_channels, H, W)`` and returns
    ``(N, num_classes, H, W)``.

    In training mode a batch needs two images or more: the coarsest level of the pyramid holds one
    value per image and channel, which BatchNorm cannot normalise alone.

    Args:
        in_channels: Channels of the image.
        num_classes: Channels of the output: classes, or copies of the image in auto-encoding.
        width: Features of the stem. The papers' 64 is ResNet-18; the stages have 1, 2, 4 and 8
            times as many, each level of the pyramid and the bottleneck 2 times.
        bias: Whether the 20 backbone convolutions have a bias. ImageNet's ResNet-18 has none. The
            pyramid, the bottleneck and the classifier always have one.
        weights: State dict of a ResNet-18 with torchvision's names, or the path of a checkpoint
            that holds one; ``fc.*`` is ignored. A stem for another number of channels than
            ``in_channels`` becomes its sum over channels divided by ``in_channels``: an image that
            repeats one grey value in all channels gets the answer it got before. Backbone biases
            that the state dict does not hold start at 0, ``num_batches_tracked`` at 0.

    Raises:
        ParamReuseError: A count is below 1.
        CheckpointError: ``weights`` cannot be read, or does not fit the backbone.

    Examples:
        >>> pspnet(width=8).eval()(torch.zeros(1, 1, 32, 32)).shape
        torch.Size([1, 4, 32, 32])
    """
    check_counts("pspnet", in_channels=in_channels, num_classes=num_classes, width=width)
    model = _PSPNet(in_channels, num_classes, width, bias=bias)
    if weights is not None:
        _load_backbone(model.backbone, weights)
    return model


class _BasicBlock(nn.Module):
    """Two convolutions 3x3 and the short connection around them; names are torchvision's."""

    def __init__(
        self, in_features: int, features: int, *, stride: int, dilation: int, bias: bool
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(
            in_features, features, 3, stride, padding=dilation, dilation=dilation, bias=bias
        )
        self.bn1 = nn.BatchNorm2d(features)
        self.conv2 = nn.Conv2d(
            features, features, 3, padding=dilation, dilation=dilation, bias=bias
        )
        self.bn2 = nn.BatchNorm2d(features)
        self.downsample: nn.Module | None = None
        if in_features != features:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_features, features, 1, stride, bias=bias), nn.BatchNorm2d(features)
            )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        short: Tensor = x if self.downsample is None else self.downsample(x)
        return F.relu(y + short)


class _ResNet18(nn.Module):
    def __init__(self, in_channels: int, width: int, *, bias: bool) -> None:
        super().__init__()
        w = width
        self.conv1 = nn.Conv2d(in_channels, w, 7, 2, padding=3, bias=bias)
        self.bn1 = nn.BatchNorm2d(w)
        self.layer1 = _stage(w, w, stride=1, dilation=1, bias=bias)
        self.layer2 = _stage(w, 2 * w, stride=2, dilation=1, bias=bias)
        self.layer3 = _stage(2 * w, 4 * w, stride=1, dilation=2, bias=bias)
        self.layer4 = _stage(4 * w, 8 * w, stride=1, dilation=4, bias=bias)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        features: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return features


def _stage(
    in_features: int, features: int, *, stride: int, dilation: int, bias: bool
) -> nn.Sequential:
    return nn.Sequential(
        _BasicBlock(in_features, features, stride=stride, dilation=dilation, bias=bias),
        _BasicBlock(features, features, stride=1, dilation=dilation, bias=bias),
    )


class _PyramidLevel(nn.Module):
    """Average over a grid of ``num_bins`` squared cells, convolve 1x1, bring back to full size."""

    def __init__(self, in_features: int, features: int, num_bins: int) -> None:
        super().__init__()
        self.num_bins = num_bins
        self.conv = nn.Conv2d(in_features, features, 1)
        self.norm = nn.BatchNorm2d(features)

    def forward(self, x: Tensor) -> Tensor:
        cells = F.adaptive_avg_pool2d(x, self.num_bins)
        cells = F.relu(self.norm(self.conv(cells)))
        size = (x.shape[-2], x.shape[-1])
        return F.interpolate(cells, size=size, mode="bilinear", align_corners=False)


class _Bottleneck(nn.Module):
    def __init__(self, in_features: int, features: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_features, features, 3, padding=1)
        self.norm = nn.BatchNorm2d(features)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class _PSPNet(nn.Module):
    def __init__(self, in_channels: int, num_classes: int, width: int, *, bias: bool) -> None:
        super().__init__()
        features, level_features = 8 * width, 2 * width
        self.backbone = _ResNet18(in_channels, width, bias=bias)
        self.pyramid = nn.ModuleList(
            _PyramidLevel(features, level_features, num_bins) for num_bins in _BINS
        )
        self.bottleneck = _Bottleneck(features + len(_BINS) * level_features, level_features)
        self.classifier = nn.Conv2d(level_features, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.backbone(x)
        levels = [level(features) for level in self.pyramid]
        y = self.classifier(self.bottleneck(torch.cat((features, *levels), dim=1)))
        size = (x.shape[-2], x.shape[-1])
        return F.interpolate(y, size=size, mode="bilinear", align_corners=False)


def _load_backbone(
    backbone: nn.Module, weights: Mapping[str, Tensor] | str | PathLike[str]
) -> None:
    """Copy a torchvision ResNet-18 into ``backbone``, all of it or nothing."""
    source, where = _read_weights(weights)
    own = backbone.state_dict()
    source = {key: tensor for key, tensor in source.items() if not key.startswith("fc.")}
    stem = source.get("conv1.weight")
    if stem is not None and stem.ndim == 4:
        source["conv1.weight"] = _fit_stem(stem, own["conv1.weight"].shape[1])
    _check_fit(own, source, where)
    for key, tensor in own.items():
        if key in source:
            tensor.copy_(source[key])
        elif key.endswith(".bias"):
            tensor.zero_()


def _read_weights(
    weights: Mapping[str, Tensor] | str | PathLike[str],
) -> tuple[Mapping[str, Tensor], str]:
    if isinstance(weights, Mapping):
        return weights, "the given state dict"
    from paramreuse.checkpoint import read_checkpoint

    return read_checkpoint(weights), str(weights)


def _fit_stem(stem: Tensor, in_channels: int) -> Tensor:
    if stem.shape[1] == in_channels:
        return stem
    return stem.sum(1, keepdim=True).expand(-1, in_channels, -1, -1) / in_channels


def _check_fit(own: Mapping[str, Tensor], source: Mapping[str, Tensor], where: str) -> None:
    lacking = own.keys() - source.keys()
    reshaped = (
        f"{key} is {tuple(source[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own.keys() & source.keys()
        if source[key].shape != own[key].shape
    )
    wrong = {
        "missing": sorted(key for key in lacking if not _may_be_missing(key)),
        "unknown": sorted(source.keys() - own.keys()),
        "shape": sorted(reshaped),
    }
    told = "; ".join(f"{what}: {_cut(names)}" for what, names in wrong.items() if names)
    if told:
        raise CheckpointError(
            f"cannot load {where} into pspnet's backbone: expected every tensor of a ResNet-18 "
            f"under torchvision's names; {told}. Give weights of a ResNet-18 "
            f"of the same width, with bias=True if its convolutions have biases"
        )


def _may_be_missing(key: str) -> bool:
    # Files from before PyTorch 0.4.1 lack the counters; ImageNet's ResNet-18 lacks conv biases.
    is_conv_bias = key.endswith((".conv1.bias", ".conv2.bias", "downsample.0.bias"))
    return key.endswith(".num_batches_tracked") or is_conv_bias or key == "conv1.bias"


def _cut(names: list[str], limit: int = 10) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
