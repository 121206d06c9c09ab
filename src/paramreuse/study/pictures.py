"""Pictures to look at, kept while models are at hand: slices, labels, and what networks say."""

import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from math import isfinite
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from paramreuse.data.preparation import PreparedSet
from paramreuse.engine.plain import run_with
from paramreuse.files import write_bytes
from paramreuse.sites.lending import lend
from paramreuse.sites.matching import source_key
from paramreuse.study.config import TARGET
from paramreuse.study.job import Job, opened
from paramreuse.study.records import StoredPicture
from paramreuse.study.store import Store
from paramreuse.study.transfer.attempts import Attempt
from paramreuse.study.workbench import Workbench
from paramreuse.sweep.outcomes import Sweep
from paramreuse.untouched import untouched_random_state

Pixels = NDArray[np.uint8]

IMAGE, LABELS, UNTOUCHED = "image", "labels", "untouched"
"""What is shown besides predictions: the slice, its labels, and the target as it was trained."""

PREDICTIONS = "predictions.npz"
"""Name of a file of predictions."""

PICTURES_FORMAT = 1
"""Format of a file of predictions."""

_MOST_SUBJECTS = 128
"""Validation subjects of which pictures are kept; of more, these are spread evenly over them."""

_MOST_PIXELS = 192
"""Longest side of a picture; a larger slice is thinned out."""


def training_name(attempt: Attempt) -> str:
    """Return what the predictions of a training of the transfer are kept under."""
    return f"transfer/{attempt.name}"


def swap_name(source: str) -> str:
    """Return what the predictions under the costliest swap of a source are kept under."""
    return f"swap/{source}"


def keep_target_pictures(job: Job) -> None:
    """Keep slices and labels of the validation subjects, and what the target says of them."""
    _keep_slices(job)
    _keep(job, UNTOUCHED, job.bench.model(TARGET))


def keep_training_pictures(job: Job, attempt: Attempt, model: nn.Module) -> None:
    """Keep what a model says that was trained in the transfer: of the first repetition alone."""
    if attempt.seed == 0:
        _keep(job, training_name(attempt), model)


def forget_training_pictures(store: Store, attempt: Attempt) -> None:
    """Remove what is kept of a training."""
    store.remove(StoredPicture, shown=training_name(attempt))


def keep_swap_pictures(job: Job, source: str, sweep: Sweep) -> None:
    """Keep what the target says while the swap is in that costs most; kernels go first."""
    by_cost = sweep.by_cost(sweep.kernels or sweep.swaps)
    if not by_cost:
        return
    target = job.bench.model(TARGET)
    lent = lend(target, opened(job, source))
    device = job.bench.torch_device
    tensors = {
        site.key: lent[source_key(site, lent) or site.key].to(device, torch.float32)
        for site in by_cost[0][0].sites
    }
    _keep(job, swap_name(source), lambda inputs: run_with(target, tensors, inputs))


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What a model says of the slices that are shown.

    Attributes:
        pixels: The number of each pixel's class, shape ``(H, W)``, by subject.
        scores: Score of the whole subject, by subject; those without one are left out.
    """

    pixels: Mapping[str, Pixels]
    scores: Mapping[str, float]


def write_predictions(
    bench: Workbench, model: nn.Module, scores: Mapping[str, float], path: Path
) -> None:
    """Write what a model says of the slices that are shown to a file of its own, ``.npz``.

    Args:
        bench: Gives the slices.
        model: Network in evaluation mode.
        scores: Its score by validation subject.
        path: The file.

    Raises:
        OSError: It cannot be written.
    """
    prepared = bench.images(bench.target.data).validation
    chosen = shown_slices(prepared)
    predicted = _predicted(bench, prepared.select(chosen), model)
    subjects = [prepared.subjects[index] for index in chosen]
    packed = BytesIO()
    np.savez_compressed(
        packed,
        format=np.array(PICTURES_FORMAT),
        subjects=np.array(subjects),
        scores=np.array([scores.get(subject, np.nan) for subject in subjects]),
        predictions=np.stack(predicted) if predicted else np.zeros((0, 1, 1), np.uint8),
    )
    write_bytes(path, packed.getvalue())


def read_predictions(path: Path) -> Predictions:
    """Return what ``write_predictions`` wrote; nothing where there is no such file."""
    try:
        with np.load(BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            if int(stored["format"]) != PICTURES_FORMAT:
                return Predictions({}, {})
            subjects, scores = stored["subjects"].tolist(), stored["scores"].tolist()
            return Predictions(
                dict(zip(subjects, stored["predictions"], strict=True)),
                {n: score for n, score in zip(subjects, scores, strict=True) if isfinite(score)},
            )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error):
        return Predictions({}, {})


def read_pictures(store: Store, shown: str) -> dict[str, StoredPicture]:
    """Return what is kept under a name, by subject."""
    return {picture.subject: picture for picture in store.read(StoredPicture, shown=shown)}


def pixels_of(picture: StoredPicture) -> Pixels:
    """Return a picture, shape ``(H, W)``: grey values, or the number of each pixel's class."""
    values = np.frombuffer(zlib.decompress(picture.pixels), np.uint8)
    return values.reshape(picture.rows, picture.columns)


