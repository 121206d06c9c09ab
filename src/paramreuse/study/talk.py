"""What a running study says, and to whom."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Step = Callable[[int, int | None], None]
"""Called with the number of steps done and, where it is known, of all."""


class Talk(Protocol):
    """Where a study's remarks go."""

    def say(self, stage: str, line: str) -> None:
        """Say what a stage found, in one line."""

    def progress(self, label: str) -> AbstractContextManager[Step]:
        """Show how far a long piece of work is."""


class Silent:
    """Says nothing."""

    def say(self, stage: str, line: str) -> None:
        """Drop the line."""

    @contextmanager
    def progress(self, label: str) -> Iterator[Step]:
        """Show nothing."""
        yield lambda done, total: None
