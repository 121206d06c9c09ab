"""The checkpoints of a folder, and the network of the package that they are of."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from paramreuse.checkpoint import read_checkpoint
from paramreuse.errors import CheckpointError, ParamReuseError
from paramreuse.networks import pspnet, unet

_ENDINGS = (".safetensors", ".pt", ".pth", ".ckpt")
_BUILDERS: Mapping[str, Callable[..., nn.Module]] = {"pspnet": pspnet, "unet": unet}
_Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class FoundCheckpoint:
    """A checkpoint.

    Attributes:
        name: What a study may call it.
        path: The file.
        network: Keys of the section ``network`` that build its network; None if it is not ours.
        keys: Its tensors' names, the first few.
    """

    name: str
    path: Path
    network: Mapping[str, Any] | None
    keys: tuple[str, ...]


def find_checkpoints(folder: Path) -> tuple[list[FoundCheckpoint], list[str]]:
    """Find the checkpoints of a folder, up to three folders deep.

    Args:
        folder: The folder.

    Returns:
        Those that can be read, and what is wrong with each of the others.
    """
    readable: list[FoundCheckpoint] = []
    problems: list[str] = []
    for path in _files(folder):
        try:
            tensors = read_checkpoint(path)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        shapes = {key: tuple(value.shape) for key, value in tensors.items()}
        name = _free_name(path.stem, {item.name for item in readable})
        readable.append(FoundCheckpoint(name, path, _network_of(shapes), tuple(shapes)[:3]))
    return readable, problems


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") for part in parts)
        if len(parts) <= 4 and not hidden and path.suffix in _ENDINGS and path.is_file():
            yield path


def _free_name(stem: str, taken: set[str]) -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-_.")[:48] or "source"
    if name in ("source", "shuffled", "reinit", "baseline"):
        name = f"{name}-model"
    number = 2
    free = name
    while free in taken:
        free, number = f"{name}-{number}", number + 1
    return free


def _network_of(shapes: _Shapes) -> dict[str, Any] | None:
    """Return what builds a network with exactly these tensors, the output layer's classes aside."""
    for name, options, widths in _candidates(shapes):
        if _fits(_BUILDERS[name], {**options, **widths}, shapes):
            return {"name": name, **options}
    return None


def _candidates(shapes: _Shapes) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    stem = shapes.get("backbone.conv1.weight", ())
    if len(stem) == 4 and "classifier.weight" in shapes:
        sizes = {"in_channels": stem[1], "num_classes": shapes["classifier.weight"][0]}
        options = {"width": stem[0], "bias": "backbone.conv1.bias" in shapes}
        yield "pspnet", options, sizes
    stem = shapes.get("down1.conv1.weight", ())
    if len(stem) == 4 and "head.weight" in shapes:
        sizes = {"in_channels": stem[1], "num_classes": shapes["head.weight"][0]}
        own: dict[str, Any] = {"width": stem[0], "bias": "down1.conv1.bias" in shapes}
        if any(".upsample." in key for key in shapes):
            own["upsampling"] = "transposed"
        yield "unet", own, sizes
        yield "unet", {**own, "long_skips": False}, sizes


def _fits(build: Callable[..., nn.Module], options: Mapping[str, Any], shapes: _Shapes) -> bool:
    try:
        # Without memory for the tensors: only their names and shapes matter.
        with torch.device("meta"):
            own = build(**options).state_dict()
    except ParamReuseError:
        return False
    wanted = {key: tuple(value.shape) for key, value in own.items()}
    return all(shapes.get(key) == shape for key, shape in wanted.items() if "num_b" not in key)
