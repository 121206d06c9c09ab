"""A pool that treats its work as other processes would, in this one; no tests."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import cloudpickle

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")


class Elsewhere:
    """Copies all that goes to and fro, and does the last task of each handful first."""

    num_workers = 3

    def __init__(self) -> None:
        self.num_tasks = 0

    def map(
        self, prepare: Callable[[S], Callable[[T], R]], shared: S, tasks: Iterable[T]
    ) -> Iterator[tuple[int, R]]:
        sent_prepare, sent = copied((prepare, shared))
        function = sent_prepare(sent)
        handful: list[tuple[int, T]] = []
        for numbered in enumerate(tasks):
            handful.append(copied(numbered))
            if len(handful) == self.num_workers:
                yield from self._done(function, handful)
                handful = []
        yield from self._done(function, handful)

    def _done(
        self, function: Callable[[T], R], handful: list[tuple[int, T]]
    ) -> Iterator[tuple[int, R]]:
        for number, task in reversed(handful):
            self.num_tasks += 1
            yield number, copied(function(task))


def copied(value: T) -> T:
    """What comes out at the other end of a pipe."""
    return cloudpickle.loads(cloudpickle.dumps(value))  # type: ignore[no-any-return]
