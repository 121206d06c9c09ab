"""Functions that a study names: options by signature, optimiser, loss, a training of one's own."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from paramreuse.data.folder import read_folder
from paramreuse.errors import FrozenTensorMovedError, ModelError, StudyError
from paramreuse.study.own_functions import check_options, first_parameter, training_functions
from paramreuse.study.records import TransferScore
from paramreuse.study.run import run_study
from paramreuse.study.store import Store
from paramreuse.study.transfer.own_training import train_by_own
from paramreuse.training import TrainingSettings
from paramreuse.training.settings import optimiser_of, recognisable, schedule_of
from samples.studies import given_content, seeded, study_of

HERE = "study.test_own_functions"
CALLS: list[tuple[Any, ...]] = []
UNUSED: Any = None
"""The prepared set where its batches are given otherwise."""


def momentum(parameters: Any, rate: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(parameters, lr=rate)


def reader(root: object, *, size: int, flip: bool = False) -> None:
    """A reader's signature."""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sise": 3}, r"cannot read data.x: data.x.options has 'sise': did you mean 'size'\?"),
        ({"root": "."}, r"has 'root': it takes \['size', 'flip'\]"),
        ({"flip": True}, r"has no 'size', which is needed. It takes \['size', 'flip'\]"),
    ],
)
def test_options_are_checked_by_signature(options: dict[str, Any], message: str) -> None:
    given = (first_parameter(reader),)
    with pytest.raises(StudyError, match=message):
        check_options(reader, options, given=given, task="read data.x", place="data.x.options")


def test_options_that_fit_are_taken() -> None:
    check_options(reader, {"size": 3}, given=("root",), task="read", place="options")
    check_options(
        read_folder, {"images": "a", "classes": []}, given=("root",), task="read", place="options"
    )


def test_a_function_that_takes_any_keyword_is_given_any() -> None:
    def anything(root: object, **options: object) -> None: ...

    check_options(anything, {"colour": 1}, given=("root",), task="read", place="options")


def test_optimiser_and_schedule_are_those_named() -> None:
    weights = [nn.Parameter(torch.zeros(1))]
    settings = TrainingSettings(optimiser="sgd", schedule="constant", learning_rate=0.5)
    optimiser = optimiser_of(settings, weights)
    schedule = schedule_of(settings, optimiser, 3)
    optimiser.step()
    schedule.step()

    assert isinstance(optimiser, torch.optim.SGD)
    assert schedule.get_last_lr() == [0.5]


def test_the_default_is_adamw_under_one_cycle_from_a_25th_of_the_rate() -> None:
    settings = TrainingSettings(learning_rate=0.5)
    optimiser = optimiser_of(settings, [nn.Parameter(torch.zeros(1))])
    schedule = schedule_of(settings, optimiser, 10)

    assert isinstance(optimiser, torch.optim.AdamW)
    assert schedule.get_last_lr() == pytest.approx([0.5 / 25])


def test_a_function_is_recognised_by_its_name_and_not_its_address() -> None:
    named = recognisable(TrainingSettings(optimiser=momentum))

    assert str(named["optimiser"]).endswith("test_own_functions:momentum")
    assert named == recognisable(TrainingSettings(optimiser=momentum))


def test_an_unknown_choice_names_the_known_ones(tmp_path: Path) -> None:
    content = given_content(tmp_path)
    content["models"]["ae"] = {"data": "cine", "task": "autoencoder", "optimiser": "adam"}
    with pytest.raises(
        StudyError,
        match=r"unknown optimiser 'adam': did you mean 'adamw'\? Expected one of \['adamw', ",
    ):
        run_study(study_of(content), tmp_path / "run", until="data")
    assert not (tmp_path / "run").exists()


def test_a_choice_of_ones_own_is_loaded_by_name() -> None:
    content = {"data": "cine", "loss": "torch.nn.functional:mse_loss", "augment": False}
    spec = study_of(
        {
            "name": "s",
            "data": {"cine": {"reader": "phantom"}},
            "models": {"target": content, "other": content},
            "sources": ["other"],
        }
    ).models["target"]

    assert training_functions(spec) == {
        "optimiser": "adamw",
        "schedule": "one-cycle",
        "loss": nn.functional.mse_loss,
        "augment": False,
    }


# A training of one's own.


def spoil(model: nn.Module, batches: Any, plan: Any, steps: int, seed: int) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    return model


def only_notes(model: nn.Module, batches: Any, plan: Any, steps: int, seed: int) -> nn.Module:
    loaded = None if plan is None else len(plan.loaded)
    CALLS.append((model.training, len(list(batches)), loaded, steps))
    return model


def two_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    place = "paramreuse.study.transfer.own_training.batches"
    monkeypatch.setattr(place, lambda prepared, size: [1, 2])


def training(**changes: Any) -> Any:
    content = {"data": "cine", "epochs": 3} | changes
    return study_of(
        {
            "name": "s",
            "data": {"cine": {"reader": "phantom"}},
            "models": {"target": content, "other": content},
            "sources": ["other"],
        }
    ).models["target"]


def test_a_training_that_moves_a_frozen_tensor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    two_batches(monkeypatch)
    model = seeded(0)
    model[0].weight.requires_grad_(False)
    with pytest.raises(FrozenTensorMovedError, match=r"in transfer\.train"):
        train_by_own(spoil, model, UNUSED, None, training=training(), seed=0)


@pytest.mark.parametrize(
    ("returned", "message"),
    [(None, "returned NoneType, expected the trained"), (nn.Linear(1, 1), "other names or shapes")],
)
def test_a_training_that_returns_something_else_is_refused(
    returned: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_batches(monkeypatch)

    def train(*_: Any) -> Any:
        return returned

    with pytest.raises(ModelError, match=message):
        train_by_own(train, seeded(0), UNUSED, None, training=training(), seed=0)


def test_a_study_trains_with_the_function_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfer = {"subjects": [1], "strategies": ["scratch", "full"], "train": f"{HERE}:only_notes"}
    content = given_content(tmp_path, transfer=transfer)
    content["models"]["target"]["epochs"] = 3
    monkeypatch.setitem(sys.modules, HERE, sys.modules[__name__])
    CALLS.clear()
    folder = run_study(study_of(content), tmp_path / "run", until="transfer")

    # A subject of three slices is one batch; W, B and four of a norm, twice, and two at the end.
    assert CALLS == [(True, 1, None, 3), (True, 1, 14, 3)]
    store = Store(folder / "results.sqlite")
    assert {score.strategy for score in store.read(TransferScore)} == {"scratch", "full"}
    store.close()
