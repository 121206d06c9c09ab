"""Arms of the papers' protocol made up from drops that were chosen by hand; no tests."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from paramreuse.networks import pspnet, unet
from paramreuse.papers.claims import CLAIMS, judge_claim
from paramreuse.papers.evidence import Arm, Evidence, PairDistance, Role, Start
from paramreuse.papers.rules.condition import CONDITIONS
from paramreuse.papers.rules.finding import Finding
from paramreuse.sites.matching import Site, sites_of
from paramreuse.study.records import TransferScore
from paramreuse.sweep.outcomes import Sweep
from samples.sweeps import made_up_sweep

NUM_SUBJECTS = 6
NONE, LARGE = 0.0, 0.25
WAVERING = (0.0, 0.0, 0.0, 0.0, 0.0, 0.6)
"""Mean 0.1; resampled, anything from 0 to 0.3 and more."""

Drop = float | Sequence[float]
Drops = Mapping[str, Drop]
"""Drop by name of the site (``W 6``) or by kind (``W``), the name first; 0 where neither is."""

ROLES = {
    "target": Role("A", "acdc", "segmentation"),
    "A2": Role("A", "acdc", "autoencoder"),
    "B1": Role("B", "t1", "segmentation"),
    "B2": Role("B", "t1", "autoencoder"),
}


@cache
def sites_of_network(network: str) -> tuple[Site, ...]:
    """The sites of the real network: its layers' numbers and shapes, with backbone biases."""
    return tuple(sites_of(unet(width=2) if network == "unet" else pspnet(width=2, bias=True)))


def per_subject(drop: Drop) -> list[float]:
    return [drop] * NUM_SUBJECTS if isinstance(drop, int | float) else list(drop)


def drop_at(site: Site, drops: Drops) -> list[float]:
    return per_subject(drops.get(site.name, drops.get(site.kind, NONE)))


def sweep_from(network: str, drops: Drops, *, shuffled: Drops | None = None) -> Sweep:
    """A sweep of every site of a network."""
    measured = {}
    for site in sites_of_network(network):
        measured[site] = {"source": drop_at(site, drops)}
        if shuffled is not None:
            measured[site]["shuffled"] = drop_at(site, shuffled)
    return made_up_sweep(measured)


def made_up_arm(
    network: str,
    drops: Drops,
    *,
    shuffled: Drops | None = None,
    recalibrated: Drops | None = None,
    start: Start = "shared",
    **fields: Any,
) -> Arm:
    """An arm that was swept from A2.

    Args:
        network: ``unet`` or ``pspnet``.
        drops: Of the source.
        shuffled: Of the control; none was swept if not given.
        recalibrated: Of the source with statistics recomputed; not measured if not given.
        start: As in the arm.
        fields: Further fields of the arm.
    """
    again = None if recalibrated is None else sweep_from(network, recalibrated)
    form = {"bias": network == "unet", "residual": False, "long_skips": True, "sources": ("A2",)}
    return Arm(
        **{
            "name": f"{network}-{start}",
            "network": network,
            "start": start,
            "roles": ROLES,
            "sweeps": {"A2": sweep_from(network, drops, shuffled=shuffled)},
            "recalibrated": {} if again is None else {"A2": again},
            **form,
            **fields,
        }
    )


def only_kinds(arm: Arm, *kinds: str) -> Arm:
    """The arm with swaps of these kinds alone."""
    sweep = arm.sweeps["A2"]
    kept = tuple(swap for swap in sweep.swaps if swap.kind in kinds)
    return replace(arm, sweeps={"A2": replace(sweep, swaps=kept)})


def kernel_rmses(
    source: str, rmse: float | Sequence[float], *, relative: float | Sequence[float] = 0.5
) -> list[PairDistance]:
    """How far a source's kernels are from the target's, at layers 1 to 5 and the output layer.

    A large one of the output, and of a bias, that no rule may count stand beside them.
    """
    raw = np.broadcast_to(rmse, 5).tolist()
    scaled = np.broadcast_to(relative, 5).tolist()
    pairs = [
        PairDistance("target", source, layer, "W", is_output=False, rmse=r, relative_rmse=s)
        for layer, (r, s) in enumerate(zip(raw, scaled, strict=True), start=1)
    ]
    pairs.append(PairDistance("target", source, 6, "W", is_output=True, rmse=1e6, relative_rmse=1))
    pairs.append(PairDistance("target", source, 1, "B", is_output=False, rmse=1e6, relative_rmse=1))
    return pairs


def transfer_scores(
    dice: Mapping[tuple[str, str], Sequence[Drop]], *, num_subjects: int = 10
) -> list[TransferScore]:
    """Scores of the transfer.

    Args:
        dice: By source and strategy: for each repetition the Dice of every validation subject.
        num_subjects: Number of training subjects.
    """
    return [
        TransferScore(source, strategy, num_subjects, seed, f"p{subject}", label, score)
        for (source, strategy), repetitions in dice.items()
        for seed, scores in enumerate(repetitions)
        for subject, value in enumerate(per_subject(scores))
        for label, score in (("0", 1.0), ("1", value))
    ]


def evidence(*arms: Arm) -> Evidence:
    return Evidence("made-up", "", arms)


def finding(claim: str, *arms: Arm, under: str = "shared") -> Finding:
    """What a claim comes to under one condition."""
    (judged,) = [c for c in CLAIMS if c.name == claim]
    (condition,) = [c for c in CONDITIONS if c.name == under]
    assert judged.applies(condition), f"{claim} has no column {under}"
    return judge_claim(judged, evidence(*arms), condition)


def outcome(claim: str, *arms: Arm, under: str = "shared") -> str:
    return finding(claim, *arms, under=under).outcome.value
