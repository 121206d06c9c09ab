"""Checkpoints: files to tensors, safely; tensors to models, every one accounted for."""

from paramreuse.checkpoint.reading import Checkpoint, read_checkpoint

__all__ = ["Checkpoint", "read_checkpoint"]
