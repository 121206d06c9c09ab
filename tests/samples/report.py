"""Made-up studies with the numbers of a real pilot, for the tests of figures and page."""

from collections.abc import Sequence

import numpy as np

from paramreuse.report.contents import ExampleImage, Histogram, ReportData, SourceReport
from paramreuse.sites.layers import Kind
from paramreuse.sites.matching import Site, SkippedTensor
from paramreuse.sites.swaps import Swap, pair_swaps, prefix_swaps, single_swaps
from paramreuse.sweep.outcomes import Sweep

# Drops of the mean foreground Dice per layer: PSPNet and an auto-encoder with the same start.
SHARED = [
    *(0.10, 0.26, 0.08, 0.03, 0.02, 0.05, 0.10, 0.00, 0.06, 0.13, 0.07, 0.30, 0.01),
    *(0.07, 0.16, 0.09, 0.24, 0.03, 0.03, 0.00, 0.01, 0.00, 0.00, 0.00, 0.71, 0.71),
]
INDEPENDENT = [
    *(0.70, 0.66, 0.71, 0.31, 0.13, 0.63, 0.50, 0.52, 0.48, 0.53, 0.53, 0.59, 0.51),
    *(0.23, 0.34, 0.30, 0.42, 0.25, 0.05, 0.00, 0.03, 0.00, 0.00, 0.00, 0.71, 0.71),
]
STAGES = [(1, 64, 64), (2, 64, 128), (3, 128, 256), (4, 256, 512)]
CLASSES = ("background", "RV", "myocardium", "LV")


def pspnet_layers() -> list[tuple[str, str, int, int]]:
    """Return (convolution path, norm path, channels in, channels out) front to back."""
    layers = [("backbone.conv1", "backbone.bn1", 1, 64)]
    for stage, narrow, wide in STAGES:
        for block in (0, 1):
            path = f"backbone.layer{stage}.{block}"
            into = narrow if block == 0 else wide
            layers.append((f"{path}.conv1", f"{path}.bn1", into, wide))
            layers.append((f"{path}.conv2", f"{path}.bn2", wide, wide))
            if into != wide:
                layers.append((f"{path}.downsample.0", f"{path}.downsample.1", into, wide))
    layers += [(f"pyramid.{n}.conv", f"pyramid.{n}.norm", 512, 128) for n in range(4)]
    layers.append(("bottleneck.conv", "bottleneck.norm", 1024, 128))
    return layers


def pspnet_sites() -> list[Site]:
    sites = []
    for number, (conv, norm, into, out) in enumerate(pspnet_layers(), start=1):
        sites.append(Site(number, conv, Kind.W, "weight", (out, into, 3, 3)))
        sites.append(Site(number, conv, Kind.B, "bias", (out,)))
        names = {"RM": "running_mean", "RV": "running_var", "RW": "weight", "RB": "bias"}
        sites += [Site(number, norm, Kind(kind), name, (out,)) for kind, name in names.items()]
    output = {"family": "conv", "is_output": True}
    sites.append(Site(26, "classifier", Kind.W, "weight", (4, 128, 1, 1), **output))
    sites.append(Site(26, "classifier", Kind.B, "bias", (4,), **output))
    return sites


def pspnet_edges() -> list[tuple[str, str]]:
    edges, before = [], "backbone.conv1"
    for stage, _, _ in STAGES:
        for block in (0, 1):
            path = f"backbone.layer{stage}.{block}"
            edges += [(before, f"{path}.conv1"), (f"{path}.conv1", f"{path}.conv2")]
            end = f"{path}.conv2"
            after = f"backbone.layer{stage}.1.conv1" if block == 0 else following(stage)
            if stage > 1 and block == 0:
                edges += [(before, f"{path}.downsample.0"), (f"{path}.downsample.0", after)]
            else:
                edges.append((before, after))
            before = end
    pyramid = [f"pyramid.{n}.conv" for n in range(4)]
    edges = [edge for edge in edges if edge[1] != "pyramid"]
    edges += [(before, level) for level in pyramid] + [(p, "bottleneck.conv") for p in pyramid]
    return [*edges, (before, "bottleneck.conv"), ("bottleneck.conv", "classifier")]


def following(stage: int) -> str:
    return f"backbone.layer{stage + 1}.0.conv1" if stage < 4 else "pyramid"


