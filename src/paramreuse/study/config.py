"""What a study is made of, checked before anything runs."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    Field,
    field_validator,
    model_validator,
)

from paramreuse.study.transfer.spec import TransferSpec
from paramreuse.study.values import SECTION, AtLeastOne, Name, Number, Once, unknown_name

TARGET = "target"
"""Name of the model that is swapped into; every study has one."""

SwapSet = Literal["single", "pair", "layer", "block", "prefix", "suffix"]
_RESERVED = frozenset({"source", "shuffled", "reinit", "baseline"})
"""What a sweep calls things of its own."""


class _Section(BaseModel):
    model_config = SECTION


MOST_FEATURES = 4096
MOST_PIXELS = 16384
"""Of one side. Larger networks and images fit into no memory today, so one of these is a slip."""

Side = Annotated[int, Field(ge=8, le=MOST_PIXELS)]

NETWORK_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "pspnet": ("width", "bias", "weights"),
    "unet": ("width", "bias", "upsampling", "residual", "long_skips"),
}
"""Which keys of the section ``network`` each of the package's networks takes."""


class NetworkSpec(_Section):
    """Which network, the same for all models of the study.

    Attributes:
        name: ``unet``, ``pspnet`` or ``package.module:factory``.
        width: Features of the first layer.
        bias: Whether the convolutions have biases (PSPNet: those of the backbone).
        upsampling: Of ``unet``: ``bilinear`` or ``transposed``.
        residual: Of ``unet``: a short connection around every double convolution.
        long_skips: Of ``unet``: the long connections from the way down to the way up.
        weights: Of ``pspnet``: ImageNet checkpoint for the backbone.
        options: Keyword arguments for a factory of your own.
    """

    name: str = "pspnet"
    width: Annotated[int, Field(ge=1, le=MOST_FEATURES)] = 64
    bias: bool | None = None
    upsampling: Literal["bilinear", "transposed"] = "bilinear"
    residual: bool = False
    long_skips: bool = True
    weights: str | None = None
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _network_takes_them(self) -> "NetworkSpec":
        if self.name not in NETWORK_OPTIONS and ":" not in self.name:
            raise ValueError(unknown_name(self.name, NETWORK_OPTIONS, "network"))
        known = NETWORK_OPTIONS.get(self.name, ())
        for key in sorted({key for taken in NETWORK_OPTIONS.values() for key in taken}):
            value = getattr(self, key)
            if key in known or value == type(self).model_fields[key].default:
                continue
            takers = [name for name, taken in NETWORK_OPTIONS.items() if key in taken]
            raise ValueError(
                f"{key} is {value!r}, which is for {' and '.join(takers)}: {self.name!r} would not "
                f"see it. {'Leave it out' if known else 'Set it in there, or under options'}"
            )
        return self


class DataSpec(_Section):
    """One image set.

    Attributes:
        reader: Name of a reader (``acdc``, ``phantom``, ...) or ``package.module:function``.
        root: Folder or file to read; the phantom needs none.
        train: Number of subjects to train on; all that are left if not given, 0 for a set that is
            only validated on.
        validation: Number of subjects to validate on.
        size: Rows and columns after cropping; one number for a square.
        spacing_mm: Pixel size after resampling; left as it is if not given.
        labels: Class names of this set by those of the target's, where they differ; several may
            become one. Every class but the background has to be there.
        options: Keyword arguments for the reader.
    """

    reader: str
    root: str | None = None
    train: Annotated[int, Field(ge=0)] | None = None
    validation: Annotated[int, Field(ge=1)] | None = None
    size: tuple[Side, Side] = (128, 128)
    spacing_mm: Annotated[Number, Field(gt=0)] | None = None
    labels: dict[str, str] | None = None
    options: dict[str, Any] = {}

    @field_validator("size", mode="before")
    @classmethod
    def _pair(cls, value: object) -> object:
        """Take ``size: 64`` for a square."""
        if isinstance(value, int) and not isinstance(value, bool):
            return (value, value)
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise ValueError(
                f"expected rows and columns, or one number for a square, got {value!r}. "
                "Write size: [128, 96] or size: 128"
            )
        return tuple(value)


