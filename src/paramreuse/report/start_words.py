"""What a start is called: as an instruction to follow, and as the label of a row."""

import shlex
from collections.abc import Mapping

from paramreuse.report.starts import Start

_WORDS: Mapping[str, tuple[str, str]] = {
    "scratch": ("Train from scratch", "from scratch"),
    "full": ("Load everything from {source} and train all of it", "everything"),
    "plan-freeze": (
        "Load from {source} what its plan names, freeze that and train the rest",
        "plan, frozen",
    ),
    "plan-finetune": (
        "Load from {source} what its plan names and train everything",
        "plan, trained along",
    ),
    "random-plan": ("Load sites drawn at random from {source}", "control: random plan"),
    "statistics": (
        "Draw values with the mean and variance of each tensor of {source}",
        "control: statistics only",
    ),
    "head": (
        "Load everything from {source} and train the output layer alone",
        "everything, head trained",
    ),
    "body": (
        "Load everything but the output layer from {source} and train all of it",
        "all but the head",
    ),
    "prefix-quarter": (
        "Load the front quarter of the layers from {source} and train everything",
        "front quarter",
    ),
    "prefix": (
        "Load the front half of the layers from {source} and train everything",
        "front half",
    ),
    "prefix-three-quarters": (
        "Load the front three quarters of the layers from {source} and train everything",
        "front three quarters",
    ),
    "suffix": ("Load the rear half of the layers from {source} and train everything", "rear half"),
    "norms": (
        "Load everything from {source} and train normalisations and output layer alone",
        "everything, norms trained",
    ),
    "recalibrated": (
        "Load everything from {source}, train all of it, then recompute the statistics",
        "everything, recalibrated",
    ),
    "mixed": (
        "Load everything from {source}, train all of it, then go a quarter of the way back",
        "everything, a quarter back",
    ),
    "gentle": (
        "Load everything from {source} and train it gently, pulled back towards the source",
        "everything, gently",
    ),
    "lpft": (
        "Load everything from {source}, train the output layer first, then all of it",
        "everything, head first",
    ),
    "auto-rgn": (
        "Load everything from {source} and train each block at its relative gradient norm",
        "everything, rates by gradient",
    ),
    "rewind": (
        "Load from {source} the blocks that its rewind sweep names, and train as it says",
        "by the rewind sweep",
    ),
    "recommended": ("Follow paramreuse recommend", "recommended"),
    "as-is": ("Use {source} as it is, without training", "as it is, untrained"),
    "ensemble": ("Average several networks, from scratch and from {source}", "ensemble"),
}
"""What to do, and the label, by strategy."""

STRATEGIES = {"mix-0.75": "mixed"}
"""Candidates of a recommendation that a strategy of another name trains."""


def instruction(start: Start) -> str:
    """Say what to do, e.g. ``"Load everything from t1-seg and train all of it"``."""
    name = _strategy(start)
    source = start.source or "the source"
    words, _ = _WORDS.get(name, (f"Start with {name} from {{source}}", ""))
    return words.format(source=source)


def label(start: Start) -> str:
    """Name a start in a few words, without its source."""
    name = _strategy(start)
    return _WORDS[name][1] if name in _WORDS else name


def full_label(start: Start) -> str:
    """Name a start in a few words, with its source: ``"everything, t1-seg"``."""
    return f"{label(start)}, {start.source}" if start.source else label(start)


def plain_number(value: float, *, sign: str = "") -> str:
    """Return a score with three decimals, without a minus in front of nothing.

    Args:
        value: The score.
        sign: ``"+"`` where gains are marked too.
    """
    return f"{round(value, 3) + 0.0:{sign}.3f}".replace("-", "\u2212")


def training_command(
    folder: str, start: Start, num_subjects: int | None = None, length: str = ""
) -> str:
    """Return the command that trains from a start; empty where none does.

    Args:
        folder: Run folder, quoted for a shell.
        start: The start.
        num_subjects: Labelled subjects to train on; all of them if None.
        length: How long, as an option, e.g. ``"--steps 400"``; empty for the target's epochs.
    """
    name = _strategy(start)
    if not folder or name not in _WORDS or name in ("recommended", "as-is", "ensemble"):
        return ""
    words = ["paramreuse train", folder, f"--strategy {name}"]
    if start.source:
        words.append(f"--source {shlex.quote(start.source)}")
    if num_subjects is not None:
        words.append(f"--subjects {num_subjects}")
    if length:
        words.append(length)
    return " ".join([*words, "-o model.safetensors"])


def _strategy(start: Start) -> str:
    return STRATEGIES.get(start.strategy, start.strategy)
