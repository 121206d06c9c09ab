"""Loading a checkpoint into a model: every tensor accounted for, all of it or nothing."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from paramreuse.checkpoint.accounting import LoadReport, LoadRow, Status
from paramreuse.checkpoint.names import KeyMatch, cut_at_ten, match_keys, rename_keys
from paramreuse.checkpoint.reading import Checkpoint, read_checkpoint
from paramreuse.checkpoint.slots import Written, write_slots
from paramreuse.checkpoint.tied import place_of
from paramreuse.errors import CheckpointError

_NOT_IN_SOURCE = "the checkpoint has no such tensor; the model keeps its own"


def load_checkpoint(
    model: nn.Module,
    checkpoint: Mapping[str, Tensor] | str | os.PathLike[str],
    *,
    entry: str | None = None,
    rename: Mapping[str, str] | None = None,
    strict: bool = False,
) -> LoadReport:
    """Load a checkpoint's tensors into ``model``, and account for every tensor of both sides.

    Keys are brought together with ``match_keys``; shapes that differ are left out, dtypes that
    differ are converted, and both are said. What was written is then compared with the source,
    bit for bit. On any error the model is as it was.

    Args:
        model: Receives the tensors in its parameters and buffers, wherever they are.
        checkpoint: A path, what ``read_checkpoint`` returned, or a state dict.
        entry: Which state dict of a file to take, where ``checkpoint`` is a path.
        rename: Renaming of the source's keys before they are matched; see ``rename_keys``.
        strict: Refuse unless every tensor of both sides is loaded.

    Returns:
        One row for each tensor.

    Raises:
        CheckpointError: Nothing fits (with the likely cause), a tensor cannot be converted without
            changing its meaning, the model has tensors without memory, ``strict`` is not met, or
            the model does not hold the source's values afterwards.

    Examples:
        >>> model = nn.Linear(2, 1)
        >>> report = load_checkpoint(model, {"fc.weight": torch.ones(1, 2)})
        >>> report.counts()["renamed"], report.counts()["missing"]
        (1, 1)
    """
    source = _source(checkpoint, entry, rename)
    slots = _slots(model)
    match = match_keys(source.keys, slots)
    rows = _rows(slots, source, match)
    _refuse_nothing_loaded(rows, list(slots), source, match)
    if strict:
        _refuse_incomplete(rows, source.label)
    names = {row.key: match.pairs[row.key] for row in rows if _is_written(row)}
    written = write_slots(slots, names, source.read)
    rows = [_remarked(row, written[row.key]) if row.key in written else row for row in rows]
    return LoadReport(tuple(rows), str(match), source.ignored)


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    """A source under the names it is matched by.

    Attributes:
        tensors: The tensors, by their own keys.
        names: Name to match by, to the key in ``tensors``.
        file_keys: Key in ``tensors`` to key in the file.
        ignored: What is there besides tensors, key to reason.
        label: What to call it in a message.
    """

    tensors: Mapping[str, Tensor]
    names: Mapping[str, str]
    file_keys: Mapping[str, str]
    ignored: Mapping[str, str]
    label: str

    @property
    def keys(self) -> list[str]:
        return list(self.names)

    def read(self, name: str) -> Tensor:
        return self.tensors[self.names[name]].detach()

    def file_key(self, name: str) -> str:
        key = self.names[name]
        return self.file_keys.get(key, key)

    def form(self, name: str) -> tuple[tuple[int, ...], torch.dtype]:
        key = self.names[name]
        if isinstance(self.tensors, Checkpoint):
            return self.tensors.shape_of(key), self.tensors.dtype_of(key)
        return tuple(self.tensors[key].shape), self.tensors[key].dtype


def _source(
    given: Mapping[str, Tensor] | str | os.PathLike[str],
    entry: str | None,
    rename: Mapping[str, str] | None,
) -> _Source:
    if isinstance(given, (str, os.PathLike)):
        given = read_checkpoint(given, entry=entry)
    elif entry is not None:
        raise CheckpointError(
            f"cannot take entry {entry!r}: only a path has entries to choose from"
        )
    if isinstance(given, Checkpoint):
        names = rename_keys(list(given), rename)
        keys = {name: key for key, name in names.items()}
        return _Source(given, keys, given.file_keys, given.ignored, given.path.name)
    if not isinstance(given, Mapping):
        raise CheckpointError(
            f"cannot load a {type(given).__name__}: expected a path, a Checkpoint or a state dict"
        )
    tensors = _tensors(given)
    ignored = {key: type(value).__name__ for key, value in given.items() if key not in tensors}
    keys = {name: key for key, name in rename_keys(list(tensors), rename).items()}
    return _Source(tensors, keys, {}, ignored, "the state dict")


def _slots(model: nn.Module) -> dict[str, Tensor]:
    """List the model's own tensors by key; writing to them writes to the model."""
    slots, again = (_tensors(model.state_dict(keep_vars=True)) for _ in range(2))
    for key, value in slots.items():
        if is_lazy(value):
            raise CheckpointError(
                f"cannot load into {key!r}: the model's lazy layer has no shape yet. Run one "
                "forward pass first."
            )
        if value.is_meta:
            raise CheckpointError(
                f"cannot load into {key!r}: it is on the meta device and has no memory. Call "
                "model.to_empty(device='cpu') first."
            )
        if again[key].data_ptr() != value.data_ptr():
            raise CheckpointError(
                f"cannot load into {key!r}: the model's state_dict() hands out copies, so writing "
                "there would be lost. Load into the module inside that it wraps."
            )
    return slots


def _tensors(state: Mapping[str, object]) -> dict[str, Tensor]:
    """Keep the tensors; what a module calls its extra state is not one of its tensors."""
    return {
        key: value
        for key, value in state.items()
        if isinstance(value, Tensor) and not key.endswith("_extra_state")
    }


