"""Functions that a study names: their options fit their signature, and they can be loaded."""

import difflib
import inspect
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any

from paramreuse.errors import StudyError
from paramreuse.study.config import TrainingSpec
from paramreuse.study.named import load_named
from paramreuse.training.choices import OPTIMISERS, SCHEDULES
from paramreuse.training.settings import CHOICES


def check_options(
    function: Callable[..., Any],
    options: Mapping[str, Any],
    *,
    given: Collection[str],
    task: str,
    place: str,
) -> None:
    """Refuse options that a reader or a factory does not take, before it is called.

    Args:
        function: The reader or factory.
        options: Keyword arguments from the study.
        given: Parameters that are filled without the study.
        task: What cannot be done, for the message: ``"read data.cine"``.
        place: Key of the options in the study.

    Raises:
        StudyError: It takes none of this name, or needs another; the message has the valid names.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some functions written in C do not tell
        return
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    known = [p.name for p in named if p.name not in given]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    unknown = [] if takes_any else [name for name in options if name not in known]
    if unknown:
        raise StudyError(f"cannot {task}: {place} has {unknown[0]!r}: {_hint(unknown[0], known)}")
    missing = [p.name for p in named if p.default is p.empty and p.name not in {*options, *given}]
    if missing:
        raise StudyError(
            f"cannot {task}: {place} has no {missing[0]!r}, which is needed. It takes {known}"
        )


def _hint(unknown: str, known: list[str]) -> str:
    close = difflib.get_close_matches(unknown, known, n=1)
    takes = f"did you mean {close[0]!r}? It takes" if close else "it takes"
    return f"{takes} {known or 'no options'}"


def first_parameter(function: Callable[..., Any]) -> str:
    """Return the name of a reader's first parameter, its root; ``""`` where it does not tell."""
    with suppress(TypeError, ValueError):
        return next(iter(inspect.signature(function).parameters), "")
    return ""


def training_functions(spec: TrainingSpec) -> dict[str, Any]:
    """Return optimiser, schedule, loss and augmentation for ``TrainingSettings``.

    Args:
        spec: How a model is trained; functions are named ``package.module:function``.

    Raises:
        StudyError: There is no such name, module or function.
    """
    own = {
        "optimiser": (spec.optimiser, OPTIMISERS),
        "schedule": (spec.schedule, SCHEDULES),
        "loss": (spec.loss, CHOICES["loss"]),
        "augment": (spec.augment, (True, False)),
    }
    return {
        key: name
        if name in known
        else load_named(str(name), dict.fromkeys(map(str, known), ""), key)
        for key, (name, known) in own.items()
    }
