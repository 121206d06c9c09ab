"""The Lightning callback freezes before the optimiser is made, and notices what moves."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from paramreuse.errors import FrozenTensorMovedError, PlanError
from paramreuse.reuse.freezing import frozen_keys
from paramreuse.reuse.plan import Action, Plan, PlanEntry
from paramreuse.sites.layers import Kind
from paramreuse.sites.matching import Site

lightning = pytest.importorskip("lightning.pytorch")
freeze_plan = pytest.importorskip("paramreuse.training.freeze_plan")

# The import of Lightning alone takes three seconds.
pytestmark = [
    pytest.mark.slow,
    # Lightning's advice on data loader workers and on logging.
    pytest.mark.filterwarnings("ignore::UserWarning:lightning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
]

NORM_TENSORS = (
    (Kind.RM, "running_mean"),
    (Kind.RV, "running_var"),
    (Kind.RW, "weight"),
    (Kind.RB, "bias"),
)
KEYS = ("0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var")


class Segmenter(lightning.LightningModule):
    """A caller's own module, whose optimiser is built as Lightning's guide shows it."""

    def __init__(self, meddle: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU())
        self.head = nn.Conv2d(3, 2, 1)
        self.meddle = meddle
        self.num_optimised = 0

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        with torch.no_grad():
            self.backbone[0].weight[0, 0, 0, 0] += self.meddle
        return self.head(self.backbone(batch)).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        parameters = [p for p in self.parameters() if p.requires_grad]
        self.num_optimised = len(parameters)
        return torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.1)


def fit(module: Any, callback: Any, **options: Any) -> None:
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=2,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    generator = torch.Generator().manual_seed(1)
    trainer.fit(
        module, DataLoader(torch.randn(4, 2, 1, 6, 6, generator=generator), batch_size=None)
    )


@pytest.mark.parametrize(
    "options", [{}, {"accumulate_grad_batches": 2}, {"precision": "bf16-mixed"}]
)
def test_frozen_tensors_hold_in_a_callers_own_training(options: dict[str, Any]) -> None:
    module, before = Segmenter(), Segmenter()

    fit(module, freeze_plan.FreezePlan(KEYS), **options)

    for key in KEYS:
        assert torch.equal(module.backbone.state_dict()[key], before.backbone.state_dict()[key]), (
            key
        )
    # The convolution's bias, and weight and bias of the head.
    assert module.num_optimised == 3
    assert not torch.equal(module.head.weight, before.head.weight)
    assert frozen_keys(module.backbone) == KEYS


def test_a_plan_freezes_what_it_loads_in_freeze_mode_and_never_what_it_trains() -> None:
    norm = [Site(1, "1", kind, name, (3,)) for kind, name in NORM_TENSORS]
    actions = (Action.LOAD, Action.FREEZE, Action.TRAIN, Action.LEAVE)
    entries = [PlanEntry(site, action) for site, action in zip(norm, actions, strict=True)]
    frozen = {}

    for mode in ("freeze", "finetune"):
        module = Segmenter()
        fit(module, freeze_plan.FreezePlan(Plan(tuple(entries)), mode=mode))
        frozen[mode] = frozen_keys(module.backbone)

    assert frozen == {
        "freeze": ("1.running_mean", "1.running_var"),
        "finetune": ("1.running_var",),
    }
    with pytest.raises(PlanError, match="unknown mode 'thaw'"):
        freeze_plan.FreezePlan(Plan(tuple(entries)), mode="thaw")


def test_lightnings_own_way_of_freezing_lets_the_statistics_move_and_ours_does_not() -> None:
    from lightning.pytorch.callbacks import BackboneFinetuning

    module = Segmenter()
    module.configure_optimizers = lambda: torch.optim.SGD(module.head.parameters(), lr=0.1)

    fit(module, BackboneFinetuning(unfreeze_backbone_at_epoch=99, train_bn=False))

    # Were train_bn=False heeded, the running mean were still zero.
    assert float(module.backbone[1].running_mean.abs().max()) > 0.01


def test_a_tensor_that_moves_stops_the_training_after_one_step() -> None:
    module = Segmenter(meddle=0.5)

    with pytest.raises(
        FrozenTensorMovedError,
        match=re.escape("moved in the first training step: '0.weight' by 0.5 "),
    ):
        fit(module, freeze_plan.FreezePlan(KEYS))


def test_layers_replaced_after_the_setup_are_frozen_again() -> None:
    class Synchronises(lightning.Callback):
        """What Trainer(sync_batchnorm=True) does between setup and the first step."""

        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            fresh = nn.BatchNorm2d(3)
            fresh.load_state_dict(pl_module.backbone[1].state_dict())
            pl_module.backbone[1] = fresh.requires_grad_(False)

    module = Segmenter()
    plan = freeze_plan.FreezePlan(KEYS, module="backbone")
    fit_with_both = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        callbacks=[Synchronises(), plan],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    fit_with_both.fit(module, DataLoader(torch.randn(1, 2, 1, 6, 6), batch_size=None))

    assert frozen_keys(module.backbone) == KEYS
    assert float(module.backbone[1].running_mean.abs().max()) == 0.0


def test_keys_that_no_submodule_has_are_named() -> None:
    with pytest.raises(PlanError, match=r"no submodule of Segmenter has all of the keys \['no'\]"):
        fit(Segmenter(), freeze_plan.FreezePlan(["no"]))
