"""What became of every tensor when a checkpoint was loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import pandas as pd


class Status(StrEnum):
    """What became of a tensor.

    ``dtype`` and ``renamed`` are loaded too: after a conversion, or under another name.
    """

    LOADED = "loaded"
    RENAMED = "renamed"
    DTYPE = "dtype"
    SHAPE = "shape"
    MISSING = "missing"
    UNEXPECTED = "unexpected"

    @property
    def is_loaded(self) -> bool:
        """Whether the model now holds the source's values."""
        return self in {Status.LOADED, Status.RENAMED, Status.DTYPE}


@dataclass(frozen=True, slots=True)
class LoadRow:
    """One tensor of the model, of the checkpoint, or of both where they met.

    Attributes:
        key: Key in the model; for an unexpected tensor the key in the checkpoint.
        source_key: Key in the file, or None where the checkpoint has no such tensor.
        status: What became of it.
        target_shape: Shape in the model, or None.
        source_shape: Shape in the checkpoint, or None.
        target_dtype: Dtype in the model, or None.
        source_dtype: Dtype in the checkpoint, or None.
        reason: Why, in words.
        non_finite: How many of the loaded values are NaN or infinite.
    """

    key: str
    source_key: str | None
    status: Status
    target_shape: tuple[int, ...] | None
    source_shape: tuple[int, ...] | None
    target_dtype: torch.dtype | None
    source_dtype: torch.dtype | None
    reason: str
    non_finite: int = 0

    @property
    def dtype(self) -> str:
        """The dtype, or ``"float16 -> float32"`` where the two sides differ."""
        dtypes = [
            str(d).removeprefix("torch.") for d in (self.source_dtype, self.target_dtype) if d
        ]
        return " -> ".join(dict.fromkeys(dtypes))


@dataclass(frozen=True, slots=True)
class LoadReport:
    """Every tensor of model and checkpoint, each in exactly one row.

    Attributes:
        rows: The model's tensors in its order, then the unexpected ones.
        matching: How the keys of the two sides were brought together, in words.
        ignored: What the checkpoint held besides tensors, key to reason.
    """

    rows: tuple[LoadRow, ...]
    matching: str
    ignored: Mapping[str, str] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Count the rows of each status; every status is there."""
        number_of = Counter(row.status for row in self.rows)
        return {status.value: number_of[status] for status in Status}

    @property
    def loaded(self) -> tuple[str, ...]:
        """Keys of the model that now hold the source's values."""
        return tuple(row.key for row in self.rows if row.status.is_loaded)

    @property
    def non_finite(self) -> dict[str, int]:
        """How many NaN and infinite values were loaded, by key; empty where there are none."""
        return {row.key: row.non_finite for row in self.rows if row.non_finite}

    def summary(self) -> str:
        """Say in one line what was loaded, how keys were matched, and what was not."""
        counts = self.counts()
        asked = sum(row.status is not Status.UNEXPECTED for row in self.rows)
        parts = [f"loaded {len(self.loaded)} of {asked} tensors", self.matching]
        words = {"renamed": "under another name", "dtype": "converted"}
        parts += [f"{counts[s]} {word}" for s, word in words.items() if counts[s]]
        parts += [f"{counts[s]} {s}" for s in ("shape", "missing", "unexpected") if counts[s]]
        parts += [f"ignored entries: {len(self.ignored)}"] if self.ignored else []
        if self.non_finite:
            parts.append(f"tensors with NaN or infinite values: {len(self.non_finite)}")
        return "; ".join(parts)

    def frame(self) -> pd.DataFrame:
        """Tabulate the rows.

        Returns:
            Columns ``key source_key status target_shape source_shape dtype reason``.
        """
        import pandas as pd

        columns = ["key", "source_key", "status", "target_shape", "source_shape", "dtype", "reason"]
        records = [
            {column: getattr(row, column) for column in columns} | {"status": row.status.value}
            for row in self.rows
        ]
        return pd.DataFrame.from_records(records, columns=columns)

    def __str__(self) -> str:
        return self.summary()
