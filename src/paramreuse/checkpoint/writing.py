"""Writing checkpoints: safetensors, whole or not at all."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from paramreuse.checkpoint.names import cut_at_ten
from paramreuse.checkpoint.safetensors_file import ALIASES_KEY, FORMAT, FORMAT_KEY, ORDER_KEY
from paramreuse.checkpoint.tied import first_names
from paramreuse.errors import CheckpointError
from paramreuse.files import require_own_kind, whole_file


def write_checkpoint(
    path: str | os.PathLike[str],
    weights: nn.Module | Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a model's tensors as safetensors.

    The file appears whole or not at all: it is written beside ``path`` and then put in its place.
    A tensor with several names (tied weights) is stored once; ``read_checkpoint`` gives it under
    all of them, in the order in which they are given here, by which layers are numbered. The same
    tensors and metadata give the same bytes.

    Args:
        path: Where to write, by custom ``*.safetensors``; what is there is replaced.
        weights: A model, or tensors by name.
        metadata: Text to keep with them, text to text.

    Returns:
        ``path``.

    Raises:
        CheckpointError: There is nothing to write, an entry is not a plain tensor, metadata is not
            text, or the place cannot be written to.
    """
    target = Path(path)
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    tensors = {key: value.detach() for key, value in state.items() if _is_plain(key, value, target)}
    if not tensors:
        raise CheckpointError(f"cannot write {str(target)!r}: it was given no tensor")
    kept, aliases = _without_ties(tensors)
    text = dict(metadata or {}) | ({ALIASES_KEY: json.dumps(aliases)} if aliases else {})
    text |= {ORDER_KEY: json.dumps(list(kept)), FORMAT_KEY: str(FORMAT)}
    _require_text(text, target)
    _write(target, {key: value.contiguous().clone() for key, value in kept.items()}, text)
    return target


def _require_text(metadata: Mapping[str, object], target: Path) -> None:
    wrong = [key for key, value in metadata.items() if not isinstance(value, str)]
    if wrong:
        raise CheckpointError(
            f"cannot write {str(target)!r}: metadata must be text, and {cut_at_ten(wrong)} is not. "
            "Use json.dumps on it."
        )


def _is_plain(key: str, value: object, path: Path) -> bool:
    """Tell whether an entry is a tensor to write; an extra state of a module is none."""
    if key.rpartition(".")[2] == "_extra_state":
        return False
    plain = isinstance(value, Tensor) and not value.is_meta and not value.is_quantized
    if not plain or str(value.layout) != "torch.strided":  # type: ignore[attr-defined]
        raise CheckpointError(
            f"cannot write {str(path)!r}: expected plain tensors, got {key!r} as "
            f"{_form(value)}. Leave it out, or write it dequantised or dense."
        )
    return True


def _form(value: object) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return f"a {value.dtype} tensor on {value.device} stored as {value.layout}"


def _without_ties(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Keep the first name of each tensor, and note which further names it has."""
    first = first_names(tensors)
    kept = {key: tensor for key, tensor in tensors.items() if first[key] == key}
    return kept, {key: name for key, name in first.items() if name != key}


def _write(target: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        require_own_kind(target, _is_safetensors, "a safetensors file")
        with whole_file(target) as draft:
            save_file(dict(tensors), draft, metadata=dict(metadata))
            _sort_metadata(draft)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"cannot write {str(target)!r}: {error}. Choose a folder you may write to, with room "
            f"for {sum(t.nbytes for t in tensors.values())} bytes."
        ) from error


def _is_safetensors(start: bytes) -> bool:
    """Tell whether a file begins as safetensors do: the header's length, then JSON."""
    return start[8:9] == b"{"


def _sort_metadata(path: Path) -> None:
    """Put the metadata in order: safetensors writes it in another one each time."""
    with path.open("r+b") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= length:
            stream.seek(8)
            stream.write(text.ljust(length))
