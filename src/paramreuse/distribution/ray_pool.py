"""Ray as a pool: workers on this machine, or on those of a cluster.

A worker that dies is replaced and its task done again, by Ray; the functions that run in workers
know nothing of it.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from paramreuse.distribution.pool import Pool
from paramreuse.distribution.ray_session import joined_session, local_session
from paramreuse.distribution.versions import require_same_versions
from paramreuse.errors import ParamReuseError, WorkerError

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")

RETRIES = 3
"""How often a task is done again whose worker died."""


@contextmanager
def ray_pool(workers: int | None = None, *, address: str | None = None) -> Iterator[Pool]:
    """Start workers on this machine, or join a cluster, and leave it afterwards.

    Args:
        workers: Processes on this machine; they share the threads that PyTorch may use here. A
            training depends on how many it has, in its last digits: to compare one with that of a
            single process, call ``torch.set_num_threads(1)`` first.
        address: ``HOST:PORT`` of a Ray cluster, or ``auto`` for the one that this machine is part
            of; each of its CPUs takes a task.

    Yields:
        The pool, to be given to ``sweep_sites`` and others as ``pool=``.

    Raises:
        ParamReuseError: Neither or both are given, or the number is below 1.
        MissingExtraError: Ray is not installed.
        WorkerError: The workers cannot be started, or nothing answers at the address.

    Examples:
        >>> with ray_pool(2) as pool:  # doctest: +SKIP
        ...     sweep = sweep_sites(target, source, batches, Dice(num_classes=4), pool=pool)
    """
    if (workers is None) == (address is None):
        raise ParamReuseError(
            "cannot start workers: give either a number of processes on this machine or the "
            "address of a Ray cluster (--workers N or --ray ADDRESS)"
        )
    if address is not None:
        with joined_session(address) as cpus:
            yield RayPool(cpus, threads=1, gpus=_gpus_per_task(1))
        return
    assert workers is not None, "asked above"
    if workers < 1:
        raise ParamReuseError(f"cannot start {workers} workers: expected at least 1")
    with local_session(workers):
        yield RayPool(workers, threads=_threads_each(workers), gpus=_gpus_per_task(workers))


def _threads_each(workers: int) -> int:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(torch.get_num_threads(), cores or 1) // workers)


def _gpus_per_task(workers: int) -> float:
    """Return each worker's share of the graphics processors, none where there are none."""
    import ray

    number = float(ray.cluster_resources().get("GPU", 0))
    return min(1.0, number / workers)


@dataclass(frozen=True, slots=True)
class RayPool:
    """Workers of the Ray session that this process is in; a ``Pool``.

    Attributes:
        num_workers: How many tasks run at once.
        threads: What PyTorch may use within a task.
        gpus: Graphics processors per task, or a share of one.
    """

    num_workers: int
    threads: int = 1
    gpus: float = 0.0

    def map(
        self, prepare: Callable[[S], Callable[[T], R]], shared: S, tasks: Iterable[T]
    ) -> Iterator[tuple[int, R]]:
        """Do the tasks on the workers, with two per worker on their way."""
        import ray

        reference = _put((prepare, shared))
        submit = self._submitter()
        running: dict[Any, int] = {}
        waiting = iter(enumerate(tasks))
        exhausted = False
        try:
            while True:
                while not exhausted and len(running) < 2 * self.num_workers:
                    found = next(waiting, None)
                    exhausted = found is None
                    if found is not None:
                        running[submit([reference], _packed(found[1]), self.threads)] = found[0]
                if not running:
                    return
                (done, *_), _ = ray.wait(list(running), num_returns=1)
                yield running.pop(done), _result(done)
        finally:
            for unfinished in running:
                ray.cancel(unfinished, force=True)

    def _submitter(self) -> Callable[..., Any]:
        import ray

        remote = ray.remote(_worker_function())
        options = {"num_cpus": 1, "num_gpus": self.gpus, "max_retries": RETRIES}
        return remote.options(name="paramreuse", **options).remote  # type: ignore[no-any-return]


def _worker_function() -> Callable[..., Any]:
    """Return what a worker is sent: by value, so that any version of this package can run it."""
    from paramreuse.distribution.versions import own_versions

    ours, paths = own_versions(), [path for path in sys.path if path]

    def run(references: list[Any], packed: bytes, threads: int) -> Any:
        import os
        import platform
        import sys

        # Networks and readers of the caller's own are imported there as they are here.
        sys.path += [path for path in paths if path not in sys.path and os.path.isdir(path)]
        try:
            from paramreuse.distribution.versions import own_versions

            found = own_versions()
        except ImportError as error:
            found = {"paramreuse": "", "error": str(error)}
        if found != ours:
            return "refused", found, platform.node()
        from paramreuse.distribution.ray_worker import run_task

        return "done", run_task(references[0], packed, threads), ""

    return run


def _put(content: object) -> Any:
    import ray

    try:
        return ray.put(content)
    except Exception as error:  # whatever the pickling of a caller's object raises
        raise WorkerError(_cannot_send(error)) from error


def _packed(task: object) -> bytes:
    from ray import cloudpickle

    try:
        return cloudpickle.dumps(task)  # type: ignore[no-any-return]
    except Exception as error:
        raise WorkerError(_cannot_send(error)) from error


def _cannot_send(error: Exception) -> str:
    return (
        f"cannot send the work to other processes: {str(error)[:300]}. What is not picklable "
        "(open files, locks, loaders with workers) cannot go there: hold it in a function that "
        "opens it, or run without workers"
    )


def _result(reference: Any) -> Any:
    import ray

    try:
        status, result, place = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise WorkerError(
            f"a worker died, and so did those that took over its work ({RETRIES} times): "
            f"{str(error).strip().splitlines()[0][:300]}. Most often memory is short: use fewer "
            "workers, or set sweep.memory_limit_gb. Done work is kept where there is a run folder"
        ) from error
    if status == "refused":
        require_same_versions(result, place)
    return result
