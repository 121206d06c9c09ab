"""The failures of ``gauntlet.py``, each run with the neighbour and with paramreuse on one input."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import paramreuse as pr
from gauntlet_inputs import (
    IMAGES,
    LABELS,
    copied,
    differing,
    largest_moves,
    listed,
    logged,
    network,
    small_network,
    smooth_images,
    train_step,
)
from paramreuse.reuse.freezing import frozen_keys, record_tensors


@dataclass(frozen=True)
class Outcome:
    """What one row came to.

    Attributes:
        peer_did: What the neighbour did.
        peer_fails: Whether that is the failure that its users have met.
        ours_did: What paramreuse did on the same input.
        ours_right: Whether that is right, or a clear refusal.
    """

    peer_did: str
    peer_fails: bool
    ours_did: str
    ours_right: bool


# MONAI


def monai_loader(folder: Path) -> Outcome:
    from ignite.engine import Engine
    from monai.handlers import CheckpointLoader

    source = network(1, num_classes=2)
    state, optimiser = source.state_dict(), torch.optim.Adam(source.parameters()).state_dict()
    wanted = len(differing(network(0), source))
    theirs, ours, shapes, said = [], [], [], ""
    for content in (state, {"net": state}, {"net": state, "opt": optimiser}):
        torch.save(content, file := folder / f"layout{len(ours)}.pt")
        model, again = network(0), network(0)
        with logged("gauntlet") as lines:
            load = CheckpointLoader(
                str(file), {"net": model}, name="gauntlet", strict=False, strict_shape=False
            )
            load(Engine(lambda *_: None))
        said = lines()[-1].partition(" from ")[0]
        theirs.append(wanted - len(differing(model, source)))
        shapes.append(pr.load_checkpoint(again, file).counts()["shape"])
        ours.append(wanted - len(differing(again, source)))
    return Outcome(
        f"loaded {listed(theirs)} of {wanted} tensors from a state dict, {{'net'}} and "
        f"{{'net', 'opt'}}; said {said!r}",
        min(theirs) < wanted,
        f"loaded {listed(ours)} of {wanted}; named {listed(shapes)} of the head that do not fit",
        min(ours) == wanted and set(shapes) == {2},
    )


def monai_prefix(_: Path) -> Outcome:
    from monai.networks.utils import copy_model_state

    source = network(1)
    wrapped = {f"module.{key}": tensor for key, tensor in source.state_dict().items()}
    model, again = network(0), network(0)
    wanted = len(differing(model, source))
    copy_model_state(model, wrapped)
    report = pr.load_checkpoint(again, wrapped)
    theirs, ours = (wanted - len(differing(m, source)) for m in (model, again))
    return Outcome(
        f"loaded {theirs} of {wanted} tensors, no error",
        theirs < wanted,
        f"loaded {ours} of {wanted}; said {report.matching!r}",
        ours == wanted,
    )


def monai_freeze(_: Path) -> Outcome:
    from monai.networks.utils import freeze_layers

    model, again = network(0), network(0)
    freeze_layers(model, freeze_vars=".")
    before, refusal = copied(model), "nothing"
    try:
        pr.check_frozen(model, before, lambda: train_step(model))
    except pr.ParamReuseError as error:
        refusal = type(error).__name__
    drift = largest_moves(model, before)["running_mean"]

    start = copied(again)
    pr.freeze_tensors(again, start)
    pr.check_frozen(again, frozen_keys(again), lambda: train_step(again), example_input=IMAGES)
    ours = max(largest_moves(again, start).values())
    return Outcome(
        f"running_mean moved by {drift:.2g} in one step",
        drift > 0,
        f"nothing moved ({ours:g}); of MONAI's model check_frozen says {refusal}",
        ours == 0 and refusal == "FrozenTensorMovedError",
    )


# Lightning


def lightning_train_bn(folder: Path) -> Outcome:
    from lightning.pytorch.callbacks import BackboneFinetuning

    def theirs(train_bn: bool) -> dict[str, float]:
        callback = BackboneFinetuning(unfreeze_backbone_at_epoch=10, train_bn=train_bn)
        return moves_of_norms(callback, folder)

    off, on = theirs(False), theirs(True)
    keys = [key for key in copied(network(0)) if not key.endswith("num_batches_tracked")]
    ours = moves_of_norms(pr.FreezePlan(keys, module="backbone"), folder)
    return Outcome(
        f"weight moved by {off['weight']:.2g}, running_mean by {off['running_mean']:.2g}; with "
        f"train_bn=True by {on['weight']:.2g} and {on['running_mean']:.2g}",
        off["weight"] > 0 or off["running_mean"] > 0,
        f"FreezePlan: weight moved by {ours['weight']:g}, running_mean by {ours['running_mean']:g}",
        max(ours.values()) == 0,
    )


def moves_of_norms(callback: Any, folder: Path) -> dict[str, float]:
    """Train a head on a backbone for an epoch; how far the backbone's BatchNorms moved."""
    import lightning.pytorch as lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = network(0)
            self.head = nn.Conv2d(4, 4, 1)

        def training_step(self, batch: list[Tensor], _: int) -> Tensor:
            return nn.functional.cross_entropy(self.head(self.backbone(batch[0])), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.1)

    torch.manual_seed(0)
    module = Module()
    named = module.backbone.named_modules()
    norms = tuple(f"{name}." for name, m in named if isinstance(m, nn.BatchNorm2d))
    before = {key: t for key, t in copied(module.backbone).items() if key.startswith(norms)}
    trainer = lightning.Trainer(
        max_epochs=1,
        callbacks=[callback],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    pairs = list(zip(IMAGES, LABELS, strict=True))
    trainer.fit(module.train(), torch.utils.data.DataLoader(pairs, batch_size=4))
    return largest_moves(module.backbone, before)


def lightning_modes(_: Path) -> Outcome:
    from lightning.pytorch.callbacks import BaseFinetuning

    theirs, ours = network(0), network(0)
    BaseFinetuning.freeze(theirs, train_bn=False)
    pr.freeze_tensors(ours, ours.state_dict())
    with torch.no_grad():
        gaps = [float((m.train()(IMAGES) - m.eval()(IMAGES)).abs().max()) for m in (theirs, ours)]
    return Outcome(
        f"outputs differ by {gaps[0]:.2g} between train() and eval()",
        gaps[0] > 1e-4,
        f"they differ by {gaps[1]:g}",
        gaps[1] == 0,
    )


# WeightWatcher


def weightwatcher_batchnorm(_: Path) -> Outcome:
    model, changed = network(0), network(0)
    with torch.no_grad():
        for layer in changed.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.add_(5)
                layer.weight.mul_(3)
    distance, _ = weightwatcher_distances(model, changed)
    moved = [row for row in pr.compare_models(model, changed).rows if row.rmse > 0]
    kinds = [str(row.site.kind) for row in moved]
    means = sorted({round(row.rmse, 4) for row in moved if row.site.kind == "RM"})
    return Outcome(
        f"average distance {distance:g}",
        distance == 0,
        f"{kinds.count('RM')} RM at RMSE {listed(means)}, {kinds.count('RW')} RW differ, nothing "
        "else does",
        sorted(kinds) == ["RM"] * 18 + ["RW"] * 18 and means == [5.0],
    )


def weightwatcher_layers(_: Path) -> Outcome:
    model, other = network(0), network(1)
    _, rows = weightwatcher_distances(model, other)
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)
    layers = {name: m for name, m in model.named_modules() if isinstance(m, kinds)}
    left_out = [describe(layer) for name, layer in layers.items() if name not in rows]
    counts = ", ".join(f"{left_out.count(name)} {name}" for name in sorted(set(left_out)))
    ours = {row.site.path for row in pr.compare_models(model, other).rows}
    return Outcome(
        f"{len(layers) - len(left_out)} of {len(layers)} layers compared; left out: "
        f"{counts or 'none'}",
        bool(left_out),
        f"{len(ours & set(layers))} of {len(layers)} layers compared",
        ours == set(layers),
    )


