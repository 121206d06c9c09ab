"""Someone whom a study tells how far it is; no tests."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Listener:
    """Remembers what a study says, and calls back with the progress of a piece of work."""

    def __init__(self, on_progress: Callable[[str, int], None] = lambda label, done: None) -> None:
        self.said: list[tuple[str, str]] = []
        self._on_progress = on_progress

    def say(self, stage: str, line: str) -> None:
        self.said.append((stage, line))

    @contextmanager
    def progress(self, label: str) -> Iterator[Callable[[int, int | None], None]]:
        yield lambda done, total: self._on_progress(label, done)
