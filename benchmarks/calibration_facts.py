"""Drops by subject of sources whose answer is known, from a run of studies/calibration.yaml.

python benchmarks/calibration_facts.py runs/calibration/arms/unet --out unet.npz
The run has to have been swept. Its own sources are taken from the store; made here are the
target's training continued, a network of random values (which is what a broken layer lends),
growing noise, and shifted BatchNorm statistics. An array holds the drops of one trial, named
SOURCE|SWAP|REPLACEMENT.
"""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from paramreuse.compare.distance import compare_models
from paramreuse.sites.draws import draw_name
from paramreuse.sites.layers import Kind
from paramreuse.sites.matching import match_sites
from paramreuse.study.config import TARGET
from paramreuse.study.run_folder import read_run
from paramreuse.study.store import opened_store
from paramreuse.study.stored_sweep import read_sweep
from paramreuse.study.workbench import Workbench
from paramreuse.sweep.outcomes import Sweep
from paramreuse.sweep.sweeping import sweep_sites
from paramreuse.training import initial_model, train_model

NOISE = (0.01, 0.03, 0.1, 0.3)
"""Noise in units of each tensor's own deviation."""

Array = np.ndarray


def facts_of(source: str, sweep: Sweep) -> Iterator[tuple[str, Array]]:
    """Yield the drops of every trial, the draws of a control one by one."""
    for (swap, name), scores in sweep.scores.items():
        for index, draw in enumerate(sweep.draws.get((swap, name), (scores,))):
            alone = replace(sweep, scores={(swap, name): draw})
            yield f"{source}|{swap}|{draw_name(name, index)}", alone.drops(swap, name)[:, -1]


def noisy(state: Mapping[str, Tensor], size: float) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        key: value + size * value.std() * torch.randn(value.shape, generator=generator)
        if value.is_floating_point() and value.numel() > 1
        else value
        for key, value in state.items()
    }


def shifted(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Move running means by half a deviation, and make running variances half as large again."""
    moved = dict(state)
    for key in state:
        if key.endswith("running_var"):
            mean = key.replace("running_var", "running_mean")
            moved[mean] = state[mean] + 0.5 * state[key].sqrt()
            moved[key] = 1.5 * state[key]
    return moved


def continued(bench: Workbench, target: nn.Module) -> nn.Module:
    spec = bench.target.model_copy(update={"epochs": 5, "learning_rate": 1e-4})
    images = bench.images(spec.data)
    settings = bench.settings(spec, seed=99, folder=None)
    return train_model(target, images.trainable, images.validation, settings=settings).model.eval()


def measure(folder: Path) -> Iterator[tuple[str, Array]]:
    study = read_run(folder)
    bench = Workbench(study, folder)
    target = bench.model(TARGET).eval()
    state = {key: value.clone() for key, value in target.state_dict().items()}
    with opened_store(folder) as store:
        for source in study.sources:
            sweep = read_sweep(store, source)
            if sweep is not None:
                print(source, sweep.lineage, flush=True)
                yield from facts_of(source, sweep)
    random = initial_model(bench.factory(TARGET), 12345).state_dict()
    made: dict[str, tuple[Mapping[str, Tensor], tuple[Kind, ...]]] = {
        "continued": (continued(bench, target).state_dict(), (Kind.W, Kind.RM, Kind.RV)),
        "random": (random, tuple(Kind)),
        "shifted statistics": (shifted(state), (Kind.RM, Kind.RV)),
        **{f"noise {size:g}": (noisy(state, size), (Kind.W,)) for size in NOISE},
    }
    for name, (source_state, kinds) in made.items():
        print(name, compare_models(target, source_state).lineage, flush=True)
        sites = [site for site in match_sites(target, source_state) if site.kind in kinds]
        sweep = sweep_sites(
            target,
            source_state,
            bench.validation_batches(),
            bench.score,
            swaps=sites,
        )
        yield from facts_of(name, sweep)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    np.savez(asked.out, **dict(measure(asked.run)))


if __name__ == "__main__":
    main()
