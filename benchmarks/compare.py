"""How fast are two checkpoints compared, and in how much memory?

Makes two safetensors files and compares them, against a plain sum over the same bytes (what memory
and file system can deliver at best) and against the three lines of torch that one would write. The
ways take turns in one process, files warm in the page cache, and the medians count; then once more
against a plain read, with the page cache emptied of the files each time. The peak of memory is
taken in a fresh process of its own, above what importing torch takes.

Example: python benchmarks/compare.py --gb 1 --json
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from paramreuse.compare.distance import compare_models

SHARE_OF_SUM = 0.80
MEGABYTES_BESIDE_TENSORS = 200
# The kernel's own high-water mark: ru_maxrss would begin with that of the parent process.
PEAK = """
import sys, torch
{work}
lines = open("/proc/self/status").read().splitlines()
print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""
WORK = "from paramreuse.compare.distance import compare_models; compare_models(*sys.argv[1:])"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gb", type=float, default=1.0, help="size of each file in 10^9 bytes")
    parser.add_argument("--tensor-mb", type=float, default=40, help="size of the largest tensor")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each way")
    parser.add_argument("--dtype", default="float32", help="a floating-point dtype of torch")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("target.safetensors", "source.safetensors")]
        largest = max(write_file(file, seed, options) for seed, file in enumerate(files))
        result = measure(files, options.rounds)
        result["cold_gigabytes_per_second"] = measure_cold(files, options.rounds)
        result["peak_megabytes"] = peak_megabytes(files)
    result["peak_limit_megabytes"] = 2 * largest / 1e6 + MEGABYTES_BESIDE_TENSORS
    result["fast_enough"] = result["share_of_sum"] >= SHARE_OF_SUM
    result["small_enough"] = result["peak_megabytes"] <= result["peak_limit_megabytes"]
    print(json.dumps(result) if options.json else table(result))


def write_file(file: Path, seed: int, options: argparse.Namespace) -> int:
    """Write kernels of falling size, and return the bytes of the largest."""
    generator = torch.Generator().manual_seed(seed)
    dtype = getattr(torch, options.dtype)
    tensors: dict[str, torch.Tensor] = {}
    left, number = options.gb * 1e9, 0
    while left > 0:
        fraction = (1.0, 0.5, 0.25, 0.1)[number % 4]
        features = max(1, int(fraction * options.tensor_mb * 1e6 / dtype.itemsize / (9 * 256)))
        kernel = torch.randn(features, 256, 3, 3, generator=generator).to(dtype)
        tensors[f"layer{number}.weight"] = kernel
        left -= kernel.nbytes
        number += 1
    save_file(tensors, file)
    return max(tensor.nbytes for tensor in tensors.values())


def measure(files: list[Path], rounds: int) -> dict[str, object]:
    ways: dict[str, Callable[[list[Path]], object]] = {
        "plain_sum": plain_sum,
        "compare": lambda pair: compare_models(*pair),
        "three_lines": three_lines,
    }
    wall: dict[str, list[float]] = {name: [] for name in ways}
    busy: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            start, start_busy = time.perf_counter(), time.process_time()
            way(files)
            if turn:  # the first turn warms caches
                wall[name].append(time.perf_counter() - start)
                busy[name].append(time.process_time() - start_busy)
    gigabytes = sum(file.stat().st_size for file in files) / 1e9
    medians = {name: statistics.median(times) for name, times in wall.items()}
    processor = {name: statistics.median(times) for name, times in busy.items()}
    return {
        "gigabytes": gigabytes,
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "seconds": medians,
        "processor_seconds": processor,  # the one to look at where others use the machine too
        "gigabytes_per_second": {name: gigabytes / s for name, s in medians.items()},
        "share_of_sum": medians["plain_sum"] / medians["compare"],
        "share_of_sum_by_processor": processor["plain_sum"] / processor["compare"],
        "times_faster_than_three_lines": medians["three_lines"] / medians["compare"],
    }


def measure_cold(files: list[Path], rounds: int) -> dict[str, float]:
    """Return the rates at which files come off the disk, the page cache emptied of them before."""
    ways: dict[str, Callable[[list[Path]], object]] = {
        "plain_read": plain_read,
        "compare": lambda pair: compare_models(*pair),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            drop_cache(files)
            start = time.perf_counter()
            way(files)
            seconds[name].append(time.perf_counter() - start)
    gigabytes = sum(file.stat().st_size for file in files) / 1e9
    return {name: gigabytes / statistics.median(times) for name, times in seconds.items()}


def drop_cache(files: list[Path]) -> None:
    for file in files:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def plain_read(files: list[Path]) -> None:
    buffer = bytearray(2**23)
    for file in files:
        with file.open("rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass


def plain_sum(files: list[Path]) -> float:
    total = 0.0
    for file in files:
        with safe_open(file, framework="pt") as opened:
            for key in list(opened.keys()):  # the handle is not a mapping
                total += float(opened.get_tensor(key).sum())
    return total


def three_lines(files: list[Path]) -> dict[str, float]:
    a, b = (load_file(file) for file in files)
    return {key: float((a[key] - b[key]).pow(2).mean().sqrt()) for key in a}


def peak_megabytes(files: list[Path]) -> float:
    """Return the peak memory of a comparison above that of importing torch, in 10^6 bytes."""
    peaks = []
    for work in ("", WORK):
        command = [sys.executable, "-c", PEAK.format(work=work), *map(str, files)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        peaks.append(int(output) * 1024 / 1e6)
    return peaks[1] - peaks[0]


def table(result: dict[str, object]) -> str:
    return "\n".join(f"{name:32} {value}" for name, value in result.items())


if __name__ == "__main__":
    main()
