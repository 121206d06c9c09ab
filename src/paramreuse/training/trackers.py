"""Experiment trackers: learning curves, tables and figures, all in one run of a tracker.

Lightning's loggers do the talking. They are not handed to its ``Trainer``, which would close the
run after each of a study's trainings and count the steps of all of them together.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from paramreuse.errors import ParamReuseError
from paramreuse.extras import missing_extra
from paramreuse.plain_text import csv_text, plain_figure
from paramreuse.training.settings import EpochRow

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_FOLDER = "logs"
"""Where loggers that write files put them, inside the run folder."""


class Tracker(Protocol):
    """One run of an experiment tracker."""

    def log_epoch(self, training: str, row: EpochRow) -> None:
        """Log an epoch as ``training/train_loss`` and ``training/validation_score``."""

    def log_table(self, name: str, frame: "pd.DataFrame") -> None:
        """Log a table."""

    def log_figure(self, name: str, figure: "Figure") -> None:
        """Log a figure."""


class Untracked:
    """Logs nothing."""

    def log_epoch(self, training: str, row: EpochRow) -> None:
        """Drop the epoch."""

    def log_table(self, name: str, frame: "pd.DataFrame") -> None:
        """Drop the table."""

    def log_figure(self, name: str, figure: "Figure") -> None:
        """Drop the figure."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """How one kind of logger is opened, and how it takes what Lightning has no method for.

    Attributes:
        modules: Any of them will do; empty if nothing is needed beyond Lightning.
        failure: Class of its errors, ``"module:name"``.
        open: ``(folder, run)`` to a logger of Lightning's.
        table: Logs a table.
        figure: Logs a figure.
        finish: Ends the run after ``Logger.finalize``.
    """

    modules: tuple[str, ...]
    failure: str
    open: Callable[[Path, str], Any]
    table: "Callable[[Any, str, pd.DataFrame], object]"
    figure: "Callable[[Any, str, Figure], object]"
    finish: Callable[[Any], object] = lambda logger: None


@dataclass(frozen=True, slots=True)
class LoggerRun:
    """A run that is kept by one of Lightning's loggers.

    Attributes:
        logger: The logger, e.g. ``lightning.pytorch.loggers.CSVLogger``.
        kind: How it takes tables and figures.
    """

    logger: Any
    kind: _Kind

    def log_epoch(self, training: str, row: EpochRow) -> None:
        """Log loss, score and time of an epoch."""
        values = {"train_loss": row.train_loss, "seconds": row.seconds}
        if row.validation_score is not None:
            values["validation_score"] = row.validation_score
        named = {f"{training}/{name}": value for name, value in values.items()}
        self.logger.log_metrics(named, step=row.epoch)

    def log_table(self, name: str, frame: "pd.DataFrame") -> None:
        """Log a table."""
        self.kind.table(self.logger, name, frame)

    def log_figure(self, name: str, figure: "Figure") -> None:
        """Log a figure."""
        self.kind.figure(self.logger, name, plain_figure(figure))


def _open_csv(folder: Path, run: str) -> Any:
    from lightning.pytorch.loggers import CSVLogger

    return CSVLogger(folder, name="csv", flush_logs_every_n_steps=1)


def _below(logger: Any, part: str, name: str) -> Path:
    folder = Path(logger.log_dir) / part
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def _csv_table(logger: Any, name: str, frame: "pd.DataFrame") -> None:
    path = _below(logger, "tables", f"{name}.csv")
    path.write_text(csv_text(frame), encoding="utf-8", newline="")


def _csv_figure(logger: Any, name: str, figure: "Figure") -> None:
    figure.savefig(_below(logger, "figures", f"{name}.svg"), bbox_inches="tight")


def _open_tensorboard(folder: Path, run: str) -> Any:
    from lightning.pytorch.loggers import TensorBoardLogger

    # One folder is one run for TensorBoard, however often it is opened.
    return TensorBoardLogger(folder, name="tensorboard", version="", default_hp_metric=False)


def _tensorboard_table(logger: Any, name: str, frame: "pd.DataFrame") -> None:
    head = "|".join(map(str, frame.columns))
    rule = "|".join("---" for _ in frame.columns)
    rows = ("|".join(map(str, row)) for row in frame.itertuples(index=False))
    logger.experiment.add_text(f"tables/{name}", "\n".join([head, rule, *rows]))


def _tensorboard_figure(logger: Any, name: str, figure: "Figure") -> None:
    logger.experiment.add_image(f"figures/{name}", _pixels(figure), dataformats="HWC")


def _pixels(figure: "Figure") -> NDArray[np.uint8]:
    """Return a figure's colours, shape ``(H, W, 3)``; it needs neither a display nor pyplot."""
    from PIL import Image

    buffer = BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return np.asarray(Image.open(buffer).convert("RGB"))


