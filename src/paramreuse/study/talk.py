"""What a running study says, and to whom."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
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


@dataclass
class Noted:
    """Remembers what is said, for another process to say.

    Attributes:
        lines: Stage and line of each remark.
    """

    lines: list[tuple[str, str]] = field(default_factory=list)

    def say(self, stage: str, line: str) -> None:
        """Remember a line."""
        self.lines.append((stage, line))

    @contextmanager
    def progress(self, label: str) -> Iterator[Step]:
        """Show nothing: who started the workers shows one bar for all."""
        yield lambda done, total: None
