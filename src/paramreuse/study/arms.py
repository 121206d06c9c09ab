"""Several studies of one file: each run in a folder of its own, then what they show together."""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from paramreuse.distribution.pool import Pool
from paramreuse.errors import StudyError
from paramreuse.files import write_text
from paramreuse.study.config import Study
from paramreuse.study.images import Shelf
from paramreuse.study.run import STAGES, run_study
from paramreuse.study.run_folder import lasting
from paramreuse.study.study_file import check_study, checked_arms, checked_study, read_content
from paramreuse.study.talk import Noted, Silent, Talk
from paramreuse.study.variants import ARM_NAME, ARMS
from paramreuse.yaml_text import read_yaml

_FILE = "protocol.yaml"


@dataclass(frozen=True, slots=True)
class Arms:
    """Several studies that answer one question together.

    Attributes:
        name: Name, also of the default folder.
        profile: Profile of the file that was chosen, ``""`` where it has none.
        studies: The studies by name of their arm.
    """

    name: str
    profile: str
    studies: Mapping[str, Study]

    @property
    def folder_name(self) -> str:
        """Name of the folder to run in where none is given."""
        return f"{self.name}-{self.profile}" if self.profile else self.name


def read_study_or_arms(
    path: str | os.PathLike[str],
    *,
    roots: Mapping[str, str] | None = None,
    profile: str | None = None,
) -> Study | Arms:
    """Read and check a study file, which may hold one study or several arms.

    Args:
        path: The YAML file.
        roots: Data roots by name of the image set, instead of those in the file.
        profile: Which of the file's profiles; None where it has none.

    Raises:
        StudyError: As for ``read_study``; the message names the arm.
    """
    file = Path(path)
    content = read_content(file)
    if ARMS not in content:
        return checked_study(content, file, roots=roots or {}, profile=profile)
    studies = checked_arms(content, file, roots=roots or {}, profile=profile)
    return Arms(str(content.get("name", "study")), profile or "", studies)


@dataclass(frozen=True, slots=True)
class Running:
    """How studies are run; the fields are the arguments of ``run_study``."""

    until: str | None = None
    device: str = "auto"
    talk: Talk = field(default_factory=Silent)
    logger: str | None = None
    pool: Pool | None = None


AS_A_WHOLE = Running()
"""Every stage, on whatever device there is, without a word."""


def read_one(
    path: str | os.PathLike[str],
    *,
    roots: Mapping[str, str] | None = None,
    profile: str | None = None,
    arm: str | None = None,
) -> Study:
    """Read and check a study file, or one arm of a file with arms.

    Args:
        path: The YAML file.
        roots: As for ``read_study_or_arms``.
        profile: As for ``read_study_or_arms``.
        arm: Name of the arm; None where the file has none.

    Raises:
        StudyError: As for ``read_study_or_arms``; or the arm is not one of the file's.
    """
    studies = read_study_or_arms(path, roots=roots, profile=profile)
    if isinstance(studies, Study):
        if arm is not None:
            raise StudyError(f"{os.fspath(path)!r} has no arms. Leave --arm {arm} out")
        return studies
    if arm is None or arm not in studies.studies:
        given = "no arm is chosen" if arm is None else f"there is no arm {arm!r}"
        raise StudyError(
            f"{os.fspath(path)!r} holds several studies, and {given}. Say --arm with one of "
            f"{sorted(studies.studies)}"
        )
    return studies.studies[arm]


def run_arms(
    arms: Arms,
    folder: str | os.PathLike[str],
    conclude: Callable[[Path], Path],
    *,
    only: Sequence[str] = (),
    how: Running = AS_A_WHOLE,
) -> Path:
    """Run every arm that is not finished yet, then write what all of them show.

    Args:
        arms: The arms.
        folder: Where ``arms/NAME`` and the results go; made if it is not there.
        conclude: Writes what the arms in a folder show together, and returns the page.
        only: Names of the arms to run, so that several processes or machines can share the work;
            all of them, and the results at the end, if not given.
        how: How each is run.

    Returns:
        The folder.

    Raises:
        ParamReuseError: As for ``run_study``; there is no such arm; or the folder holds something
            else.
    """
    path = Path(folder)
    _check_folder(path, arms)
    chosen = _chosen(arms, only)
    if how.pool is None:
        _run_one_by_one(arms, chosen, path, how)
    else:
        _run_on_workers(arms, chosen, path, how, how.pool)
    if not only and how.until in (None, list(STAGES)[-1]):
        how.talk.say("results", str(conclude(path)))
    return path


def _run_one_by_one(arms: Arms, chosen: Mapping[str, Study], path: Path, how: Running) -> None:
    shelf = Shelf()
    for number, (name, study) in enumerate(chosen.items(), start=1):
        how.talk.say("arm", f"{name} ({number} of {len(chosen)})")
        try:
            _run_arm(study, path / ARMS / name, how, shelf)
        finally:
            # Interrupted or not: what is there can be reported. Refused, nothing is there.
            if path.is_dir():
                _note(path, arms)


def _run_arm(study: Study, folder: Path, how: Running, shelf: Shelf) -> None:
    run_study(
        study,
        folder,
        until=how.until,
        device=how.device,
        talk=how.talk,
        logger=how.logger,
        shelf=shelf,
        pool=how.pool,
    )


