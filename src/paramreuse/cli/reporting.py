"""The command that writes pages: of one run, or of several compared."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from paramreuse.cli.commands import app


@app.command()
def report(
    run_folders: Annotated[list[Path], Argument(help="Run folder; several are compared.")],
    out: Annotated[
        Path | None,
        Option(
            "--out", "-o", help="Page that compares several runs; comparison.html if not given."
        ),
    ] = None,
) -> None:
    """Write tables, figures and report.html of a run; or one page that compares several runs.

    Example: paramreuse report runs/acdc
    """
    from paramreuse.cli.console import result
    from paramreuse.papers.protocol import report_folders

    result(str(report_folders(run_folders, out)))