class TrainingSpec(_Section):
    """How a model is trained; what is left out takes the package's defaults.

    Attributes:
        epochs: Passes over the training set.
        batch_size: Slices per step.
        learning_rate: The largest of the schedule.
        weight_decay: Of the optimiser.
        optimiser: ``adamw``, ``sgd`` (Nesterov momentum 0.9), or ``package.module:function``,
            called with (parameters, learning_rate, weight_decay).
        schedule: ``one-cycle``, ``constant``, or ``package.module:function``, called with
            (optimiser, steps); the learning rate changes after every step.
        loss: Of segmentation: ``dice-ce`` (Dice plus cross-entropy), or
            ``package.module:function``, called with (outputs, inputs, labels).
        augment: Whether images are turned, scaled, shifted and re-graded; or
            ``package.module:function``, called with (images, labels, rng=...) of a batch.
        validate_every: Epochs between validations.
        precision: Arithmetic of the training.
    """

    epochs: Annotated[int, Field(ge=1)] = 40
    batch_size: Annotated[int, Field(ge=2)] = 16
    learning_rate: Annotated[Number, Field(gt=0)] = 1e-3
    weight_decay: Annotated[Number, Field(ge=0)] = 1e-4
    optimiser: str = "adamw"
    schedule: str = "one-cycle"
    loss: str = "dice-ce"
    augment: bool | str = True
    validate_every: Annotated[int, Field(ge=1)] = 1
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "64-true"] = "32-true"


class ModelSpec(TrainingSpec):
    """One model: trained here, or loaded.

    Attributes:
        data: Name of the image set.
        task: ``segmentation`` or ``autoencoder``.
        init: ``shared``: all such models start from the same weights; ``independent``: from its
            own.
        checkpoint: File to load instead of training.
        subjects: Number of training subjects to use, e.g. for a pilot; all if not given.
    """

    data: str
    task: Literal["segmentation", "autoencoder"] = "segmentation"
    init: Literal["shared", "independent"] = "shared"
    checkpoint: str | None = None
    subjects: Annotated[int, Field(ge=1)] | None = None


class SweepSpec(_Section):
    """Which swaps are scored, and against which controls.

    Attributes:
        swaps: Sets of swaps.
        controls: ``shuffled``, ``reinit``, or names of further models of the study.
        batch_size: Slices per forward pass.
        engine: ``partial`` (recompute what a swap changes) or ``full``.
        stop: ``decided``: end a swap when its verdict cannot change.
        memory_limit_gb: Memory for intermediate results.
        recalibrate: Whether kernel swaps are scored once more with the BatchNorm statistics
            recomputed on the target's training images, labels unseen.
    """

    swaps: Annotated[list[SwapSet], AtLeastOne, Once] = ["single"]
    controls: Annotated[list[str], Once] = ["shuffled"]
    batch_size: Annotated[int, Field(ge=1)] = 16
    engine: Literal["partial", "full"] = "partial"
    stop: Literal["decided"] | None = None
    memory_limit_gb: Annotated[Number, Field(gt=0)] | None = None
    recalibrate: bool = False


class JudgeSpec(_Section):
    """How drops are judged.

    Attributes:
        tolerance: Largest drop of the mean score that counts as almost unchanged.
        confidence: Coverage of the intervals.
        accept: Verdicts that a plan loads.
    """

    tolerance: Annotated[Number, Field(ge=0)] = 0.02
    confidence: Annotated[Number, Field(gt=0, lt=1)] = 0.95
    accept: list[Literal["reusable", "indifferent", "identical", "undecided", "not reusable"]] = [
        "reusable",
        "identical",
    ]


STUDY_FORMAT = 1
"""Format of study files that this version reads and writes."""


