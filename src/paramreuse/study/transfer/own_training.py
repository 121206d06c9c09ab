"""A training loop of the user's, in the place of the package's, in the transfer of a study."""

from collections.abc import Callable
from typing import Any

from torch import nn

from paramreuse.data.preparation import PreparedSet, batches
from paramreuse.errors import ModelError
from paramreuse.reuse.freezing import check_record, frozen_keys, record_tensors
from paramreuse.reuse.plan import Plan
from paramreuse.study.config import ModelSpec
from paramreuse.study.named import load_named
from paramreuse.study.transfer.spec import TransferSpec
from paramreuse.untouched import untouched_random_state


def own_training(spec: TransferSpec) -> Callable[..., Any] | None:
    """Load the function that a study names to train with; None where the package trains.

    Raises:
        StudyError: There is no such module or function.
    """
    return None if spec.train is None else load_named(spec.train, {}, "training function")


def train_by_own(
    train: Callable[..., Any],
    model: nn.Module,
    labelled: PreparedSet,
    plan: Plan | None,
    *,
    training: ModelSpec,
    seed: int,
) -> nn.Module:
    """Train a model with the user's function.

    Args:
        train: ``train(model, batches, plan, steps, seed) -> model``. What the plan loads is loaded
            and, with ``plan-freeze``, frozen already.
        model: Where training starts; moved to no other device.
        labelled: Slices to train on; the function sees those with labels, in their own order.
        plan: What was loaded; None from scratch, and where tensors were loaded otherwise.
        training: How the package would train; its epochs give the number of steps.
        seed: Of the training.

    Returns:
        The trained model in evaluation mode.

    Raises:
        ModelError: The function returned something else, or a model with other tensors.
        FrozenTensorMovedError: A frozen tensor moved.
    """
    walked = batches(labelled, training.batch_size)
    record = record_tensors(model, frozen_keys(model))
    wanted = {key: value.shape for key, value in model.state_dict().items()}
    with untouched_random_state():
        trained = train(model.train(), walked, plan, training.epochs * len(walked), seed)
    if not isinstance(trained, nn.Module):
        raise ModelError(
            f"transfer.train returned {type(trained).__name__}, expected the trained model. "
            "End the function with return model"
        )
    if {key: value.shape for key, value in trained.state_dict().items()} != wanted:
        raise ModelError(
            "transfer.train returned a model whose tensors have other names or shapes, expected "
            "those of the model it was given. Return that model, not a wrapper of it"
        )
    check_record(trained, record, when="in transfer.train")
    return trained.eval()
