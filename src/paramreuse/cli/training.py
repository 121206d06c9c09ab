"""The command that trains one model of a study."""

from pathlib import Path
from typing import Annotated

from typer import Option

from paramreuse.cli.commands import Device, Logger, Quiet, Run, Source, app


@app.command()
def train(
    run_folder: Run,
    out: Annotated[Path, Option("--out", "-o", help="Checkpoint to write.")],
    plan_file: Annotated[
        Path | None, Option("--plan", help="Plan to train under; from scratch if not given.")
    ] = None,
    source: Source = None,
    strategy: Annotated[str | None, Option(help="Start of a transfer table, e.g. full.")] = None,
    mode: Annotated[str, Option(help="freeze or finetune.")] = "finetune",
    subjects: Annotated[
        int | None, Option(min=1, help="Training subjects; all if not given.")
    ] = None,
    epochs: Annotated[int | None, Option(min=1, help="Epochs; the target's if not given.")] = None,
    steps: Annotated[int | None, Option(min=1, help="Optimiser steps, instead of epochs.")] = None,
    seed: Annotated[int, Option(min=0, help="Seed of fresh weights, subjects and batches.")] = 0,
    device: Device = "auto",
    devices: Annotated[
        int, Option(min=1, help="Processes of torchrun or srun on each machine.")
    ] = 1,
    nodes: Annotated[int, Option(min=1, help="Machines of torchrun or srun.")] = 1,
    logger: Logger = None,
    quiet: Quiet = False,
) -> None:
    """Train a fresh target under a plan, or by a strategy of the transfer table.

    Example: paramreuse train runs/acdc --strategy full --source acdc-ae -o model.safetensors
    """
    from paramreuse.cli.console import Terminal, result
    from paramreuse.study.train_by_plan import TrainingOrder, train_by_plan
    from paramreuse.training.processes import is_first_process

    order = TrainingOrder(
        *(plan_file, source, mode, subjects, epochs, seed, strategy, steps),
        devices=devices,
        nodes=nodes,
    )
    talk = Terminal(quiet=quiet)
    trained = train_by_plan(run_folder, order, out, device=device, talk=talk, logger=logger)
    if is_first_process():
        talk.remark(trained)
        result(str(out))
