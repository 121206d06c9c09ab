"""Frozen features of a network, pixel by pixel, with the label of each pixel."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from paramreuse.engine.plain import device_of
from paramreuse.errors import ModelError, ScoreError
from paramreuse.sites.layers import KERNEL_FAMILIES, Kind
from paramreuse.sites.matching import sites_of
from paramreuse.sweep.batches import Batches, walk_batches
from paramreuse.sweep.recalibration import recalibrated
from paramreuse.untouched import untouched_random_state

Array = NDArray[np.int64]

OUTPUT, MIDDLE = "output", "middle"
"""Depths: what enters the output layer, and what leaves the block that ends half-way."""

MAX_SIDE = 32
"""Larger maps are thinned to this many rows and columns, which bounds memory and time."""


@dataclass(frozen=True, slots=True, eq=False)
class FrozenFeatures:
    """What a network sees at one depth.

    Attributes:
        path: Dotted path of the layer whose input (output layer) or output (middle) it is.
        values: Shape ``(N, D, h, w)``, float32, on the CPU; ``(N, D)`` where maps are pooled away.
        labels: Shape ``(N, h, w)`` or ``(N,)``, int64; the label nearest to each position's centre.
        owners: Subject of each of the N samples.
    """

    path: str
    values: Tensor
    labels: Tensor
    owners: tuple[Hashable, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """Some pixels of some subjects.

    Attributes:
        values: Features, shape ``(n, D)``, float64.
        labels: Shape ``(n,)``, int64, none below 0.
        owners: Subject of each pixel.
    """

    values: Tensor
    labels: Tensor
    owners: tuple[Hashable, ...]


def frozen_features(network: nn.Module, batches: Batches) -> dict[str, FrozenFeatures]:
    """Return the features of a network at two depths, its BatchNorm fitted to the images first.

    A copy is run, with running statistics recomputed on the batches' images by ``recalibrated``;
    the caller's network is left as it was. See ``features_as_is`` for the rest.

    Raises:
        ModelError: As for ``features_as_is``, or the network cannot be recalibrated on the batches.
        ScoreError: As for ``features_as_is``.
    """
    return features_as_is(fitted_to(network, batches), batches)


def fitted_to(network: nn.Module, batches: Batches) -> nn.Module:
    """Return a copy of a network whose BatchNorm statistics are those of the batches' images.

    A batch of a single image, as the last one may be, joins the one before it: a BatchNorm behind a
    global pooling could not normalise it alone.

    Raises:
        ModelError: As for ``recalibrated``.
        ScoreError: The batches cannot be used.
    """
    device = device_of(network)
    images: list[Tensor] = []
    with untouched_random_state():
        for batch in walk_batches(batches):
            inputs = batch.inputs.to(device)
            alone = images and min(len(inputs), len(images[-1])) == 1
            if alone and inputs.shape[1:] == images[-1].shape[1:]:
                images[-1] = torch.cat([images[-1], inputs])
            else:
                images.append(inputs)
    return recalibrated(network, images)


def features_as_is(network: nn.Module, batches: Batches) -> dict[str, FrozenFeatures]:
    """Return the features of a network at two depths.

    ``"output"`` is what enters the output layer, ``"middle"`` what leaves the block that ends
    nearest to half of the kernel layers. Maps of more than ``MAX_SIDE`` rows or columns are
    thinned, each value the nearest. A copy is run; the caller's network is left as it was.

    Args:
        network: Network whose last convolution or linear layer is the output layer.
        batches: Re-iterable of ``(inputs, labels, subjects)`` with integer labels ``(N, ...)``, or
            one label ``(N,)`` for a whole image.

    Returns:
        Features by depth; without ``"middle"`` if no block but the last hands on a map.

    Raises:
        ModelError: There is no output layer, or what enters it is not ``(N, D, ...)``.
        ScoreError: The batches cannot be used, labels are not integers, or maps differ in size.
    """
    device = device_of(network)
    twin = deepcopy(network).eval()
    owners: list[Hashable] = []
    taps: dict[str, _Tap] = {}
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {}
    with untouched_random_state(), torch.no_grad():
        for batch in walk_batches(batches):
            images, labels = batch.inputs.to(device), _checked(batch.labels)
            taps = taps or _taps(twin, images[:2], labels.ndim - 1)
            for depth, values in _run(twin, images, taps).items():
                seen.setdefault(depth, []).append(_at_one_resolution(values, labels, taps[depth]))
            owners += batch.subjects
    return {depth: _joined(taps[depth], pairs, tuple(owners)) for depth, pairs in seen.items()}


@dataclass(frozen=True, slots=True)
class _Tap:
    """Where features are taken: a layer, and whether before or behind it."""

    path: str
    is_input: bool

    def __str__(self) -> str:
        return f"what {'enters' if self.is_input else 'leaves'} {self.path or 'the network'!r}"


def _checked(labels: Tensor) -> Tensor:
    if labels.is_floating_point() or labels.is_complex():
        raise ScoreError(
            f"cannot score a source by its features: the labels are {labels.dtype}, expected "
            "integers, the class of each pixel or image. Convert them with labels.long()"
        )
    return labels.cpu().long()


def _taps(twin: nn.Module, example: Tensor, num_axes: int) -> dict[str, _Tap]:
    sites = sites_of(twin, example_input=example)
    output = next((site.path for site in sites if site.is_output), None)
    if output is None:
        raise ModelError(
            f"cannot take features of {type(twin).__name__}: it has no convolution or linear "
            "layer, so no output layer whose input they would be"
        )
    kernels = [s.path for s in sites if s.kind is Kind.W and s.family in KERNEL_FAMILIES]
    middle = _middle_block(kernels, _that_give_maps(twin, example, num_axes))
    taps = {OUTPUT: _Tap(output, True)}
    return taps if middle is None else {**taps, MIDDLE: _Tap(middle, False)}


def _middle_block(kernels: Sequence[str], candidates: set[str]) -> str | None:
    """Return the block that ends nearest to half of the kernel layers, the outermost of equals.

    Args:
        kernels: Paths of the kernel layers, front to back.
        candidates: Paths of the modules to choose from.
    """
    ends: dict[str, int] = {}
    for place, path in enumerate(kernels, start=1):
        parts = path.split(".")
        for depth in range(1, len(parts) + 1):
            ends[".".join(parts[:depth])] = place
    last = len(kernels)
    paths = [path for path, end in ends.items() if end < last and path in candidates]
    return min(paths, key=lambda p: (abs(ends[p] - last / 2), p.count(".")), default=None)


def _that_give_maps(twin: nn.Module, example: Tensor, num_axes: int) -> set[str]:
    """Return the modules that give ``(N, D, ...)`` with the labels' axes, or any map for none."""
    allowed = {num_axes + 2} if num_axes else {4, 5}
    giving: set[str] = set()

    def watch(path: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _arguments: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim in allowed:
                giving.update({path} if len(output) == len(example) else ())

        return hook

    with _hooked(m.register_forward_hook(watch(path)) for path, m in twin.named_modules()):
        twin(example)
    return giving


def _run(twin: nn.Module, images: Tensor, taps: dict[str, _Tap]) -> dict[str, Tensor]:
    """Run the network and return what passes each tap; of a layer that runs twice, the last."""
    passed: dict[str, Any] = {}

    def tap(depth: str, *, is_input: bool) -> Any:
        def before(_module: nn.Module, arguments: Any) -> None:
            passed[depth] = arguments[0]

        def behind(_module: nn.Module, _arguments: Any, output: Any) -> None:
            passed[depth] = output

        layer = twin.get_submodule(taps[depth].path)
        if is_input:
            return layer.register_forward_pre_hook(before)
        return layer.register_forward_hook(behind)

    with _hooked(tap(depth, is_input=where.is_input) for depth, where in taps.items()):
        twin(images)
    return {depth: values.detach().float().cpu() for depth, values in passed.items()}


@contextmanager
def _hooked(handles: Iterator[Any]) -> Iterator[None]:
    attached = list(handles)
    try:
        yield
    finally:
        for handle in attached:
            handle.remove()


def _at_one_resolution(values: Tensor, labels: Tensor, tap: _Tap) -> tuple[Tensor, Tensor]:
    """Thin a map that is too large, and take each position's label."""
    if values.ndim < 2 or (labels.ndim > 1 and values.ndim != labels.ndim + 1):
        raise ModelError(
            f"cannot take features: {tap} has shape {tuple(values.shape)}, the labels "
            f"{tuple(labels.shape)}; expected (N, D, ...) with the labels' axes"
        )
    if values.ndim > 2 and max(values.shape[2:]) > MAX_SIDE:
        size = [min(side, MAX_SIDE) for side in values.shape[2:]]
        values = F.interpolate(values, size=size, mode="nearest-exact")
    sides = values.shape[2:]
    if labels.ndim == 1:
        return values, labels.view(-1, *[1] * len(sides)).expand(-1, *sides)
    at = F.interpolate(labels[:, None].double(), size=tuple(sides), mode="nearest-exact")
    return values, at[:, 0].long()


def _joined(
    tap: _Tap, pairs: list[tuple[Tensor, Tensor]], owners: tuple[Hashable, ...]
) -> FrozenFeatures:
    shapes = sorted({tuple(values.shape[1:]) for values, _ in pairs})
    if len(shapes) > 1:
        raise ScoreError(
            f"cannot put the batches' features together: {tap} has the shapes {shapes[:3]} per "
            "sample; expected one. Resample or crop the images to one size"
        )
    values, labels = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    return FrozenFeatures(tap.path, values, labels, owners)


def sample_pixels(
    features: FrozenFeatures, per_subject: int, *, seed: int, balanced: bool = False
) -> Pixels:
    """Draw pixels of each subject, without replacement.

    Pixels with a label below 0 are not drawn.

    Args:
        features: Features of some subjects.
        per_subject: How many pixels to draw at most of each.
        seed: Seed of the draw; the global random state is neither read nor moved.
        balanced: Draw as many of each class that a subject has, as far as they go.

    Returns:
        Pixels in order of samples and positions.

    Raises:
        ScoreError: No pixel has a label.
    """
    values = features.values.movedim(1, -1).reshape(-1, features.values.shape[1])
    labels = features.labels.reshape(-1)
    places = labels.numel() // len(features.owners)
    owners = [owner for owner in features.owners for _ in range(places)]
    rng = np.random.default_rng(seed)
    rows: dict[Hashable, list[int]] = {}
    for row, (owner, label) in enumerate(zip(owners, labels.tolist(), strict=True)):
        if label >= 0:
            rows.setdefault(owner, []).append(row)
    if not rows:
        raise ScoreError("cannot score features: no pixel has a label of 0 or above")
    draw = _draw_balanced if balanced else _draw
    chosen = np.sort(np.concatenate([draw(rng, r, per_subject, labels) for r in rows.values()]))
    picked = torch.from_numpy(chosen)
    return Pixels(values[picked].double(), labels[picked], tuple(owners[i] for i in chosen))


def _draw(rng: Generator, rows: Sequence[int], number: int, _labels: Tensor) -> Array:
    return rng.permutation(np.array(rows))[:number]


def _draw_balanced(rng: Generator, rows: Sequence[int], number: int, labels: Tensor) -> Array:
    """Draw the classes in turn, until the number or every pixel is drawn."""
    shuffled = rng.permutation(np.array(rows))
    drawn_from = labels.numpy()[shuffled]
    turn = np.zeros(len(drawn_from), dtype=np.int64)
    for label in np.unique(drawn_from):
        turn[drawn_from == label] = np.arange((drawn_from == label).sum())
    return shuffled[np.argsort(turn, kind="stable")[:number]]
