"""What the store holds, a frozen value per row: NULL is NaN.

Attributes are called as their columns, but for ``label``, which is ``class`` in one table.
"""

from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias


@dataclass(frozen=True, slots=True)
class Fact:
    """A single fact.

    Attributes:
        name: What it says, e.g. ``provenance``.
        value: As JSON.
    """

    TABLE: ClassVar[str] = "facts"
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class FinishedStage:
    """A stage that has run.

    Attributes:
        stage: Name of the stage.
        fingerprint: What its outcome depends on beyond what the run folder was made for.
        summary: What it said at the end.
        seconds: How long it took.
        finished: When, ISO 8601 in UTC.
    """

    TABLE: ClassVar[str] = "stages"
    stage: str
    fingerprint: str
    summary: str
    seconds: float
    finished: str


@dataclass(frozen=True, slots=True)
class SplitSubject:
    """One subject of an image set.

    Attributes:
        data: Name of the image set.
        fold: ``train`` or ``validation``.
        subject: The subject.
        slices: Number of its slices.
    """

    TABLE: ClassVar[str] = "splits"
    data: str
    fold: str
    subject: str
    slices: int


@dataclass(frozen=True, slots=True)
class TrainedEpoch:
    """One epoch of the training of a model.

    Attributes:
        model: Name of the model.
        epoch: Its number, from 1.
        train_loss: Mean loss over the epoch.
        validation_score: Score on the validation fold; NaN where it was not validated.
        seconds: How long it took.
    """

    TABLE: ClassVar[str] = "epochs"
    model: str
    epoch: int
    train_loss: float
    validation_score: float
    seconds: float


@dataclass(frozen=True, slots=True)
class StoredDistance:
    """How far one tensor of a source is from the target's.

    Attributes:
        source: Name of the source.
        position: Place in the comparison, from 0.
        family: Family of the layer.
        layer: Number of the layer within its family.
        path: Dotted path of the layer.
        kind: ``W``, ``B``, ``RM``, ``RV``, ``RW`` or ``RB``.
        key: Key in the target's state dict.
        elements: Number of values.
        rmse: Root of the mean squared difference; NaN where a value is not finite.
        relative_rmse: The same over the root of the summed mean squares.
        cosine: Cosine of the angle between both; NaN where either is all zero.
    """

    TABLE: ClassVar[str] = "distances"
    source: str
    position: int
    family: str
    layer: int
    path: str
    kind: str
    key: str
    elements: int
    rmse: float
    relative_rmse: float
    cosine: float


@dataclass(frozen=True, slots=True)
class StoredShift:
    """What swapping each tensor of one BatchNorm layer shifts or scales.

    Attributes:
        source: Name of the source.
        layer: Number of the layer.
        path: Its dotted path.
        mrm: Mean relative shift by RM.
        mrv: Mean relative scale by RV.
        mrw: Mean relative scale by RW.
        mrw_median: Median of the same.
        mrb: Mean relative shift by RB.
    """

    TABLE: ClassVar[str] = "batchnorms"
    source: str
    layer: int
    path: str
    mrm: float
    mrv: float
    mrw: float
    mrw_median: float
    mrb: float


@dataclass(frozen=True, slots=True)
class StoredLineage:
    """Whether a source shares its start with the target.

    Attributes:
        source: Name of the source.
        lineage: ``shared``, ``independent`` or ``undecided``.
        reason: Why, in words.
        identical_share: Share of the compared values that are equal in both.
        skipped: What could not be compared, as JSON: a list of ``key`` and ``reason``.
    """

    TABLE: ClassVar[str] = "lineages"
    source: str
    lineage: str
    reason: str
    identical_share: float
    skipped: str


@dataclass(frozen=True, slots=True)
class StoredSourceScore:
    """What a score of its features says of a source.

    Attributes:
        source: Name of the source.
        name: Name of the score, as in ``Ranking.frame``.
        value: Higher is better; NaN where it could not be computed.
    """

    TABLE: ClassVar[str] = "source_scores"
    source: str
    name: str
    value: float


@dataclass(frozen=True, slots=True)
class TrialStatistics:
    """What a sweep under way counted for one trial on one batch.

    Attributes:
        sweep: Name of the sweep.
        batch: Number of the batch, from 0.
        swap: Name of the swap, ``""`` for the untouched target.
        replacement: ``source`` or the name of a control; ``baseline`` for the untouched target.
        digest: Of the images of the batch.
        sums: As JSON, shape ``(N, K, sums)``.
    """

    TABLE: ClassVar[str] = "statistics"
    sweep: str
    batch: int
    swap: str
    replacement: str
    digest: str
    sums: str