def expected_drop(site: Site, kernels: Sequence[float]) -> float:
    if site.kind is Kind.W:
        return kernels[(site.layer - 1) % len(kernels)]
    if site.kind is Kind.RM:
        return {1: 0.05, 2: 0.06, 6: 0.06, 17: 0.03, 25: 0.10}.get(site.layer, 0.004)
    if site.kind is Kind.RV:
        return {1: 0.03, 25: 0.015}.get(site.layer, 0.003)
    return 0.001


def pilot_sweep(
    swaps: Sequence[Swap],
    kernels: Sequence[float] = SHARED,
    *,
    num_subjects: int = 40,
    classes: Sequence[str] = CLASSES,
    controls: Sequence[str] = ("shuffled",),
    baseline: Sequence[float] | None = None,
    spread: float = 0.3,
    seed: int = 0,
) -> Sweep:
    """Return a sweep whose drops scatter around those of a real pilot."""
    rng = np.random.default_rng(seed)
    K = len(classes)
    level = np.array(baseline if baseline is not None else [0.99, 0.86, 0.86, 0.93][:K], float)
    level = np.resize(level, K)
    base = level + rng.normal(0, 0.03, (num_subjects, K)) * (np.arange(K) > 0)
    foreground = tuple(k > 0 or K == 1 for k in range(K))
    scores, identical = {}, set()
    for swap in swaps:
        drop = min(0.82, sum(expected_drop(site, kernels) for site in swap.sites))
        for replacement in ("source", *controls):
            mean = drop if replacement == "source" else min(0.82, 0.05 + 2.2 * drop)
            if swap.anchor.layer in (20, 22, 23, 24) and replacement != "source":
                mean = drop
            factor = np.clip(rng.normal(1, spread, (num_subjects, 1)), 0, 3)
            noise = rng.normal(0, 0.004 + 0.05 * mean, (num_subjects, K))
            weight = np.where(foreground, 1.0, 0.05)
            scores[swap.name, replacement] = base - weight * (mean * factor + noise)
        if swap.name == "B 8":
            identical |= {(swap.name, "source"), (swap.name, "shuffled")}
            scores[swap.name, "source"] = base.copy()
    return Sweep(
        swaps=tuple(swaps),
        replacements=("source", *controls),
        classes=tuple(classes),
        foreground=foreground,
        subjects=tuple(f"patient{n + 1:03d}" for n in range(num_subjects)),
        baseline=base,
        scores=scores,
        identical=frozenset(identical),
        skipped=(SkippedTensor("classifier.extra", "the source has no tensor of this name"),),
        seed=seed,
    )


def comparison_rows(sites: Sequence[Site], level: float, seed: int = 0) -> list[dict[str, object]]:
    rng = np.random.default_rng(seed)
    rows = []
    for site in sites:
        relative = float(np.clip(level + rng.normal(0, 0.06), 0.02, 1.02))
        rows.append(
            {
                "layer": site.layer,
                "path": site.path,
                "kind": site.kind.value,
                "key": site.key,
                "elements": int(np.prod(site.shape)),
                "rmse": relative * 0.03,
                "relative_rmse": relative,
                "cosine": 1 - relative**2,
            }
        )
    return rows


def batchnorm_rows(level: float, seed: int = 0) -> list[dict[str, object]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "layer": n + 1,
            "path": norm,
            "mrm": float(rng.gamma(2, 0.05) * level),
            "mrv": float(1 + rng.normal(0, 0.1) * level),
            "mrw": float("inf") if n == 3 else float(1 + rng.normal(0, 0.05) * level),
            "mrw_median": float(1 + rng.normal(0, 0.02) * level),
            "mrb": float(rng.gamma(2, 0.02) * level),
        }
        for n, (_, norm, _, _) in enumerate(pspnet_layers())
    ]


def transfer_rows(seeds: int = 3) -> list[dict[str, object]]:
    rng = np.random.default_rng(4)
    means = {
        "scratch": (0.73, 0.88),
        "full": (0.80, 0.89),
        "plan-freeze": (0.81, 0.89),
        "plan-finetune": (0.85, 0.91),
        "random-plan": (0.74, 0.87),
    }
    rows: list[dict[str, object]] = []
    for strategy, levels in means.items():
        for num_subjects, level in zip((10, 50), levels, strict=True):
            for seed in range(seeds):
                mean = level + rng.normal(0, 0.012)
                scores = dict(
                    zip(CLASSES, (0.99, mean - 0.04, mean - 0.02, mean + 0.06), strict=True)
                )
                rows.append(
                    {"strategy": strategy, "num_subjects": num_subjects, "seed": seed}
                    | scores
                    | {"mean": mean, "epochs_to_0.7": int(30 - 20 * mean) if mean > 0.72 else None}
                )
    return rows


