"""A study of files named by hand: a target, its sources and images, nothing trained."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paramreuse.checkpoint.hub import is_hub_address
from paramreuse.errors import StudyError
from paramreuse.study.config import TARGET, Study
from paramreuse.study.run_folder import read_run
from paramreuse.study.study_file import check_study


def study_by_hand(
    *,
    network: dict[str, Any],
    target: str,
    sources: Sequence[str],
    data: dict[str, Any],
    controls: Sequence[str],
    swaps: Sequence[str],
) -> Study:
    """Build the study of a sweep over given checkpoints.

    Args:
        network: Content of the section ``network``.
        target: Checkpoint of the target.
        sources: Checkpoints of the sources, each ``PATH`` or ``NAME=PATH``.
        data: Content of an image set; all its subjects are validated on unless it says otherwise.
        controls: Controls of the sweep.
        swaps: Sets of swaps.

    Raises:
        StudyError: A value is wrong, images are not named, or two sources have one name.
    """
    if data["root"] is None and data["reader"] != "phantom":
        raise StudyError(
            f"cannot sweep by hand: the reader {data['reader']!r} needs images. "
            "Name their folder with --root"
        )
    named = [_named(source) for source in sources]
    names = [name for name, _ in named]
    if len(set(names)) != len(names) or TARGET in names:
        raise StudyError(
            f"sources need different names other than 'target': got {names}. "
            "Name them with --source NAME=PATH"
        )
    models = {TARGET: target, **dict(named)}
    content = {
        "name": "by-hand",
        "network": network,
        "data": {"images": {"train": 0, **data}},
        "models": {
            name: {"data": "images", "checkpoint": _place(path)} for name, path in models.items()
        },
        "sources": names,
        "sweep": {"swaps": list(swaps), "controls": list(controls)},
    }
    return check_study(content, where="the command line")


def open_or_make(
    folder: Path, *, target: str | None, sources: Sequence[str], **parts: Any
) -> Study:
    """Return the study of a run folder, or one made of files named by hand.

    Args:
        folder: Run folder.
        target: Checkpoint of the target; None to take the study that the folder holds.
        sources: Checkpoints of the sources.
        **parts: As for ``study_by_hand``.

    Raises:
        StudyError: No target is given and the folder is not a run folder, or a source is missing.
    """
    if target is None:
        if sources:
            raise StudyError("cannot sweep: --source needs --target; a study has its own sources")
        return read_run(folder)
    if not sources:
        raise StudyError("cannot sweep: --target needs at least one --source")
    return study_by_hand(target=target, sources=sources, **parts)


def _place(path: str) -> str:
    return path if is_hub_address(path) else os.path.abspath(path)


def _named(source: str) -> tuple[str, str]:
    name, equals, path = source.partition("=")
    return (name, path) if equals else (Path(source).stem, source)
