"""UNet of the papers: 18 convolutions 3x3 with long connections, then a 1x1 convolution.

Source: Ronneberger, Fischer and Brox (2015), arXiv 1505.04597, figure 1, with padding and
BatchNorm; layer numbers as in arXiv 2008.03414, section "UNet". The short connections of its
residual variants are those of He et al. (2016), arXiv 1512.03385, section 4.1, option A.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paramreuse.errors import ParamReuseError
from paramreuse.networks.options import check_counts

Upsampling: TypeAlias = Literal["bilinear", "transposed"]
"""How the way up doubles the resolution."""

_UPSAMPLINGS = ("bilinear", "transposed")


def unet(  # noqa: PLR0913 - an option of the network each, all with a default
    in_channels: int = 1,
    num_classes: int = 4,
    width: int = 64,
    *,
    bias: bool = True,
    upsampling: Upsampling = "bilinear",
    residual: bool = False,
    long_skips: bool = True,
) -> nn.Module:
    """Build the papers' UNet: layers 1-10 on the way down, 11-18 on the way up, then the output.

    Modules are registered in the order in which they are executed, so that counting convolutions
    and normalisations from the first registered to the last gives the papers' numbers. It takes
    ``(N, in_channels, H, W)`` and returns ``(N, num_classes, H, W)`` for any ``H`` and ``W`` from
    16 up.

    ``residual`` and ``long_skips`` give four networks with the same 18 convolutions and
    normalisations under the same numbers and names, which differ in how they are connected. A layer
    has the same number of output features in all four, and of input features too, except where the
    long connections end: without them layers 11, 13, 15 and 17 see the upsampled features alone, so
    their kernels are smaller, and a kernel of one form does not fit the other. The tensors of a
    network do not show whether it is residual.

    Args:
        in_channels: Channels of the image.
        num_classes: Channels of the output: classes, or copies of the image in auto-encoding.
        width: Features of the first double convolution; the papers' 64 gives 64-128-256-512-1024.
        bias: Whether the 18 convolutions have a bias. The output layer always has one.
        upsampling: ``"bilinear"`` has no parameters and keeps the number of convolutions at 18.
            ``"transposed"`` puts a transposed convolution 2x2 in front of each of the four double
            convolutions up; they are numbered in a family of their own.
        residual: Whether each double convolution adds its input before its last ReLU. The short
            connection has no parameters: features that the input lacks are 0, and of an input
            with more features the first ones are taken, which on the way up are those of the long
            connection where there is one.
        long_skips: Whether the double convolutions up see the features of the way down, in front
            of the upsampled ones. Without them only the sizes of the way down are used.

    Raises:
        ParamReuseError: A count is below 1, or ``upsampling`` is not known.

    Examples:
        >>> unet(width=8)(torch.zeros(1, 1, 32, 32)).shape
        torch.Size([1, 4, 32, 32])
    """
    check_counts("unet", in_channels=in_channels, num_classes=num_classes, width=width)
    if upsampling not in _UPSAMPLINGS:
        raise ParamReuseError(
            f"cannot build unet: upsampling is {upsampling!r}, expected one of {_UPSAMPLINGS}"
        )
    form = _Form(bias, upsampling == "transposed", residual, long_skips)
    return _UNet(in_channels, num_classes, width, form)


@dataclass(frozen=True, slots=True)
class _Form:
    bias: bool
    transposed: bool
    residual: bool
    long_skips: bool


class _DoubleConv(nn.Module):
    """Convolution 3x3, BatchNorm and ReLU, twice; the input may be added before the last ReLU."""

    def __init__(self, in_features: int, features: int, form: _Form) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_features, features, 3, padding=1, bias=form.bias)
        self.norm1 = nn.BatchNorm2d(features)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1, bias=form.bias)
        self.norm2 = nn.BatchNorm2d(features)
        self.residual = form.residual

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return F.relu(y + _shortcut(x, y.shape[1]) if self.residual else y)


def _shortcut(x: Tensor, features: int) -> Tensor:
    """Return the first ``features`` channels of ``x``, and zeros for those that it lacks."""
    kept = x[:, :features]
    return F.pad(kept, (0, 0, 0, 0, 0, features - kept.shape[1]))


class _Up(nn.Module):
    """Double the resolution, put the long connection in front, convolve twice."""

    def __init__(self, in_features: int, features: int, form: _Form) -> None:
        super().__init__()
        self.upsample = (
            nn.ConvTranspose2d(in_features, features, 2, stride=2) if form.transposed else None
        )
        up_features = features if form.transposed else in_features
        skip_features = features if form.long_skips else 0
        self.convs = _DoubleConv(skip_features + up_features, features, form)
        self.long_skips = form.long_skips

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        rows, columns = skip.shape[-2], skip.shape[-1]
        if self.upsample is None:
            x = F.interpolate(x, size=(rows, columns), mode="bilinear", align_corners=False)
        else:
            x = self.upsample(x)
            # Pooling an odd number of rows drops the last one: it is repeated on the way up.
            missing = (0, columns - x.shape[-1], 0, rows - x.shape[-2])
            x = F.pad(x, missing, mode="replicate")
        y: Tensor = self.convs(torch.cat((skip, x), dim=1) if self.long_skips else x)
        return y


class _UNet(nn.Module):
    def __init__(self, in_channels: int, num_classes: int, width: int, form: _Form) -> None:
        super().__init__()
        w = width
        self.down1 = _DoubleConv(in_channels, w, form)
        self.down2 = _DoubleConv(w, 2 * w, form)
        self.down3 = _DoubleConv(2 * w, 4 * w, form)
        self.down4 = _DoubleConv(4 * w, 8 * w, form)
        self.down5 = _DoubleConv(8 * w, 16 * w, form)
        self.up1 = _Up(16 * w, 8 * w, form)
        self.up2 = _Up(8 * w, 4 * w, form)
        self.up3 = _Up(4 * w, 2 * w, form)
        self.up4 = _Up(2 * w, w, form)
        self.head = nn.Conv2d(w, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.down1(x)
        x2 = self.down2(F.max_pool2d(x1, 2))
        x3 = self.down3(F.max_pool2d(x2, 2))
        x4 = self.down4(F.max_pool2d(x3, 2))
        x5 = self.down5(F.max_pool2d(x4, 2))
        up = self.up2(self.up1(x5, x4), x3)
        y: Tensor = self.head(self.up4(self.up3(up, x2), x1))
        return y
