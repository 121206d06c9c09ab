"""The errors a caller can meet: all are ``ValueError``, so one ``except`` catches them.

``ParamReuseError`` is the root. Every message says what could not be done, where, what was
expected, what was found and what to do about it; the command line prints it and exits with 2.
"""

from paramreuse.plain_text import plain_text


class ParamReuseError(ValueError):
    """Something the caller gave cannot be used; the message says what, where and what to do.

    Messages name files, and what they hold: characters that a terminal would obey are spelled out.
    """

    def __str__(self) -> str:
        return plain_text(super().__str__())


class SiteMismatchError(ParamReuseError):
    """Source and target do not fit together at a site, or at none."""


class ModelError(ParamReuseError):
    """A model is in a state, or returns a value, that cannot be evaluated."""


class ScoreError(ParamReuseError):
    """A score is not a number, or batches and score do not fit together."""


class CheckpointError(ParamReuseError):
    """A file holds no tensors that can be read safely."""


class DamagedCheckpointError(CheckpointError):
    """What a file holds is damaged: reading the same bytes again will not help."""


class DataError(ParamReuseError):
    """An image set on disk is incomplete, inconsistent or not there."""


class StudyError(ParamReuseError):
    """A study file, or a run folder, cannot be used."""


class PlanError(ParamReuseError):
    """A plan does not fit the model or the source it is applied to."""


class FrozenTensorMovedError(ParamReuseError):
    """A tensor that was to stay frozen changed in training."""


class WorkerError(ParamReuseError):
    """Workers cannot be started or joined, run other versions, or died again and again."""


class MissingExtraError(ParamReuseError, ImportError):
    """An optional library is not installed; the message holds the pip line that installs it."""
