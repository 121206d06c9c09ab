"""``paramreuse recommend``: choose a start with a study's images, network and sources."""

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from paramreuse.checkpoint import read_checkpoint, write_checkpoint
from paramreuse.data.preparation import batches
from paramreuse.data.selection import draw_subjects
from paramreuse.distribution.pool import Pool
from paramreuse.errors import StudyError
from paramreuse.files import write_text
from paramreuse.recommendation.recommending import recommend
from paramreuse.recommendation.result import Recommendation
from paramreuse.reuse.plan_file import write_plan
from paramreuse.study.config import TARGET, Study
from paramreuse.study.pictures import PREDICTIONS, write_predictions
from paramreuse.study.run import run_study
from paramreuse.study.talk import Step, Talk
from paramreuse.study.transfer.own_training import own_training
from paramreuse.study.workbench import Workbench
from paramreuse.sweep.scores import subject_means
from paramreuse.sweep.scoring import score_subjects

FOLDER = "recommend"
MODEL, PLAN, SUMMARY = "model.safetensors", "plan.yaml", "recommendation.json"


@dataclass(frozen=True, slots=True)
class RecommendationOrder:
    """What to recommend for.

    Attributes:
        subjects: Labelled subjects, drawn from the training subjects; all of them if None.
        budget: Trainings that may be spent.
        steps: Optimiser steps of one training; by the number of slices if None.
        seed: Of the draw, the folds, fresh networks and trainings.
    """

    subjects: int | None = None
    budget: float = 10.0
    steps: int | None = None
    seed: int = 0


def recommend_in_study(
    study: Study,
    folder: str | os.PathLike[str],
    order: RecommendationOrder,
    *,
    device: str = "auto",
    talk: Talk,
    pool: Pool | None = None,
) -> tuple[Recommendation, float]:
    """Recommend a start for the target of a study, and write model, plan and summary.

    Sources that the study trains are trained first, those that it names as checkpoints are taken
    as they are. The validation subjects choose nothing; they score the result in the end.

    Args:
        study: Images, network and sources.
        folder: Run folder of the study; what is written goes into its folder ``recommend``.
        order: What to recommend for.
        device: ``auto``, ``cpu``, ``cuda`` ...
        talk: Where remarks go.
        pool: Workers for trainings.

    Returns:
        The recommendation, and the model's mean score on the validation subjects.

    Raises:
        StudyError: The folder cannot be written, or holds another study.
        DataError: There are not as many labelled subjects.
        ParamReuseError: As for ``recommend``.
    """
    sources = list(study.sources)
    run_folder = Path(folder)
    if any(study.models[name].checkpoint is None for name in sources):
        run_study(study, run_folder, until="train", device=device, talk=talk, pool=pool)
    bench = Workbench(study, run_folder, device, talk)
    images = bench.images(bench.target.data)
    labelled = draw_subjects(images.trainable, order.subjects, order.seed)
    with talk.progress("recommend") as step:
        recommendation = recommend(
            _on_device(bench),
            {name: read_checkpoint(bench.checkpoint(name)) for name in sources},
            batches(labelled, study.sweep.batch_size),
            budget=order.budget,
            steps=order.steps,
            train=_own_training(study),
            score=bench.score,
            seed=order.seed,
            folder=run_folder / FOLDER,
            progress=_in_percent(step),
            pool=pool,
        )
    validation = _validation_scores(bench, recommendation.model)
    validated = float(np.mean(list(validation.values()))) if validation else math.nan
    _write(bench, recommendation, validated)
    _write_predictions(bench, recommendation.model, validation)
    return recommendation, validated


def _on_device(bench: Workbench) -> Callable[[], nn.Module]:
    build, device = bench.factory(TARGET), bench.torch_device
    return lambda: build().to(device)


def _own_training(study: Study) -> Callable[..., Any] | None:
    return None if study.transfer is None else own_training(study.transfer)


def _in_percent(step: Step) -> Callable[[float, float], None]:
    """Count whole per cent of the budget."""
    return lambda spent, budget: step(round(100 * min(1.0, spent / budget)), 100)


def _validation_scores(bench: Workbench, model: nn.Module) -> dict[str, float]:
    """Return the mean score of every validation subject that has one."""
    subjects, scores = score_subjects(model, bench.validation_batches(), bench.score)
    means = subject_means(scores, bench.score.foreground).tolist()
    pairs = zip(map(str, subjects), means, strict=True)
    return {subject: mean for subject, mean in pairs if math.isfinite(mean)}


def _write(bench: Workbench, recommendation: Recommendation, validated: float) -> None:
    """Write the model, its plan and the numbers, each whole or not at all."""
    folder, study = bench.folder / FOLDER, bench.study.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_checkpoint(
            folder / MODEL,
            recommendation.model,
            {"study": study, "model": recommendation.candidate},
        )
        if recommendation.plan is not None:
            write_plan(recommendation.plan, folder / PLAN)
        else:
            (folder / PLAN).unlink(missing_ok=True)
        content = recommendation.as_json() | {"validation_score": validated}
        write_text(folder / SUMMARY, json.dumps(plain(content), indent=1) + "\n")
    except OSError as error:
        raise _unwritable(folder, error) from error


def _write_predictions(bench: Workbench, model: nn.Module, scores: Mapping[str, float]) -> None:
    folder = bench.folder / FOLDER
    try:
        write_predictions(bench, model, scores, folder / PREDICTIONS)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> StudyError:
    return StudyError(
        f"cannot write the recommendation to {str(folder)!r}: {error.strerror}. Give another "
        "folder with --out"
    )


def plain(content: Any) -> Any:
    """Return content that JSON can hold: numbers that are not finite become null."""
    if isinstance(content, dict):
        return {key: plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [plain(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
