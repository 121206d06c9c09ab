"""Copies of a caller's network, on which whatever a forward pass leaves behind stays."""

import copy
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Mapping

from torch import Tensor, nn

from paramreuse.checkpoint.tied import place_of
from paramreuse.errors import ModelError

FORWARD_HOOKS = (
    *("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
    *("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs"),
)
"""Where a module keeps the hooks that a forward pass calls."""

_COPY_ERRORS = (RuntimeError, TypeError, ValueError, AttributeError, copy.Error)


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
        # A module holds a dozen dicts, most of them empty, and deepcopy takes longer for those than
        # for everything else.
        memo |= {id(held): type(held)() for held in vars(module).values() if _is_empty(held)}
        # What forward computed and kept has a history, which PyTorch refuses to copy: the weight
        # of torch.nn.utils.weight_norm.
        for tensor in tensors_in(list(vars(module).values())):
            if tensor.grad_fn is not None:
                memo.setdefault(id(tensor), tensor.detach().clone())
        if not keeps_hooks:
            memo |= {id(vars(module)[name]): OrderedDict() for name in FORWARD_HOOKS}
    try:
        twin: nn.Module = copy.deepcopy(model, memo)
    except _COPY_ERRORS as error:
        raise ModelError(f"{type(model).__name__} cannot be copied: {error}") from error
    _tie_again(model, memo)
    return twin


def _is_empty(value: object) -> bool:
    return type(value) in (dict, OrderedDict) and not value


def _tie_again(model: nn.Module, copies: Mapping[int, object]) -> None:
    """Give copies of tensors one memory where the originals have one, which copying undoes.

    Args:
        model: Holds the originals.
        copies: The copy of each tensor, by identity of the original.
    """
    first: dict[Hashable, Tensor] = {}
    for original in (*model.parameters(), *model.buffers()):
        copied = copies.get(id(original))
        if isinstance(copied, Tensor) and copied is not original:
            kept = first.setdefault(place_of(original), copied)
            if kept is not copied:
                copied.data = kept.data


def tensors_in(value: object) -> Iterator[Tensor]:
    """Yield the tensors in a value, and in the lists, tuples, sets and mappings in it."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, list | tuple | set | frozenset):
        for part in value:
            yield from tensors_in(part)
