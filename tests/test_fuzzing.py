"""Random damage to every kind of file: what comes of it is a value or one of our errors.

Damaged files that were refused at a place where none had been refused before are kept, read first
the next time, and damaged further; ``tests/corpus`` has the smallest for each place.
``PARAMREUSE_FUZZ_SECONDS`` is for how much processor time each parser is tried, a fraction of a
second if not given; ``PARAMREUSE_FUZZ_SEED`` begins elsewhere; ``PARAMREUSE_FUZZ_CORPUS`` names a
folder that finds are added to.
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
from samples.corpus import Corpus
from samples.mutation import inside, mutated
from samples.reader_sets import WRITERS
from samples.soak import note

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


def read_damaged(target: Target, damaged: bytes, folder: Path) -> ParamReuseError | None:
    """Put damaged bytes in a file's place and read it; anything but our errors fails the test."""
    target.path.write_bytes(damaged)
    started = time.process_time()
    refused = None
    try:
        target.read()
    except ParamReuseError as error:
        refused = error
    except BaseException as error:
        kept = folder / f"finding-{target.path.name}"
        kept.write_bytes(damaged)
        pytest.fail(f"{target.path.name}: {type(error).__name__}: {error}; kept as {kept}")
    assert time.process_time() - started < LONGEST_SECONDS, f"{target.path.name}, {damaged!r}"
    return refused


@pytest.mark.parametrize("name", ["checkpoints", "texts", *sorted(WRITERS)])
def test_damage_gives_a_value_or_an_error_of_ours(name: str, tmp_path: Path) -> None:
    targets = targets_of(name, tmp_path)
    whole = [target.path.read_bytes() for target in targets]
    corpus = Corpus(name, [str(target.path.relative_to(tmp_path)) for target in targets])
    for target, content in zip(targets, whole, strict=True):
        target.read()
        for kept in corpus.of(target.path.relative_to(tmp_path)):
            read_damaged(target, kept, tmp_path)
        target.path.write_bytes(content)
    rng = np.random.default_rng([SEED, len(name)])
    end, tried = time.process_time() + SECONDS, 0
    while time.process_time() < end or tried < len(targets):
        target, content = (kind[tried % len(targets)] for kind in (targets, whole))
        place = target.path.relative_to(tmp_path)
        kept = corpus.of(place)
        start = kept[int(rng.integers(len(kept)))] if kept and rng.random() < 0.3 else content
        change = lambda piece: mutated(piece, rng, whole)  # noqa: E731
        # Now and then what no checksum would let through.
        if start is not content or rng.random() < 0.2:
            damaged = change(start)
        else:
            damaged = inside(target.path.name, start, change)
        refused = read_damaged(target, damaged, tmp_path)
        if refused is not None:
            corpus.add(place, damaged, refused)
        target.path.write_bytes(content)
        tried += 1
    note(f"fuzzing, {name}", tried=tried, processor_s=SECONDS, places_of_refusal=len(corpus))
