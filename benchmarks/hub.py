"""How fast the nearest of many checkpoints are found, in how much memory, and how surely.

python benchmarks/hub.py --checkpoints 2000 --folder /big/disk     45 MB each, deleted afterwards
python benchmarks/hub.py --checkpoints 40 --sketches 2000 --json   40 on disk, sketches of 2000

Checkpoints of ResNet-18's shapes in families of 100: each is its family's start and noise of half
its size. Files are read plainly (what the disk delivers), then sketched, once from the disk and
once from the page cache, by a fresh process for half of them and for all. Then pilots are made that
are nearer to one checkpoint than to the other 99 of its family, by 10 % and by 5 %: how often is it
among the first ten by sketch alone, and among those that are compared element by element?
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from paramreuse.nearest.index import opened_index
from paramreuse.nearest.search import nearest_sources, shortlisted
from paramreuse.nearest.sketch import sketch_tensor

FAMILY = 100
NOISE = 0.5
BLOCK = 2**23
# Sketches what is in a folder, and says what it took; the high-water mark is the kernel's own.
CHILD = """
import json, sys
from pathlib import Path
from time import perf_counter, process_time
from paramreuse.nearest.index import opened_index
from paramreuse.nearest.listing import LocalSource
from paramreuse.nearest.sketching import sketch_sources
def mark(name):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(name))) / 1e3
import torch, paramreuse.nearest.search
files = [LocalSource(Path(name)) for name in sys.argv[3:]]
before, start, cpu = mark("VmRSS"), perf_counter(), process_time()
with opened_index(Path(sys.argv[1])) as index:
    sketch_sources(index, files, workers=int(sys.argv[2]))
print(json.dumps({"seconds": perf_counter() - start, "cpu_seconds": process_time() - cpu,
                  "peak_mb_above_imports": mark("VmHWM") - before}))
