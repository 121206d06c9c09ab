"""Evidence made up for the tests of the papers' figures, tables and page; no tests."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from paramreuse.papers.evidence import Arm, Evidence, PairDistance, Role
from paramreuse.sites.layers import Kind
from paramreuse.sites.matching import Site
from paramreuse.sites.swaps import single_swaps
from paramreuse.study.records import TransferScore
from paramreuse.sweep.outcomes import Sweep

CLASSES = ("background", "RV", "myocardium", "LV")
BASELINE = (1.0, 0.8, 0.8, 0.9)
SUBJECTS = ("p1", "p2", "p3", "p4")
ROLES = {
    "target": Role("acdc", "acdc", "segmentation"),
    "A2": Role("acdc", "acdc", "autoencoder"),
    "B1": Role("t1", "t1", "segmentation"),
    "B2": Role("t1", "t1", "autoencoder"),
    "C1": Role("rvsc", "rvsc", "segmentation"),
}
NORMS = (Kind.RM, Kind.RV, Kind.RW, Kind.RB)
Drop = Callable[[Site, str], float]
"""Drop of every foreground class of every subject, by site and replacement."""


def made_up_sites(num_layers: int, *, biased: bool) -> list[Site]:
    """Sites of a network and of its output layer; without biases only the last layers have a B."""
    sites = []
    for layer in range(1, num_layers + 1):
        sites.append(Site(layer, f"conv{layer}", Kind.W, "weight", (2, 2, 3, 3)))
        if biased or layer == num_layers:
            sites.append(Site(layer, f"conv{layer}", Kind.B, "bias", (2,)))
        sites += [Site(layer, f"norm{layer}", kind, kind.value, (2,)) for kind in NORMS]
    output = num_layers + 1
    sites.append(Site(output, "out", Kind.W, "weight", (4, 2, 1, 1), is_output=True))
    return [*sites, Site(output, "out", Kind.B, "bias", (4,), is_output=True)]


def kernel_tenths(site: Site, replacement: str) -> float:
    """Even kernels cost 0.01, odd ones 0.1, all else nothing; the control costs 0.3 more."""
    cost = (0.01 if site.layer % 2 == 0 else 0.1) if site.kind is Kind.W else 0.0
    return cost + (0.3 if replacement != "source" else 0.0)


def paper_sweep(sites: Sequence[Site], drop: Drop = kernel_tenths) -> Sweep:
    """A sweep of single swaps in which all subjects and foreground classes lose the same."""
    base = np.tile(BASELINE, (len(SUBJECTS), 1))
    loss = np.array([0.0, 1.0, 1.0, 1.0])
    swaps = single_swaps(sites)
    return Sweep(
        swaps=tuple(swaps),
        replacements=("source", "shuffled"),
        classes=CLASSES,
        foreground=(False, True, True, True),
        subjects=SUBJECTS,
        baseline=base,
        scores={
            (swap.name, name): base - loss * drop(swap.sites[0], name)
            for swap in swaps
            for name in ("source", "shuffled")
        },
        identical=frozenset(),
    )


def pair_distances(
    first: str, second: str, sites: Sequence[Site], rmse: Callable[[Site], float]
) -> list[PairDistance]:
    return [
        PairDistance(
            *(first, second, site.layer, str(site.kind)),
            is_output=site.is_output,
            rmse=rmse(site),
            relative_rmse=10 * rmse(site),
        )
        for site in sites
    ]


def all_distances(
    names: Sequence[str], sites: Sequence[Site], transferred: Sequence[str] = ()
) -> list[PairDistance]:
    """Between every two models; and from the ideal model, the last, to the others."""
    distances = []
    for i, first in enumerate(names):
        for j, second in enumerate(names[i + 1 :], start=i + 1):
            distances += pair_distances(
                first, second, sites, lambda s, i=i, j=j: 0.01 * (i + j) + s.layer / 1000
            )
    for k, name in enumerate(transferred[:-1]):
        distances += pair_distances(
            transferred[-1], name, sites, lambda s, k=k: 0.02 * k + s.layer / 2000
        )
    return distances


def norm_rows(num_layers: int) -> list[dict[str, Any]]:
    return [
        {
            "layer": layer,
            "mrm": 2.0 if layer == 1 else 0.1,
            "mrv": 1.1,
            "mrw": 1.2,
            "mrw_median": 1.0,
            "mrb": 0.05,
        }
        for layer in range(1, num_layers + 1)
    ]


def paper_scores(
    means: Mapping[tuple[str, str, int], Sequence[Sequence[float]]],
) -> list[TransferScore]:
    """Scores by (source, strategy, subjects): a row of class scores per seed, for every subject."""
    return [
        TransferScore(source, strategy, number, seed, subject, label, score)
        for (source, strategy, number), seeds in means.items()
        for seed, scores in enumerate(seeds)
        for subject in SUBJECTS
        for label, score in zip(CLASSES, scores, strict=True)
    ]


TRANSFER = {
    (source, strategy, number): [[0.99, 0.6, 0.6, 0.7], [0.99, 0.7, 0.7, 0.8]]
    for number in (10, 50)
    for source, strategy in (
        ("", "scratch"),
        *((name, plan) for name in ("B1", "B2", "C1") for plan in ("plan-freeze", "plan-finetune")),
    )
}


def paper_arm(
    network: str = "unet", start: str = "shared", *, num_layers: int = 4, **changes: Any
) -> Arm:
    """An arm whose kernels cost 0.01 at even and 0.1 at odd layers, and nothing else."""
    unet = network == "unet"
    biased = changes.get("bias", unet)
    sites = made_up_sites(num_layers, biased=biased)
    trained = [] if unet else list(TRANSFER)
    names = ["-".join(str(p) for p in (s, src, n) if p) for src, s, n in trained]
    names.sort(key=lambda name: name == "plan-finetune-B2-50")
    arm = Arm(
        name=f"{network}-{start}",
        network=network,
        start=start,  # type: ignore[arg-type]
        bias=biased,
        residual=False,
        long_skips=True,
        roles=ROLES,
        sources=("A2", "B1", "B2", "C1"),
        sweeps={"A2": paper_sweep(sites)},
        distances=all_distances(list(ROLES), sites, names),
        batchnorms={"A2": norm_rows(num_layers)},
        transfer=paper_scores(TRANSFER) if trained else (),
    )
    return replace(arm, **changes)


def biased_arm(**changes: Any) -> Arm:
    return paper_arm("pspnet", bias=True, name="pspnet-bias", transfer=(), **changes)


def made_up_evidence(*arms: Arm) -> Evidence:
    """Evidence of the arms given; else for every figure and table of the papers."""
    default = (paper_arm(), paper_arm("pspnet"), biased_arm())
    return Evidence("papers", "smoke", arms or default)
