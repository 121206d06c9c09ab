"""What is taken from the caller is given back as it was: the global random state, and networks."""

import copy
import random
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from paramreuse.errors import ModelError

FORWARD_HOOKS = (
    *("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
    *("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs"),
)
"""Where a module keeps the hooks that a forward pass calls."""

_COPY_ERRORS = (RuntimeError, TypeError, ValueError, AttributeError, copy.Error)


@contextmanager
def untouched_random_state() -> Iterator[None]:
    """Restore the random state of Python, NumPy and PyTorch (all devices) on leaving.

    Walking a ``DataLoader`` draws from PyTorch's global generator even without shuffling, so every
    function that iterates over the caller's batches does so inside this context.
    """
    python_state = random.getstate()
    numpy_state = np.random.get_state()
    torch_state = torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)
        if cuda_states:
            torch.cuda.set_rng_state_all(cuda_states)


def private_copy(
    model: nn.Module, *, shared: Iterable[Tensor] = (), keeps_hooks: bool = True
) -> nn.Module:
    """Return a copy of a caller's network, so that what a forward pass leaves behind stays on it.

    Args:
        model: Left as it is.
        shared: Parameters and buffers that are not copied, as no pass writes to them.
        keeps_hooks: Forward hooks come along. Plain functions among them are the caller's own.

    Raises:
        ModelError: The network cannot be copied.
    """
    memo: dict[int, object] = {id(tensor): tensor for tensor in shared}
    for module in model.modules():
        # What forward computed and kept has a history, which PyTorch refuses to copy: the weight
        # of torch.nn.utils.weight_norm.
        for tensor in tensors_in(list(vars(module).values())):
            if tensor.grad_fn is not None:
                memo.setdefault(id(tensor), tensor.detach().clone())
        if not keeps_hooks:
            memo |= {id(vars(module)[name]): OrderedDict() for name in FORWARD_HOOKS}
    try:
        return copy.deepcopy(model, memo)
    except _COPY_ERRORS as error:
        raise ModelError(f"{type(model).__name__} cannot be copied: {error}") from error


def tensors_in(value: object) -> Iterator[Tensor]:
    """Yield the tensors in a value, and in the lists, tuples, sets and mappings in it."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, list | tuple | set | frozenset):
        for part in value:
            yield from tensors_in(part)
