"""What the arms of the protocol measured, as its figures, tables and claims take it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from paramreuse.errors import ParamReuseError
from paramreuse.reuse.verdict import Verdict, judge
from paramreuse.study.records import TransferScore
from paramreuse.sweep.outcomes import Sweep

Start = Literal["shared", "independent"]
"""Whether all models of an arm began from the same weights."""


class NotMeasuredError(ParamReuseError):
    """What a rule needs was not measured, or by several arms; the message says what."""


@dataclass(frozen=True, slots=True)
class Role:
    """What a model was trained for.

    Attributes:
        data: Name of its image set in the study.
        reader: Reader of that set, e.g. ``acdc``.
        task: ``segmentation`` or ``autoencoder``.
    """

    data: str
    reader: str
    task: str

    @property
    def words(self) -> str:
        """The role in words, e.g. ``acdc autoencoder``."""
        return f"{self.reader} {self.task}"


@dataclass(frozen=True, slots=True)
class PairDistance:
    """How far one tensor of a model is from the same tensor of another.

    Attributes:
        first: Name of a model: ``target``, a source, or ``STRATEGY-SOURCE-SUBJECTS`` of a model
            that was trained in the transfer.
        second: Name of the other.
        layer: Number of the layer within its family.
        kind: ``W``, ``B``, ``RM``, ``RV``, ``RW`` or ``RB``.
        is_output: Whether it is of the output layer.
        rmse: Root of the mean squared difference.
        relative_rmse: The same over the root of the summed mean squares: 0 identical, 1 unrelated.
    """

    first: str
    second: str
    layer: int
    kind: str
    is_output: bool
    rmse: float
    relative_rmse: float


@dataclass(frozen=True, slots=True, eq=False)
class Arm:
    """What one arm measured: one network, one kind of start.

    Attributes:
        name: Name in the protocol file.
        network: ``unet``, ``pspnet``, or the name of another factory.
        start: Whether the models share their initial weights.
        bias: Whether the convolutions (PSPNet: of the backbone) have biases.
        residual: Whether a UNet has short connections.
        long_skips: Whether a UNet has its long connections.
        roles: Role of each model by name; ``target`` is the papers' A1.
        sources: Names of the sources that were swept; the first is the papers' A2.
        sweeps: Single swaps by source.
        recalibrated: Kernel swaps by source with the BatchNorm statistics recomputed after each;
            empty where that was not measured.
        tolerance: Largest drop that counts as almost unchanged.
        confidence: Coverage of the intervals.
        distances: Between every two models, and between those kept from the transfer.
        batchnorms: Rows with ``layer mrm mrv mrw mrw_median mrb`` by source.
        transfer: Every score of the transfer; empty where the arm has none.
    """

    name: str
    network: str
    start: Start
    bias: bool
    residual: bool
    long_skips: bool
    roles: Mapping[str, Role]
    sources: Sequence[str]
    sweeps: Mapping[str, Sweep]
    recalibrated: Mapping[str, Sweep] = field(default_factory=dict)
    tolerance: float = 0.02
    confidence: float = 0.95
    distances: Sequence[PairDistance] = ()
    batchnorms: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    transfer: Sequence[TransferScore] = ()

    def judge(self, sweep: Sweep) -> Verdict:
        """Judge one of the arm's sweeps at its tolerance and confidence."""
        return judge(sweep, tolerance=self.tolerance, confidence=self.confidence)


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Everything that the arms of one protocol measured.

    Attributes:
        name: Name of the protocol.
        profile: Name of the profile it was run with.
        arms: The arms that have run.
    """

    name: str
    profile: str
    arms: tuple[Arm, ...]

    def unet(self, start: Start, *, residual: bool = False, long_skips: bool = True) -> Arm | None:
        """Return the arm of a UNet whose convolutions have biases, as the papers' have.

        Args:
            start: Whether the models share their initial weights.
            residual: Whether it has short connections.
            long_skips: Whether it has its long connections.

        Returns:
            The arm, None if it has not run.

        Raises:
            NotMeasuredError: Several arms are such.
        """
        form = (True, residual, long_skips)
        return _only(
            arm
            for arm in self.arms
            if (arm.network, arm.start) == ("unet", start)
            and (arm.bias, arm.residual, arm.long_skips) == form
        )

    def pspnet(self, start: Start, *, bias: bool = False) -> Arm | None:
        """Return the arm of a PSPNet.

        Args:
            start: Whether the models share their initial weights.
            bias: Whether the convolutions of its backbone have biases.

        Returns:
            The arm, None if it has not run.

        Raises:
            NotMeasuredError: Several arms are such.
        """
        form = ("pspnet", start, bias)
        return _only(arm for arm in self.arms if (arm.network, arm.start, arm.bias) == form)


def _only(arms: Iterable[Arm]) -> Arm | None:
    listed = list(arms)
    if len(listed) > 1:
        raise NotMeasuredError(
            f"the arms {' and '.join(arm.name for arm in listed)} have the same network and start: "
            "expected one, since nothing says which of them counts"
        )
    return listed[0] if listed else None
