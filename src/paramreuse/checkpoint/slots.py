"""Writing tensors into a model's own: converted, compared bit for bit, all of them or none."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from paramreuse.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Written:
    """What is to be said of values that were written.

    Attributes:
        non_finite: How many of them are NaN or infinite in the model.
        overflowed: How many of these were finite before they were converted.
        elements: How many values there are.
    """

    non_finite: int
    overflowed: int
    elements: int


def write_slots(
    slots: Mapping[str, Tensor], names: Mapping[str, str], read: Callable[[str], Tensor]
) -> dict[str, Written]:
    """Write source tensors into the model's, then compare what is there with the source.

    One source tensor is in memory at a time, and a copy of what the slots held, which goes back
    on any error.

    Args:
        slots: The model's tensors by key.
        names: Key in the model, to the name that ``read`` knows; shapes agree.
        read: Reads a source tensor.

    Raises:
        CheckpointError: A tensor cannot be converted without changing its meaning, two names of
            one tied tensor would take different values, or the model does not hold the source's
            values afterwards.
    """
    before = {key: slots[key].detach().clone() for key in names}
    try:
        written = {key: _write(key, slots[key], read(name)) for key, name in names.items()}
        for key, name in names.items():
            if not same_bits(slots[key], convert(key, read(name), slots[key].dtype)):
                raise CheckpointError(
                    f"cannot load {key!r}: after writing, the model does not hold the values of "
                    f"{name!r}. Either the source changed meanwhile, or this tensor of the model "
                    "shares memory with another one that takes other values: untie them, or give "
                    "both the same values. Nothing was loaded."
                )
    except BaseException:
        _restore(slots, before)
        raise
    return written


def _write(key: str, slot: Tensor, tensor: Tensor) -> Written:
    converted = convert(key, tensor, slot.dtype)
    try:
        with torch.no_grad():
            slot.copy_(converted)
    except RuntimeError as error:
        raise CheckpointError(
            f"cannot load {key!r}: the model's tensor cannot be written to ({error}). Nothing was "
            "loaded."
        ) from error
    non_finite = count_non_finite(converted)
    return Written(non_finite, non_finite - count_non_finite(tensor), tensor.numel())


def _restore(slots: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for key, tensor in before.items():
            # What could not be written to does not need its values back either.
            if not same_bits(slots[key], tensor):
                slots[key].copy_(tensor)


def convert(key: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert a source tensor to the model's dtype where that keeps its meaning.

    Between floating-point dtypes values are rounded; any other change must keep every value.

    Raises:
        CheckpointError: The tensor is quantised, sparse, complex against real, or a value would
            change.
    """
    if tensor.is_quantized or tensor.layout != torch.strided:
        form = "quantised" if tensor.is_quantized else f"stored as {tensor.layout}"
        raise CheckpointError(
            f"cannot load {key!r}: the source tensor is {form}, expected plain values. Save it "
            "after dequantize() or to_dense()."
        )
    if tensor.dtype == dtype:
        return tensor
    if tensor.is_complex() or dtype.is_complex:
        raise CheckpointError(
            f"cannot load {key!r}: the source is {tensor.dtype}, the model {dtype}; between "
            "complex and real values there is no conversion. Leave it out of the state dict."
        )
    converted = tensor.to(dtype)
    rounding = tensor.is_floating_point() and dtype.is_floating_point
    if not rounding and not torch.equal(converted.to(tensor.dtype), tensor):
        raise CheckpointError(
            f"cannot load {key!r}: its values do not survive the conversion from {tensor.dtype} to "
            f"{dtype}. Convert the model's tensor, or leave this one out of the state dict."
        )
    return converted


def count_non_finite(tensor: Tensor) -> int:
    """Count NaN and infinite values."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return 0
    # The 8-bit floats have no isfinite of their own.
    values = tensor.float() if tensor.is_floating_point() and tensor.element_size() == 1 else tensor
    return int(values.numel() - values.isfinite().sum())


def same_bits(first: Tensor, second: Tensor) -> bool:
    """Compare two tensors of one dtype bit for bit, so that NaN equals itself and 0 is not -0."""
    return torch.equal(_bytes(first), _bytes(second))


def _bytes(tensor: Tensor) -> Tensor:
    plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    return plain.reshape(-1).view(torch.uint8)
