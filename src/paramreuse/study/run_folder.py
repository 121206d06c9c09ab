"""A run folder: which study it was made for, and whether a run can be resumed in it."""

import os
from pathlib import Path
from typing import Any

from paramreuse.errors import StudyError
from paramreuse.files import PART
from paramreuse.study.config import Study
from paramreuse.study.lock import LOCK
from paramreuse.study.store import STORE, require_facts
from paramreuse.study.study_file import check_study
from paramreuse.yaml_text import read_yaml


def read_run(folder: str | os.PathLike[str]) -> Study:
    """Return the study that a run folder was made for.

    Raises:
        StudyError: The folder does not exist, or is not a run folder.
    """
    path = Path(folder) / "study.yaml"
    arms = path.parent / "arms"
    if not path.is_file() and arms.is_dir():
        names = sorted(item.name for item in arms.iterdir())
        raise StudyError(
            f"{os.fspath(folder)!r} holds several arms, each a run folder of its own: name one of "
            f"them, {arms!s}/ and one of {names}"
        )
    if not path.is_file() or not (path.parent / STORE).is_file():
        raise StudyError(
            f"{os.fspath(folder)!r} is not a run folder: expected study.yaml and results.sqlite in "
            "it. `paramreuse run STUDY.yaml` makes one"
        )
    content = read_yaml(path, "the study", StudyError)
    if not isinstance(content, dict):
        raise StudyError(f"cannot read {str(path)!r}: expected a study")
    return check_study(content, where=str(path))


_BEGUN = frozenset({LOCK, *(f"{STORE}{ending}" for ending in ("", "-wal", "-shm", "-journal"))})
"""What a run makes before its study, and so may leave alone when it is killed."""


def holds_study(folder: Path, study: Study) -> bool:
    """Tell whether a folder is a run folder of this study.

    Raises:
        StudyError: It holds another study, or something else.
    """
    if not folder.exists():
        above = next(path for path in folder.absolute().parents if path.exists())
        if not above.is_dir():
            raise StudyError(
                f"cannot make the run folder {str(folder)!r}: {str(above)!r} is a file. "
                "Give another one with --out"
            )
        return False
    if not folder.is_dir():
        raise StudyError(
            f"cannot use {str(folder)!r} as a run folder: it is a file. Give another one with --out"
        )
    names = {path.name for path in folder.iterdir() if not _is_part(path.name)}
    if names <= _BEGUN:
        return False
    if "study.yaml" not in names or (LOCK not in names and STORE not in names):
        raise StudyError(
            f"cannot use {str(folder)!r} as a run folder: it holds something else, such as "
            f"{min(names - _BEGUN)!r}. Give a new or an empty folder with --out"
        )
    require_facts(folder / STORE)
    known = read_run(folder)
    difference = _first_difference(lasting(known), lasting(study))
    if difference:
        raise StudyError(
            f"{str(folder)!r} is the run folder of another study: {difference}. "
            "Give another folder with --out, or the study as it was"
        )
    return True


def _is_part(name: str) -> bool:
    return name.startswith(".") and name.endswith(PART)


def lasting(study: Study) -> dict[str, Any]:
    """Return what may not change in a run folder: all that measured facts depend on.

    Args:
        study: The study.

    Returns:
        Its keys as JSON knows them, but for the roots of its images.
    """
    content = study.model_dump(mode="json", exclude={"format", "judge", "transfer"})
    if study.sweep.stop is not None:
        # Such a sweep ends where the verdict at this tolerance is decided.
        content["judge"] = study.judge.model_dump(mode="json", exclude={"accept"})
    # Recalibration adds facts and changes none.
    for name in ("batch_size", "engine", "memory_limit_gb", "recalibrate"):
        content["sweep"].pop(name)
    for data in content["data"].values():
        data.pop("root")
    return content


def _first_difference(before: Any, now: Any, place: str = "") -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *(key for key in now if key not in before)]:
            difference = _first_difference(
                before.get(key), now.get(key), f"{place}.{key}".lstrip(".")
            )
            if difference:
                return difference
        return ""
    return "" if before == now else f"{place} was {before!r}, is now {now!r}"


def require_outside(out: Path, folder: Path) -> None:
    """Refuse to write over what a run folder rests on.

    Raises:
        StudyError: ``out`` is the folder's study, its store or one of its models.
    """
    target, run = out.resolve(), folder.resolve()
    kept = (run / "study.yaml", run / STORE)
    if run / "models" in target.parents or target in kept:
        raise StudyError(
            f"cannot write {str(out)!r}: the study's results rest on that file. Write elsewhere"
        )
