"""Train networks for the two tasks of the papers, with or without frozen tensors."""

from paramreuse.training.run import initial_model, train_model
from paramreuse.training.settings import EpochRow, TrainingResult, TrainingSettings

__all__ = ["EpochRow", "TrainingResult", "TrainingSettings", "initial_model", "train_model"]