def describe(layer: nn.Module) -> str:
    size = (
        f" {layer.kernel_size[0]}x{layer.kernel_size[1]}" if hasattr(layer, "kernel_size") else ""
    )
    return type(layer).__name__ + size


def weightwatcher_distances(model: nn.Module, other: nn.Module) -> tuple[float, list[str]]:
    import weightwatcher

    average, _, table = weightwatcher.WeightWatcher(model=model).distances(model, other)
    return float(average), [str(name) for name in table["longname"]]


# torch_cka


def torch_cka_labels(_: Path) -> Outcome:
    from torch_cka import CKA

    model = small_network(0)
    order = executed(model)
    compared = CKA(copy.deepcopy(model), small_network(1), "a", "b")
    compared.compare(loader())
    labels = compared.export()["model1_layers"]
    # The matrix has a row per feature, in the order in which the hooks were called.
    wrong = sum(a != b for a, b in zip(labels, compared.model1_features, strict=True))
    sites = pr.sites_of(model, example_input=IMAGES)
    ours = list(dict.fromkeys(site.path for site in sites))
    mistaken = sum(a != b for a, b in zip(ours, order, strict=True))
    return Outcome(
        f"{wrong} of {len(labels)} rows under another layer's name",
        wrong > 0,
        f"{mistaken} of {len(ours)} layers (no CKA: the numbered list) out of the order of "
        "execution",
        mistaken == 0,
    )


