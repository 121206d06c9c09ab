"""Two thousand swaps in one process: memory, open files and threads stay as they are."""

import gc
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from paramreuse.networks import unet
from paramreuse.sites.matching import match_sites
from paramreuse.sites.swaps import single_swaps
from paramreuse.sweep.scores import Dice
from paramreuse.sweep.sweeping import sweep_sites
from samples.networks import move_off_start
from samples.soak import WHOLE, much, note

BYTES_PER_SWAP = 4096 if WHOLE else 32768
"""More than this, every swap, would be a leak; less is what the allocator does to and fro, which
counts for more in a short run."""


def resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("engine", ["partial", "full"])
def test_memory_files_and_threads_do_not_grow_with_the_swaps(engine: str) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 1, 16, 16, generator=generator)
    labels = torch.randint(0, 4, (2, 16, 16), generator=generator)
    batches = [(images, labels, ["a", "b"])]
    target, source = unet(width=2).eval(), unet(width=2).eval()
    for model in (target, source):
        move_off_start(*(m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)))
    swaps = single_swaps(match_sites(target, source))
    wanted, done = much(2000, 500), 0
    rows: list[tuple[int, int]] = []
    before: tuple[int, int] | None = None
    while done < wanted:
        sweep_sites(
            *(target, source, batches, Dice(num_classes=4)), engine=engine, seed=done, controls=()
        )
        done += len(swaps)
        rows.append((done, resident()))
        now = len(os.listdir("/proc/self/fd")), threading.active_count()
        assert before in (None, now), "open files and threads stay as many as after one sweep"
        before = now
    # The first sweeps fill caches that stay.
    number, size = np.array(rows[len(rows) // 3 :], dtype=float).T
    slope = float(np.polyfit(number, size, 1)[0])
    note(
        f"swaps in one process, {engine} engine",
        tried=done,
        bytes_per_swap=round(slope),
        resident_mb=round(rows[-1][1] / 1e6),
        open_files=now[0],
        threads=now[1],
    )
    assert slope < BYTES_PER_SWAP
