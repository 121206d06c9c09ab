"""Images to look at: what the target says untouched, and under the worst and the best swap."""

import numpy as np
import torch

from paramreuse.engine.plain import run_with
from paramreuse.report.contents import ExampleImage
from paramreuse.sites.lending import lend
from paramreuse.sites.matching import source_key
from paramreuse.sites.swaps import Swap
from paramreuse.study.config import TARGET
from paramreuse.study.findings import findings_of
from paramreuse.study.job import Job, opened
from paramreuse.sweep.outcomes import Sweep

_NUMBER = 3


def example_images(job: Job) -> tuple[ExampleImage, ...]:
    """Choose a few validation slices and predict them under three conditions.

    The slices are those of the first subjects on which the labels cover most; worst and best are
    the kernel swaps of the first swept source with the largest and the smallest drop.

    Raises:
        ParamReuseError: The images or the models are not there any more.
    """
    sweeps = findings_of(job.bench.study, job.store).sweeps
    if not sweeps:
        return ()
    name, sweep = next(iter(sweeps.items()))
    prepared = job.bench.images(job.bench.target.data).validation
    chosen = _covered(prepared.labels.numpy(), prepared.subjects)
    target = job.bench.model(TARGET)
    lent = lend(target, opened(job, name))
    inputs = prepared.images[torch.tensor(chosen)].to(job.bench.torch_device)
    swaps = _extremes(sweep)
    predictions: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        predictions["untouched"] = target(inputs).argmax(1).cpu()
        for word, swap in swaps.items():
            tensors = {
                site.key: lent[source_key(site, lent) or site.key].to(inputs.device, torch.float32)
                for site in swap.sites
            }
            outputs = run_with(target, tensors, inputs)
            predictions[f"{word} swap: {swap.name} of {name}"] = outputs.argmax(1).cpu()
    return tuple(
        ExampleImage(
            name=prepared.names[index],
            image=prepared.images[index, 0].numpy(),
            labels=prepared.labels[index].numpy(),
            predictions={label: images[row].numpy() for label, images in predictions.items()},
        )
        for row, index in enumerate(chosen)
    )


def _covered(
    labels: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]", subjects: tuple[str, ...]
) -> list[int]:
    """Return, for the first subjects, the slice on which the foreground covers most."""
    chosen: list[int] = []
    for subject in list(dict.fromkeys(subjects))[:_NUMBER]:
        own = [index for index, name in enumerate(subjects) if name == subject]
        chosen.append(max(own, key=lambda index: int((labels[index] > 0).sum())))
    return chosen


def _extremes(sweep: Sweep) -> dict[str, Swap]:
    by_cost = sweep.by_cost(sweep.kernels or sweep.swaps)
    if not by_cost:
        return {}
    # The first of several that cost as little, not the last.
    return {"worst": by_cost[0][0], "best": min(by_cost, key=lambda pair: pair[1])[0]}
