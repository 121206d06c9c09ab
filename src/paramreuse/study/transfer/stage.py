"""The transfer stage: the target trained afresh under every strategy, and what came of it."""

import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from paramreuse.checkpoint import write_checkpoint
from paramreuse.data.selection import draw_subjects
from paramreuse.reuse.plan import Plan
from paramreuse.study.apart import each_of
from paramreuse.study.config import TARGET, ModelSpec
from paramreuse.study.job import Job
from paramreuse.study.pictures import forget_training_pictures, keep_training_pictures
from paramreuse.study.records import TransferEpoch, TransferScore, TransferStep
from paramreuse.study.transfer.attempts import (
    Attempt,
    attempts_of,
    kept_model,
    lengthened,
    tell_choice,
)
from paramreuse.study.transfer.plans import SourcePlan, source_plans, tell_plans
from paramreuse.study.transfer.rewound import rewind_fact
from paramreuse.study.transfer.speed import length_fact
from paramreuse.study.transfer.strategy import Strategy
from paramreuse.study.transfer.table import TrainingDice, trainings_of, wanted_scores
from paramreuse.study.transfer.training import is_watched, note_epoch_length, train_attempt
from paramreuse.study.unchanged import file_digest
from paramreuse.sweep.scores import foreground_names
from paramreuse.sweep.scoring import score_subjects


def run_transfer(job: Job) -> str:
    """Train the target afresh under every strategy.

    Raises:
        DataError: There are not as many training subjects.
        StudyError: The best source is asked for, and no source can be ranked.
    """
    study = job.bench.study
    if study.transfer is None:
        return "the study asks for none"
    images = job.bench.images(job.bench.target.data)
    draw_subjects(images.trainable, max(study.transfer.subjects), seed=0)
    notes = list(tell_choice(study, job.store))
    attempts = attempts_of(study, job.store)
    plans = source_plans(job, attempts)
    notes += tell_plans(study, plans)
    left_out = _left_out(job, attempts, plans)
    for attempt in left_out:
        _forget(job, attempt)
        _forget(job, replace(attempt, is_long=True))
    wanted = [attempt for attempt in attempts if attempt not in left_out]
    # The longer ones last: until then the table is whole.
    wanted += lengthened(wanted, study)
    with job.talk.progress("transfer") as progress:
        progress(0, len(wanted))
        pending = _pending(job, wanted, plans)
        num_done = len(wanted) - len(pending)
        lenders = [order.attempt.source for order in pending if order.attempt.source]
        models = job.bench.study.sources if _lets_choose(pending) else lenders
        for number, result in each_of(job, _train, pending, models=models):
            _keep(job, pending[number], result)
            num_done += 1
            progress(num_done, len(wanted))
    notes += [f"{count} left out: {reason}" for reason, count in Counter(left_out.values()).items()]
    score = job.bench.score
    foreground = foreground_names(score.classes, score.foreground)
    trainings = trainings_of(wanted_scores(job.store, attempts))
    means = _strategy_means(trainings, foreground)
    listed = ", ".join(f"{name} {mean:.3f}" for name, mean in means.items())
    trained = f"{len(wanted)} trainings: {listed}" if means else "nothing trained"
    return "; ".join([trained, *notes])


def _left_out(
    job: Job, attempts: Sequence[Attempt], plans: Mapping[str, SourcePlan]
) -> dict[Attempt, str]:
    """Return the attempts that would show nothing, each with the reason."""
    parameters = {name for name, _ in job.bench.factory(TARGET)().named_parameters()}
    reasons: dict[Attempt, str] = {}
    for attempt in attempts:
        if not attempt.strategy.follows_plan:
            continue
        fitted = plans[attempt.source]
        loaded = {site.key for site in fitted.plan.loaded}
        if not loaded:
            emptied = f"{attempt.source} can give no site of the plan"
            reasons[attempt] = emptied if fitted.skipped else "the plan is empty"
        elif attempt.strategy.freezes and parameters <= loaded:
            reasons[attempt] = "the plan freezes everything"
    return reasons


def _forget(job: Job, attempt: Attempt) -> None:
    """Remove what came of an attempt under a plan that is no longer the plan."""
    kept_model(job.bench.folder, attempt).unlink(missing_ok=True)
    on_the_way = () if attempt.is_long else (TransferEpoch, TransferStep)
    for kind in (attempt.scores, *on_the_way):
        job.store.remove(kind, **attempt.columns)
    forget_training_pictures(job.store, attempt)
    facts = (_recipe_name(attempt), f"kept/{attempt.name}", length_fact(attempt.name))
    for name in facts if attempt.is_long else (*facts, rewind_fact(attempt)):
        job.store.remove_fact(name)


def _recipe_name(attempt: Attempt) -> str:
    return f"recipe/{attempt.name}"


