"""finetuning-scheduler follows a schedule made from a plan; run by ``test_own_environments.py``."""

from pathlib import Path

import lightning.pytorch as L
import pytest
import torch
import yaml
from finetuning_scheduler import FinetuningScheduler
from guides import run_guide
from torch import Tensor, nn
from torch.utils.data import DataLoader

import paramreuse as pr
from paramreuse.networks import unet
from paramreuse.reuse.plan import Action, Plan, PlanEntry


class Segmentation(L.LightningModule):
    """A training that notes, per epoch, which parameters moved."""

    def __init__(self) -> None:
        super().__init__()
        self.network = unet(width=2)
        self.moved: list[set[str]] = []

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        images, labels = batch
        return nn.functional.cross_entropy(self.network(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.1)

    def on_train_epoch_start(self) -> None:
        self.before = {name: p.detach().clone() for name, p in self.named_parameters()}

    def on_train_epoch_end(self) -> None:
        now = dict(self.named_parameters())
        self.moved.append({n for n, old in self.before.items() if not torch.equal(old, now[n])})


def fit_by_schedule(module: Segmentation, schedule: Path, *callbacks: L.Callback) -> None:
    images, labels = torch.randn(4, 1, 32, 32), torch.randint(4, (4, 32, 32))
    scheduler = FinetuningScheduler(
        ft_schedule=str(schedule),
        epoch_transitions_only=True,
        restore_best=False,
        base_max_lr=0.1,
        allow_untested=True,
    )
    trainer = L.Trainer(
        max_epochs=4,
        callbacks=[scheduler, *callbacks],
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=schedule.parent,
    )
    trainer.fit(module, DataLoader(list(zip(images, labels, strict=True)), batch_size=2))


def made(folder: Path) -> tuple[Segmentation, Plan, Path]:
    """A module with a plan applied, and its schedule: head and W 1 new, BatchNorm 2 frozen."""
    torch.manual_seed(0)
    module, source = Segmentation(), unet(width=2)
    sites = pr.sites_of(source)
    frozen = {site.path for site in sites if site.family == "norm" and site.layer == 2}
    entries = tuple(
        PlanEntry(
            site,
            Action.LEAVE
            if site.is_output or site.name == "W 1"
            else Action.FREEZE
            if site.path in frozen
            else Action.LOAD,
        )
        for site in sites
    )
    plan = Plan(entries)
    pr.apply_plan(module.network, source, plan)
    content = yaml.safe_load(pr.plan_to_schedule(plan, module, thaw_epoch=1))
    content[1]["max_transition_epoch"] = 3  # epoch_transitions_only asks for one in every phase
    path = folder / "schedule.yaml"
    path.write_text(yaml.safe_dump(content))
    return module, plan, path


def test_the_library_thaws_in_the_plans_order(tmp_path: Path) -> None:
    module, plan, schedule = made(tmp_path)
    keys = {site.name: f"network.{site.key}" for site in pr.sites_of(module.network)}
    output = {f"network.{e.site.key}" for e in plan.entries if e.site.is_output}

    fit_by_schedule(module, schedule)

    assert module.moved[0] == output | {keys["W 1"]}
    assert keys["W 2"] in module.moved[1]  # thaw_epoch=1
    frozen = {keys["RW 2"], keys["RB 2"]}
    # The bias of a convolution in front of BatchNorm gets gradients that are rounding alone.
    biases = {key for name, key in keys.items() if name.startswith("B ")}
    assert set(dict(module.named_parameters())) - module.moved[-1] - biases == frozen


def test_what_the_plan_freezes_stays_frozen_and_our_callback_agrees(tmp_path: Path) -> None:
    module, plan, schedule = made(tmp_path)
    kept = {
        e.site.key: module.network.state_dict()[e.site.key].clone()
        for e in plan.entries
        if e.action is Action.FREEZE
    }
    assert {key.rpartition(".")[2] for key in kept} == {
        *("running_mean", "running_var", "weight", "bias"),
    }

    fit_by_schedule(module, schedule, pr.FreezePlan(plan, mode="finetune"))

    after = module.network.state_dict()
    assert all(torch.equal(after[key], tensor) for key, tensor in kept.items())


@pytest.mark.parametrize("page", ["finetuning-scheduler"])
def test_the_guide_runs(page: str) -> None:
    run_guide(page)
