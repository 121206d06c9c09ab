"""The command that ranks sources: those of a study, or of folders full of them."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from paramreuse.cli.commands import Json, Quiet, app


@app.command()
def rank(
    what: Annotated[str, Argument(help="Run folder of a study, or a checkpoint: the pilot.")],
    sources: Annotated[
        list[str] | None,
        Argument(help="With a pilot: checkpoints, folders of them, s3://BUCKET/FOLDER."),
    ] = None,
    index: Annotated[
        Path | None,
        Option(help="File that keeps the sketches, so that unchanged sources are not read again."),
    ] = None,
    top: Annotated[int, Option(min=1, help="How many sources to show.")] = 10,
    workers: Annotated[int, Option(min=1, help="How many files to read side by side.")] = 1,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Rank the sources of a study by how much gain they promise; or find the nearest of many files.

    A study's sources: in order of how like the target's their features are (CKA); the papers' order
    and other scores beside it. Of many files, without data: by the distance of their kernels from
    those of a pilot, estimated for all and exact for those shown.

    Example: paramreuse rank runs/acdc

    Example: paramreuse rank pilot.safetensors sources/ --index sources.sketches --workers 2
    """
    from paramreuse.cli.showing_ranks import rank_files, rank_study

    if sources is None:
        rank_study(Path(what), as_json=as_json)
        return
    rank_files(what, sources, index=index, top=top, workers=workers, shown=(as_json, quiet))
