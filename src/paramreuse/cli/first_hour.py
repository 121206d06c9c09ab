"""The commands of the first hour: a study for what is at hand, and what it will take."""

import sys
from typing import Annotated

from typer import Argument, Option

from paramreuse.cli.commands import Json, app


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
    from paramreuse.study.schema import key_rows, schema_text

    if schema:
        sys.stdout.write(schema_text())
        return
    rows = key_rows(key)
    (show_json if as_json else show_keys)(rows)
