"""What a pool of workers is asked for, and the pool that is this process alone."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")


class Pool(Protocol):
    """Does tasks that do not depend on each other."""

    @property
    def num_workers(self) -> int:
        """How many tasks are done at once."""

    def map(
        self, prepare: Callable[[S], Callable[[T], R]], shared: S, tasks: Iterable[T]
    ) -> Iterator[tuple[int, R]]:
        """Do every task, and yield each result with the number of its task, as they come.

        Args:
            prepare: Makes, once per worker, what does a task. Both run in the workers.
            shared: What all tasks need, e.g. the models; brought to each machine once.
            tasks: Taken only as workers become free, so they may be read as they are needed.

        Raises:
            WorkerError: A task took its worker down with it every time it was tried, or a worker
                runs other versions.
            Exception: As raised by the first task that fails.
        """


@dataclass(frozen=True, slots=True)
class Alone:
    """Does every task in this process, one after the other."""

    @property
    def num_workers(self) -> int:
        """One."""
        return 1

    def map(
        self, prepare: Callable[[S], Callable[[T], R]], shared: S, tasks: Iterable[T]
    ) -> Iterator[tuple[int, R]]:
        """Do the tasks in order."""
        function = prepare(shared)
        for number, task in enumerate(tasks):
            yield number, function(task)


def in_order(results: Iterable[tuple[int, R]]) -> Iterator[R]:
    """Yield the results of tasks in the order of the tasks, each as soon as those before it came.

    Args:
        results: As a pool yields them.

    Examples:
        >>> list(in_order([(1, "b"), (0, "a"), (2, "c")]))
        ['a', 'b', 'c']
    """
    waiting: dict[int, R] = {}
    due = 0
    for number, result in results:
        waiting[number] = result
        while due in waiting:
            yield waiting.pop(due)
            due += 1
