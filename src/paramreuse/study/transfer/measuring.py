"""Plans that a strategy measures on the training subjects before it trains on them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from paramreuse.errors import ScoreError
from paramreuse.recommendation.audit import audit_blocks, rewind_drops, rewind_plan
from paramreuse.recommendation.candidates import full
from paramreuse.recommendation.labelled import gather_labelled, held_out_folds
from paramreuse.recommendation.trials import Course, subject_scores, train_candidate
from paramreuse.reuse.blocks import Block, blocks_of
from paramreuse.reuse.plan import Plan, apply_plan
from paramreuse.reuse.starts import full_plan
from paramreuse.sites.matching import match_sites
from paramreuse.study.transfer.strategy import Strategy
from paramreuse.sweep.batches import Batches
from paramreuse.sweep.scores import Score
from paramreuse.training import initial_model
from paramreuse.training.gradients import auto_rgn_plan
from paramreuse.training.steps import StepSettings, train_steps

FOLD_SHARE = 1 / 3
"""Steps of a training with subjects held out, as a share of a full one, as in ``recommend``."""


@dataclass(frozen=True, slots=True)
class Measuring:
    """What a plan is measured with.

    Attributes:
        factory: Gives a fresh network; its values come from the global random state.
        score: How networks are scored.
        settings: How each step is made.
        steps: Optimiser steps of a full training.
        device: Where networks are trained.
        seed: Of fresh networks, folds and batches.
        note: Called with the blocks and drops of a rewind sweep, as ``audit_blocks`` takes them.
    """

    factory: Callable[[], nn.Module]
    score: Score
    settings: StepSettings
    steps: int
    device: torch.device
    seed: int
    note: Callable[[Sequence[Block], np.ndarray], object] = lambda blocks, drops: None

    def train(
        self, model: nn.Module, labelled: Batches, plan: Plan | None, steps: int, seed: int
    ) -> nn.Module:
        """Train a model by steps, on the device."""
        model.to(self.device)
        return train_steps(model, labelled, plan, steps, seed, settings=self.settings)


def measured_plan(
    strategy: Strategy, source: Mapping[str, Tensor], labelled: Batches, measuring: Measuring
) -> Plan:
    """Return the plan of a strategy that measures first.

    Args:
        strategy: ``auto-rgn`` or ``rewind``.
        source: Tensors of the source.
        labelled: The training subjects, all that is looked at.
        measuring: How it is measured.

    Raises:
        ScoreError: The batches cannot be used.
        ModelError: A training diverged, or no block has a gradient.
    """
    measure: dict[Strategy, Callable[[Mapping[str, Tensor], Batches, Measuring], Plan]] = {
        Strategy.AUTO_RGN: _by_gradients,
        Strategy.REWIND: _by_rewinding,
    }
    return measure[strategy](source, labelled, measuring)


def _by_gradients(source: Mapping[str, Tensor], labelled: Batches, measuring: Measuring) -> Plan:
    model = initial_model(measuring.factory, measuring.seed)
    sites = match_sites(model, source)
    apply_plan(model, source, full_plan(sites))
    return auto_rgn_plan(
        model.to(measuring.device),
        labelled,
        blocks_of(sites),
        seed=measuring.seed,
        settings=measuring.settings,
    )


def _by_rewinding(source: Mapping[str, Tensor], labelled: Batches, measuring: Measuring) -> Plan:
    """Fine-tune from everything with subjects held out in turn, and put each block back on them."""
    data = gather_labelled(labelled)
    sites = match_sites(initial_model(measuring.factory, measuring.seed), source)
    blocks, candidate = blocks_of(sites), full(sites, "")
    course = Course(measuring.factory, measuring.score, measuring.train)
    steps = max(2, round(measuring.steps * FOLD_SHARE))
    by_fold: list[np.ndarray] = []
    for left_out in held_out_folds(data.subjects, seed=measuring.seed):
        seen = data.of([subject for subject in data.subjects if subject not in left_out])
        trained = train_candidate(course, source, candidate, seen, steps, measuring.seed)
        tuned, unseen = trained.finished(candidate.plan), data.of(left_out)
        # Where no subject that is held out has a foreground class, nothing can be put back on it.
        if subject_scores(tuned, unseen, measuring.score):
            by_fold.append(
                rewind_drops(tuned, source, blocks, unseen, measuring.score, seed=measuring.seed)
            )
    if not by_fold:
        raise ScoreError(
            "cannot put blocks back: no labelled subject has a foreground class. Label more of them"
        )
    by_subject = np.concatenate(by_fold, axis=2)
    measuring.note(blocks, by_subject)
    audits = audit_blocks(blocks, by_subject)
    return rewind_plan(blocks, audits, num_subjects=len(data.subjects))
