"""What the rows of ``gauntlet.py`` share: networks, images, and how far tensors moved."""

import contextlib
import io
import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from paramreuse.networks import unet


def network(seed: int, num_classes: int = 4) -> nn.Module:
    """The network of every row: 19 convolutions, 4 transposed ones, 18 BatchNorms, none alike."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = unet(width=4, num_classes=num_classes, upsampling="transposed")
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                for tensor in (layer.running_mean, layer.running_var, layer.weight, layer.bias):
                    tensor.detach().add_(torch.rand_like(tensor))
        return model.eval()


def smooth_images(count: int) -> Tensor:
    """Images that differ in brightness too; torch_cka gives NaN on noise alone."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(count, 1, 4, 4, generator=generator)
    brightness = torch.randn(count, 1, 1, 1, generator=generator)
    return nn.functional.interpolate(coarse, scale_factor=8) + brightness


def small_network(seed: int) -> nn.Module:
    """Two blocks and a head: of the deep layers of the U-Net torch_cka gives NaN."""

    def block(channels: int) -> nn.Module:
        kernel = nn.Conv2d(channels, 8, 3, padding=1)
        return nn.Sequential(kernel, nn.BatchNorm2d(8), nn.ReLU())

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(block(1), block(8), nn.Conv2d(8, 4, 1)).eval()


IMAGES = smooth_images(4)
LABELS = torch.randint(4, (4, 32, 32), generator=torch.Generator().manual_seed(1))


def differing(target: nn.Module, source: nn.Module) -> set[str]:
    """Keys that both have in one shape and with other values."""
    ours, theirs = target.state_dict(), source.state_dict()
    fitting = {key for key in ours if key in theirs and ours[key].shape == theirs[key].shape}
    return {key for key in fitting if not torch.equal(ours[key], theirs[key])}


def copied(model: nn.Module) -> dict[str, Tensor]:
    return {key: tensor.clone() for key, tensor in model.state_dict().items()}


def largest_moves(model: nn.Module, before: dict[str, Tensor]) -> dict[str, float]:
    """Largest change of an element since then, by the last part of the key."""
    moves: dict[str, float] = {}
    now = model.state_dict()
    for key, tensor in before.items():
        if tensor.is_floating_point():
            name = key.rpartition(".")[2]
            move = float((now[key] - tensor).abs().max())
            moves[name] = max(moves.get(name, 0.0), move)
    return moves


def train_step(model: nn.Module) -> None:
    """Take one training step of everything that has a gradient."""
    trained = [p for p in model.train().parameters() if p.requires_grad]
    loss = nn.functional.cross_entropy(model(IMAGES), LABELS)
    if trained:
        loss.backward()
        torch.optim.SGD(trained, lr=0.1).step()


def listed(values: list[Any]) -> str:
    return ", ".join(f"{value:g}" for value in values)


@contextlib.contextmanager
def logged(name: str) -> Iterator[Callable[[], list[str]]]:
    """Collect what is logged under a name."""
    stream = io.StringIO()
    logger, handler = logging.getLogger(name), logging.StreamHandler(stream)
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield lambda: stream.getvalue().splitlines()
    finally:
        logger.removeHandler(handler)
