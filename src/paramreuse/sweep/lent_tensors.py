"""The tensors that trials put in, and what they tell before anything is run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paramreuse.sites.swaps import SOURCE, Replacements, is_identical, same_tensors
from paramreuse.sweep.trials import Trial, TrialName


@dataclass(frozen=True, slots=True, eq=False)
class PutIn:
    """The tensors of every trial, and what they tell without a forward pass.

    Attributes:
        trials: What is put in, in the order in which it was asked for.
        tensors: Tensors by trial and key; those that several swaps share are one.
        identical: Trials that would put in what the target already holds.
        not_finite: Trials that would put in NaN or infinite values.
        alike: Trials of controls that put in the same values as the source.
    """

    trials: tuple[Trial, ...]
    tensors: Mapping[TrialName, Mapping[str, Tensor]]
    identical: frozenset[TrialName]
    not_finite: frozenset[TrialName]
    alike: frozenset[TrialName]


def put_in(lenders: Replacements, trials: Sequence[Trial]) -> PutIn:
    """Fetch the tensors of trials.

    Args:
        lenders: Where the tensors come from.
        trials: What is put in.
    """
    tensors = _lent_tensors(lenders, trials)
    identical = frozenset(
        trial.name
        for trial in trials
        if is_identical(trial.swap, tensors[trial.name], lenders.target)
    )
    not_finite = frozenset(
        trial.name
        for trial in trials
        if trial.name not in identical and not all(map(is_finite, tensors[trial.name].values()))
    )
    alike = frozenset(
        trial.name
        for trial in trials
        if trial.replacement != SOURCE
        and same_tensors(tensors[trial.name], tensors[trial.swap.name, SOURCE])
    )
    return PutIn(tuple(trials), tensors, identical, not_finite, alike)


def _lent_tensors(
    lenders: Replacements, trials: Sequence[Trial]
) -> dict[TrialName, dict[str, Tensor]]:
    by_place: dict[tuple[str, str, int], Tensor] = {}
    tensors: dict[TrialName, dict[str, Tensor]] = {}
    for trial in trials:
        for site in trial.swap.sites:
            place = (site.key, trial.replacement, trial.draw)
            if place not in by_place:
                by_place[place] = lenders.tensor(site, trial.replacement, trial.draw)
            tensors.setdefault(trial.name, {})[site.key] = by_place[place]
    return tensors


def is_finite(values: Tensor) -> bool:
    """Tell whether no value is NaN or infinite."""
    # A sum is finite only if all terms are, and takes a tenth of the time of looking at each.
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())