def _rows(slots: Mapping[str, Tensor], source: _Source, match: KeyMatch) -> list[LoadRow]:
    """Give every tensor of both sides its row, as it will be once loaded."""
    rows = [
        _met(key, slot, source, match.pairs[key])
        if key in match.pairs
        else _row(key, None, Status.MISSING, slot, None, _NOT_IN_SOURCE)
        for key, slot in slots.items()
    ]
    rows = _with_ties(rows, slots)
    used = set(match.pairs.values())
    for name in source.keys:
        if name not in used:
            reason = "the model has no such tensor"
            form, file_key = source.form(name), source.file_key(name)
            rows.append(_row(name, file_key, Status.UNEXPECTED, None, form, reason))
    return rows


def _met(key: str, slot: Tensor, source: _Source, name: str) -> LoadRow:
    form, file_key = source.form(name), source.file_key(name)
    shape, dtype = form
    if shape != tuple(slot.shape):
        reason = f"the model has {tuple(slot.shape)}, the checkpoint {shape}; not loaded"
        return _row(key, file_key, Status.SHAPE, slot, form, reason)
    other_name = f"called {file_key!r} in the checkpoint" if file_key != key else ""
    if dtype != slot.dtype:
        reason = f"converted from {dtype} to {slot.dtype}"
        reason += f"; {other_name}" if other_name else ""
        return _row(key, file_key, Status.DTYPE, slot, form, reason)
    status = Status.RENAMED if other_name else Status.LOADED
    return _row(key, file_key, status, slot, form, other_name or "same name, shape and dtype")


def _row(
    key: str,
    source_key: str | None,
    status: Status,
    slot: Tensor | None,
    form: tuple[tuple[int, ...], torch.dtype] | None,
    reason: str,
) -> LoadRow:
    return LoadRow(
        key=key,
        source_key=source_key,
        status=status,
        target_shape=None if slot is None else tuple(slot.shape),
        source_shape=None if form is None else form[0],
        target_dtype=None if slot is None else slot.dtype,
        source_dtype=None if form is None else form[1],
        reason=reason,
    )


def _with_ties(rows: list[LoadRow], slots: Mapping[str, Tensor]) -> list[LoadRow]:
    """Say of a missing tensor that shares its memory with a loaded one that it is loaded."""
    given = {place_of(slots[row.key]): row for row in rows if row.status.is_loaded}
    tied = []
    for row in rows:
        kept = given.get(place_of(slots[row.key]))
        if row.status is Status.MISSING and kept is not None:
            reason = f"shares its tensor with {kept.key!r}, which was loaded"
            tied.append(replace(row, status=Status.LOADED, reason=reason))
        else:
            tied.append(row)
    return tied


def _is_written(row: LoadRow) -> bool:
    return row.status.is_loaded and row.source_key is not None


def _remarked(row: LoadRow, written: Written) -> LoadRow:
    """Add to a row what only its values could tell."""
    reason = row.reason
    if written.non_finite:
        reason += f"; {written.non_finite} of {written.elements} values are NaN or infinite"
    if written.overflowed > 0:
        reason += f", {written.overflowed} of them only since the conversion"
    return replace(row, reason=reason, non_finite=written.non_finite)


def _refuse_incomplete(rows: Iterable[LoadRow], label: str) -> None:
    left = [f"{row.key} ({row.status})" for row in rows if not row.status.is_loaded]
    if left:
        raise CheckpointError(
            f"cannot load all of {label}: {len(left)} tensors are left: {cut_at_ten(left)}. "
            "Rename them with rename=, or leave strict=True out to load the rest."
        )


def _refuse_nothing_loaded(
    rows: list[LoadRow], target: list[str], source: _Source, match: KeyMatch
) -> None:
    """Refuse to load nothing, and name the likely cause."""
    if any(row.status.is_loaded for row in rows):
        return
    shapes = [row for row in rows if row.status is Status.SHAPE]
    if shapes:
        example = shapes[0]
        cause = (
            f"{len(shapes)} names agree and no shape does, e.g. {example.key!r}: the model has "
            f"{example.target_shape}, the checkpoint {example.source_shape}. Build the model with "
            "the widths and channels of the checkpoint."
        )
    elif match.also:
        cause = (
            f"its keys fit equally well with the prefixes {cut_at_ten(match.also)}. Choose one, as "
            'with rename={"net1.": ""} to take it off or rename={"": "net1."} to put it on.'
        )
    else:
        cause = _names_differ(source, target)
    raise CheckpointError(f"cannot load {source.label}: no tensor fits the model; {cause}")


def _names_differ(source: _Source, target: list[str]) -> str:
    keys = [source.file_key(name) for name in source.keys]
    if not keys or not target:
        return f"the {'model' if keys else 'checkpoint'} has no tensors at all."
    examples = f"the checkpoint has {_examples(keys)}, the model {_examples(target)}"
    first = {key.partition(".")[0] for key in keys if "." in key}
    if len(first) == 1 and all("." in key for key in keys):
        prefix = f"{first.pop()}."
        return (
            f"all {len(keys)} source keys begin with {prefix!r}, and no change of prefix brings "
            f"half of them onto the model: {examples}. If it is the same network, map the names "
            f"with rename={{{prefix!r}: ...}}; else it is another architecture."
        )
    return (
        f"no change of prefix brings half of the keys together, so it is probably another "
        f"architecture: {examples}. If it is the same network, map the names with rename=."
    )


def _examples(keys: list[str]) -> str:
    return ", ".join(repr(key) for key in keys[:3]) + (", ..." if len(keys) > 3 else "")
