"""Which names of a network are names of one tensor: the one answer for the whole package.

``b.weight = a.weight`` gives one ``Parameter`` two names; ``b.weight.data = a.weight.data`` makes
two ``Parameter`` objects of one piece of memory. Either way a write to one name is a write to the
other, so the identity of objects tells too little and what counts is the memory.
"""

from collections.abc import Hashable, Mapping

import torch
from torch import Tensor, nn


def place_of(tensor: Tensor) -> Hashable:
    """Return what tensors have in common exactly when they are one tensor.

    Args:
        tensor: Any tensor that is kept alive while its place is compared: memory that has been let
            go of may be given to another one.

    Returns:
        Memory, dtype, shape and strides. A view of another shape on the same memory is another
        tensor.
    """
    # What has no memory of its own (meta, lazy, empty) or none that can be told is itself alone.
    if type(tensor).__name__ == "FakeTensor" or torch.nn.parameter.is_lazy(tensor):
        return id(tensor)
    if tensor.is_meta or tensor.layout is not torch.strided or not tensor.numel():
        return id(tensor)
    address = tensor.data_ptr()
    if not address:
        return id(tensor)
    form = (tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.is_conj(), tensor.is_neg())
    return (tensor.device, address, *form)


def first_names(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return, for each name, the first name of the same tensor: its own where it has no other.

    Args:
        tensors: Tensors by name; the order says which name is the first.
    """
    first: dict[Hashable, str] = {}
    return {name: first.setdefault(place_of(tensor), name) for name, tensor in tensors.items()}


def further_names(tensors: Mapping[str, Tensor]) -> dict[str, tuple[str, ...]]:
    """Return, for the first name of each tensor, its further names in order.

    Args:
        tensors: Tensors by name.
    """
    names: dict[str, tuple[str, ...]] = {}
    for name, first in first_names(tensors).items():
        names[first] = (*names[first], name) if first in names else ()
    return names


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a network's state dict, not copies of them, by key."""
    state = model.state_dict(keep_vars=True)
    return {key: tensor for key, tensor in state.items() if isinstance(tensor, Tensor)}