def _open_mlflow(folder: Path, run: str) -> Any:
    from lightning.pytorch.loggers import MLFlowLogger

    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "mlflow-run.txt"
    known = note.read_text(encoding="utf-8").strip() if note.is_file() else None
    place = os.environ.get("MLFLOW_TRACKING_URI")
    logger = MLFlowLogger(
        experiment_name="paramreuse",
        run_name=run,
        tracking_uri=place or f"sqlite:///{folder.absolute()}/mlflow.db",
        artifact_location=None if place else (folder.absolute() / "mlruns").as_uri(),
        run_id=known,
    )
    note.write_text(f"{logger.run_id}\n", encoding="utf-8")
    return logger


def _mlflow_table(logger: Any, name: str, frame: "pd.DataFrame") -> None:
    logger.experiment.log_text(logger.run_id, csv_text(frame), f"tables/{name}.csv")


def _mlflow_figure(logger: Any, name: str, figure: "Figure") -> None:
    logger.experiment.log_figure(logger.run_id, figure, f"figures/{name}.png")


def _open_wandb(folder: Path, run: str) -> Any:
    from lightning.pytorch.loggers import WandbLogger

    folder.mkdir(parents=True, exist_ok=True)
    # The same run folder is the same run, also after it was killed.
    name = f"{run}-{sha256(str(folder.absolute()).encode()).hexdigest()[:8]}"
    return WandbLogger(name=run, id=name, project="paramreuse", save_dir=folder, resume="allow")


def _wandb_table(logger: Any, name: str, frame: "pd.DataFrame") -> None:
    logger.log_table(f"tables/{name}", dataframe=frame)


def _wandb_figure(logger: Any, name: str, figure: "Figure") -> None:
    logger.log_image(f"figures/{name}", [_pixels(figure)])


_KINDS: Mapping[str, _Kind] = {
    "csv": _Kind(
        modules=(),
        failure="builtins:OSError",
        open=_open_csv,
        table=_csv_table,
        figure=_csv_figure,
    ),
    "mlflow": _Kind(
        modules=("mlflow",),
        failure="mlflow.exceptions:MlflowException",
        open=_open_mlflow,
        table=_mlflow_table,
        figure=_mlflow_figure,
    ),
    "tensorboard": _Kind(
        modules=("tensorboard", "tensorboardX"),
        failure="builtins:OSError",
        open=_open_tensorboard,
        table=_tensorboard_table,
        figure=_tensorboard_figure,
    ),
    "wandb": _Kind(
        modules=("wandb",),
        failure="wandb.errors:Error",
        open=_open_wandb,
        table=_wandb_table,
        figure=_wandb_figure,
        finish=lambda logger: logger.experiment.finish(),
    ),
}
TRACKERS = tuple(_KINDS)
"""Names of the loggers there are."""


def require_tracker(name: str | None) -> None:
    """Notice before anything runs that a logger cannot be used.

    Args:
        name: ``csv``, ``mlflow``, ``tensorboard`` or ``wandb``; None for no logger.

    Raises:
        ParamReuseError: There is no such logger.
        MissingExtraError: What it needs is not installed.
    """
    if name is None:
        return
    if name not in _KINDS:
        raise ParamReuseError(f"unknown logger {name!r}: expected one of {list(TRACKERS)}")
    if find_spec("lightning") is None:
        raise missing_extra("log", "lightning")
    modules = _KINDS[name].modules
    if modules and not any(find_spec(module) for module in modules):
        raise missing_extra(f"log to {name}", modules[0])


@contextmanager
def open_tracker(name: str | None, folder: Path, *, run: str) -> Iterator[Tracker]:
    """Open a run of a tracker, and close it afterwards.

    A study's run folder is one run for TensorBoard, MLflow and W&B, however often it is resumed;
    ``csv`` begins a new ``version_N`` each time. Where runs are kept is said as each of them wants
    it (``MLFLOW_TRACKING_URI``, ``WANDB_MODE=offline``, ...); files go to ``folder/logs``.

    Args:
        name: ``csv``, ``mlflow``, ``tensorboard`` or ``wandb``; None logs nothing.
        folder: Run folder of the study.
        run: Name of the run.

    Raises:
        ParamReuseError: There is no such logger, or it could not begin the run.
        MissingExtraError: What it needs is not installed.
    """
    require_tracker(name)
    if name is None:
        yield Untracked()
        return
    kind = _KINDS[name]
    module, _, failure = kind.failure.partition(":")
    try:
        logger = kind.open(folder / _FOLDER, run)
        _ = logger.experiment
    except getattr(import_module(module), failure) as error:
        raise ParamReuseError(
            f"cannot begin a run of {name}: {error}. Check its settings, or leave --logger out"
        ) from error
    status = "failed"
    try:
        yield LoggerRun(logger, kind)
        status = "success"
    finally:
        logger.finalize(status)
        kind.finish(logger)
