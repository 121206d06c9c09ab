"""Train networks for the two tasks of the papers, with or without frozen tensors.

In: a network, prepared image sets, settings.
Out: the trained network, its learning curve, and the score it was chosen by.
"""

from paramreuse.training.run import initial_model, train_model
from paramreuse.training.settings import EpochRow, TrainingResult, TrainingSettings

__all__ = ["EpochRow", "TrainingResult", "TrainingSettings", "initial_model", "train_model"]
