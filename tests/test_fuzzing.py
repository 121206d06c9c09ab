"""Random damage to every kind of file: what comes of it is a value or one of our errors.

``PARAMREUSE_FUZZ_SECONDS`` is how long each parser is tried, a fraction of a second if not given;
``PARAMREUSE_FUZZ_SEED`` begins elsewhere.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from paramreuse.checkpoint import read_checkpoint
from paramreuse.errors import ParamReuseError
from paramreuse.reuse.plan_file import read_plan
from paramreuse.study.study_file import read_study
from samples.mutation import inside, mutated
from samples.reader_sets import WRITERS

SECONDS = float(os.environ.get("PARAMREUSE_FUZZ_SECONDS", "0.3"))
SEED = int(os.environ.get("PARAMREUSE_FUZZ_SEED", "0"))
LONGEST_SECONDS = 5.0
"""That one damaged file may take, on a machine that does other things as well."""

STUDY = b"""name: mine
seed: 1
network: {name: unet, width: 8}
data:
  mine: &png {reader: phantom, train: 2, validation: 1, size: [64, 64], options: {subjects: 3}}
  theirs: *png
models:
  target: {data: mine, epochs: 2, learning_rate: 1e-3}
  ae: {data: theirs, task: autoencoder, checkpoint: ae.pt}
sources: [ae]
judge: {tolerance: 0.02, accept: [reusable]}
transfer: {subjects: [2], strategies: [scratch, full], seeds: 2}
"""
PLAN = b"""paramreuse_plan: 1
source: ae
tolerance: 0.02
confidence: 0.95
sites:
- {action: load, site: W 1, family: conv, layer: 1, kind: W, path: a.0, attribute: weight,
   shape: [4, 1, 3, 3], output: false, reason: x}
- {action: leave, site: B 1, family: conv, layer: 1, kind: B, path: a.0, attribute: bias,
   shape: [4], output: false, aliases: [b.bias]}
"""


@dataclass(frozen=True)
class Target:
    """A file and what reads it."""

    path: Path
    read: Callable[[], object]


def read_every_subject(path: Path) -> None:
    checkpoint = read_checkpoint(path)
    for key in checkpoint:
        checkpoint.shape_of(key)
        _ = checkpoint[key]


def write_checkpoints(root: Path) -> list[Target]:
    weights = {"layer1.weight": torch.randn(3, 2), "layer1.bias": torch.zeros(3)}
    nested = {"state_dict": {f"module.{k}": v for k, v in weights.items()}, "epoch": 3}
    torch.save(nested, root / "a.pt")
    torch.save(nested, root / "old.pth", _use_new_zipfile_serialization=False)
    save_file(weights, root / "a.safetensors", metadata={"paramreuse.aliases": "{}"})
    index = root / "shards" / "model.safetensors.index.json"
    index.parent.mkdir()
    save_file(weights, index.parent / "1.safetensors")
    index.write_text(json.dumps({"weight_map": dict.fromkeys(weights, "1.safetensors")}))
    files = (root / "a.pt", root / "old.pth", root / "a.safetensors", index)
    return [Target(path, lambda path=path: read_every_subject(path)) for path in files]


def write_texts(root: Path) -> list[Target]:
    (root / "study.yaml").write_bytes(STUDY)
    (root / "plan.yaml").write_bytes(PLAN)
    return [
        Target(root / "study.yaml", lambda: read_study(root / "study.yaml")),
        Target(root / "plan.yaml", lambda: read_plan(root / "plan.yaml")),
    ]


def targets_of(name: str, root: Path) -> list[Target]:
    if name == "checkpoints":
        return write_checkpoints(root)
    if name == "texts":
        return write_texts(root)
    small = WRITERS[name](root)
    return [Target(path, small.slices) for path in sorted(root.rglob("*")) if path.is_file()]


@pytest.mark.parametrize("name", ["checkpoints", "texts", *sorted(WRITERS)])
def test_damage_gives_a_value_or_an_error_of_ours(name: str, tmp_path: Path) -> None:
    targets = targets_of(name, tmp_path)
    whole = [target.path.read_bytes() for target in targets]
    for target in targets:
        target.read()
    rng = np.random.default_rng([SEED, len(name)])
    end, tried = time.monotonic() + SECONDS, 0
    while time.monotonic() < end or tried < len(targets):
        target, content = (kind[tried % len(targets)] for kind in (targets, whole))
        change = lambda piece: mutated(piece, rng, whole)  # noqa: E731
        # Now and then what no checksum would let through.
        damaged = (
            change(content) if rng.random() < 0.2 else inside(target.path.name, content, change)
        )
        target.path.write_bytes(damaged)
        started = time.process_time()
        try:
            target.read()
        except ParamReuseError:
            pass
        except BaseException as error:
            kept = tmp_path / f"finding-{target.path.name}"
            kept.write_bytes(damaged)
            pytest.fail(f"{target.path.name}: {type(error).__name__}: {error}; kept as {kept}")
        assert time.process_time() - started < LONGEST_SECONDS, f"{target.path.name}, {damaged!r}"
        target.path.write_bytes(content)
        tried += 1
    print(f"{name}: {tried} damaged files")
