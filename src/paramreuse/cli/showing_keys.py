"""Keys of a study in the terminal."""

from collections.abc import Mapping, Sequence

from paramreuse.cli.console import result


def show_keys(rows: Sequence[Mapping[str, str]]) -> None:
    """Print each key with what it takes, its default and what it means."""
    for row in rows:
        default = "needed" if row["default"] == "needed" else f"default: {row['default']}"
        result(f"{row['key']}: {row['values']} ({default})")
        result(f"    {row['meaning']}")
