"""Run one training from settings to a result; the caller's model and process stay as they were."""

import hashlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import nn

from paramreuse.data.preparation import PreparedSet, batches, training_batches
from paramreuse.errors import DataError, ParamReuseError
from paramreuse.reuse.freezing import checksum, frozen_keys, record_tensors, trainable_parameters
from paramreuse.sweep.batches import Batches
from paramreuse.training.processes import Processes
from paramreuse.training.settings import (
    TASKS,
    EpochRow,
    Task,
    TrainingResult,
    TrainingSettings,
    recognisable,
)
from paramreuse.training.tasks import loss_of, validation_score
from paramreuse.training.together import Together, joined_processes
from paramreuse.untouched import untouched_random_state

if TYPE_CHECKING:
    from paramreuse.training.module import TrainingModule


TrainingData: TypeAlias = PreparedSet | Batches
"""A prepared set, shuffled and augmented here, or batches that are taken as they come."""


def initial_model(factory: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a network with initial weights that depend on the seed alone.

    Two networks with a shared start have one seed, independent starts have two.

    Args:
        factory: Builds the network, e.g. ``lambda: unet(width=16)``.
        seed: Of PyTorch's generator while the network is built; afterwards it is as before.
    """
    with untouched_random_state():
        torch.manual_seed(seed)
        return factory()


def train_model(
    model: nn.Module,
    train: TrainingData,
    validation: TrainingData,
    *,
    task: Task = "segmentation",
    settings: TrainingSettings | None = None,
    on_epoch: Callable[[EpochRow], object] | None = None,
) -> TrainingResult:
    """Train a copy of the model and return it with the weights of its best epoch.

    Tensors that are frozen (``freeze_tensors``, ``apply_plan``) stay as they are, which is checked
    by hash after the first step and at the end. Neither the model nor the global random state is
    touched.

    Args:
        model: Where training starts; takes ``(N, C, H, W)`` and returns ``(N, K, H, W)``.
        train: A ``PreparedSet``, whose batches are shuffled and augmented again in every epoch; an
            auto-encoder also takes its unlabelled slices. Or re-iterable batches ``(inputs, labels,
            subjects)`` with a length, which are taken as they come.
        validation: As for ``train``, but in order; subjects are scored one by one.
        task: ``"segmentation"`` (cross-entropy and Dice loss, scored by Dice) or
            ``"autoencoder"`` (squared error of every output channel to the image).
        settings: How to train.
        on_epoch: Called after every epoch, once it is safe on disk.

    Returns:
        The trained model and its history; in each of several processes the same.

    Raises:
        ParamReuseError: The task or the device is not there, or this process is not one of as many
            as the settings ask for.
        DataError: The training set is empty.
        PlanError: Every parameter is frozen.
        ModelError: The loss is not finite, or outputs and labels do not fit together.
        ScoreError: The validation set cannot be scored.
        CheckpointError: The folder holds the checkpoint of another training.
        FrozenTensorMovedError: A frozen tensor moved.
        MissingExtraError: Lightning or MONAI is not installed.
        KeyboardInterrupt: As pressed; call again with the same arguments to go on.
    """
    settings = settings or TrainingSettings()
    if task not in TASKS:
        raise ParamReuseError(f"cannot train for task {task!r}: expected one of {TASKS}")
    trainable_parameters(model)
    accelerator = _accelerator(settings.device)
    on_cpu = accelerator[0] == "cpu" or not torch.cuda.is_available()
    with _as_before(), torch.enable_grad():
        together = joined_processes(settings.devices, settings.nodes, on_cpu=on_cpu)
        # deepcopy keeps frozen layers frozen.
        network = _lay_out(deepcopy(model), torch.channels_last).train()
        module = _module_of(network, (train, validation), task, settings, together.processes)
        _fit(module, _epochs_of(train, task, settings), accelerator, on_epoch, together)
    result = _result(module)
    result.model.to(next(model.parameters()).device)
    return result


def _module_of(
    network: nn.Module,
    sets: tuple[TrainingData, TrainingData],
    task: Task,
    settings: TrainingSettings,
    processes: Processes,
) -> "TrainingModule":
    from paramreuse.training.module import TrainingModule

    validation = _in_order(sets[1], task, settings)
    return TrainingModule(
        network,
        loss_of(task, settings),
        settings,
        lambda network: validation_score(network, validation, task, processes),
        _fingerprint(network, sets, task, settings),
        processes,
    )


def _fit(
    module: "TrainingModule",
    epochs: Callable[[int], Any],
    accelerator: tuple[str, list[int] | int],
    on_epoch: Callable[[EpochRow], object] | None,
    together: Together,
) -> None:
    from lightning.pytorch import Trainer

    from paramreuse.training.freeze_plan import FreezePlan
    from paramreuse.training.module import EpochBatches, EpochEnd, ProgressLine, WholeFiles

    settings = module.settings
    last = _checkpoint_path(settings)
    train = EpochBatches(epochs, lambda: len(module.history), together.processes)
    if len(train) == 0:
        raise DataError("cannot train: the training set has no batch. Give it subjects")
    shows_progress = settings.progress and together.processes.is_first
    trainer = Trainer(
        accelerator=accelerator[0],
        devices=accelerator[1] if settings.processes == 1 else settings.devices,
        num_nodes=settings.nodes,
        strategy=together.strategy(),
        plugins=[together.environment, WholeFiles()],
        precision=settings.precision,
        max_epochs=settings.epochs,
        callbacks=[
            FreezePlan(frozen_keys(module.network), module="network"),
            EpochEnd(last, on_epoch),
            *([ProgressLine(settings.epochs)] if shows_progress else []),
        ],
        logger=False,
        enable_checkpointing=True,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    resume = last if last is not None and settings.resume and last.exists() else None
    try:
        trainer.fit(module, train, ckpt_path=resume, weights_only=True)
    except SystemExit as stop:
        # Lightning turns Ctrl-C into an exit; who called us may want to go on.
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise


def _lay_out(network: nn.Module, memory_format: torch.memory_format) -> nn.Module:
    """Store 2-D kernels in another order in memory; channels-last trains 15 to 30 % faster on CPU.

    ``nn.Module.to(memory_format=...)`` would stumble over the kernels of 3-D convolutions.
    """
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=memory_format)
    return network


def _result(module: "TrainingModule") -> TrainingResult:
    best = module.best
    if best is None or best.validation_score is None:
        raise AssertionError("the last epoch is always validated")
    network = _lay_out(module.network.cpu(), torch.contiguous_format).eval()
    network.load_state_dict(module.best_weights)
    for parameter in network.parameters():
        parameter.grad = None
    return TrainingResult(network, tuple(module.history), best.epoch, best.validation_score)


def _epochs_of(train: TrainingData, task: Task, settings: TrainingSettings) -> Callable[[int], Any]:
    if not isinstance(train, PreparedSet):
        return lambda epoch: train
    return lambda epoch: training_batches(
        train,
        settings.batch_size,
        seed=settings.seed,
        epoch=epoch,
        augment=settings.augment,
        labelled_only=task == "segmentation",
    )


def _in_order(validation: TrainingData, task: Task, settings: TrainingSettings) -> Batches:
    if not isinstance(validation, PreparedSet):
        return validation
    return batches(validation, settings.batch_size, labelled_only=task == "segmentation")


def _checkpoint_path(settings: TrainingSettings) -> Path | None:
    if settings.folder is None:
        return None
    folder = Path(settings.folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "last.ckpt"


def _fingerprint(
    network: nn.Module,
    sets: tuple[TrainingData, TrainingData],
    task: Task,
    settings: TrainingSettings,
) -> str:
    """Say what a training is of: all that its result depends on, save batches as they come."""
    relevant = replace(settings, folder=None, resume=True, device="auto")
    prepared = [each for each in sets if isinstance(each, PreparedSet)]
    data = [
        (checksum(each.images), checksum(each.labels), each.subjects, each.names)
        for each in prepared
    ]
    start = record_tensors(network, network.state_dict()).checksums
    together = (settings.processes,) if settings.processes > 1 else ()
    facts = repr(
        (task, recognisable(relevant), data, sorted(start.items()), frozen_keys(network), *together)
    )
    return hashlib.sha256(facts.encode()).hexdigest()


def _accelerator(device: str) -> tuple[str, list[int] | int]:
    """Return Lightning's accelerator and devices for a device name of PyTorch's."""
    if device == "auto":
        return "auto", 1
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise ParamReuseError(
            f"cannot train on device {device!r}: expected 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'"
        ) from error
    missing = wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count()
    missing |= wanted.type == "mps" and not torch.backends.mps.is_available()
    if missing or wanted.type not in ("cpu", "cuda", "mps"):
        raise ParamReuseError(
            f"cannot train on device {device!r}: this machine has {torch.cuda.device_count()} CUDA "
            "device(s) that PyTorch can use. Use device='auto' or 'cpu'"
        )
    if wanted.type == "cuda":
        return "gpu", [wanted.index or 0]
    return wanted.type, 1


def _import_lightning() -> None:
    # Importing it draws from the random state of Python and warns about other libraries.
    with untouched_random_state(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import paramreuse.training.module  # noqa: F401


@contextmanager
def _as_before() -> Iterator[None]:
    """Restore what Lightning changes in the process, and keep its remarks from the caller."""
    # Imported here already: its loggers set their own levels when they are.
    _import_lightning()
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    deterministic = torch.are_deterministic_algorithms_enabled()
    only_warn = torch.is_deterministic_algorithms_warn_only_enabled()
    with untouched_random_state(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        # A GPU adds up in any order unless told otherwise, and a few kernels always do.
        warnings.filterwarnings("ignore", message=".*deterministic")
        if torch.cuda.is_available():
            torch.use_deterministic_algorithms(True, warn_only=True)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
            torch.use_deterministic_algorithms(deterministic, warn_only=only_warn)
