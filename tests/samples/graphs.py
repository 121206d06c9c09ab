"""Small networks of every shape that a captured graph can take, and what to swap in them."""

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paramreuse.engine.partial import PartialEngine
from paramreuse.engine.plain import FullEngine


class Block(nn.Module):
    """Convolution, norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class Skip(nn.Module):
    """A small UNet: pool, upsample to the skip's size, concatenate."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep, self.up = Block(2, 4), Block(4, 6), Block(10, 4)
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x)
        deep = self.deep(F.max_pool2d(skip, 2))
        size = (skip.shape[-2], skip.shape[-1])
        deep = F.interpolate(deep, size=size, mode="bilinear", align_corners=False)
        return self.head(self.up(torch.cat((skip, deep), dim=1)))


class Residual(nn.Module):
    """Two ways that are added, one of them strided, and one that is the input itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.short = nn.Sequential(nn.Conv2d(2, 4, 1, stride=2, bias=False), nn.BatchNorm2d(4))
        self.second = nn.Conv2d(4, 4, 3, padding=2, dilation=2)
        self.last = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norm(self.first(x)) + self.short(x))
        return self.relu(y + self.last(self.second(y)))


class ResidualSkip(nn.Module):
    """A long connection into a convolution to whose output a short one is added."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = Block(2, 3), Block(3, 2), Block(2, 4)
        self.joint, self.norm = nn.Conv2d(5, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        z = self.second(y)
        joined = self.norm(self.joint(torch.cat((y, z), dim=1)))
        return self.head(F.relu(joined + self.third(z)))


class Bare(nn.Module):
    """Adds to a convolution that has neither bias nor norm: its bare output is the clean one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4)
        self.way = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.short, self.head = nn.Conv2d(4, 4, 1, bias=False), nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.stem(x)))
        return self.head(F.relu(self.way(y) + self.short(y)))


class Pyramid(nn.Module):
    """Adaptive pools of several sizes, brought back to the input's size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Block(2, 4)
        self.levels = nn.ModuleList(nn.Conv2d(4, 2, 1) for _ in range(2))
        self.end = Block(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        size = (y.shape[-2], y.shape[-1])
        levels = [
            F.interpolate(conv(F.adaptive_avg_pool2d(y, bins)), size=size, mode="bilinear")
            for conv, bins in zip(self.levels, (1, 2), strict=True)
        ]
        return self.end(torch.cat((y, *levels), dim=1))


class Twice(nn.Module):
    """One module used twice, and a kernel that two modules share."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.again = nn.Conv2d(2, 3, 1), Block(3, 3)
        self.tied = nn.Conv2d(3, 3, 3, padding=1)
        self.tied.weight = self.again.conv.weight

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        return self.tied(self.again(self.again(y)) * 0.5)


class OtherLayers(nn.Module):
    """Transposed and grouped convolution, group and instance norm, layer norm, attention."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(2, 4, 2, stride=2)
        self.group, self.instance = nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True)
        self.grouped = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.layer = nn.LayerNorm(4)
        self.qkv, self.out = nn.Linear(4, 12), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(self.group(self.up(x)))
        y = F.leaky_relu(self.instance(self.grouped(y)))
        tokens = y.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.layer(tokens)).chunk(3, dim=-1)
        tokens = tokens + self.out(F.scaled_dot_product_attention(q, k, v))
        return tokens.transpose(1, 2).reshape(y.shape)


class Centred(nn.Module):
    """Takes the mean over the samples away, so no sample can go without the others."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(2, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.last(y - y.mean(0, keepdim=True))


def stack() -> nn.Module:
    return nn.Sequential(Block(2, 4), Block(4, 4, bias=False), nn.Dropout(0.5), nn.Conv2d(4, 3, 1))


NETWORKS = [stack, Skip, Residual, ResidualSkip, Bare, Pyramid, Twice, OtherLayers]


def random_weights(model: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, tensor in model.state_dict(keep_vars=True).items():
            if tensor.is_floating_point():
                values = torch.randn(tensor.shape, generator=generator)
                tensor.copy_(values.abs() + 0.5 if "var" in key else 0.4 * values + 0.1)
    return model.eval()


@cache
def pair(make: type[nn.Module]) -> tuple[nn.Module, Mapping[str, Tensor], Tensor]:
    target, source = random_weights(make(), 0), random_weights(make(), 1)
    inputs = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(2))
    state = {k: v for k, v in source.state_dict().items() if v.is_floating_point()}
    return target, state, inputs


def assert_same_outputs(
    engine: PartialEngine, target: nn.Module, inputs: Tensor, variants: list[dict[str, Tensor]]
) -> None:
    full = FullEngine(target)
    with torch.no_grad():
        torch.testing.assert_close(engine.baseline(inputs), full.baseline(inputs))
        fast, wanted = list(engine.swapped(variants)), list(full.swapped(variants))
    assert engine.notes == ()
    assert len(fast) == len(wanted)
    for one, other in zip(fast, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