"""


def resnet18_shapes() -> dict[str, tuple[int, ...]]:
    """Kernels and norms of ResNet-18, 11.7 million values."""
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7)} | _norm("bn1", 64)
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            path = f"layer{stage}.{block}"
            narrow = width if block or stage == 1 else width // 2
            shapes[f"{path}.conv1.weight"] = (width, narrow, 3, 3)
            shapes |= _norm(f"{path}.bn1", width)
            shapes[f"{path}.conv2.weight"] = (width, width, 3, 3)
            shapes |= _norm(f"{path}.bn2", width)
            if narrow != width:
                shapes[f"{path}.downsample.0.weight"] = (width, narrow, 1, 1)
                shapes |= _norm(f"{path}.downsample.1", width)
    return shapes | {"fc.weight": (1000, 512), "fc.bias": (1000,)}


def _norm(path: str, width: int) -> dict[str, tuple[int, ...]]:
    names = ("weight", "bias", "running_mean", "running_var")
    return {f"{path}.{name}": (width,) for name in names}


class Hub:
    """Checkpoints by number, made when they are asked for."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        # Drawing 11.7 million numbers for each would take longer than all that is measured.
        pool = torch.randn(BLOCK, generator=generator)
        self._pool = torch.cat([pool, pool])
        self._shapes = resnet18_shapes()

    def noise(self, seed: int) -> Iterator[tuple[str, Tensor]]:
        """Yield values that no other seed gives, in an order of its own per tensor."""
        places = np.random.default_rng(seed)
        for key, shape in self._shapes.items():
            start, number = int(places.integers(BLOCK)), int(np.prod(shape))
            yield key, self._pool[start : start + number].view(shape)

    def checkpoint(self, number: int) -> dict[str, Tensor]:
        start = self.noise(number // FAMILY)
        own = self.noise(10**6 + number)
        return {key: a + NOISE * b for (key, a), (_, b) in zip(start, own, strict=True)}

    def pilot(self, number: int, ratio: float, seed: int) -> dict[str, Tensor]:
        """Return what is nearer to one checkpoint: ``ratio`` times as far as from its family."""
        # Far from it: b; from the others of its family: sqrt(b^2 + 2 NOISE^2).
        size = NOISE * (2 * ratio**2 / (1 - ratio**2)) ** 0.5
        moved = dict(self.noise(2 * 10**6 + seed))
        return {key: t + size * moved[key] for key, t in self.checkpoint(number).items()}


def drop_cache(files: list[Path]) -> None:
    for file in files:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_plainly(files: list[Path]) -> float:
    start, buffer = perf_counter(), bytearray(8 * 2**20)
    for file in files:
        with file.open("rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass
    return perf_counter() - start


def sketched(files: list[Path], index: Path, workers: int) -> dict[str, float]:
    index.unlink(missing_ok=True)
    command = [sys.executable, "-c", CHILD, str(index), str(workers), *map(str, files)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def throughput(hub: Hub, folder: Path, number: int, workers: int) -> dict[str, object]:
    files = [folder / f"{each:05d}.safetensors" for each in range(number)]
    for each, file in enumerate(files):
        save_file(hub.checkpoint(each), file)
    gigabytes = sum(file.stat().st_size for file in files) / 1e9
    index = folder / "sketches"
    drop_cache(files)
    disk = read_plainly(files)
    drop_cache(files)
    cold = sketched(files, index, workers)
    warm_plain = read_plainly(files)
    warm = sketched(files, index, workers)
    half = sketched(files[: number // 2], folder / "half", workers)
    pilot = hub.pilot(3, 0.9, 0)
    start, cpu = perf_counter(), process_time()
    again = nearest_sources(pilot, [str(folder)], index=index, workers=workers)
    return {
        "checkpoints": number,
        "gigabytes": gigabytes,
        "disk_gb_per_s": gigabytes / disk,
        "sketch_cold_gb_per_s": gigabytes / cold["seconds"],
        "plain_read_cached_gb_per_s": gigabytes / warm_plain,
        "sketch_cached_gb_per_s": gigabytes / warm["seconds"],
        "sketch_gb_per_cpu_s": gigabytes / warm["cpu_seconds"],
        "peak_mb_half": half["peak_mb_above_imports"],
        "peak_mb_all": warm["peak_mb_above_imports"],
        "new_pilot_s": perf_counter() - start,
        "new_pilot_cpu_s": process_time() - cpu,
        "new_pilot_read": again.sketched,
        "nearest": Path(again.sources[0].source).stem,
        "index_bytes_per_checkpoint": index.stat().st_size / number,
    }


def quality(hub: Hub, number: int, trials: int) -> dict[str, object]:
    """Look for planted checkpoints among sketches, none of which needs a file."""
    with tempfile.TemporaryDirectory() as folder, opened_index(Path(folder, "sketches")) as index:
        for each in range(number):
            held = {k: t for k, t in hub.checkpoint(each).items() if t.ndim > 1}
            layout = tuple((key, tuple(t.shape), "float32") for key, t in held.items())
            index.want(str(each))
            index.write(str(each), "", layout, [sketch_tensor(t) for t in held.values()])
        index.commit()
        result: dict[str, object] = {"sketches": number, "trials": trials}
        choice = np.random.default_rng(0)
        for ratio in (0.9, 0.95):
            ranks, seconds, cpu = [], [], []
            for trial in range(trials):
                planted = int(choice.integers(number))
                pilot = hub.pilot(planted, ratio, trial)
                start, spent = perf_counter(), process_time()
                found = [name for _, name in shortlisted(pilot, index, number=40)]
                seconds.append(perf_counter() - start)
                cpu.append(process_time() - spent)
                ranks.append(found.index(str(planted)) + 1 if str(planted) in found else 41)
            result |= {
                f"nearer_by_{1 - ratio:.0%}": {
                    "first_by_sketch": sum(rank == 1 for rank in ranks),
                    "first_ten_by_sketch": sum(rank <= 10 for rank in ranks),
                    # What is compared element by element comes out in its true order.
                    "first_ten_by_two_stages": sum(rank <= 40 for rank in ranks),
                    "search_s": median(seconds),
                    "search_cpu_s": median(cpu),
                }
            }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoints", type=int, default=100, help="files to make, 45 MB each")
    parser.add_argument("--sketches", type=int, help="checkpoints to look among; else as many")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="on the disk to measure")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    hub = Hub()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = throughput(hub, Path(folder), options.checkpoints, options.workers)
    found["quality"] = quality(hub, options.sketches or options.checkpoints, options.trials)
    found["load"] = os.getloadavg()[0]
    if options.json:
        print(json.dumps(found, indent=2))
        return
    for key, value in found.items():
        print(f"{key}: {value:.4g}" if isinstance(value, float) else f"{key}: {value}")


if __name__ == "__main__":
    main()
