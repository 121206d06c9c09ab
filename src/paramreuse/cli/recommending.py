"""The command that answers first: which source to load, how to train, what it gains."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from paramreuse.cli.commands import Device, Json, Quiet, Roots, app
from paramreuse.cli.workers import RayAddress, Workers, chosen_pool


@app.command()
def recommend(
    study: Annotated[Path, Argument(help="Study file (YAML) with sources.")],
    subjects: Annotated[
        int | None,
        Option(min=1, help="Labelled subjects to use; all training subjects if not given."),
    ] = None,
    budget: Annotated[float, Option(help="Trainings that may be spent on choosing.")] = 10.0,
    steps: Annotated[
        int | None,
        Option(min=1, help="Optimiser steps of one training; by the slices if not given."),
    ] = None,
    out: Annotated[Path | None, Option(help="Run folder; runs/NAME if not given.")] = None,
    seed: Annotated[int, Option(min=0, help="Seed of subjects, folds and trainings.")] = 0,
    device: Device = "auto",
    profile: Annotated[str | None, Option(help="Which of the file's profiles.")] = None,
    data: Roots = None,
    workers: Workers = None,
    ray: RayAddress = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say which source to load, how to train, and what it gains; and train that model.

    Sees only the labelled subjects. Writes the model, its plan and the numbers into OUT/recommend;
    a killed run goes on where it was.

    Example: paramreuse recommend studies/acdc.yaml --data acdc=/data/ACDC/training --subjects 5
    """
    from paramreuse.cli.console import Terminal, show_json
    from paramreuse.cli.showing_recommendation import show_recommendation
    from paramreuse.study.recommending import RecommendationOrder, recommend_in_study
    from paramreuse.study.study_file import parse_roots, read_study

    checked = read_study(study, roots=parse_roots(data or []), profile=profile)
    folder = out or Path("runs") / checked.name
    order = RecommendationOrder(subjects, budget, steps, seed)
    talk = Terminal(quiet=quiet)
    with chosen_pool(workers, ray) as pool:
        recommendation, validated = recommend_in_study(
            checked, folder, order, device=device, talk=talk, pool=pool
        )
    if as_json:
        show_json(recommendation.as_json())
    else:
        show_recommendation(recommendation, validated, folder)
