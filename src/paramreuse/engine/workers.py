"""Runs swaps over the samples of a batch, on as many threads as the user gives PyTorch.

Each thread takes other samples through the network, on one core: no thread waits for another
within a node, and what passes from node to node stays in the core's cache.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from paramreuse.engine.execution import Prepared
from paramreuse.engine.fitted import FittedNetwork
from paramreuse.engine.recomputed import Slot

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Some samples of a batch, by position, and what was kept of their clean pass."""

    start: int
    stop: int
    kept: Mapping[Slot, Tensor]


@contextmanager
def threads(number: int) -> Iterator[int]:
    """Let PyTorch use ``number`` threads within an operation; yields what it was before."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield before
    finally:
        torch.set_num_threads(before)


def clean_chunks(fitted: FittedNetwork, inputs: Tensor) -> tuple[list[Chunk], Tensor]:
    """Run the clean pass over a batch.

    Returns:
        What was kept, and the outputs.
    """
    size = fitted.samples_at_once
    starts = range(0, len(inputs), size)
    pieces = [inputs[start : start + size] for start in starts]
    # Samples do not depend on each other, which was tried before: any cut gives the same outputs.
    with threads(1) as num_threads, ThreadPoolExecutor(num_threads) as pool:
        done = list(pool.map(_quietly(fitted.network.clean_pass), pieces))
    chunks = [
        Chunk(start, start + len(piece), kept)
        for start, piece, (_, kept) in zip(starts, pieces, done, strict=True)
    ]
    return chunks, torch.cat([output for output, _ in done])


class _Job:
    """A few variants on their way through the chunks of the batch.

    One chunk takes all of them in turn, so that what was kept of it stays in the cache.
    """

    def __init__(
        self, fitted: FittedNetwork, reference: Tensor, variants: Sequence[Mapping[str, Tensor]]
    ) -> None:
        self._fitted = fitted
        self._reference = reference
        self._variants = variants
        self._outputs: list[Tensor | None] = []
        self._prepared: list[tuple[Prepared, Tensor]] = []
        self.pending: list[Future[None]] = []

    def prepare(self) -> None:
        """Fold the variants' tensors, and make room for the outputs."""
        for variant in self._variants:
            moved = self._fitted.moved(variant)
            if moved:
                layout = torch.contiguous_format
                outputs = torch.empty_like(self._reference, memory_format=layout)
                self._prepared.append((self._fitted.network.prepare(moved), outputs))
                self._outputs.append(outputs)
            else:
                self._outputs.append(None if moved is None else self._reference)

    def run(self, chunk: Chunk) -> None:
        """Compute the outputs of some samples."""
        for prepared, outputs in self._prepared:
            part = self._fitted.network.swapped_pass(prepared, chunk.kept)
            # No two chunks have a sample in common, so threads write side by side without a lock.
            outputs[chunk.start : chunk.stop] = part

    def results(self) -> list[Tensor | None]:
        """Wait, and return the outputs; ``None`` where only a plain forward pass can tell."""
        for future in self.pending:
            future.result()
        return self._outputs


def swapped_outputs(
    fitted: FittedNetwork,
    chunks: Sequence[Chunk],
    reference: Tensor,
    variants: Sequence[Mapping[str, Tensor]],
) -> Iterator[Tensor | None]:
    """Yield the outputs of each variant, in order.

    Args:
        fitted: The network.
        chunks: What was kept of the batch.
        reference: Outputs of the untouched target.
        variants: For each variant the tensors to put in, by state-dict key.

    Yields:
        Outputs; ``None`` where only a plain forward pass can tell.
    """
    size = fitted.variants_at_once
    starts = range(0, len(variants), size)
    jobs = (_Job(fitted, reference, variants[start : start + size]) for start in starts)
    with threads(1) as num_threads:
        yield from _side_by_side(jobs, chunks, num_threads)


def _side_by_side(
    jobs: Iterator[_Job], chunks: Sequence[Chunk], num_threads: int
) -> Iterator[Tensor | None]:
    """Run jobs on a pool; each is prepared while the one before it still runs."""
    pool = ThreadPoolExecutor(num_threads)
    # Two pieces of work per thread, so that none waits; no more, as each job keeps its outputs.
    ahead = max(1, math.ceil(2 * num_threads / len(chunks)))
    preparing: deque[tuple[_Job, Future[None]]] = deque()
    running: deque[_Job] = deque()
    try:
        for job in jobs:
            preparing.append((job, pool.submit(_quietly(job.prepare))))
            if len(preparing) > 1:
                running.append(_started(pool, *preparing.popleft(), chunks))
            while len(running) > ahead:
                yield from running.popleft().results()
        running.extend(_started(pool, *waiting, chunks) for waiting in preparing)
        while running:
            yield from running.popleft().results()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _started(
    pool: ThreadPoolExecutor, job: _Job, preparation: Future[None], chunks: Sequence[Chunk]
) -> _Job:
    def run(chunk: Chunk) -> None:
        preparation.result()
        job.run(chunk)

    job.pending = [preparation, *(pool.submit(_quietly(run), chunk) for chunk in chunks)]
    return job


def _quietly(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that records no gradients; every thread has a switch of its own."""

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.no_grad():
            return function(*args, **kwargs)

    return call
