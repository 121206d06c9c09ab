"""How long a sweep takes: the naive loop, the partial engine, the arithmetic floor.

python benchmarks/sweep.py                       everything, as a table
python benchmarks/sweep.py --only speed --json   one part, as JSON
Parts: speed, decided, growth, memory, gpu (nothing without one). Naive loop and engine alternate in
one run; medians count.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from time import perf_counter

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paramreuse.data.phantom import read_phantom
from paramreuse.engine.convolution import ConvNode
from paramreuse.engine.graph import dependent_nodes
from paramreuse.engine.partial import PartialEngine
from paramreuse.engine.precision import float32_arithmetic
from paramreuse.networks import pspnet, unet
from paramreuse.reuse.verdict import judge
from paramreuse.sites.matching import Site, match_sites
from paramreuse.sweep.outcomes import Sweep
from paramreuse.sweep.scores import Dice
from paramreuse.sweep.sweeping import sweep_sites

Batch = tuple[Tensor, Tensor, list[str]]
Row = dict[str, object]

CLASSES = 4


def naive_loop(
    target: nn.Module, source: Mapping[str, Tensor], sites: Sequence[Site], batches: list[Batch]
) -> np.ndarray:
    """Put the tensor in, run the model over the validation set, put it back."""
    score, slots = Dice(CLASSES), target.state_dict()
    sums = []
    with torch.no_grad():
        for key in (None, *(site.key for site in sites)):
            if key is not None:
                original = slots[key].clone()
                slots[key].copy_(source[key])
            sums.append([score.statistics(target(x), y).cpu().numpy() for x, y, _ in batches])
            if key is not None:
                slots[key].copy_(original)
    return np.array(sums)


def trained_looking(model: nn.Module, seed: int) -> nn.Module:
    """Give norms statistics as after training, so that no layer is trivially dead."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, t in model.state_dict().items():
            if t.is_floating_point() and t.ndim == 1:
                noise = torch.randn(t.shape, generator=generator)
                is_scale = key.endswith("var") or ("norm" in key and key.endswith("weight"))
                t.copy_(1 + 0.2 * noise.abs() if is_scale else 0.2 * noise)
    return model.eval()


def random_batches(number: int, size: int, side: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(size, 1, side, side, generator=generator),
            torch.randint(0, CLASSES, (size, side, side), generator=generator),
            [f"{batch}-{index}" for index in range(size)],
        )
        for batch in range(number)
    ]


def matmul_rate() -> float:
    """FLOP per second of a large float32 matrix product."""
    a, b = torch.randn(2, 4096, 4096)
    return 2 * 4096**3 / median(list(timed(lambda: a @ b, 5)))


def timed(function: Callable[[], object], repeats: int) -> Iterator[float]:
    for _ in range(repeats):
        start = perf_counter()
        function()
        yield perf_counter() - start


def conv_flops(engine: PartialEngine, inputs: Tensor) -> tuple[float, list[float]]:
    """FLOPs of all convolutions in a full pass, and of those that each tensor's swap changes."""
    engine.baseline(inputs)
    network = next(iter(engine._fitted.values())).network
    each: dict[int, float] = {}
    for number, node in enumerate(network.nodes):
        if isinstance(node, ConvNode):
            g, weight = node.geometry, network.tensors[node.weight]
            shapes = network._shapes[number]
            sizes = [
                (n + 2 * p - d * (k - 1) - 1) // s + 1
                for n, p, d, k, s in zip(
                    shapes[0][2:], g.padding, g.dilation, weight.shape[2:], g.stride, strict=True
                )
            ]
            each[number] = 2.0 * weight.numel() * sizes[0] * sizes[1] * len(inputs)
    swaps = []
    for key in sorted(frozenset().union(*(node.keys for node in network.nodes))):
        moved = dependent_nodes(network.nodes, {key})
        first = min(moved)
        node = network.nodes[first]
        spared = each[first] if isinstance(node, ConvNode) and node.weight != key else 0.0
        swaps.append(sum(each.get(number, 0.0) for number in moved) - spared)
    return sum(each.values()), swaps


def speed_of(
    name: str, models: tuple[nn.Module, nn.Module], batches: list[Batch], repeats: int
) -> Row:
    target, source = models
    lent = source.state_dict()
    sites = match_sites(target, source)
    naive, engine, steady, rates = [], [], [], []
    for _ in range(repeats):
        rates.append(matmul_rate())
        naive += timed(lambda: naive_loop(target, lent, sites, batches), 1)
        engine += timed(lambda: sweep_sites(target, source, batches, Dice(CLASSES), controls=()), 1)
        steady.append(steady_seconds(target, lent, sites, batches))
    fast = PartialEngine(target, batches[0][0])
    full, swaps = conv_flops(fast, batches[0][0])
    floor = sum(swaps) * len(batches) / median(rates)
    return {
        "network": name,
        "swaps": len(sites),
        "images": sum(len(x) for x, _, _ in batches),
        "naive_s": median(naive),
        "engine_s": median(engine),
        "ratio": median(naive) / median(engine),
        "steady_s": median(steady),
        "steady_ratio": median(naive) / median(steady),
        "floor_s": floor,
        "share_of_floor": floor / median(steady),
        "share_of_full_pass": float(np.mean(swaps)) / full,
        "matmul_gflops": median(rates) / 1e9,
    }


