"""Training through the package against a plain PyTorch loop on the same batches.

    python benchmarks/train.py [--json] [--repeats 5] [--epochs 4] [--threads N]

Every variant does the same work: the same augmented batches of the phantom, loss, optimiser,
schedule, validation after every epoch, best weights kept. The package does it through Lightning,
with hashes of what is frozen, a copy of the model and channels-last kernels; the plain loop comes
as one writes it and with channels-last kernels too, which leaves what the package itself costs.
Variants alternate within one run, and medians are compared, since other load on the machine
comes and goes. Numbers are training images per second, of the clock and of processor time, which
tells more on a machine with company.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from paramreuse.data.phantom import read_phantom
from paramreuse.data.preparation import (
    PreparedBatches,
    PreparedSet,
    batches,
    prepare_subjects,
    training_batches,
)
from paramreuse.networks import pspnet, unet
from paramreuse.training import TrainingSettings, initial_model, train_model
from paramreuse.training.tasks import loss_of, validation_score

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "unet": lambda: unet(width=16),
    "pspnet": lambda: pspnet(width=24),
}


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What every variant trains on."""

    train: PreparedSet
    validation: PreparedSet
    settings: TrainingSettings


def train_through_package(model: nn.Module, work: Work) -> None:
    train_model(model, work.train, work.validation, settings=work.settings)


def train_plainly(model: nn.Module, work: Work) -> None:
    settings = work.settings
    model.train()
    loss_function = loss_of("segmentation", settings)
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate)
    steps = settings.epochs * len(epoch_batches(work, 0))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.learning_rate, steps)
    best, best_weights = float("-inf"), {}
    for epoch in range(settings.epochs):
        for inputs, labels, _ in epoch_batches(work, epoch):
            optimiser.zero_grad()
            loss = loss_function(model(inputs), inputs, labels)
            loss.backward()
            optimiser.step()
            schedule.step()
        model.eval()
        validation = batches(work.validation, settings.batch_size)
        score = validation_score(model, validation, "segmentation")
        model.train()
        if score > best:
            best, best_weights = score, {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(best_weights)


def train_plainly_channels_last(model: nn.Module, work: Work) -> None:
    train_plainly(model.to(memory_format=torch.channels_last), work)


VARIANTS = {
    "package": train_through_package,
    "plain": train_plainly,
    "plain_channels_last": train_plainly_channels_last,
}


def epoch_batches(work: Work, epoch: int) -> PreparedBatches:
    settings = work.settings
    return training_batches(
        work.train,
        settings.batch_size,
        seed=settings.seed,
        epoch=epoch,
        augment=settings.augment,
    )


def measure_network(name: str, work: Work, repeats: int) -> dict[str, object]:
    """Return the median speed of each variant, after one round that does not count."""
    wall: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    cpu: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for repeat in range(repeats + 1):
        order = list(VARIANTS) if repeat % 2 else list(reversed(VARIANTS))
        for variant in order:
            model = initial_model(NETWORKS[name], seed=0)
            start, cpu_start = time.perf_counter(), time.process_time()
            VARIANTS[variant](model, work)
            if repeat:
                wall[variant].append(time.perf_counter() - start)
                cpu[variant].append(time.process_time() - cpu_start)
    images = len(work.train) * work.settings.epochs
    row: dict[str, object] = {"network": name}
    for clock, seconds in (("s", wall), ("cpu_s", cpu)):
        speed = {variant: images / statistics.median(each) for variant, each in seconds.items()}
        row |= {f"{variant}_images_per_{clock}": round(v, 1) for variant, v in speed.items()}
        for other in ("plain", "plain_channels_last"):
            row[f"package_over_{other}_{clock}"] = round(speed["package"] / speed[other], 3)
    return row


def measure_pipeline(work: Work, repeats: int) -> dict[str, float]:
    """Return images per second of the batches alone, augmented and not."""
    speed = {}
    for name, augment in (("augmented", True), ("unchanged", False)):
        seconds = []
        for repeat in range(repeats + 1):
            start = time.perf_counter()
            for _ in training_batches(
                work.train, work.settings.batch_size, seed=0, epoch=repeat, augment=augment
            ):
                pass
            seconds.append(time.perf_counter() - start)
        speed[f"{name}_images_per_s"] = round(len(work.train) / statistics.median(seconds[1:]), 1)
    return speed


def prepare(options: argparse.Namespace) -> Work:
    phantom = read_phantom(subjects=options.subjects + 2, size=96)
    return Work(
        prepare_subjects(phantom, phantom.subjects[2:], size=96),
        prepare_subjects(phantom, phantom.subjects[:2], size=96),
        TrainingSettings(epochs=options.epochs, batch_size=16, device="cpu"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what training through the package costs.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repeats", type=int, default=5, help="rounds that count")
    parser.add_argument("--epochs", type=int, default=4, help="epochs per training")
    parser.add_argument("--subjects", type=int, default=16, help="phantom subjects to train on")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    work = prepare(options)
    result = {
        "torch": torch.__version__,
        "threads": options.threads,
        "images": len(work.train),
        "image_size": [96, 96],
        "batch_size": 16,
        "epochs": options.epochs,
        "repeats": options.repeats,
        "training": [measure_network(name, work, options.repeats) for name in NETWORKS],
        "pipeline": measure_pipeline(work, options.repeats),
    }
    if options.json:
        json.dump(result, sys.stdout, indent=2)
        print()
        return
    for row in result["training"]:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    print("  ".join(f"{key} {value}" for key, value in result["pipeline"].items()))


if __name__ == "__main__":
    main()
