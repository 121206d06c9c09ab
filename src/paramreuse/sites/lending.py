"""What a source lends: its tensors under the target's names, read only when asked for."""

from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from typing import TypeAlias

import torch
from torch import Tensor, nn

from paramreuse.checkpoint import Checkpoint, read_checkpoint
from paramreuse.checkpoint.names import match_keys
from paramreuse.errors import ModelError

Weights: TypeAlias = nn.Module | Mapping[str, Tensor] | str | PathLike[str]
"""A model, a state dict, or the path of a checkpoint."""


def tensors_of(weights: Weights) -> Mapping[str, Tensor]:
    """Return the state dict of a model, a state dict, or a checkpoint file.

    Args:
        weights: Model (its own tensors are returned, not copies), mapping, or path.

    Raises:
        CheckpointError: The file holds no tensors that can be read safely.
        ModelError: It is none of the three, or a mapping to something other than tensors.
    """
    if isinstance(weights, nn.Module):
        entries = weights.state_dict(keep_vars=True).items()
        return {key: t.detach() for key, t in entries if isinstance(t, Tensor)}
    if isinstance(weights, str | PathLike):
        return read_checkpoint(weights)
    if isinstance(weights, Checkpoint | Lent):
        return weights
    _require_tensors(weights)
    return weights


def _require_tensors(weights: object) -> None:
    expected = "expected a model, a state dict (str to tensor) or the path of a checkpoint"
    if not isinstance(weights, Mapping):
        raise ModelError(f"cannot read tensors from a {type(weights).__name__}: {expected}")
    strange = [key for key, t in weights.items() if not isinstance(t, Tensor)]
    if strange:
        raise ModelError(
            f"cannot read a state dict: {strange[0]!r} holds a "
            f"{type(weights[strange[0]]).__name__}, {expected}. If the dict is a whole checkpoint, "
            "give the part that holds the tensors, e.g. checkpoint['state_dict']"
        )


def shape_in(tensors: Mapping[str, Tensor], key: str) -> tuple[int, ...]:
    """Return the shape of a tensor, without reading it where it lies in a file."""
    if isinstance(tensors, Checkpoint | Lent):
        return tensors.shape_of(key)
    return tuple(tensors[key].shape)


def dtype_in(tensors: Mapping[str, Tensor], key: str) -> torch.dtype:
    """Return the dtype of a tensor, without reading it where it lies in a file."""
    if isinstance(tensors, Checkpoint | Lent):
        return tensors.dtype_of(key)
    return tensors[key].dtype


def view_in(tensors: Mapping[str, Tensor], key: str) -> Tensor:
    """Return a tensor to look at once, without copying it where it lies in a file."""
    return tensors.view(key) if isinstance(tensors, Checkpoint | Lent) else tensors[key]


def is_swappable(dtype: torch.dtype) -> bool:
    """Tell whether values of a dtype can be swapped: plain floating point, 16 bit and wider."""
    return dtype.is_floating_point and dtype.itemsize >= 2


class Lent(Mapping[str, Tensor]):
    """The tensors of a source by the target's keys; each access reads from the source.

    Attributes:
        naming: How the source's keys were brought onto the target's, in words.
        unused: Keys of the source that no key of the target asks for.

    Args:
        source: The source's tensors.
        target_keys: Keys of the target's state dict.
    """

    def __init__(self, source: Mapping[str, Tensor], target_keys: Iterable[str]) -> None:
        match = match_keys(source, target_keys)
        used = set(match.pairs.values())
        self.naming = str(match)
        self.unused = tuple(key for key in source if key not in used)
        self._source = source
        self._keys = dict(match.pairs)

    def __getitem__(self, key: str) -> Tensor:
        return self._source[self._keys[key]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def view(self, key: str) -> Tensor:
        """Return a tensor to look at once, without copying it where it lies in a file."""
        return view_in(self._source, self._keys[key])

    def shape_of(self, key: str) -> tuple[int, ...]:
        """Tell a tensor's shape without reading it."""
        return shape_in(self._source, self._keys[key])

    def dtype_of(self, key: str) -> torch.dtype:
        """Tell a tensor's dtype without reading it."""
        return dtype_in(self._source, self._keys[key])


def lend(target: Weights, source: Weights) -> Lent:
    """Bring the tensors of a source under the target's names.

    Wrappers (``module.``, ``_orig_mod.``) and a prefix that one side has and the other lacks are
    told by themselves; ``Lent.naming`` says what was done.
    """
    if isinstance(source, Lent):
        return source
    return Lent(tensors_of(source), tensors_of(target).keys())
