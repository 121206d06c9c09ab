"""Checkpoints: files to tensors, safely; tensors to models, every one accounted for.

In: files, folders, addresses on the Hugging Face Hub; models.
Out: tensors by name, models with them loaded, a report of every key, files.
"""

from paramreuse.checkpoint.accounting import LoadReport, LoadRow, Status
from paramreuse.checkpoint.loading import load_checkpoint
from paramreuse.checkpoint.names import KeyMatch, match_keys
from paramreuse.checkpoint.reading import Checkpoint, read_checkpoint
from paramreuse.checkpoint.writing import write_checkpoint

__all__ = [
    "Checkpoint",
    "KeyMatch",
    "LoadReport",
    "LoadRow",
    "Status",
    "load_checkpoint",
    "match_keys",
    "read_checkpoint",
    "write_checkpoint",
]
