"""Products of float32 numbers in float32, whatever PyTorch is allowed to do with them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch


@contextmanager
def float32_arithmetic() -> Iterator[None]:
    """Compute products of float32 numbers in float32, also where less is allowed.

    Unless told otherwise, PyTorch lets cuDNN round the factors of a convolution to 10 bits (TF32),
    which moves outputs by more than many a swap does. The caller's settings are given back.
    """
    switches = [(switch, switch.value()) for switch in _precision_switches()]
    try:
        for switch, _ in switches:
            switch.write(switch.exact)
        yield
    finally:
        for switch, before in switches:
            switch.restore(before)


@dataclass(frozen=True, slots=True)
class _Switch:
    """One of PyTorch's settings of precision, and its value for float32."""

    read: Callable[[], object]
    write: Callable[[Any], None]
    exact: object
    default: object = None

    def value(self) -> object:
        """Return the setting; ``None`` where newer ones contradict it, so that none can be read."""
        try:
            return self.read()
        except RuntimeError:
            return None

    def restore(self, before: object) -> None:
        """Go back to a setting, by following a more general one if that gives the same."""
        if self.default is not None:
            self.write(self.default)
        if before is not None and self.value() != before:
            self.write(before)


def _precision_switches() -> list[_Switch]:
    """Return the older settings first: writing one of them changes newer ones."""
    backends = torch.backends
    switches = [
        _Switch(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
        _attribute(backends.cudnn, "allow_tf32", False),
    ]
    if hasattr(backends, "fp32_precision"):  # since PyTorch 2.9
        parts: list[Any] = [backends.cuda.matmul]
        parts += [getattr(backends.cudnn, name) for name in ("conv", "rnn")]
        parts += [getattr(backends.mkldnn, name) for name in ("matmul", "conv", "rnn")]
        switches += [_attribute(part, "fp32_precision", "ieee", "none") for part in parts]
    return switches


def _attribute(owner: object, name: str, exact: object, default: object = None) -> _Switch:
    return _Switch(partial(getattr, owner, name), partial(setattr, owner, name), exact, default)
