"""What runs in a worker: a task, by the function that was prepared for all tasks of its kind."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

MOST_HELD = 2
"""Prepared functions that a worker keeps. Each may hold models, so two studies that share the
workers need not prepare theirs for every task, and a third lets go of the first."""

_held: OrderedDict[str, Callable[[Any], Any]] = OrderedDict()


def run_task(reference: Any, packed: bytes, threads: int) -> Any:
    """Do a task, and prepare for its kind if this worker has not done so before.

    Args:
        reference: Where the object store has ``(prepare, shared)``.
        packed: The task, as cloudpickle packs it.
        threads: What PyTorch may use within an operation; sums are rounded by how many these are.
    """
    import ray
    import torch
    from ray import cloudpickle

    torch.set_num_threads(threads)
    key = reference.hex()
    if key not in _held:
        prepare, shared = ray.get(reference)
        while len(_held) >= MOST_HELD:
            _held.popitem(last=False)
        _held[key] = prepare(shared)
    _held.move_to_end(key)
    return _held[key](cloudpickle.loads(packed))
