"""The command line: parse, delegate, print.

In: arguments.
Out: tables or JSON on stdout, remarks and errors on stderr, an exit status.
"""

# Importing it adds its commands.
import paramreuse.cli.first_hour
import paramreuse.cli.rank_command
import paramreuse.cli.recommending
import paramreuse.cli.reporting
import paramreuse.cli.training  # noqa: F401
from paramreuse.cli.commands import app, main

__all__ = ["app", "main"]