def example_image(seed: int = 0) -> ExampleImage:
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    r = np.hypot(x, y)
    rng = np.random.default_rng(seed)
    labels = np.select([r < 0.25, r < 0.4, np.hypot(x + 0.6, y) < 0.3], [3, 2, 1], 0)
    image = 300 * (r < 0.25) + 120 * (r < 0.9) + rng.normal(0, 20, r.shape)
    worse = np.select([r < 0.1, r < 0.5], [3, 2], 0)
    predictions = {"untouched": labels, "worst swap: W 25": worse, "best swap: RB 4": labels}
    return ExampleImage(f"patient00{seed + 1} frame01 slice 3", image, labels, predictions)


def learning_rows() -> list[dict[str, object]]:
    return [
        {
            "model": model,
            "epoch": epoch,
            "train_loss": 1.2 * np.exp(-epoch / pace) + 0.1,
            "validation_score": 0.88 - 0.8 * np.exp(-epoch / pace) if epoch % 5 == 0 else None,
        }
        for model, pace in (("target", 9), ("acdc-ae", 6), ("t1-seg", 12))
        for epoch in range(1, 41)
    ]


def claim_rows() -> list[dict[str, object]]:
    return [
        {
            "claim": "C1",
            "statement": "PSPNet is a reusable network, UNet is not",
            "outcome": "holds",
        },
        {"claim": "C2", "statement": "RM of the first normalisation matters", "outcome": "fails"},
        {"claim": "C7", "statement": "Deeper RM is more reusable", "outcome": "not checked"},
    ]


def pspnet_study() -> ReportData:
    """Return a whole study: two sources, every part there."""
    sites = pspnet_sites()
    swaps = [*single_swaps(sites), *pair_swaps(sites), *prefix_swaps(sites)]
    ae = pilot_sweep(swaps, [d if d > 0.05 else d / 8 for d in SHARED])
    seg = pilot_sweep(swaps, INDEPENDENT, seed=1)
    rng = np.random.default_rng(0)
    edges = np.linspace(-0.2, 0.2, 31)
    histogram = Histogram(
        edges, *(np.histogram(rng.normal(0, s, 5000), edges)[0] / 5000 for s in (0.05, 0.07))
    )
    sources = [
        SourceReport(
            "acdc-ae",
            sweep=ae,
            comparison=comparison_rows(sites, 0.3),
            lineage="shared",
            lineage_reason="Relative RMSE of the kernels is 0.30, and 0.98 after shuffling.",
            identical_share=0.004,
            batchnorm=batchnorm_rows(1),
            plan="# plan\nsource: acdc-ae\n",
            plan_command="paramreuse plan runs/acdc --source acdc-ae --tolerance {tolerance}",
            histograms={site.key: histogram for site in sites if site.kind is Kind.W},
            notes=["All sites of the plan swapped in at once cost 0.04 (0.03 to 0.05)."],
        ),
        SourceReport(
            "t1-seg",
            sweep=seg,
            comparison=comparison_rows(sites, 1.0, seed=1),
            lineage="independent",
            batchnorm=batchnorm_rows(4, seed=1),
            plan="# plan\nsource: t1-seg\n",
            plan_command="paramreuse plan runs/acdc --source t1-seg -o plan.yaml",
        ),
    ]
    return ReportData(
        study="acdc",
        network="PSPNet",
        sources=sources,
        sites=sites,
        edges=pspnet_edges(),
        transfer=transfer_rows(),
        ranking=[
            {"source": "acdc-ae", "relative_rmse": 0.3, "kernel_share": 0.56, "drop": 0.09},
            {"source": "t1-seg", "relative_rmse": 1.0, "kernel_share": 0.04, "drop": 0.41},
        ],
        claims=claim_rows(),
        curves=learning_rows(),
        examples=[example_image(0), example_image(1)],
        provenance={
            "versions": {"paramreuse": "0.1.0", "torch": "2.13.0", "python": "3.11"},
            "seeds": {"training": 0, "sweep": 0},
            "commands": ["paramreuse run studies/acdc.yaml --out runs/acdc"],
            "split": {"train": 50, "validation": 40},
            "study.yaml": "name: acdc\nnetwork: {name: pspnet}\n",
            "warnings": [],
        },
    )
