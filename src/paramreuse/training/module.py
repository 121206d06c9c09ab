"""The Lightning side of a training: steps, epochs, the best weights, interruption and progress."""

import hashlib
import io
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paramreuse.errors import CheckpointError, ModelError
from paramreuse.extras import missing_extra
from paramreuse.files import write_bytes
from paramreuse.notebook import progress_bar
from paramreuse.reuse.freezing import frozen_keys, trainable_parameters
from paramreuse.training.processes import ALONE, Processes
from paramreuse.training.settings import (
    EpochRow,
    Loss,
    TrainingSettings,
    optimiser_of,
    schedule_of,
)

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.callbacks import Checkpoint
    from lightning.pytorch.plugins.io import TorchCheckpointIO
except ImportError as error:
    raise missing_extra("train", "lightning") from error

_STATE = "paramreuse"
"""Key of our own entries in a Lightning checkpoint."""


class EpochBatches:
    """The training batches of whichever epoch is due, without the subjects.

    Where several processes train together, this one's part of each batch, and what it weighs.
    """

    def __init__(
        self,
        of_epoch: Callable[[int], Any],
        epoch: Callable[[], int],
        processes: Processes = ALONE,
    ) -> None:
        self._of_epoch = of_epoch
        self._epoch = epoch
        self._processes = processes
        self._num_batches = len(of_epoch(0))

    def __len__(self) -> int:
        return self._num_batches

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, float]]:
        for inputs, labels, _ in self._of_epoch(self._epoch()):
            yield self._processes.part(inputs, labels)


class TrainingModule(LightningModule):  # type: ignore[misc]
    """A network in training, with its history and its best weights so far.

    Args:
        network: Trained in place.
        loss: Loss of a batch.
        settings: How to train.
        validate: Score of the network as it is, in evaluation mode; higher is better.
        fingerprint: What this training is of; a checkpoint with another one is refused.
        processes: Who train together.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Loss,
        settings: TrainingSettings,
        validate: Callable[[nn.Module], float],
        fingerprint: str,
        processes: Processes = ALONE,
    ) -> None:
        super().__init__()
        self.network = network
        self.settings = settings
        self.history: list[EpochRow] = []
        self.best_weights: dict[str, Tensor] = {}
        self._loss = loss
        self._validate = validate
        self._fingerprint = fingerprint
        self._processes = processes

    @property
    def best(self) -> EpochRow | None:
        """The epoch with the highest validation score, the first of several."""
        validated = [row for row in self.history if row.validation_score is not None]
        return max(validated, key=lambda row: row.validation_score or 0.0, default=None)

    def configure_optimizers(self) -> Any:
        """Give the optimiser the parameters that are not frozen, and step the learning rate."""
        optimiser = optimiser_of(self.settings, trainable_parameters(self.network))
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = schedule_of(self.settings, optimiser, steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Make dropout and the like depend on seed and epoch alone, so that a resume repeats it."""
        rank = "" if self._processes.is_first else f" {self._processes.rank}"
        words = f"{self.settings.seed} {len(self.history)}{rank}"
        digest = hashlib.sha256(words.encode()).digest()
        torch.manual_seed(int.from_bytes(digest[:7]))
        self._started = time.perf_counter()
        self._loss_sum = torch.zeros((), dtype=torch.float64, device="cpu")
        self._num_images = 0

    def training_step(self, batch: tuple[Tensor, Tensor, float], batch_idx: int) -> Tensor:
        """Return the loss of a batch, or of this process's part of it."""
        inputs, labels, share = batch
        loss = self._loss(self.network(inputs), inputs, labels)
        # Not read out as a number here: on a GPU that would wait for every single step.
        self._loss_sum = self._loss_sum.to(loss.device) + loss.detach().double() * len(inputs)
        self._num_images += len(inputs)
        return loss * share

    def on_train_epoch_end(self) -> None:
        """Validate where it is due, note the epoch and keep the weights where they are the best."""
        epoch = len(self.history) + 1
        counted = torch.stack([self._loss_sum, self._loss_sum.new_tensor(self._num_images)])
        loss_sum, num_images = self._processes.total(counted).tolist()
        train_loss = loss_sum / num_images
        self._processes.average_statistics(self.network, frozen_keys(self.network))
        if not torch.isfinite(torch.tensor(train_loss)):
            raise ModelError(
                f"training diverged: the loss is {train_loss} in epoch {epoch}. Try a smaller "
                f"learning_rate (now {self.settings.learning_rate:g}), precision='32-true', or "
                "look for images that are not finite"
            )
        score = None
        if epoch % self.settings.validate_every == 0 or epoch == self.settings.epochs:
            score = self._score()
        best = self.best
        if score is not None and (best is None or score > (best.validation_score or 0.0)):
            weights = self.network.state_dict()
            self.best_weights = {
                key: value.detach().cpu().clone() for key, value in weights.items()
            }
        seconds = time.perf_counter() - self._started
        self.history.append(EpochRow(epoch, train_loss, score, seconds))

    def _score(self) -> float:
        self.network.eval()
        with self.trainer.precision_plugin.forward_context():
            score = self._validate(self.network)
        self.network.train()
        return score

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the history and the best weights."""
        checkpoint[_STATE] = {
            "fingerprint": self._fingerprint,
            "history": [astuple(row) for row in self.history],
            "best_weights": self.best_weights,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take back the history and the best weights, if they are of this training."""
        state = checkpoint.get(_STATE, {})
        if state.get("fingerprint") != self._fingerprint:
            raise CheckpointError(
                f"cannot resume from {self.settings.folder}/last.ckpt: it was written by another "
                "training (other settings, data, starting weights or frozen tensors). Use "
                "another folder, delete the file, or train with resume=False"
            )
        self.history = [EpochRow(*row) for row in state["history"]]
        self.best_weights = state["best_weights"]


