"""Sketches of every checkpoint that is new or has changed, several files at a time."""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import torch

from paramreuse.checkpoint import Checkpoint
from paramreuse.compare.pair_sums import incomparable
from paramreuse.errors import DamagedCheckpointError, MissingExtraError, ParamReuseError
from paramreuse.nearest.index import Layout, SketchIndex
from paramreuse.nearest.listing import LeftOut, Source
from paramreuse.nearest.sketch import Sketch, sketch_tensor
from paramreuse.sites.lending import is_swappable

Progress: TypeAlias = Callable[[int, int | None], None]
"""Called with the number of sources done and, where it is known, of all."""

_COMMIT_EVERY = 32


@dataclass(frozen=True, slots=True, eq=False)
class _Outcome:
    """What became of one source; without sketches and problem where it had not changed."""

    address: str
    stamp: str
    layout: Layout = ()
    sketches: tuple[Sketch, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class SketchCount:
    """What a pass over the sources did.

    Attributes:
        sketched: Sources that were read.
        unchanged: Sources whose sketch was there.
        left_out: What is not a checkpoint.
    """

    sketched: int
    unchanged: int
    left_out: tuple[LeftOut, ...]


def sketch_sources(
    index: SketchIndex,
    sources: Iterable[Source | LeftOut],
    *,
    workers: int = 1,
    progress: Progress | None = None,
) -> SketchCount:
    """Bring an index up to date; an interruption loses a few files, which come again next time.

    A worker holds one tensor of one source at a time.

    Args:
        index: What is known.
        sources: What is there.
        workers: How many files to read side by side.
        progress: Called after each source.
    """
    left_out: list[LeftOut] = []
    waiting: deque[Future[_Outcome]] = deque()
    counts = {True: 0, False: 0}

    def take() -> None:
        counts[_written(index, waiting.popleft().result())] += 1
        done = sum(counts.values())
        if done % _COMMIT_EVERY == 0:
            index.commit()
        if progress is not None:
            progress(done, None)

    pool = ThreadPoolExecutor(workers)
    try:
        for source in sources:
            if isinstance(source, LeftOut):
                left_out.append(source)
                continue
            waiting.append(pool.submit(_outcome, source, index.want(source.address)))
            if len(waiting) > 2 * workers:
                take()
        while waiting:
            take()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        index.commit()
    return SketchCount(counts[True], counts[False], tuple(left_out))


def _written(index: SketchIndex, outcome: _Outcome) -> bool:
    """Write what was found out; tell whether anything was."""
    if outcome.problem:
        index.write_problem(outcome.address, outcome.stamp, outcome.problem)
    elif outcome.sketches:
        index.write(outcome.address, outcome.stamp, outcome.layout, outcome.sketches)
    else:
        return False
    return True


def _outcome(source: Source, known: str | None) -> _Outcome:
    stamp = ""  # Never that of a file: what may have been a passing failure is tried again.
    try:
        stamp = source.stamp()
        if stamp and stamp == known:
            return _Outcome(source.address, stamp)
        return _sketched(source.address, stamp, source.read())
    except MissingExtraError:
        raise
    except DamagedCheckpointError as error:
        return _Outcome(source.address, stamp, problem=str(error))
    except ParamReuseError as error:
        return _Outcome(source.address, "", problem=str(error))
    except OSError as error:
        return _Outcome(source.address, "", problem=f"cannot be read: {error.strerror or error}")


def _sketched(address: str, stamp: str, checkpoint: Checkpoint) -> _Outcome:
    layout: list[tuple[str, tuple[int, ...], str]] = []
    sketches: list[Sketch] = []
    for key in checkpoint:
        shape, dtype = checkpoint.shape_of(key), checkpoint.dtype_of(key)
        if len(shape) < 2 or not is_swappable(dtype):
            continue
        sketch = _sketch(checkpoint, key)
        if sketch is not None:
            layout.append((key, shape, str(dtype).removeprefix("torch.")))
            sketches.append(sketch)
    if not sketches:
        return _Outcome(address, stamp, problem="it holds no kernel (a tensor of two axes or more)")
    return _Outcome(address, stamp, tuple(layout), tuple(sketches))


def _sketch(checkpoint: Checkpoint, key: str) -> Sketch | None:
    """Read one tensor, and let go of it before the next is read."""
    tensor = checkpoint.view(key)
    if incomparable(tensor) is not None:
        return None
    with torch.no_grad():
        return sketch_tensor(tensor)
