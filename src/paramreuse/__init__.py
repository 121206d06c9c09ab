"""Which parameters of this pre-trained network can I reuse for my task, and what do I gain?

Names are imported when they are first used (PEP 562), so ``import paramreuse`` loads neither torch
nor pandas. ``__init__.pyi`` lists them with their homes, for the type checker and for this module.
"""

from importlib import import_module
from typing import Any

with open(f"{__file__}i", encoding="utf-8") as _stub:
    # One name per line: ``from HOME import NAME as NAME``. To parse it as Python would take longer
    # than all the rest of this import.
    _HOME_OF = {words[3]: words[1] for words in map(str.split, _stub) if words[:1] == ["from"]}
"""The module in which each public name is defined."""

__all__ = sorted(_HOME_OF)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