class Study(_Section):
    """A whole study, as written in study.yaml.

    Attributes:
        format: Format of the file; left out, it is the one that this version writes.
        name: Name, also of the default run folder.
        seed: Seed of splits, starts, controls and intervals.
        network: The network.
        data: Image sets by name.
        models: Models by name; ``target`` is the one that matters.
        sources: Names of the models that might lend parameters.
        sweep: Which swaps.
        judge: How drops are judged.
        transfer: What is trained afterwards; nothing if not given.
    """

    format: int = STUDY_FORMAT
    name: Name
    seed: Annotated[int, Field(ge=0)] = 0
    network: NetworkSpec = NetworkSpec()
    data: dict[Name, DataSpec]
    models: dict[Name, ModelSpec]
    sources: Annotated[list[str], AtLeastOne, Once]
    sweep: SweepSpec = SweepSpec()
    judge: JudgeSpec = JudgeSpec()
    transfer: TransferSpec | None = None

    @field_validator("format")
    @classmethod
    def _format_is_known(cls, value: int) -> int:
        if value != STUDY_FORMAT:
            raise ValueError(
                f"the file is of format {value}, and this version of paramreuse knows "
                f"{STUDY_FORMAT}. Update paramreuse (pip install -U paramreuse)"
            )
        return value

    @property
    def folder_name(self) -> str:
        """Name of the run folder where none is given."""
        return self.name

    @model_validator(mode="after")
    def _names_exist(self) -> "Study":
        if TARGET not in self.models:
            raise ValueError(
                f"models: expected one called 'target', got {sorted(self.models)}. Give "
                "that name to the model whose parameters are to be replaced"
            )
        if self.models[TARGET].task != "segmentation":
            raise ValueError("models.target.task: expected 'segmentation', whose Dice is scored")
        for name, model in self.models.items():
            if name in _RESERVED:
                raise ValueError(f"models.{name}: a sweep has a {name!r} of its own, rename it")
            _require(model.data, self.data, f"models.{name}.data", "data")
        others = sorted(set(self.models) - {TARGET})
        for name in self.sources:
            _require(name, others, "sources", "models, the target aside")
        for name in self.sweep.controls:
            known = ["reinit", "shuffled", *others]
            _require(name, known, "sweep.controls", "models, the target aside")
        return self

    @model_validator(mode="after")
    def _transfer_is_from_sources(self) -> "Study":
        spec = self.transfer
        if spec is not None and isinstance(spec.sources, list):
            for name in spec.sources:
                _require(name, self.sources, "transfer.sources", "sources")
        if spec is not None and spec.plan_from is not None:
            _require(spec.plan_from, self.sources, "transfer.plan_from", "sources")
        return self

    @model_validator(mode="after")
    def _target_keeps_its_classes(self) -> "Study":
        data = self.models[TARGET].data
        if self.data[data].labels is not None:
            raise ValueError(
                f"data.{data}.labels: the target is trained on this set, and its classes are the "
                "ones that others are mapped to. Leave labels out there"
            )
        return self

    @model_validator(mode="after")
    def _starts_are_possible(self) -> "Study":
        for name, model in self.models.items():
            own = model.checkpoint is None and model.init == "independent"
            if own and self.network.weights is not None:
                raise ValueError(
                    f"models.{name}.init: 'independent' cannot be: network.weights gives the "
                    "backbones of all models the same start. Leave one of them out"
                )
        return self

    @model_validator(mode="after")
    def _all_can_be_trained(self) -> "Study":
        for name, model in self.models.items():
            if model.checkpoint is None and self.data[model.data].train == 0:
                raise ValueError(
                    f"models.{name}: it is to be trained on data.{model.data}, which has train: 0. "
                    "Give it training subjects, or the model a checkpoint"
                )
        data = self.models[TARGET].data
        if self.sweep.recalibrate and self.data[data].train == 0:
            raise ValueError(
                f"sweep.recalibrate: it needs training images of data.{data}, which has train: 0"
            )
        if self.transfer is None:
            return self
        if self.data[data].train == 0:
            raise ValueError(f"transfer: it trains on data.{data}, which has train: 0")
        planned = [strategy for strategy in self.transfer.strategies if strategy.follows_plan]
        if planned and "single" not in self.sweep.swaps:
            raise ValueError(
                f"transfer.strategies: {planned[0].value!r} needs a plan, and a plan single swaps. "
                "Add single to sweep.swaps"
            )
        if self.transfer.sources == "best" and "single" not in self.sweep.swaps:
            raise ValueError(
                "transfer.sources: 'best' needs the ranking, and the ranking single swaps. "
                "Add single to sweep.swaps"
            )
        return self


def _require(name: str, known: Any, where: str, section: str) -> None:
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        cure = (
            f"Did you mean {close[0]!r}?" if close else f"Take one of these, or add {name!r} there"
        )
        raise ValueError(f"{where}: {name!r} is not under {section}: got {sorted(known)}. {cure}")


def dump_study(study: Study) -> str:
    """Return the study as YAML, every default written out."""
    return yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