def steady_seconds(
    target: nn.Module, lent: Mapping[str, Tensor], sites: Sequence[Site], batches: list[Batch]
) -> float:
    """Time of the engine and the score alone: no capture, no checksums."""
    engine, score = PartialEngine(target, batches[0][0]), Dice(CLASSES)
    variants = [{site.key: lent[site.key]} for site in sites]
    start = perf_counter()
    for inputs, labels, _ in batches:
        score.statistics(engine.baseline(inputs), labels)
        for output in engine.swapped(variants):
            score.statistics(output, labels)
    return perf_counter() - start


def speed(repeats: int) -> list[Row]:
    cases = (
        ("UNet width 16, 128 x 128, batch 8", lambda: unet(width=16), (4, 8, 128)),
        ("PSPNet width 64, 128 x 128, batch 4", lambda: pspnet(width=64), (4, 4, 128)),
    )
    rows = []
    for name, make, sizes in cases:
        torch.manual_seed(0)
        models = trained_looking(make(), 0), trained_looking(make(), 1)
        rows.append(speed_of(name, models, random_batches(*sizes), repeats))
    return rows


def gpu(repeats: int) -> list[Row]:
    """Both networks at the papers' sizes, every single swap, source only."""
    if not torch.cuda.is_available():
        print("no CUDA device", file=sys.stderr)
        return []
    rows = []
    for name, make in (("UNet", unet), ("PSPNet", pspnet)):
        torch.manual_seed(0)
        target, source = (trained_looking(make(), seed).cuda() for seed in (0, 1))
        batches = [(x.cuda(), y.cuda(), ids) for x, y, ids in random_batches(2, 8, 224)]
        rows.append(
            gpu_speed(f"{name} width 64, 224 x 224, batch 8", (target, source), batches, repeats)
        )
    return rows


def gpu_speed(
    name: str, models: tuple[nn.Module, nn.Module], batches: list[Batch], repeats: int
) -> Row:
    """The naive loop in float32 as the engine, and as PyTorch is set (TF32 in convolutions)."""
    target, source = models
    lent, sites = source.state_dict(), match_sites(target, source)
    naive, rounded, engine = [], [], []
    for _ in range(repeats + 1):
        with float32_arithmetic():
            naive += timed(lambda: naive_loop(target, lent, sites, batches), 1)
        rounded += timed(lambda: naive_loop(target, lent, sites, batches), 1)
        engine += timed(lambda: sweep_sites(target, source, batches, Dice(CLASSES), controls=()), 1)
    row: Row = {"network": name, "swaps": len(sites)}
    times = {"naive_s": naive, "naive_tf32_s": rounded, "engine_s": engine}
    row |= {key: median(held[1:]) for key, held in times.items()}  # the first one warms up
    row["ratio"] = median(naive[1:]) / median(engine[1:])
    return row | {"peak_gb": torch.cuda.max_memory_allocated() / 1e9}


def phantom_batches(domain: str, subjects: int, seed: int, size: int = 8) -> list[Batch]:
    images = read_phantom(domain=domain, subjects=subjects, seed=seed, slices=4, size=96)
    slices = [part for subject in images.subjects for part in images.read_subject(subject)]
    x = torch.stack([part.image for part in slices])
    x = (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True)
    y = torch.stack([part.labels for part in slices if part.labels is not None])
    ids = [part.subject for part in slices]
    return [(x[i : i + size], y[i : i + size], ids[i : i + size]) for i in range(0, len(x), size)]