def executed(model: nn.Module) -> list[str]:
    """Names of the layers with tensors in the order in which they are executed, by hooks."""
    order: list[str] = []
    twin = copy.deepcopy(model)
    for name, layer in twin.named_modules():
        if next(layer.parameters(recurse=False), None) is not None:
            layer.register_forward_pre_hook(lambda *_, name=name: order.append(name))
    with torch.no_grad():
        twin(IMAGES)
    return order


def torch_cka_hooks(_: Path) -> Outcome:
    from torch_cka import CKA

    model = small_network(0).train()
    CKA(model, small_network(1), "a", "b").compare(loader())
    hooks, mode = hooks_of(model), "train" if model.training else "eval"

    target, source = small_network(0), small_network(1).train()
    before = record_tensors(target, copied(target)).checksums
    pr.sweep_sites(target, source, [(IMAGES, LABELS, list("abcd"))], pr.Dice(4))
    left = hooks_of(target) + hooks_of(source)
    kept = not target.training and source.training
    same = record_tensors(target, copied(target)).checksums == before
    return Outcome(
        f"{hooks} hooks left on the caller's model, and train mode turned into {mode}",
        hooks > 0 or not model.training,
        f"a sweep leaves {left} hooks; modes {'kept' if kept else 'changed'}, tensors "
        f"{'the same bit for bit' if same else 'changed'}",
        left == 0 and kept and same,
    )


def loader() -> "torch.utils.data.DataLoader[Any]":
    images = torch.utils.data.TensorDataset(smooth_images(8))
    return torch.utils.data.DataLoader(images, batch_size=8)


def hooks_of(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


# torch


def torch_shapes(_: Path) -> Outcome:
    model, again, source = network(0), network(0), network(1, num_classes=2)
    wanted = len(differing(model, source))
    raised = ""
    try:
        model.load_state_dict(source.state_dict(), strict=False)
    except RuntimeError as error:
        raised = type(error).__name__
    shapes = pr.load_checkpoint(again, source.state_dict()).counts()["shape"]
    ours = wanted - len(differing(again, source))
    return Outcome(
        f"raised {raised} for the head's shapes" if raised else "loaded what fits",
        bool(raised),
        f"loaded {ours} of {wanted}; named {shapes} of the head that do not fit",
        ours == wanted and shapes == 2,
    )


FAILURES: tuple[tuple[str, str, Callable[[Path], Outcome]], ...] = (
    ("monai", "`CheckpointLoader(strict_shape=False)` loads nothing and says it did", monai_loader),
    ("monai", "`copy_model_state` loads nothing behind a `module.` prefix", monai_prefix),
    ("monai", "`freeze_layers` lets running_mean drift", monai_freeze),
    ("lightning", "`train_bn=False` is ignored while frozen", lightning_train_bn),
    ("lightning", "a frozen BatchNorm normalises otherwise in training", lightning_modes),
    ("weightwatcher", "every BatchNorm differs, distance 0", weightwatcher_batchnorm),
    ("weightwatcher", "layers are left out of the comparison", weightwatcher_layers),
    ("torch_cka", "rows carry the names of other layers", torch_cka_labels),
    ("torch_cka", "hooks stay on the model, its mode changes", torch_cka_hooks),
    ("torch", "`load_state_dict(strict=False)` raises on shapes", torch_shapes),
)
