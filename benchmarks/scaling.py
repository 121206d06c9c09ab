"""What workers gain: a sweep on processes against threads, and how little their coordination costs.

python benchmarks/scaling.py                         everything, as a table
python benchmarks/scaling.py --only sleeps --json    one part, as JSON
Parts: sweep (one process with one and two threads, two workers with one each, in turns; medians
count, and the tables are compared), sleeps (1 to 16 workers whose work is replaced by sleeps of the
measured length of a batch). Starting workers is timed by itself. Each row says how busy the machine
was with other work: the share of all CPU time that was not this benchmark's.
"""

import argparse
import json
import os
import platform
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from time import perf_counter, sleep

import torch
from torch import Tensor

from paramreuse.distribution.pool import Pool
from paramreuse.distribution.ray_pool import ray_pool
from paramreuse.networks import unet
from paramreuse.sweep.outcomes import Sweep
from paramreuse.sweep.scores import Dice
from paramreuse.sweep.sweeping import sweep_sites

Batch = tuple[Tensor, Tensor, list[str]]
Row = dict[str, object]

CLASSES = 4
BATCH = (8, 1, 128, 128)
NUMBERS = (1, 2, 4, 8, 16)
TASKS_EACH = 10


def random_batches(number: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    shape = (BATCH[0], *BATCH[2:])
    return [
        (
            torch.randn(BATCH, generator=generator),
            torch.randint(0, CLASSES, shape, generator=generator),
            [f"{index} {k}" for k in range(BATCH[0])],
        )
        for index in range(number)
    ]


def models() -> tuple[torch.nn.Module, torch.nn.Module]:
    torch.manual_seed(0)
    return unet(width=16).eval(), unet(width=16).eval()


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def busy_jiffies() -> int:
    """CPU time that all processes have taken so far."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _, _, irq, softirq, *_ = map(int, file.readline().split()[1:])
    return user + nice + system + irq + softirq


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and CPU seconds of the whole machine per second."""
    busy, start = busy_jiffies(), perf_counter()
    work()
    seconds = perf_counter() - start
    return seconds, (busy_jiffies() - busy) / os.sysconf("SC_CLK_TCK") / seconds


def sweep(rounds: int, num_batches: int) -> list[Row]:
    """The same sweep in three ways, in turns."""
    target, source = models()
    batches, score = random_batches(num_batches), Dice(CLASSES)
    sweeps: dict[str, Sweep] = {}
    seconds: dict[str, list[float]] = {}
    load: dict[str, list[float]] = {}

    def measure(name: str, pool: Pool | None, num_threads: int) -> None:
        def work() -> None:
            sweeps[name] = sweep_sites(target, source, batches, score, pool=pool)

        with threads(num_threads):
            found, busy = timed(work)
        seconds.setdefault(name, []).append(found)
        load.setdefault(name, []).append(busy)

    start = perf_counter()
    with threads(2), ray_pool(2) as pool:
        started = perf_counter() - start
        for _ in range(rounds + 1):  # the first one warms up, and starts the worker processes
            measure("one process, one thread", None, 1)
            measure("one process, two threads", None, 2)
            measure("two workers, one thread each", pool, 1)
    reference = sweeps["one process, one thread"].frame()
    rows: list[Row] = [
        {
            "way": name,
            "seconds": median(times[1:]),
            "all_seconds": times[1:],
            "first_s": times[0],
            "machine_cpus_busy": median(load[name][1:]),
            "same_table": sweeps[name].frame().equals(reference),
        }
        for name, times in seconds.items()
    ]
    by_name = {str(row["way"]): float(str(row["seconds"])) for row in rows}
    workers = by_name["two workers, one thread each"]
    return [
        *rows,
        {
            "way": "ratios of the workers",
            "to_two_threads": by_name["one process, two threads"] / workers,
            "to_one_thread": by_name["one process, one thread"] / workers,
            "start_of_workers_s": started,
        },
    ]


def prepare_sleep(shared: tuple[float, list[object]]) -> Callable[[Batch], object]:
    seconds, results = shared

    def work(batch: Batch) -> object:
        sleep(seconds)
        return results

    return work


def length_of_a_batch() -> tuple[float, list[object]]:
    """Seconds that a worker takes for all swaps of a batch, and what it sends back."""
    target, source = models()
    sent: list[object] = []

    class Noting:
        def read_batch(self, batch: int, digest: str) -> dict[tuple[str, str], object]:
            return {}

        def record(self, *measured: object) -> None:
            sent.append(measured)

    with threads(1):
        batches = random_batches(1)
        sweep_sites(target, source, batches, Dice(CLASSES))
        start = perf_counter()
        sweep_sites(target, source, batches, Dice(CLASSES), log=Noting())  # type: ignore[arg-type]
        return perf_counter() - start, sent


def sleeps(numbers: Sequence[int], seconds: float | None) -> list[Row]:
    """Batches are sent and statistics come back as in a sweep; only the work itself is a sleep."""
    measured, results = length_of_a_batch()
    length = seconds or measured
    rows: list[Row] = []
    for number in numbers:
        start = perf_counter()
        with threads(1), ray_pool(number) as pool:
            shared = (length, results)
            list(pool.map(prepare_sleep, shared, random_batches(1) * 2 * number))  # starts all
            started = perf_counter() - start
            tasks = random_batches(1) * (TASKS_EACH * number)
            took, busy = timed(
                lambda pool=pool, shared=shared, tasks=tasks: list(  # type: ignore[misc]
                    pool.map(prepare_sleep, shared, tasks)
                )
            )
        rows.append(
            {
                "workers": number,
                "tasks": len(tasks),
                "sleep_s": length,
                "measured_batch_s": measured,
                "wall_s": took,
                "efficiency": len(tasks) * length / (number * took),
                "start_s": started,
                "machine_cpus_busy": busy,
            }
        )
    return rows


def machine() -> Row:
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "load_average": os.getloadavg(),
        "own_cpu_s": resource.getrusage(resource.RUSAGE_SELF).ru_utime,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["sweep", "sleeps"])
    parser.add_argument("--rounds", type=int, default=3, help="of the sweep")
    parser.add_argument("--batches", type=int, default=8, help="of the sweep")
    parser.add_argument("--workers", type=int, nargs="+", default=NUMBERS, help="of the sleeps")
    parser.add_argument("--seconds", type=float, help="of a sleep, instead of a batch's")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    parts: dict[str, Callable[[], list[Row]]] = {
        "sweep": lambda: sweep(arguments.rounds, arguments.batches),
        "sleeps": lambda: sleeps(arguments.workers, arguments.seconds),
    }
    chosen = [arguments.only] if arguments.only else list(parts)
    results = {name: parts[name]() for name in chosen}
    if arguments.json:
        json.dump({"machine": machine(), **results}, sys.stdout, indent=1)
        return
    for name, rows in results.items():
        print(name)
        for row in rows:
            print("  " + ", ".join(f"{key} {_short(value)}" for key, value in row.items()))


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
