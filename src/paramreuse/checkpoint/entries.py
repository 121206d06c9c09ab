"""Finding the state dict in a nested checkpoint: beside optimisers, under ``model``."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count

from torch import Tensor

from paramreuse.checkpoint.names import cut_at_ten, holds_average
from paramreuse.errors import CheckpointError

# In the order of preference where a file holds several; the names that training scripts use.
_USUAL_NAMES = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "network_weights",
    "net",
    "network",
    "module",
    "weights",
    "params",
)
# Training state that holds tensors of its own and never the network.
_NOT_WEIGHTS = ("optim", "scheduler", "scaler", "callbacks", "loops", "rng", "amp", "hyper")
_MAX_DEPTH = 4
_MOST_DICTS = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A state dict found in a file.

    Attributes:
        nesting: Where it lies, e.g. ``"model_state/ema"``; ``""`` at the top.
        tensors: Its tensors by key, as in the file.
        others: Its entries that are not tensors, key to the name of their type.
    """

    nesting: str
    tensors: Mapping[str, Tensor]
    others: Mapping[str, str]


def find_entry(content: object, *, file: str, entry: str | None = None) -> tuple[Entry, list[str]]:
    """Find the state dict in what a file held.

    Without ``entry``, of several state dicts the one under the first of these names is taken:
    ``state_dict``, ``model_state_dict``, ``model_state``, ``model``, ``network_weights``, ``net``,
    ``network``, ``module``, ``weights``, ``params``; moving averages (``ema``) come after all
    others. ``{"encoder": ..., "decoder": ...}`` has no such name and is refused: say which.

    Args:
        content: What the file held, read without running anything.
        file: The file, for messages.
        entry: Which of several to take: ``"ema"``, or a whole path as ``"model_state/ema"``.

    Returns:
        The state dict, and the places of those not taken.

    Raises:
        CheckpointError: There is none, or several and nothing says which.
    """
    entries = _collect(content, (), count(1), file)
    if not entries:
        raise CheckpointError(
            f"cannot find a state dict in {file}: expected tensors by name, at the top or under "
            f"a name as 'state_dict', got {_describe(content)}. Save model.state_dict()."
        )
    chosen = _named(entries, entry, file) if entry is not None else _preferred(entries, file)
    return chosen, [other.nesting for other in entries if other is not chosen]


def _collect(
    content: object, path: tuple[str, ...], visits: Iterator[int], file: str
) -> list[Entry]:
    """List the dicts that hold tensors by string keys, training state left out."""
    if not isinstance(content, Mapping) or {"state", "param_groups"} <= set(content):
        return []
    # A pickle of 3 KB can hold few dicts under so many names that walking them takes hours.
    if next(visits) > _MOST_DICTS:
        raise CheckpointError(
            f"cannot find a state dict in {file}: it holds more than {_MOST_DICTS} dicts, expected "
            "a state dict and what is saved with it. Save model.state_dict() alone."
        )
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    others = {str(k): type(v).__name__ for k, v in content.items() if k not in tensors}
    entries = [Entry("/".join(path), tensors, others)] if tensors else []
    if len(path) == _MAX_DEPTH:
        return entries
    for name, value in content.items():
        if isinstance(name, str) and not _is_training_state(name):
            entries += _collect(value, (*path, name), visits, file)
    return entries


def _is_training_state(name: str) -> bool:
    return any(word in name.lower() for word in _NOT_WEIGHTS)


def _preferred(entries: list[Entry], file: str) -> Entry:
    largest = max(len(entry.tensors) for entry in entries)
    ranks = [_rank(entry, largest) for entry in entries]
    best = [entry for entry, rank in zip(entries, ranks, strict=True) if rank == min(ranks)]
    if len(best) > 1:
        places = [entry.nesting for entry in best]
        raise CheckpointError(
            f"cannot tell which state dict of {file} is meant: found {cut_at_ten(places)}. "
            f"Choose one with entry={places[0]!r}."
        )
    return best[0]


def _rank(entry: Entry, largest: int) -> tuple[bool, int]:
    """Order state dicts: averages last; the top where it is the largest; then the usual names."""
    if not entry.nesting:
        return False, -1 if len(entry.tensors) == largest else len(_USUAL_NAMES) + 1
    names = entry.nesting.lower().split("/")
    places = [_USUAL_NAMES.index(name) for name in names if name in _USUAL_NAMES]
    return holds_average(entry.nesting), min(places, default=len(_USUAL_NAMES))


def _named(entries: list[Entry], entry: str, file: str) -> Entry:
    wanted = entry.strip("/")
    tests = (
        lambda place: place == wanted,
        lambda place: wanted in place.split("/"),
        lambda place: any(wanted in name.split("_") for name in place.lower().split("/")),
    )
    for fits in tests:
        fitting = [candidate for candidate in entries if fits(candidate.nesting)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise CheckpointError(
                f"cannot take entry {entry!r} of {file}: it could be any of "
                f"{cut_at_ten(one.nesting for one in fitting)}. Give one of these whole paths."
            )
    raise CheckpointError(
        f"cannot take entry {entry!r} of {file}: it holds state dicts at "
        f"{cut_at_ten(one.nesting or '(top)' for one in entries)}. Give one of these, or leave "
        "entry out."
    )


def _describe(content: object) -> str:
    if isinstance(content, Mapping):
        return f"a dict of {cut_at_ten(content)}" if content else "an empty dict"
    return f"a {type(content).__name__}"
