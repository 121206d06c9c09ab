"""Freeze tensors in a Lightning training, and prove that they stayed as they were."""

from collections.abc import Iterable
from typing import Any, Literal

from torch import nn
from torch.optim.swa_utils import AveragedModel

from paramreuse.errors import PlanError
from paramreuse.extras import missing_extra
from paramreuse.reuse.averaging import keep_equal
from paramreuse.reuse.freezing import FrozenRecord, check_record, freeze_tensors, record_tensors
from paramreuse.reuse.plan import Action, Plan

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise missing_extra("train", "lightning") from error


def _keys_of(plan: Plan, mode: str) -> tuple[str, ...]:
    if mode not in ("freeze", "finetune"):
        raise PlanError(f"unknown mode {mode!r}: expected 'freeze' or 'finetune'")
    frozen = {Action.FREEZE} | ({Action.LOAD} if mode == "freeze" else set())
    return tuple(entry.site.key for entry in plan.entries if entry.action in frozen)


class FreezePlan(Callback):  # type: ignore[misc]
    """Lightning callback that freezes tensors and checks by hash that they hold still.

    It freezes before the optimiser is made, so build the optimiser of parameters with
    ``requires_grad`` (Lightning's own filter or ``trainable_parameters``). Checked after the first
    training step, so that a mistake costs one batch and not a night, and when the fit ends.

    Callbacks that average weights (``EMAWeightAveraging``, ``StochasticWeightAveraging``) leave
    frozen tensors as they are, to the bit, where this one is beside them.

    It loads nothing: ``apply_plan`` does, and freezes too; this is for a plan whose tensors are
    loaded already, and for the proof.

    Args:
        plan: A plan, or the state dict keys of the network to freeze.
        mode: What the plan's ``load`` means: frozen (``"freeze"``) or trained (``"finetune"``).
        module: Dotted path of the network within the LightningModule, e.g. ``"backbone"``; found
            by its keys when left out.

    Raises:
        PlanError: The mode is unknown; at setup, no submodule has the keys.
        FrozenTensorMovedError: In training, when a frozen tensor moved.

    Examples:
        >>> Trainer(callbacks=[FreezePlan(["conv1.weight", "bn1.running_mean"])])  # doctest: +SKIP
    """

    def __init__(
        self,
        plan: Plan | Iterable[str],
        *,
        mode: Literal["freeze", "finetune"] = "freeze",
        module: str | None = None,
    ) -> None:
        self._keys = _keys_of(plan, mode) if isinstance(plan, Plan) else tuple(plan)
        self._module = module
        self._record: FrozenRecord | None = None
        self._step_checked = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Freeze, before the optimiser is configured."""
        if stage == "fit":
            freeze_tensors(self._network(pl_module), self._keys)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Freeze again: Trainer(sync_batchnorm=True) has made new layers since the setup."""
        freeze_tensors(self._network(pl_module), self._keys)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the frozen tensors, those of a resumed checkpoint where there is one.

        Averages that other callbacks take are told to leave them alone.
        """
        for callback in trainer.callbacks:
            average = getattr(callback, "_average_model", None)  # of lightning's WeightAveraging
            if isinstance(average, AveragedModel):
                keep_equal(average)
        self._record = record_tensors(self._network(pl_module), self._keys)
        self._step_checked = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any
    ) -> None:
        """Check once the optimiser has stepped for the first time."""
        if not self._step_checked and trainer.global_step > 0:
            self._step_checked = True
            self._check(pl_module, when="in the first training step")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that nothing moved in the whole training."""
        self._check(pl_module, when="in training")

    def _check(self, pl_module: LightningModule, *, when: str) -> None:
        if self._record is not None:
            check_record(self._network(pl_module), self._record, when=when)

    def _network(self, pl_module: nn.Module) -> nn.Module:
        if self._module is not None:
            return pl_module.get_submodule(self._module)
        module: nn.Module
        for _, module in pl_module.named_modules():
            if set(self._keys) <= module.state_dict().keys():
                return module
        raise PlanError(
            f"cannot freeze: no submodule of {type(pl_module).__name__} has all of the keys "
            f"{sorted(self._keys)[:10]}. Name the submodule with module=, or use keys of its "
            "state dict"
        )
