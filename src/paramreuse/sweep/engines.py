"""The engine of a sweep: the fastest that gives what a fresh copy of the target gives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import RLock

import torch
from torch import Tensor, nn

from paramreuse.engine.examination import Examined, examine
from paramreuse.engine.partial import partial_engine
from paramreuse.engine.plain import Engine, FullEngine
from paramreuse.engine.spot_check import disagreement
from paramreuse.engine.wrapped import InsideWrapper, unwrapped
from paramreuse.errors import ModelError
from paramreuse.sites.swaps import SOURCE, Replacements
from paramreuse.sweep.lent_tensors import is_finite
from paramreuse.sweep.trials import Trial

ONE_AT_A_TIME = RLock()
"""Sweeps of other threads wait: capturing a network, the random state, the number of threads and
the precision of products are one for the whole process."""


_FEW_TRIALS = 2
"""So many trials are quicker by plain passes: per batch the partial engine takes one more pass, to
keep what swaps start from, and a trial spares about .6 of one."""


@dataclass(frozen=True, slots=True, eq=False)
class ChosenEngine:
    """An engine, and what it means for the sweep.

    Attributes:
        engine: How outputs are computed.
        mixes_samples: Batches have to be taken as they were given.
        notes: What was found out about the target.
    """

    engine: Engine
    mixes_samples: bool
    notes: tuple[str, ...]


def choose_engine(
    name: str,
    lenders: Replacements,
    trials: Sequence[Trial],
    example: Tensor,
    *,
    memory_limit_gb: float | None = None,
) -> ChosenEngine:
    """Try out the target and the engine asked for; take plain passes, or fresh copies, if need be.

    Args:
        name: ``"partial"`` or ``"full"``.
        lenders: Give the target, and the tensors to try.
        trials: What will be swept.
        example: One batch.
        memory_limit_gb: Bounds what the partial engine keeps of a batch.

    Raises:
        ModelError: There is no such engine, or two passes of the target over the same samples
            differ.
    """
    if name not in ("full", "partial"):
        raise ModelError(f"unknown engine {name!r}: expected 'partial' or 'full'")
    target, prefix = unwrapped(lenders.target)
    examined = examine(target, example)
    engine: Engine = _plain(examined)
    is_worth_it = len(trials) > _FEW_TRIALS
    if name == "partial" and is_worth_it and not examined.mixes_samples:
        engine = partial_engine(
            *(examined.model, example), memory_limit_gb=memory_limit_gb, plain=_plain(examined)
        )
    engine, remarks = _trusted(engine, examined, _one_per_kind(lenders, trials, prefix), example)
    wrapped = InsideWrapper(engine, prefix) if prefix else engine
    return ChosenEngine(wrapped, examined.mixes_samples, (*examined.notes, *remarks))


def _plain(examined: Examined, *, fresh: bool = False) -> FullEngine:
    known = None
    if examined.sample is not None and examined.outputs is not None:
        known = (examined.sample, examined.outputs)
    return FullEngine(
        examined.model,
        has_history=examined.has_history or fresh,
        writes_inputs=examined.writes_inputs,
        known=known,
    )


def _trusted(
    engine: Engine,
    examined: Examined,
    variants: Mapping[str, Mapping[str, Tensor]],
    example: Tensor,
) -> tuple[Engine, tuple[str, ...]]:
    """Return the engine if it agrees with fresh copies, else plain passes, else fresh copies."""
    if examined.sample is None or not variants:
        return engine, ()
    # One sample is enough, unless samples mix or the network takes no other number of them.
    one_will_do = not examined.mixes_samples and len(examined.sample) < len(example)
    inputs = examined.sample[:1] if one_will_do else examined.sample
    difference = disagreement(engine, examined, variants, inputs)
    if difference is None:
        return engine, ()
    plain = _plain(examined)
    if disagreement(plain, examined, variants, inputs) is None:
        why = f"the fast engine disagrees with a fresh copy of the target: {difference}"
        return plain, (f"every swap took a full forward pass, as {why}",)
    why = f"a swap in place disagrees with one written into a fresh copy: {difference}"
    return _plain(examined, fresh=True), (f"every swap took a fresh copy of the target, as {why}",)


def _one_per_kind(
    lenders: Replacements, trials: Sequence[Trial], prefix: str
) -> dict[str, dict[str, Tensor]]:
    """Return, for every kind, the swap that moves its tensors most, by name."""
    most: dict[str, tuple[float, Trial]] = {}
    for trial in trials:
        if trial.replacement == SOURCE:
            tensors = lenders.tensors(trial.swap, SOURCE)
            if all(map(is_finite, tensors.values())):
                move = max(_relative_move(lenders.target, *item) for item in tensors.items())
                if move > most.get(trial.swap.kind, (0.0, trial))[0]:
                    most[trial.swap.kind] = (move, trial)
    return {
        trial.swap.name: {
            key.removeprefix(prefix): tensor
            for key, tensor in lenders.tensors(trial.swap, SOURCE).items()
        }
        for _, trial in most.values()
    }


def _relative_move(target: nn.Module, key: str, tensor: Tensor) -> float:
    path, _, attribute = key.rpartition(".")
    own: Tensor = getattr(target.get_submodule(path), attribute).detach()
    size = float(torch.linalg.vector_norm(own.float()))
    return float(torch.linalg.vector_norm((tensor - own).float())) / max(size, 1e-12)
