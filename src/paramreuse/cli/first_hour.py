"""The commands of the first hour: a study for what is at hand, and what it will take."""

import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from paramreuse.cli.commands import Device, Json, Quiet, Roots, app


@app.command()
def keys(
    key: Annotated[str | None, Argument(help="Keys to show, e.g. sweep; all if not given.")] = None,
    schema: Annotated[
        bool, Option("--schema", help="Write the JSON schema, by which editors complete keys.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Explain the keys of a study file.

    Example: paramreuse keys sweep
    """
    from paramreuse.cli.console import show_json
    from paramreuse.cli.showing_keys import show_keys
    from paramreuse.study.file_schema import key_rows, schema_text

    if schema:
        sys.stdout.write(schema_text())
        return
    rows = key_rows(key)
    (show_json if as_json else show_keys)(rows)


@app.command()
def init(
    folder: Annotated[Path, Argument(help="Folder of images and checkpoints.")] = Path("."),
    out: Annotated[Path, Option("--out", "-o", help="Study file to write.")] = Path("study.yaml"),
    quiet: Quiet = False,
) -> None:
    """Write a first study for the images and checkpoints in a folder.

    What would have to be asked is said on stderr; nothing in the folder is changed.

    Example: paramreuse init data/acdc -o study.yaml
    """
    from paramreuse.cli.console import Terminal, result
    from paramreuse.study.draft.writing import draft_study

    draft, talk = draft_study(folder, out), Terminal(quiet=quiet)
    for line in draft.found:
        talk.say("found", line)
    for question in draft.questions:
        talk.say("to ask", question)
    talk.say("next", f"paramreuse check {out}")
    result(str(out))


@app.command()
def check(
    study: Annotated[Path, Argument(help="Study file (YAML).")],
    device: Device = "auto",
    profile: Annotated[str | None, Option(help="Which of the file's profiles.")] = None,
    arm: Annotated[str | None, Option(help="Which of the file's arms.")] = None,
    data: Roots = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read all that a study names, run two batches, and tell time, memory and disk per stage.

    Nothing is trained to an end, no run folder is made.

    Example: paramreuse check studies/acdc.yaml --data acdc=/data/ACDC/training
    """
    from paramreuse.cli.console import Terminal, show_json
    from paramreuse.cli.showing_forecast import show_forecast
    from paramreuse.study.arms import read_one
    from paramreuse.study.forecast.forecast import forecast_study
    from paramreuse.study.study_file import parse_roots

    roots, talk = parse_roots(data or []), Terminal(quiet=quiet)
    checked = read_one(study, roots=roots, profile=profile, arm=arm)
    forecast = forecast_study(checked, device=device, talk=talk).to_dict()
    (show_json if as_json else show_forecast)(forecast)
