"""Networks, images and sites small enough to be followed by hand; no tests."""

import torch
from torch import Tensor, nn

from paramreuse.networks import pspnet, unet


def line(weight: float = 2.0, bias: float = 3.0) -> nn.Linear:
    """``weight * x + bias`` of one number."""
    layer = nn.Linear(1, 1)
    with torch.no_grad():
        layer.weight.fill_(weight)
        layer.bias.fill_(bias)
    return layer


def move_off_start(*norms: nn.Module) -> None:
    """Draw all four tensors of BatchNorm layers, so that none is as it was made."""
    with torch.no_grad():
        for norm in norms:
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_()


def small_network(seed: int = 0, *, bias: bool = True) -> nn.Module:
    """Conv 1, norm 1, conv 2, norm 2, linear 1; statistics off their start; evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(1, 2, 3, padding=1, bias=bias),
            nn.BatchNorm2d(2),
            nn.ReLU(),
            nn.Conv2d(2, 3, 3, padding=1, bias=bias),
            nn.BatchNorm2d(3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(3 * 4 * 4, 2),
        )
        move_off_start(model[1], model[4])
    return model.eval()


def small_batches(num_batches: int = 2, size: int = 6) -> list[tuple[Tensor, Tensor, list[str]]]:
    """Images 4x4 with two classes; each subject has images in every batch."""
    generator = torch.Generator().manual_seed(7)
    batches = []
    for _ in range(num_batches):
        images = torch.randn(size, 1, 4, 4, generator=generator)
        labels = torch.arange(size) % 2
        batches.append((images, labels, [f"p{index // 2}" for index in range(size)]))
    return batches


class FrozenBatchNorm2d(nn.Module):
    """Holds its four tensors as buffers, as torchvision's layer of this name does."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(features))
        self.register_buffer("bias", torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale[:, None, None] + shift[:, None, None]


def papers_networks() -> list[nn.Module]:
    """The papers' networks as narrow as they go, in the forms whose layers differ."""
    return [
        unet(width=2),
        unet(width=2, upsampling="transposed"),
        pspnet(width=2),
        pspnet(width=2, bias=True),
    ]
