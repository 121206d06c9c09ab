"""A sweep by the caller's own function of a whole model: one number for all subjects together."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from paramreuse.errors import ScoreError
from paramreuse.sites.copies import private_copy
from paramreuse.sites.lending import tensors_of
from paramreuse.sites.matching import SkippedTensor
from paramreuse.sites.swaps import SOURCE, Replacements, is_identical, same_tensors
from paramreuse.sweep.lent_tensors import is_finite
from paramreuse.sweep.outcomes import Sweep
from paramreuse.sweep.runner import Progress, remarks_on
from paramreuse.sweep.trials import (
    Trial,
    TrialName,
    all_draws_in,
    any_draw_in,
    combine_draws,
    group_draws,
    several_draws,
)

Array = NDArray[np.float64]
Evaluate: TypeAlias = Callable[[nn.Module], float | Mapping[str, float]]
"""A score of a whole model; higher is better."""


def evaluated_sweep(
    evaluate: Evaluate,
    trials: Sequence[Trial],
    lenders: Replacements,
    skipped: tuple[SkippedTensor, ...],
    progress: Progress | None,
) -> Sweep:
    """Score a fresh copy of the target with each trial in place.

    Args:
        evaluate: From a model to a number, or to named numbers.
        trials: What is put in.
        lenders: Where the tensors come from.
        skipped: For the record.
        progress: Called with the number of evaluations done, and of all.

    Raises:
        ScoreError: The score of the untouched target is not a finite number, or that of a swap
            lacks a name that the target's has.
        ModelError: The target cannot be copied.
    """
    base = _named(evaluate(private_copy(lenders.target)))
    if not base or not all(map(np.isfinite, base.values())):
        raise ScoreError(
            f"evaluate gave {base or 'no number'} for the untouched target; expected finite numbers"
        )
    scores: dict[TrialName, Array] = {}
    identical: set[TrialName] = set()
    alike: set[TrialName] = set()
    for done, trial in enumerate(trials, start=1):
        tensors = lenders.tensors(trial.swap, trial.replacement, trial.draw)
        if trial.replacement != SOURCE and same_tensors(
            tensors, lenders.tensors(trial.swap, SOURCE)
        ):
            alike.add(trial.name)
        if is_identical(trial.swap, tensors, lenders.target):
            identical.add(trial.name)
            scores[trial.name] = np.array([list(base.values())])
        else:
            scores[trial.name] = _scores(evaluate, lenders.target, tensors, trial, list(base))
        if progress is not None:
            progress(done, len(trials))
    groups = group_draws(trials)
    broken = {name for name, row in scores.items() if np.isnan(row).any()}
    not_finite = any_draw_in(broken, groups)
    return Sweep(
        swaps=tuple(dict.fromkeys(trial.swap for trial in trials)),
        replacements=lenders.names,
        classes=tuple(base),
        foreground=(True,) * len(base),
        subjects=(),
        baseline=np.array([list(base.values())]),
        scores=combine_draws(scores, groups),
        identical=all_draws_in(identical, groups),
        skipped=skipped,
        seed=lenders.seed,
        notes=tuple(remarks_on(trials, not_finite)),
        not_finite=not_finite,
        alike=all_draws_in(alike, groups),
        draws=several_draws(scores, groups),
    )


def _scores(
    evaluate: Evaluate,
    target: nn.Module,
    tensors: Mapping[str, Tensor],
    trial: Trial,
    names: Sequence[str],
) -> Array:
    """Return the named scores of one trial, shape ``(1, K)``; NaN if one of them is not finite."""
    nothing = np.full((1, len(names)), np.nan)
    if not all(map(is_finite, tensors.values())):
        return nothing
    # Whatever the swap before did to the model it ran on is gone with that.
    twin = private_copy(target)
    slots = tensors_of(twin)
    with torch.no_grad():
        for key, tensor in tensors.items():
            slots[key].copy_(tensor)
    values = _named(evaluate(twin))
    lacking = [name for name in names if name not in values]
    if lacking:
        raise ScoreError(
            f"evaluate gave {values or 'no number'} for swap {trial.swap.name!r} "
            f"({trial.replacement}); expected {lacking[:10]} too, as for the untouched target"
        )
    row = np.array([[values[name] for name in names]])
    return row if np.isfinite(row).all() else nothing


def _named(result: float | Mapping[str, float]) -> dict[str, float]:
    values = dict(result) if isinstance(result, Mapping) else {"score": result}
    return {str(key): float(value) for key, value in values.items()}
