"""What a start is called: as an instruction to follow, and as the label of a row."""

import shlex

from paramreuse.report.starts import Start

_INSTRUCTIONS = {
    "scratch": "Train from scratch",
    "full": "Load everything from {source} and train all of it",
    "plan-freeze": "Load from {source} what its plan names, freeze that and train the rest",
    "plan-finetune": "Load from {source} what its plan names and train everything",
    "random-plan": "Load sites drawn at random from {source}",
    "statistics": "Draw values with the mean and variance of each tensor of {source}",
    "head": "Load everything from {source} and train the output layer alone",
    "body": "Load everything but the output layer from {source} and train all of it",
    "prefix": "Load the front half of the layers from {source} and train everything",
    "suffix": "Load the rear half of the layers from {source} and train everything",
    "norms": "Load everything from {source} and train normalisations and output layer alone",
    "recalibrated": "Load everything from {source}, train all of it, then recompute the statistics",
    "mixed": "Load everything from {source}, train all of it, then go a quarter of the way back",
    "gentle": "Load everything from {source} and train it gently, pulled back towards the source",
    "lpft": "Load everything from {source}, train the output layer first, then all of it",
    "recommended": "Follow paramreuse recommend",
    "as-is": "Use {source} as it is, without training",
    "ensemble": "Average several networks, from scratch and from {source}",
}

_LABELS = {
    "scratch": "from scratch",
    "full": "everything",
    "plan-freeze": "plan, frozen",
    "plan-finetune": "plan, trained along",
    "random-plan": "control: random plan",
    "statistics": "control: statistics only",
    "head": "everything, head trained",
    "body": "all but the head",
    "prefix": "front half",
    "suffix": "rear half",
    "norms": "everything, norms trained",
    "recalibrated": "everything, recalibrated",
    "mixed": "everything, a quarter back",
    "gentle": "everything, gently",
    "lpft": "everything, head first",
    "recommended": "recommended",
    "as-is": "as it is, untrained",
    "ensemble": "ensemble",
}

STRATEGIES = {"mix-0.75": "mixed"}
"""Candidates of a recommendation that a strategy of another name trains."""


def instruction(start: Start) -> str:
    """Say what to do, e.g. ``"Load everything from t1-seg and train all of it"``."""
    name = _strategy(start)
    source = start.source or "the source"
    return _INSTRUCTIONS.get(name, f"Start with {name} from {{source}}").format(source=source)


def label(start: Start) -> str:
    """Name a start in a few words, without its source."""
    name = _strategy(start)
    return _LABELS.get(name, name)


def training_command(folder: str, start: Start, num_subjects: int | None = None) -> str:
    """Return the command that trains from a start; empty where none does.

    Args:
        folder: Run folder, quoted for a shell.
        start: The start.
        num_subjects: Labelled subjects to train on; all of them if None.
    """
    name = _strategy(start)
    if not folder or name not in _INSTRUCTIONS or name in ("recommended", "as-is", "ensemble"):
        return ""
    words = ["paramreuse train", folder, f"--strategy {name}"]
    if start.source:
        words.append(f"--source {shlex.quote(start.source)}")
    if num_subjects is not None:
        words.append(f"--subjects {num_subjects}")
    return " ".join([*words, "-o model.safetensors"])


def _strategy(start: Start) -> str:
    return STRATEGIES.get(start.strategy, start.strategy)
