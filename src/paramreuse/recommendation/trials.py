"""One candidate trained on some subjects, and how it scores on others."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from torch import Tensor, nn

from paramreuse.engine.plain import device_of
from paramreuse.recommendation.candidates import Candidate
from paramreuse.recommendation.labelled import LabelledSet
from paramreuse.reuse.plan import Plan, apply_plan
from paramreuse.sweep.batches import Batches
from paramreuse.sweep.scores import Score, subject_means
from paramreuse.sweep.scoring import score_subjects
from paramreuse.training import initial_model
from paramreuse.training.steps import finish_training, train_steps

Train: TypeAlias = Callable[[nn.Module, Batches, "Plan | None", int, int], nn.Module]
"""``train(model, labelled, plan, steps, seed) -> model``: a training of one's own."""


@dataclass(frozen=True, slots=True)
class Course:
    """How candidates are trained.

    Attributes:
        factory: Gives a fresh network; its values come from the global random state.
        score: How a network is scored.
        train: How a loaded network is trained.
        unlabelled: Further inputs, for the running statistics.
    """

    factory: Callable[[], nn.Module]
    score: Score
    train: Train = train_steps
    unlabelled: tuple[Tensor, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A network as it came out of a training, and what it was loaded with.

    Attributes:
        model: In evaluation mode, as trained.
        start: The loaded tensors by key, as they were before the training.
        inputs: What its running statistics may be recomputed on.
    """

    model: nn.Module
    start: Mapping[str, Tensor]
    inputs: tuple[Tensor, ...]

    def finished(self, plan: Plan | None) -> nn.Module:
        """Interpolate and recalibrate as a plan asks; from scratch there is nothing to do."""
        if plan is None:
            return self.model
        inputs = [each.to(device_of(self.model)) for each in self.inputs]
        return finish_training(self.model, self.start, plan, inputs)


def train_candidate(
    course: Course,
    tensors: Mapping[str, Tensor] | None,
    candidate: Candidate,
    data: LabelledSet,
    steps: int,
    seed: int,
) -> Trained:
    """Train a fresh network the way of a candidate.

    Args:
        course: How it is trained.
        tensors: Tensors of the candidate's source; None for training from scratch.
        candidate: What is loaded and how it is trained.
        data: Labelled samples to train on.
        steps: Optimiser steps; 0 leaves the network as it was loaded.
        seed: Of the fresh network and of the training.

    Raises:
        PlanError: The plan does not fit network and source.
        ModelError: Training diverged.
    """
    model = initial_model(course.factory, seed)
    start: dict[str, Tensor] = {}
    if candidate.plan is not None:
        assert tensors is not None, "a candidate with a plan has a source"
        applied = apply_plan(model, tensors, candidate.plan)
        held = model.state_dict()
        start = {key: held[key].clone() for key in applied.loaded}
    batches = data.batches()
    if steps:
        model = course.train(model, batches, candidate.plan, steps, seed)
    inputs = (*(batch[0] for batch in batches), *course.unlabelled)
    return Trained(model.eval(), start, inputs)


def subject_scores(model: nn.Module, data: LabelledSet, score: Score) -> dict[Hashable, float]:
    """Score a model subject by subject: mean over the foreground classes that count for it."""
    subjects, scores = score_subjects(model, data.batches(), score)
    means = subject_means(scores, score.foreground)
    return {s: float(m) for s, m in zip(subjects, means, strict=True) if np.isfinite(m)}