def shown_slices(prepared: PreparedSet) -> list[int]:
    """Return, for every subject that is shown, the slice on which the foreground covers most.

    Args:
        prepared: Slices of the validation subjects; those without a label do not count.

    Returns:
        Places of the slices, in the order of the subjects.
    """
    covers = (prepared.labels > 0).flatten(1).sum(1).tolist()
    best: dict[str, int] = {}
    for index, subject in enumerate(prepared.subjects):
        if covers[index] > (covers[best[subject]] if subject in best else 0):
            best[subject] = index
    places = list(best.values())
    if len(places) <= _MOST_SUBJECTS:
        return places
    spread = np.linspace(0, len(places) - 1, _MOST_SUBJECTS).round().astype(int)
    return [places[at] for at in spread]


def _keep_slices(job: Job) -> None:
    prepared = job.bench.images(job.bench.target.data).validation
    shown = prepared.select(shown_slices(prepared))
    with job.store.together():
        for index, (subject, name) in enumerate(zip(shown.subjects, shown.names, strict=True)):
            grey = _grey(shown.images[index, 0].numpy())
            labels = _classes(shown.labels[index])
            rows = {IMAGE: grey, LABELS: labels}.items()
            job.store.write(_record(what, subject, name, pixels) for what, pixels in rows)


def _keep(job: Job, name: str, predict: Callable[[Tensor], Tensor]) -> None:
    if not job.store.count(StoredPicture, shown=IMAGE):
        _keep_slices(job)
    prepared = job.bench.images(job.bench.target.data).validation
    shown = prepared.select(shown_slices(prepared))
    predicted = _predicted(job.bench, shown, predict)
    pictures = zip(shown.subjects, shown.names, predicted, strict=True)
    with job.store.together():
        job.store.remove(StoredPicture, shown=name)
        job.store.write(
            _record(name, subject, place, pixels) for subject, place, pixels in pictures
        )


def _predicted(
    bench: Workbench, shown: PreparedSet, predict: Callable[[Tensor], Tensor]
) -> list[Pixels]:
    predicted: list[Pixels] = []
    with torch.no_grad(), untouched_random_state():
        for start in range(0, len(shown), bench.study.sweep.batch_size):
            inputs = shown.images[start : start + bench.study.sweep.batch_size]
            outputs = predict(inputs.to(bench.torch_device, copy=True))
            predicted += [_classes(classes) for classes in outputs.argmax(1).cpu()]
    return predicted


def _classes(labels: Tensor) -> Pixels:
    """Return classes as bytes; what has no label counts as background."""
    return _thinned(labels.clamp(0, 255).to(torch.uint8).numpy())


def _grey(image: NDArray[np.float32]) -> Pixels:
    values = np.nan_to_num(image)
    low, high = np.percentile(values, [1, 99])
    return _thinned(np.round(255 * np.clip((values - low) / max(high - low, 1e-12), 0, 1)))


def _thinned(pixels: NDArray[np.generic]) -> Pixels:
    step = max(1, -(-max(pixels.shape) // _MOST_PIXELS))
    return np.ascontiguousarray(pixels[::step, ::step], dtype=np.uint8)


def _record(shown: str, subject: str, name: str, pixels: Pixels) -> StoredPicture:
    packed = zlib.compress(pixels.tobytes())
    return StoredPicture(shown, subject, name, pixels.shape[0], pixels.shape[1], packed)
