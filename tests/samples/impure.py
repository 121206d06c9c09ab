"""Networks whose outputs do not follow from their tensors and their input alone; no tests."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Plain(nn.Module):
    """Conv 1, norm 1, conv 2, norm 2, and the output layer, conv 3."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.n1 = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.c2, self.n2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.out = nn.Conv2d(4, 2, 1)

    def first(self, x: Tensor) -> Tensor:
        return F.relu(self.n1(self.c1(x)))

    def rest(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.n2(self.c2(x))))

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(self.first(x))


class BranchesOnStatistics(Plain):
    def forward(self, x: Tensor) -> Tensor:
        x = self.n1(self.c1(x))
        return self.rest(F.relu(x) if self.n1.running_mean.sum() > -0.1 else torch.tanh(x))


class BranchesUnseen(Plain):
    def forward(self, x: Tensor) -> Tensor:
        x = self.n1(self.c1(x))
        mean = self.n2._buffers["running_mean"]
        return self.rest(F.relu(x) if mean.sum() > 0.45 else torch.tanh(x))


class MovesABuffer(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = self.rest(x - self.centre.view(1, -1, 1, 1))
        self.centre.mul_(0.5).add_(0.5 * x[0].mean((1, 2)))
        return y


class CountsItsPasses(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        self.shape = tuple(x.shape)
        return super().forward(x)


class DropoutLeftOn(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return self.rest(F.dropout(self.first(x), 0.3))


class RarelyRandom(Plain):
    """As stochastic depth does: most passes agree."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.rest(x * (torch.rand(len(x), 1, 1, 1) > 0.05))


class Caches(Plain):
    """As timm's LeViT does in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(4))
        self.cache: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        if "bias" not in self.cache:
            self.cache["bias"] = torch.tanh(self.bias) * 3
        return self.rest(self.first(x) + self.cache["bias"].view(1, -1, 1, 1))


class CachesInAnAttribute(Caches):
    def __init__(self) -> None:
        super().__init__()
        self.kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = torch.tanh(self.bias) * 3
        return self.rest(self.first(x) + self.kept.view(1, -1, 1, 1))


class MixesSamples(Plain):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.rest(x - x.mean(0, keepdim=True))


class WritesItsInput(Plain):
    def forward(self, x: Tensor) -> Tensor:
        x.mul_(2).add_(0.5)
        return super().forward(x)


def off_start(network: type[nn.Module], seed: int) -> nn.Module:
    """A network with all tensors off their start, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    model = network()
    with torch.no_grad():
        for key, t in model.state_dict().items():
            if t.is_floating_point() and key != "passes":
                values = torch.randn(t.shape, generator=generator) * 0.5
                t.copy_(values.abs() + 0.5 if key.endswith("var") else values)
    return model.eval()


def image_batches(size: int = 6) -> list[tuple[Tensor, Tensor, list[str]]]:
    """Two batches of images 8 x 8 with two classes per pixel, three subjects."""
    generator = torch.Generator().manual_seed(7)
    return [
        (
            torch.randn(size, 1, 8, 8, generator=generator),
            torch.randint(0, 2, (size, 8, 8), generator=generator),
            [f"p{index // 2}" for index in range(size)],
        )
        for _ in range(2)
    ]