@dataclass(frozen=True, slots=True)
class StoredSweep:
    """All of a finished sweep but its scores.

    Attributes:
        sweep: Name of the sweep.
        content: As JSON: its sites, swaps, classes, subjects and notes.
    """

    TABLE: ClassVar[str] = "sweeps"
    sweep: str
    content: str


@dataclass(frozen=True, slots=True)
class SweepScore:
    """Score of one class on one subject with one trial of a sweep in place.

    Attributes:
        sweep: Name of the sweep.
        swap: Name of the swap, ``""`` for the untouched target.
        replacement: ``source`` or the name of a control; ``baseline`` for the untouched target.
        subject: The subject.
        label: Name of the class; the column is called ``class``.
        score: NaN where the subject has none of the class.
    """

    TABLE: ClassVar[str] = "scores"
    sweep: str
    swap: str
    replacement: str
    subject: str
    label: str = field(metadata={"column": "class"})
    score: float


@dataclass(frozen=True, slots=True)
class TransferScore:
    """Dice of one class on one validation subject after one training of the transfer.

    Attributes:
        source: Name of the source, ``""`` for a training from scratch.
        strategy: As in the study file.
        num_subjects: Number of training subjects.
        seed: Which repetition, from 0.
        subject: The validation subject.
        label: Name of the class.
        score: Dice, NaN where the subject has none of the class.
    """

    TABLE: ClassVar[str] = "transfers"
    source: str
    strategy: str
    num_subjects: int
    seed: int
    subject: str
    label: str
    score: float

    @property
    def training(self) -> tuple[str, str, int, int]:
        """Which training it is of: source, strategy, number of subjects and repetition."""
        return self.source, self.strategy, self.num_subjects, self.seed


@dataclass(frozen=True, slots=True)
class LongTransferScore(TransferScore):
    """The same after the same training made twice as long."""

    TABLE: ClassVar[str] = "long_transfers"


@dataclass(frozen=True, slots=True)
class TransferStep:
    """How good a training of the transfer by steps was on its way.

    Attributes:
        source: Name of the source, ``""`` for a training from scratch.
        strategy: As in the study file.
        num_subjects: Number of training subjects.
        seed: Which repetition, from 0.
        step: Optimiser steps taken.
        score: Mean over the validation subjects of the mean foreground score.
    """

    TABLE: ClassVar[str] = "transfer_steps"
    source: str
    strategy: str
    num_subjects: int
    seed: int
    step: int
    score: float

    @property
    def training(self) -> tuple[str, str, int, int]:
        """Which training it is of, as for ``TransferScore``."""
        return self.source, self.strategy, self.num_subjects, self.seed


@dataclass(frozen=True, slots=True)
class TransferEpoch:
    """One epoch of a training of the transfer; attributes as in the two records above."""

    TABLE: ClassVar[str] = "transfer_epochs"
    source: str
    strategy: str
    num_subjects: int
    seed: int
    epoch: int
    train_loss: float
    validation_score: float
    seconds: float

    @property
    def training(self) -> tuple[str, str, int, int]:
        """Which training it is of, as for ``TransferScore``."""
        return self.source, self.strategy, self.num_subjects, self.seed


@dataclass(frozen=True, slots=True)
class StoredPicture:
    """A slice of a validation subject, its labels, or what a network says of it.

    Attributes:
        shown: ``image``, ``labels``, ``untouched``, ``swap/SOURCE`` or ``transfer/TRAINING``.
        subject: The subject.
        slice: Where the slice came from.
        rows: Number of rows of pixels.
        columns: Number of columns.
        pixels: A byte per pixel, row by row, compressed by zlib: grey values or classes.
    """

    TABLE: ClassVar[str] = "pictures"
    shown: str
    subject: str
    slice: str
    rows: int
    columns: int
    pixels: bytes


Record: TypeAlias = (
    Fact
    | FinishedStage
    | SplitSubject
    | TrainedEpoch
    | StoredDistance
    | StoredShift
    | StoredLineage
    | StoredSourceScore
    | TrialStatistics
    | StoredSweep
    | SweepScore
    | TransferScore
    | LongTransferScore
    | TransferStep
    | TransferEpoch
    | StoredPicture
)
"""A row of one of the store's tables."""

TRANSFERRED: tuple[type[Record], ...] = (
    TransferScore,
    LongTransferScore,
    TransferEpoch,
    TransferStep,
)
"""What the trainings of the transfer leave in the store."""