def _run_on_workers(
    arms: Arms, chosen: Mapping[str, Study], path: Path, how: Running, pool: Pool
) -> None:
    """Run arms side by side; what each of them can do apart waits in the same queue of workers."""
    _note(path, arms)
    absolute = path.absolute()
    tasks = [(study, absolute / ARMS / name) for name, study in chosen.items()]
    names = list(chosen)
    told = replace(how, talk=Noted())
    with how.talk.progress("arms") as progress:
        progress(0, len(names))
        results = pool.map(_prepare, (told, absolute), tasks)
        for done, (number, lines) in enumerate(results, start=1):
            how.talk.say("arm", f"{names[number]} ({done} of {len(names)})")
            for line in lines:
                how.talk.say(*line)
            progress(done, len(names))


def _prepare(
    shared: tuple[Running, Path],
) -> Callable[[tuple[Study, Path]], list[tuple[str, str]]]:
    how, folder = shared
    if not (folder / _FILE).is_file():
        raise StudyError(
            f"cannot run arms on the worker {platform.node()}: it does not see the folder "
            f"{str(folder)!r}. Put it where every machine of the cluster sees it by this path, or "
            "use --workers N on this machine"
        )

    def run(task: tuple[Study, Path]) -> list[tuple[str, str]]:
        talk = Noted()
        _run_arm(*task, replace(how, talk=talk), Shelf())
        return talk.lines

    return run


def _chosen(arms: Arms, only: Sequence[str]) -> dict[str, Study]:
    unknown = [name for name in only if name not in arms.studies]
    if unknown:
        raise StudyError(f"unknown arm {unknown[0]!r}: expected some of {list(arms.studies)}")
    return {name: study for name, study in arms.studies.items() if not only or name in only}


def holds_arms(folder: str | os.PathLike[str]) -> bool:
    """Tell whether a folder is one in which arms were run."""
    return (Path(folder) / _FILE).is_file()


ArmName = Annotated[str, StringConstraints(pattern=ARM_NAME)]
"""An arm is a folder as well: none outside is read."""


class FolderArms(BaseModel):
    """What a folder says it holds.

    Attributes:
        name: Name of the file's studies.
        profile: Its profile.
        arms: Each arm's study but for the roots of its images.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    name: str
    profile: str
    arms: dict[ArmName, dict[str, Any]]


def arms_in(folder: Path) -> FolderArms:
    """Return which arms a folder holds.

    Raises:
        StudyError: It holds none, or its list of them cannot be read.
    """
    listed = _read_list(folder)
    if listed is None:
        raise StudyError(
            f"{str(folder)!r} holds no arms: expected {_FILE}. `paramreuse run STUDY.yaml` with a "
            "study of several arms makes one"
        )
    return listed


def _read_list(folder: Path) -> FolderArms | None:
    if not (folder / _FILE).exists():
        return None
    content = read_yaml(folder / _FILE, "the list of arms", StudyError)
    try:
        return FolderArms.model_validate(content)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise StudyError(
            f"cannot read {str(folder / _FILE)!r}: expected name, profile and arms, a study each; "
            f"wrong is {place or 'the whole'}"
        ) from None


def _check_folder(folder: Path, arms: Arms) -> None:
    """Refuse a folder that holds other arms than these, or something else."""
    listed = _read_list(folder) if folder.is_dir() else None
    if listed is None:
        if folder.is_dir() and {item.name for item in folder.iterdir()} - {ARMS}:
            raise StudyError(
                f"cannot use {str(folder)!r}: it holds something else. "
                "Give a new or an empty folder with --out"
            )
        return
    if (listed.name, listed.profile) != (arms.name, arms.profile):
        raise StudyError(
            f"{str(folder)!r} holds {listed.name!r} with the profile {listed.profile!r}, not "
            f"{arms.name!r} with {arms.profile!r}. Give another folder with --out"
        )
    now = _listed(arms).arms
    before = {name: _as_of_now(content) for name, content in listed.arms.items()}
    changed = [name for name in now if before.get(name) != now[name]]
    if changed or set(before) - set(now):
        other = [*changed, *sorted(set(before) - set(now))][0]
        raise StudyError(
            f"{str(folder)!r} was started with another arm {other!r}: arms are compared, so all of "
            "them have to be of one file. Give another folder with --out, or the file as it was"
        )


def _as_of_now(content: dict[str, Any]) -> dict[str, Any]:
    """Return an arm's study with the defaults of keys that this version has beyond those noted."""
    return lasting(check_study(content, where=_FILE))


def _listed(arms: Arms) -> FolderArms:
    studies = {name: lasting(study) for name, study in arms.studies.items()}
    return FolderArms(name=arms.name, profile=arms.profile, arms=studies)


def _note(folder: Path, arms: Arms) -> None:
    content = _listed(arms).model_dump(mode="json")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / _FILE, yaml.safe_dump(content, sort_keys=False))
    except OSError as error:
        raise StudyError(
            f"cannot write into {str(folder)!r}: {error.strerror}. Give another one with --out"
        ) from error
