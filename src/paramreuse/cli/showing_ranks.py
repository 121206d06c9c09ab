"""What the command that ranks sources does, and shows."""

from collections.abc import Sequence
from pathlib import Path

from paramreuse.cli.console import Terminal, remark, show_json, show_table
from paramreuse.nearest.listing import LeftOut

_NAMED = 10
"""How many of the files that were left out are named on a terminal."""


def rank_study(run_folder: Path, *, as_json: bool) -> None:
    """Show the sources of a run folder in order."""
    from paramreuse.study.findings import ranking_note, ranking_rows

    (show_json if as_json else show_table)(ranking_rows(run_folder))
    remark(ranking_note(run_folder))


def rank_files(
    pilot: str,
    sources: Sequence[str],
    *,
    index: Path | None,
    top: int,
    workers: int,
    shown: tuple[bool, bool],
) -> None:
    """Show the checkpoints nearest to a pilot.

    Args:
        pilot: Checkpoint, or address of one.
        sources: Checkpoints, folders, addresses.
        index: File of sketches.
        top: How many to show.
        workers: How many files to read side by side.
        shown: Whether as JSON, and whether without remarks.
    """
    from paramreuse.nearest.search import nearest_sources

    as_json, quiet = shown
    talk = Terminal(quiet=quiet)
    with talk.progress("sources") as progress:
        found = nearest_sources(
            pilot, sources, index=index, top=top, workers=workers, progress=progress
        )
    if as_json:
        show_json(found.to_dict())
    else:
        show_table(found.rows())
    talk.remark(f"{found.sketched} sources read, {found.unchanged} known from the index")
    _tell_left_out(talk, found.left_out)


def _tell_left_out(talk: Terminal, left_out: Sequence[LeftOut]) -> None:
    for item in left_out[:_NAMED]:
        talk.remark(f"left out: {item.source}: {item.reason}")
    if len(left_out) > _NAMED:
        talk.remark(f"left out: {len(left_out) - _NAMED} more; --json names them all")
