"""A training is repeatable, resumable and quiet, and leaves model and process alone."""

import io
import logging
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from paramreuse.data.preparation import UNLABELLED, PreparedSet, batches, training_batches
from paramreuse.errors import CheckpointError, ModelError, ParamReuseError, PlanError, ScoreError
from paramreuse.reuse.freezing import freeze_tensors, frozen_keys
from paramreuse.training import (
    EpochRow,
    TrainingResult,
    TrainingSettings,
    initial_model,
    train_model,
)
from paramreuse.training.tasks import loss_of, reconstruction_target, validation_score

pytest.importorskip("lightning")
pytest.importorskip("monai")

# The first test to train pays for the import of Lightning and MONAI, about five seconds.
pytestmark = pytest.mark.slow

SETTINGS = TrainingSettings(epochs=3, batch_size=4, learning_rate=0.01, device="cpu")


def squares() -> PreparedSet:
    """Noisy images of a bright square, labelled; six subjects of two slices."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.zeros(12, 8, 8, dtype=torch.int64)
    for index, (row, column) in enumerate(torch.randint(0, 5, (12, 2), generator=generator)):
        labels[index, row : row + 3, column : column + 3] = 1
    images = labels[:, None] + torch.randn(12, 1, 8, 8, generator=generator) * 0.3
    subjects = tuple("aabbccddeeff")
    return PreparedSet(images, labels, subjects, subjects, ("background", "square"))


def net_with_dropout(seed: int = 0, outputs: int = 2) -> nn.Module:
    return initial_model(
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout2d(0.2),
            nn.Conv2d(4, outputs, 3, padding=1),
        ),
        seed,
    )


def trained(model: nn.Module | None = None, **changes: object) -> TrainingResult:
    return train_model(
        net_with_dropout() if model is None else model,
        squares(),
        squares(),
        settings=replace(SETTINGS, **changes),
    )


def assert_same_weights(one: nn.Module, other: nn.Module) -> None:
    other_tensors = other.state_dict()
    for key, tensor in one.state_dict().items():
        assert torch.equal(tensor, other_tensors[key]), key


def test_training_learns_and_returns_the_best_epoch_in_evaluation_mode() -> None:

    result = train_model(
        net_with_dropout(), squares(), squares(), settings=replace(SETTINGS, epochs=8)
    )

    scores = [row.validation_score for row in result.history]
    assert [row.epoch for row in result.history] == list(range(1, 9))
    assert result.best_score == max(scores) > 0.8
    assert scores[result.best_epoch - 1] == result.best_score
    assert result.history[-1].train_loss < result.history[0].train_loss
    assert not any(module.training for module in result.model.modules())
    assert validation_score(result.model, batches(squares(), 5), "segmentation") == pytest.approx(
        result.best_score, abs=1e-12
    )
    assert result.frame().columns.tolist() == [
        "epoch",
        "train_loss",
        "validation_score",
        "seconds",
    ]


def test_the_best_weights_are_those_of_the_best_epoch_not_of_the_last() -> None:
    # Where everything but the square is labelled, what is learnt makes the score worse.
    inverted = replace(squares(), labels=1 - squares().labels)
    seen: list[EpochRow] = []

    result = train_model(
        net_with_dropout(), squares(), inverted, settings=SETTINGS, on_epoch=seen.append
    )

    scores = [row.validation_score for row in seen]
    assert tuple(seen) == result.history
    assert scores[0] > scores[2]
    assert result.best_epoch == 1
    assert validation_score(result.model, batches(inverted, 4), "segmentation") == scores[0]


def test_an_auto_encoder_learns_its_input_on_every_output_channel() -> None:
    result = train_model(
        net_with_dropout(outputs=4),
        squares(),
        squares(),
        task="autoencoder",
        settings=replace(SETTINGS, epochs=30, learning_rate=0.03),
    )

    images = squares().images
    with torch.no_grad():
        errors = (result.model(images) - images).square().mean((0, 2, 3))
    assert errors.shape == (4,)
    assert float(errors.max()) < 0.5 * float(images.square().mean())
    assert result.best_score == pytest.approx(-float(errors.mean()), rel=1e-5)


def test_an_auto_encoder_takes_unlabelled_slices_too() -> None:
    bare = squares()
    bare.labels[:] = UNLABELLED

    result = train_model(net_with_dropout(), bare, bare, task="autoencoder", settings=SETTINGS)

    assert len(result.history) == 3


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    one, again, other = trained(), trained(), trained(seed=1)

    assert_same_weights(one.model, again.model)
    assert not torch.equal(one.model[0].weight, other.model[0].weight)


def test_the_callers_model_and_random_states_are_left_alone() -> None:
    model = net_with_dropout()
    before = net_with_dropout()
    hooks = [len(module._forward_hooks) for module in model.modules()]
    modes = [module.training for module in model.eval().modules()]
    states = (random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state())
    interrupt = signal.getsignal(signal.SIGINT)

    with torch.no_grad():
        trained(model)
        assert not torch.is_grad_enabled()

    assert_same_weights(model, before)
    assert [module.training for module in model.modules()] == modes
    assert [len(module._forward_hooks) for module in model.modules()] == hooks
    assert all(parameter.grad is None for parameter in model.parameters())
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert torch.equal(torch.get_rng_state(), states[2])
    assert signal.getsignal(signal.SIGINT) == interrupt


def test_nothing_is_printed_warned_or_left_in_the_folder(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    levels = [logging.getLogger(name).level for name in ("lightning.pytorch", "lightning.fabric")]

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trained()

    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in caught] == []
    assert list(tmp_path.iterdir()) == []
    assert levels == [
        logging.getLogger(name).level for name in ("lightning.pytorch", "lightning.fabric")
    ]


def test_a_terminal_sees_one_line_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    trained()

    assert "training" in terminal.getvalue()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("stop_after", [1, 2])
def test_an_interrupted_training_resumes_to_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, stop_after: int
) -> None:
    settings = replace(SETTINGS, epochs=4, folder=tmp_path, learning_rate=0.03)

    def interrupt(row: EpochRow) -> None:
        if row.epoch == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_model(net_with_dropout(), squares(), squares(), settings=settings, on_epoch=interrupt)
    assert signal.getsignal(signal.SIGINT) != signal.SIG_IGN
    rest: list[int] = []
    resumed = train_model(
        net_with_dropout(),
        squares(),
        squares(),
        settings=settings,
        on_epoch=lambda row: rest.append(row.epoch),
    )

    whole = trained(epochs=4, learning_rate=0.03)
    assert rest == list(range(stop_after + 1, 5))
    assert [row.epoch for row in resumed.history] == [1, 2, 3, 4]
    assert [row.train_loss for row in resumed.history] == [row.train_loss for row in whole.history]
    assert_same_weights(resumed.model, whole.model)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_what_a_training_goes_on_from_is_on_the_disk_before_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[tuple[str, int]] = []
    sync, rename = os.fsync, Path.replace

    def noted_sync(descriptor: int) -> None:
        happened.append(("synced", os.fstat(descriptor).st_ino))
        sync(descriptor)

    def noted_rename(draft: Path, place: Path) -> Path:
        happened.append(("renamed", draft.stat().st_ino))
        return rename(draft, place)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_rename)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))

    trained(epochs=1, folder=tmp_path / "run")

    last, folder = (path.stat().st_ino for path in (tmp_path / "run/last.ckpt", tmp_path / "run"))
    assert happened == [("synced", last), ("renamed", last), ("synced", folder)]
    assert list(elsewhere.iterdir()) == []


def test_a_training_whose_checkpoint_does_not_fit_says_so(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="needs a system with limits for files")
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, usual[1]))
    try:
        # PyTorch writing to the file itself would raise a RuntimeError about positions.
        with pytest.raises(OSError, match="File too large"):
            trained(epochs=1, folder=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert list(tmp_path.iterdir()) == []


class StopsOnce(list[object]):
    """Batches of which the second pass is interrupted after one."""

    passes = 0

    def __iter__(self) -> Iterator[object]:
        self.passes += 1
        for batch in super().__iter__():
            yield batch
            if self.passes == 2:
                raise KeyboardInterrupt


def test_a_training_stopped_within_an_epoch_repeats_that_epoch(tmp_path: Path) -> None:
    settings = replace(SETTINGS, folder=tmp_path)
    interrupted = StopsOnce(batches(squares(), 4))
    seen: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        train_model(net_with_dropout(), interrupted, squares(), settings=settings)

    resumed = train_model(
        net_with_dropout(),
        interrupted,
        squares(),
        settings=settings,
        on_epoch=lambda row: seen.append(row.epoch),
    )

    whole = train_model(
        net_with_dropout(), list(batches(squares(), 4)), squares(), settings=SETTINGS
    )
    assert seen == [2, 3]
    assert_same_weights(resumed.model, whole.model)


def test_a_finished_training_is_read_again_without_a_step(tmp_path: Path) -> None:
    first = trained(folder=tmp_path)

    def fail(row: EpochRow) -> None:
        raise AssertionError(row)

    settings = replace(SETTINGS, folder=tmp_path)
    again = train_model(net_with_dropout(), squares(), squares(), settings=settings, on_epoch=fail)

    assert again.history == first.history
    assert_same_weights(again.model, first.model)


def test_the_checkpoint_of_another_training_is_refused_unless_resume_is_off(tmp_path: Path) -> None:
    trained(folder=tmp_path)

    with pytest.raises(CheckpointError, match=r"last.ckpt: it was written by another training"):
        trained(folder=tmp_path, learning_rate=0.02)
    with pytest.raises(CheckpointError, match="resume=False"):
        trained(net_with_dropout(seed=1), folder=tmp_path)

    assert trained(net_with_dropout(seed=1), folder=tmp_path, resume=False).history


def test_frozen_tensors_stay_and_the_copy_trained_is_frozen_too() -> None:
    model = net_with_dropout()
    keys = ["0.weight", "0.bias", "1.weight", "1.running_mean", "1.running_var"]
    freeze_tensors(model, keys)

    result = trained(model)

    before, after = net_with_dropout().state_dict(), result.model.state_dict()
    assert {key for key in before if torch.equal(before[key], after[key])} == {
        *keys,
        "1.num_batches_tracked",
    }
    assert frozen_keys(result.model) == frozen_keys(model)


def test_the_checkpoint_of_other_images_is_refused(tmp_path: Path) -> None:
    trained(folder=tmp_path)
    other = squares()
    other.images[0, 0, 0, 0] += 1

    with pytest.raises(CheckpointError, match="other settings, data, starting weights"):
        train_model(
            net_with_dropout(), other, squares(), settings=replace(SETTINGS, folder=tmp_path)
        )


def test_a_model_frozen_throughout_is_refused() -> None:
    model = net_with_dropout()
    freeze_tensors(model, model.state_dict())

    with pytest.raises(PlanError, match="every parameter of the model is frozen"):
        trained(model)


def test_mixed_precision_trains_and_returns_float32() -> None:
    result = trained(precision="bf16-mixed")

    assert {tensor.dtype for tensor in result.model.parameters()} == {torch.float32}
    assert all(math.isfinite(row.train_loss) for row in result.history)
    assert not torch.equal(result.model[0].weight, trained().model[0].weight)


def test_plain_batches_train_as_they_come() -> None:
    plain = list(batches(squares(), 4))

    result = train_model(net_with_dropout(), plain, plain, settings=SETTINGS)

    assert len(result.history) == 3


def test_every_epoch_has_its_own_order_and_augmentation() -> None:
    first = list(training_batches(squares(), 4, seed=0, epoch=0, augment=True))

    def after(epochs: int, train: object) -> nn.Module:
        settings = replace(SETTINGS, epochs=epochs)
        return train_model(net_with_dropout(), train, squares(), settings=settings).model

    assert_same_weights(after(1, squares()), after(1, first))
    assert not torch.equal(after(2, squares())[0].weight, after(2, first)[0].weight)


def test_epochs_between_validations_have_no_score_and_the_last_one_has() -> None:
    result = trained(epochs=5, validate_every=3)

    scored = [row.epoch for row in result.history if row.validation_score is not None]
    assert scored == [3, 5]
    assert result.frame()["validation_score"].isna().tolist() == [True, True, False, True, False]


def test_a_loss_that_is_not_finite_names_the_epoch_and_what_to_try() -> None:
    broken = squares()
    broken.images[3] = math.nan

    with pytest.raises(ModelError, match=r"loss is nan in epoch 1. Try a smaller learning_rate"):
        train_model(net_with_dropout(), broken, squares(), settings=SETTINGS)


def test_a_validation_set_without_foreground_is_refused() -> None:
    empty = squares()
    empty.labels[:] = 0

    with pytest.raises(ScoreError, match="no subject of the validation set has a foreground class"):
        train_model(net_with_dropout(), squares(), empty, settings=SETTINGS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs=0: expected at least 1"),
        ({"learning_rate": math.nan}, "learning_rate=nan: expected a positive number"),
        ({"precision": "8"}, "precision='8': expected one of"),
        ({"cross_entropy_weight": 0.0, "dice_weight": 0.0}, "one of the two loss weights"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ParamReuseError, match=message):
        TrainingSettings(**changes)


def test_an_absent_device_and_an_unknown_task_are_refused() -> None:
    with pytest.raises(ParamReuseError, match="device 'cuda:63': this machine has"):
        trained(device="cuda:63")
    with pytest.raises(ParamReuseError, match="device 'gpu0': expected 'auto'"):
        trained(device="gpu0")
    with pytest.raises(ParamReuseError, match="task 'detection': expected one of"):
        train_model(net_with_dropout(), [], [], task="detection")


def test_segmentation_loss_of_worked_out_logits() -> None:
    # One pixel of each class, both undecided: softmax 1/2 everywhere.
    labels = torch.tensor([[[0, 1]]])
    loss = loss_of("segmentation", SETTINGS)(torch.zeros(1, 2, 1, 2), torch.zeros(1), labels)

    # Cross-entropy log 2; Dice of the foreground 2 * 0.5 / (1 + 1), loss 1 minus that.
    assert float(loss) == pytest.approx(math.log(2) + 0.5, abs=1e-4)


def test_reconstruction_target_repeats_the_channels_in_turn() -> None:
    inputs = torch.tensor([[[[1.0]], [[2.0]]]])

    assert reconstruction_target(inputs, 5).flatten().tolist() == [1.0, 2.0, 1.0, 2.0, 1.0]


def test_validation_score_is_a_mean_over_subjects_not_over_slices() -> None:
    class Says(nn.Module):
        """Class 1 where the image is positive."""

        def __init__(self) -> None:
            super().__init__()
            self.device_of = nn.Parameter(torch.zeros(()))

        def forward(self, inputs: Tensor) -> Tensor:
            return torch.cat([-inputs, inputs], 1)

    images = torch.tensor([[1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]).view(3, 1, 1, 2)
    labels = torch.tensor([[1, 1], [1, 0], [1, 0]]).view(3, 1, 2)
    parts = [(images[:2], labels[:2], ["a", "a"]), (images[2:], labels[2:], ["b"])]

    # a: 2*3/(3+3) = 1 over both slices; b: 2*1/(2+1) = 2/3.
    assert validation_score(Says(), parts, "segmentation") == pytest.approx((1 + 2 / 3) / 2)


def test_initial_model_depends_on_the_seed_alone() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()

    assert_same_weights(net_with_dropout(1), net_with_dropout(1))
    assert not torch.equal(net_with_dropout(1)[0].weight, net_with_dropout(2)[0].weight)
    assert torch.equal(torch.get_rng_state(), state)


FRESH_PROCESS = """
import random, sys, torch
import paramreuse.training
assert not {"lightning", "monai"} & sys.modules.keys()
from torch import nn
images, labels = torch.randn(4, 1, 8, 8), torch.ones(4, 8, 8, dtype=torch.int64)
batches = [(images, labels, "abcd")]
random.seed(1)
state = random.getstate()
settings = paramreuse.training.TrainingSettings(epochs=1, device="cpu")
paramreuse.training.train_model(nn.Conv2d(1, 2, 1), batches, batches, settings=settings)
assert random.getstate() == state
"""


def test_a_fresh_process_imports_lightning_to_train_only_and_stays_quiet() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