class WholeFiles(TorchCheckpointIO):  # type: ignore[misc]
    """Writes checkpoints beside their place and syncs them before they take it.

    Lightning's own way goes through the system's temporary folder, where a killed run leaves them,
    and syncs nothing: after a power cut the newest checkpoint may be empty and the last one gone.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Put a checkpoint at a place; a crash leaves the old one or the new one."""
        # PyTorch writing to a full disk itself would raise a RuntimeError about positions.
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_bytes(Path(path), content.getvalue())


class EpochEnd(Checkpoint):  # type: ignore[misc]
    """Write ``last.ckpt`` after every epoch, then tell the caller.

    A ``Checkpoint`` for Lightning, so that it is called after the module has closed the epoch.
    """

    def __init__(self, path: Path | None, on_epoch: Callable[[EpochRow], object] | None) -> None:
        self._path = path
        self._on_epoch = on_epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: TrainingModule) -> None:
        """Write what the training can be resumed from."""
        if self._path is not None:
            trainer.save_checkpoint(self._path)  # the first process writes, all others wait
        if self._on_epoch is not None and trainer.is_global_zero:
            self._on_epoch(pl_module.history[-1])


class ProgressLine(Callback):  # type: ignore[misc]
    """Says how far the training is: a bar in a notebook, a line where somebody watches stderr."""

    def __init__(self, num_epochs: int) -> None:
        self._num_epochs = num_epochs
        self._progress: Any = None
        self._bar: Callable[[float, float | None], None] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: TrainingModule) -> None:
        """Draw the line."""
        self._bar = progress_bar("training")
        if self._bar is not None or not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import Progress

        self._progress = Progress(console=Console(stderr=True), transient=True)
        steps = self._num_epochs * trainer.num_training_batches
        self._task = self._progress.add_task(
            "training", total=steps, completed=len(pl_module.history) * trainer.num_training_batches
        )
        self._progress.start()

    def on_train_batch_end(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        """Advance the line."""
        if self._bar is not None:
            self._bar(trainer.global_step, self._num_epochs * trainer.num_training_batches)
        if self._progress is not None:
            self._progress.advance(self._task)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: TrainingModule) -> None:
        """Name the best score so far."""
        best = pl_module.best
        if self._progress is not None and best is not None:
            self._progress.update(
                self._task, description=f"training, best {best.validation_score:.3f}"
            )

    def teardown(self, *_: Any, **__: Any) -> None:
        """Remove the line, also after an error."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