def train(model: nn.Module, batches: list[Batch], epochs: int, seed: int) -> nn.Module:
    order = np.random.default_rng(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(epochs):
        for index in order.permutation(len(batches)):
            x, y, _ = batches[index]
            optimiser.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimiser.step()
    return model.eval()


def decided(epochs: int) -> list[Row]:
    """A trained pair with 40 validation subjects: same numbers, and stopping when decided."""
    torch.manual_seed(0)
    start = unet(width=16)
    target, source = unet(width=16), unet(width=16)
    target.load_state_dict(start.state_dict())
    source.load_state_dict(start.state_dict())
    train(target, phantom_batches("cine", 40, 1), epochs, 0)
    train(source, phantom_batches("t1", 40, 1), epochs, 1)
    batches, score = phantom_batches("cine", 40, 2), Dice(CLASSES)
    seconds: dict[str, float] = {}
    sweeps: dict[str, Sweep] = {}
    for name, options in (
        ("full", {"engine": "full"}),
        ("partial", {}),
        ("decided", {"stop": "decided"}),
    ):
        start_s = perf_counter()
        sweeps[name] = sweep_sites(target, source, batches, score, **options)  # type: ignore[arg-type]
        seconds[name] = perf_counter() - start_s
    full, fast, early = sweeps["full"], sweeps["partial"], sweeps["decided"]
    off = max(float(np.nanmax(np.abs(full.scores[k] - fast.scores[k]))) for k in full.scores)
    verdicts = {name: judge(sweep) for name, sweep in sweeps.items()}
    words = {n: [j.verdict.value for j in v.judgements] for n, v in verdicts.items()}
    differ = [
        (j.swap.name, before.value, after.value)
        for j, before, after in zip(
            verdicts["partial"].judgements,
            (j.verdict for j in verdicts["partial"].judgements),
            (j.verdict for j in verdicts["decided"].judgements),
            strict=True,
        )
        if before != after
    ]
    seen = [np.isfinite(early.scores[k]).any(1).sum() for k in early.scores]
    return [
        {
            "baseline_dice": full.baseline_scores()["mean"],
            "trials": len(full.scores),
            "full_s": seconds["full"],
            "partial_s": seconds["partial"],
            "decided_s": seconds["decided"],
            "partial_ratio": seconds["full"] / seconds["partial"],
            "decided_ratio": seconds["full"] / seconds["decided"],
            "largest_score_difference": off,
            "verdicts_equal_to_full": words["full"] == words["partial"],
            "mean_subjects_seen": float(np.mean(seen)),
            "verdicts": {w: words["partial"].count(w) for w in sorted(set(words["partial"]))},
            "decided_differently": differ,
        }
    ]


def stack(layers: int) -> nn.Module:
    parts: list[nn.Module] = []
    for index in range(layers):
        parts += [nn.Conv2d(16 if index else 1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*parts, nn.Conv2d(16, CLASSES, 1))


def growth() -> list[Row]:
    rows: list[Row] = []

    def measure(axis: str, value: int, make: Callable[[], nn.Module], batches: list[Batch]) -> None:
        torch.manual_seed(0)
        models = trained_looking(make(), 0), trained_looking(make(), 1)
        row = speed_of(f"{axis} {value}", models, batches, 1)
        kept = ("swaps", "images", "naive_s", "engine_s", "ratio", "floor_s", "share_of_floor")
        rows.append({"axis": axis, "value": value, **{key: row[key] for key in kept}})

    for layers in (10, 20, 40, 80):
        measure("layers", layers, lambda n=layers: stack(n), random_batches(1, 8, 64))  # type: ignore[misc]
    for subjects in (10, 40, 160):
        measure("subjects", subjects, lambda: unet(width=8), random_batches(subjects // 10, 10, 64))
    for side in (64, 128, 256):
        measure("side", side, lambda: unet(width=16), random_batches(1, 8, side))
    return rows


def memory() -> list[Row]:
    command = [sys.executable, __file__, "--memory-child"]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(finished.stdout)]


def memory_child() -> Row:
    """Peak memory of a wide UNet on large images, in a process of its own."""
    torch.manual_seed(0)
    target, source = unet(width=64).eval(), unet(width=64).eval()
    batches = random_batches(1, 8, 256)
    before = _resident_gb()
    sites = match_sites(target, source)
    chosen = [sites[index] for index in range(0, len(sites), 12)]
    start = perf_counter()
    sweep_sites(
        target, source, batches, Dice(CLASSES), swaps=chosen, controls=(), memory_limit_gb=2.0
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {
        "network": "UNet width 64, 256 x 256, batch 8, memory_limit_gb=2",
        "loaded_gb": before,
        "peak_above_loaded_gb": peak - before,
        "swaps": len(chosen),
        "seconds": perf_counter() - start,
    }


def _resident_gb() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e9


def machine() -> Row:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line for line in file if "model name" in line]
    return {
        "cpu": names[0].split(":")[1].strip() if names else platform.processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("speed", "decided", "growth", "memory", "gpu")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--memory-child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_child:
        print(json.dumps(memory_child()))
        return
    runs: dict[str, Callable[[], list[Row]]] = {
        "speed": lambda: speed(options.repeats),
        "decided": lambda: decided(options.epochs),
        "growth": growth,
        "memory": memory,
        "gpu": lambda: gpu(options.repeats),
    }
    result: dict[str, object] = {"machine": machine()}
    for part in options.only:
        result[part] = runs[part]()
        if not options.json:
            print(part)
            for row in result[part]:  # type: ignore[attr-defined]
                print("  " + "  ".join(f"{k}={_short(v)}" for k, v in row.items()))
    result["load_after"] = os.getloadavg()[0]
    if options.json:
        print(json.dumps(result, indent=2))


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
