"""What processes that share a recommendation's folder run; no tests."""

import os
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import paramreuse as pr
from paramreuse.recommendation.ledger import Ledger
from samples.disks import disk_network, disks

STEPS = 12


def recommend_together(
    folder: Path | None, source: dict[str, Tensor], diary: Path, pause: float
) -> pr.Recommendation:
    """Recommend, and note in a diary who trained what."""

    def train(model: nn.Module, labelled: Any, plan: Any, steps: int, seed: int) -> nn.Module:
        subjects = sorted({owner for _, _, owners in labelled for owner in owners})
        loaded = 0 if plan is None else len(plan.loaded)
        frozen = 0 if plan is None else sum(e.action == "freeze" for e in plan.entries)
        with diary.open("a") as file:
            file.write(f"{os.getpid()} {','.join(subjects)} {steps} {loaded} {frozen}\n")
        time.sleep(pause)
        return pr.train_steps(model, labelled, plan, steps, seed)

    sources = {"disks": source}
    return pr.recommend(disk_network, sources, disks(4), steps=STEPS, train=train, folder=folder)


def recommend_and_write(folder: Path, source: Path, diary: Path, out: Path) -> None:
    """Do so in a process of its own, which writes the table and the model.

    It begins once two such processes are there, whenever they have started.
    """
    torch.set_num_threads(1)
    out.with_suffix(".ready").touch()
    while len(list(out.parent.glob("*.ready"))) < 2:
        time.sleep(0.05)
    weights = dict(pr.read_checkpoint(source))
    recommendation = recommend_together(folder, weights, diary, pause=0.05)
    recommendation.frame().to_csv(out.with_suffix(".csv"), index=False)
    pr.write_checkpoint(out, recommendation.model)


def claim_for_ever(folder: Path, told: Path) -> None:
    """Claim an entry and never let go."""
    with Ledger(folder, "same").claimed("0/full/x") as is_ours:
        told.write_text(str(is_ours))
        time.sleep(600)