@dataclass(frozen=True, slots=True)
class _Order:
    """One training that is still to be done."""

    attempt: Attempt
    plan: Plan | None
    training: ModelSpec
    keeps_model: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Trained:
    """What came of a training: its scores, and the model where it is kept."""

    scores: list[TransferScore]
    model: nn.Module | None


def _pending(
    job: Job, attempts: Sequence[Attempt], plans: Mapping[str, SourcePlan]
) -> list[_Order]:
    """List the trainings of which not all is there from the same recipe."""
    spec = job.bench.study.transfer
    assert spec is not None, "only a study with a transfer section has attempts"
    orders: list[_Order] = []
    for attempt in attempts:
        plan = plans[attempt.source].plan if attempt.strategy.follows_plan else None
        epochs = (spec.epochs or job.bench.target.epochs) * attempt.times
        training = job.bench.target.model_copy(update={"epochs": epochs, "init": "independent"})
        recipe = _recipe(training, plan)
        if spec.steps:
            recipe["steps"] = spec.steps * attempt.times
        _refresh(job, attempt, recipe)
        if not attempt.is_long:
            note_epoch_length(job, attempt, training)
        keeps = attempt.seed < spec.keep_seeds and not attempt.is_long
        if not _is_measured(job, attempt) or (keeps and not _is_kept(job, attempt)):
            orders.append(_Order(attempt, plan, training, keeps))
    return orders


def _refresh(job: Job, attempt: Attempt, recipe: dict[str, Any]) -> None:
    """Forget what came of an attempt by another recipe."""
    if job.store.fact(_recipe_name(attempt)) != recipe:
        shutil.rmtree(_folder(job, attempt), ignore_errors=True)
        _forget(job, attempt)
        # What was trained twice as long was twice as long as another recipe.
        if not attempt.is_long:
            _forget(job, replace(attempt, is_long=True))
        job.store.put_fact(_recipe_name(attempt), recipe)


def _is_measured(job: Job, attempt: Attempt) -> bool:
    """Tell whether the scores of an attempt are there, with those on its way if it is watched."""
    is_scored = job.store.count(attempt.scores, **attempt.columns) > 0
    if not is_watched(job, attempt):
        return is_scored
    return is_scored and job.store.count(TransferStep, **attempt.columns) > 0


def _lets_choose(orders: Sequence[_Order]) -> bool:
    return any(order.attempt.strategy is Strategy.RECOMMENDED for order in orders)


def _train(job: Job, order: _Order) -> _Trained:
    """Train and score one attempt."""
    bench = job.bench
    model = train_attempt(job, order.attempt, order.plan, order.training)
    trained = model.to(bench.torch_device)
    keep_training_pictures(job, order.attempt, trained)
    subjects, scores = score_subjects(trained, bench.validation_batches(), bench.score)
    rows = [
        order.attempt.scores(*order.attempt.training, str(subject), label, float(scores[i, k]))
        for i, subject in enumerate(subjects)
        for k, label in enumerate(bench.score.classes)
    ]
    return _Trained(rows, model.cpu() if order.keeps_model else None)


def _keep(job: Job, order: _Order, trained: _Trained) -> None:
    attempt = order.attempt
    if trained.model is not None:
        kept = kept_model(job.bench.folder, attempt)
        # Before the scores: a run that is killed in between trains this one again.
        write_checkpoint(
            kept, trained.model, {"study": job.bench.study.name, "model": attempt.name}
        )
        job.store.put_fact(f"kept/{attempt.name}", file_digest(kept))
    with job.store.together():
        job.store.write(trained.scores)
    shutil.rmtree(_folder(job, attempt), ignore_errors=True)


def _folder(job: Job, attempt: Attempt) -> Path:
    return job.bench.folder / "training" / attempt.name


def _is_kept(job: Job, attempt: Attempt) -> bool:
    """Tell whether the model of an attempt is there, and the one that was trained."""
    kept = kept_model(job.bench.folder, attempt)
    digest = job.store.fact(f"kept/{attempt.name}")
    return kept.is_file() and digest in (None, file_digest(kept))


def _recipe(training: ModelSpec, plan: Plan | None) -> dict[str, Any]:
    loaded = [] if plan is None else [site.key for site in plan.loaded]
    return {"training": training.model_dump(mode="json"), "loaded": loaded}


def _strategy_means(
    trainings: Iterable[TrainingDice], foreground: Collection[str]
) -> dict[str, float]:
    grouped: dict[str, list[float]] = {}
    for training in trainings:
        source = f" from {training.source}" if training.source else ""
        name = f"{training.strategy}{source} on {training.num_subjects}"
        grouped.setdefault(name, []).append(training.mean(foreground))
    return {name: float(np.mean(values)) for name, values in grouped.items()}
