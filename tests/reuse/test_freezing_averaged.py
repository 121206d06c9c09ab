"""Weight averaging starts running statistics again, and must leave frozen ones as they are."""

import copy
from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import (
    AveragedModel,
    get_ema_avg_fn,
    get_ema_multi_avg_fn,
    update_bn,
)
from torch.utils.data import DataLoader, TensorDataset

from paramreuse.reuse.averaging import keeping_equal
from paramreuse.reuse.freezing import freeze_tensors, unfreeze_tensors

lightning = pytest.importorskip("lightning.pytorch")

STATISTICS = ["1.running_mean", "1.running_var", "1.num_batches_tracked"]


def averaged_network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 3)),
        *(nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2 * 4 * 4, 2)),
    )
    for norm in (model[1], model[4]):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
        norm.num_batches_tracked.fill_(7)
    return model


def copies(model: nn.Module, keys: Iterable[str]) -> dict[str, Tensor]:
    return {key: model.state_dict()[key].clone() for key in keys}


def assert_same(model: nn.Module, before: dict[str, Tensor]) -> None:
    for key, tensor in before.items():
        assert torch.equal(model.state_dict()[key], tensor), key


@pytest.mark.parametrize(
    "keys", [STATISTICS, STATISTICS[:2], STATISTICS[:1], STATISTICS[1:2]], ids=str
)
def test_update_bn_recomputes_all_statistics_but_the_frozen_ones(keys: list[str]) -> None:
    model = averaged_network()
    freeze_tensors(model, keys)
    before = copies(model, keys)
    free = copies(model, ["4.running_mean", "4.running_var"])

    update_bn([torch.randn(4, 1, 8, 8)], model)

    assert_same(model, before)
    assert not any(torch.equal(model.state_dict()[key], t) for key, t in free.items())


def test_statistics_that_are_taken_back_start_again() -> None:
    model = averaged_network()
    frozen = freeze_tensors(model, STATISTICS)
    unfreeze_tensors(model, frozen)

    model[1].reset_running_stats()

    assert model[1].running_mean.tolist() == [0.0] * 3
    assert int(model[1].num_batches_tracked) == 0


@pytest.mark.parametrize("assign", [False, True])
def test_a_state_dict_of_start_values_is_loaded_into_frozen_statistics(assign: bool) -> None:
    model = averaged_network()
    freeze_tensors(model, STATISTICS)
    start = copies(model, model.state_dict())
    start |= {STATISTICS[0]: torch.zeros(3), STATISTICS[1]: torch.ones(3)}

    model.load_state_dict(start, assign=assign)

    assert model[1].running_mean.tolist() == [0.0] * 3
    model[1].running_mean = torch.full((3,), 2.0)
    assert model[1].running_mean.tolist() == [2.0] * 3


class AveragedModule(lightning.LightningModule):  # type: ignore[name-defined, misc]
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        self.model(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        wanted = [p for p in self.model.parameters() if p.requires_grad]
        return torch.optim.SGD(wanted, lr=0.1)


def fitted(model: nn.Module, *callbacks: object) -> None:
    images, labels = torch.randn(12, 1, 8, 8), torch.arange(12) % 2
    loader = DataLoader(TensorDataset(images, labels), batch_size=4)
    trainer = lightning.Trainer(
        max_epochs=3,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    trainer.fit(AveragedModule(model), loader, loader)


KEYS = ["0.weight", "0.bias", "1.weight", "1.bias", *STATISTICS]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_lightnings_stochastic_weight_averaging_leaves_what_is_frozen_as_it_is() -> None:
    model = averaged_network()
    freeze_tensors(model, KEYS)
    before = copies(model, KEYS)

    fitted(model, lightning.callbacks.StochasticWeightAveraging(1e-2, swa_epoch_start=1))

    assert_same(model, before)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("freeze_first", [True, False])
def test_lightnings_moving_average_leaves_what_is_frozen_as_it_is(freeze_first: bool) -> None:
    from paramreuse.training.freeze_plan import FreezePlan

    model = averaged_network()
    before = copies(model, KEYS)
    trained = copies(model, ["6.weight"])
    averaging = lightning.callbacks.EMAWeightAveraging(decay=0.9)
    freezing = FreezePlan(KEYS, module="model")

    fitted(model, *((freezing, averaging) if freeze_first else (averaging, freezing)))

    assert_same(model, before)
    assert not torch.equal(model[6].weight, trained["6.weight"])


def test_a_plain_moving_average_keeps_frozen_tensors_to_the_bit() -> None:
    model = averaged_network()
    freeze_tensors(model, KEYS)
    before = copies(model, KEYS)
    average = AveragedModel(model, avg_fn=keeping_equal(get_ema_avg_fn(0.9)), use_buffers=True)
    rounded = AveragedModel(copy.deepcopy(model), avg_fn=get_ema_avg_fn(0.9), use_buffers=True)

    for _ in range(5):
        average.update_parameters(model)
        rounded.update_parameters(model)

    assert_same(average.module, before)
    # What it is for: the formula alone moves them.
    assert not all(torch.equal(rounded.module.state_dict()[key], t) for key, t in before.items())


@pytest.mark.parametrize("decay", [0.3, 0.9, 0.999])
def test_torchs_average_of_several_tensors_keeps_frozen_ones_by_itself(decay: float) -> None:
    model = averaged_network()
    freeze_tensors(model, KEYS)
    # The count of batches is a whole number, and cut down to one.
    before = copies(model, KEYS[:-1])
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)

    for _ in range(5):
        average.update_parameters(model)

    # Without FreezePlan, as the Lightning guide says: a + w (b - a) of equal values is a.
    assert_same(average.module, before)
