"""Running the protocol: every arm a study of its own, then what they show together."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from paramreuse.errors import StudyError
from paramreuse.files import write_text
from paramreuse.papers.evidence import Evidence
from paramreuse.papers.gathering import gather
from paramreuse.papers.results import protocol_outcome, write_protocol
from paramreuse.study.config import Study
from paramreuse.study.run import STAGES, run_study
from paramreuse.study.run_folder import lasting
from paramreuse.study.study_file import read_arms, read_content
from paramreuse.study.talk import Silent, Talk
from paramreuse.study.variants import ARM_NAME, ARMS
from paramreuse.study.workbench import Shelf
from paramreuse.yaml_text import read_yaml

_FILE = "protocol.yaml"


@dataclass(frozen=True, slots=True)
class Protocol:
    """Several studies that answer one question together.

    Attributes:
        name: Name, also of the default folder.
        profile: Profile of the file that was chosen, ``""`` where it has none.
        arms: The studies by name.
    """

    name: str
    profile: str
    arms: Mapping[str, Study]

    @property
    def folder_name(self) -> str:
        """Name of the folder to run in where none is given."""
        return f"{self.name}-{self.profile}" if self.profile else self.name


def has_arms(path: str | os.PathLike[str]) -> bool:
    """Tell whether a study file is one of several arms.

    Raises:
        StudyError: It cannot be read.
    """
    return ARMS in read_content(Path(path))


def read_protocol(
    path: str | os.PathLike[str],
    *,
    roots: Mapping[str, str] | None = None,
    profile: str | None = None,
) -> Protocol:
    """Read and check a study file with arms.

    Args:
        path: The YAML file.
        roots: Data roots by name of the image set, instead of those in the file.
        profile: Which of the file's profiles; None where it has none.

    Raises:
        StudyError: As for ``read_study``; the message names the arm.
    """
    name = str(read_content(Path(path)).get("name", "study"))
    return Protocol(name, profile or "", read_arms(path, roots=roots, profile=profile))


def run_protocol(  # noqa: PLR0913 - those of run_study, and which arms
    protocol: Protocol,
    folder: str | os.PathLike[str],
    *,
    only: Sequence[str] = (),
    until: str | None = None,
    device: str = "auto",
    talk: Talk | None = None,
    logger: str | None = None,
) -> Path:
    """Run every arm that is not finished yet, then write what all of them show.

    Args:
        protocol: The arms.
        folder: Where ``arms/NAME`` and the results go; made if it is not there.
        only: Names of the arms to run, so that several processes or machines can share the work;
            all of them, and the results at the end, if not given.
        until: Last stage to run in every arm; all of them if not given.
        device: ``auto``, ``cpu``, ``cuda`` ...
        talk: Where remarks go.
        logger: As for ``run_study``.

    Returns:
        The folder.

    Raises:
        ParamReuseError: As for ``run_study``; there is no such arm; or the folder holds something
            else.
    """
    path, says = Path(folder), talk or Silent()
    _check_folder(path, protocol)
    chosen = _chosen(protocol, only)
    shelf = Shelf()
    for number, (name, study) in enumerate(chosen.items(), start=1):
        says.say("arm", f"{name} ({number} of {len(chosen)})")
        try:
            run_study(
                study,
                path / ARMS / name,
                until=until,
                device=device,
                talk=talk,
                logger=logger,
                shelf=shelf,
            )
        finally:
            # Interrupted or not: what is there can be reported. Refused, nothing is there.
            if path.is_dir():
                _note(path, protocol)
    if not only and until in (None, list(STAGES)[-1]):
        says.say("results", str(report_protocol(path)))
    return path


def _chosen(protocol: Protocol, only: Sequence[str]) -> dict[str, Study]:
    unknown = [name for name in only if name not in protocol.arms]
    if unknown:
        raise StudyError(f"unknown arm {unknown[0]!r}: expected some of {list(protocol.arms)}")
    return {name: study for name, study in protocol.arms.items() if not only or name in only}


def report_protocol(folder: str | os.PathLike[str]) -> Path:
    """Write figures, tables and claims from what the arms of a folder hold.

    Returns:
        Path of the page.

    Raises:
        StudyError: The folder holds no arms, or cannot be written.
    """
    path = Path(folder)
    return write_protocol(_evidence(path), path)


def outcome_of(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what the arms of a folder ended with, as ``run --json`` writes it.

    Raises:
        StudyError: The folder holds no arms.
    """
    path = Path(folder)
    return protocol_outcome(_evidence(path), path)


def _evidence(folder: Path) -> Evidence:
    held = _held(folder)
    if held is None:
        raise StudyError(
            f"{str(folder)!r} holds no arms: expected {_FILE}. `paramreuse run STUDY.yaml` with a "
            "study of several arms makes one"
        )
    return gather(folder / ARMS, list(held.arms), name=held.name, profile=held.profile)


def holds_arms(folder: str | os.PathLike[str]) -> bool:
    """Tell whether a folder is one in which arms were run."""
    return (Path(folder) / _FILE).is_file()


ArmName = Annotated[str, StringConstraints(pattern=ARM_NAME)]
"""An arm is a folder as well: none outside is read."""


class _Held(BaseModel):
    """What a folder says it holds.

    Attributes:
        name: Name of the protocol.
        profile: Its profile.
        arms: Each arm's study but for the roots of its images.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    name: str
    profile: str
    arms: dict[ArmName, dict[str, Any]]


def _held(folder: Path) -> _Held | None:
    if not (folder / _FILE).exists():
        return None
    content = read_yaml(folder / _FILE, "the protocol", StudyError)
    try:
        return _Held.model_validate(content)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise StudyError(
            f"cannot read {str(folder / _FILE)!r}: expected name, profile and arms, a study each; "
            f"wrong is {place or 'the whole'}"
        ) from None


def _check_folder(folder: Path, protocol: Protocol) -> None:
    """Refuse a folder that holds other arms than these, or something else."""
    held = _held(folder) if folder.is_dir() else None
    if held is None:
        if folder.is_dir() and {item.name for item in folder.iterdir()} - {ARMS}:
            raise StudyError(
                f"cannot use {str(folder)!r}: it holds something else. "
                "Give a new or an empty folder with --out"
            )
        return
    if (held.name, held.profile) != (protocol.name, protocol.profile):
        raise StudyError(
            f"{str(folder)!r} holds {held.name!r} with the profile {held.profile!r}, not "
            f"{protocol.name!r} with {protocol.profile!r}. Give another folder with --out"
        )
    now = _held_of(protocol).arms
    changed = [name for name in now if held.arms.get(name) != now[name]]
    if changed or set(held.arms) - set(now):
        other = [*changed, *sorted(set(held.arms) - set(now))][0]
        raise StudyError(
            f"{str(folder)!r} was begun with another arm {other!r}: arms are compared, so all of "
            "them have to be of one file. Give another folder with --out, or the file as it was"
        )


def _held_of(protocol: Protocol) -> _Held:
    arms = {name: lasting(study) for name, study in protocol.arms.items()}
    return _Held(name=protocol.name, profile=protocol.profile, arms=arms)


def _note(folder: Path, protocol: Protocol) -> None:
    content = _held_of(protocol).model_dump(mode="json")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / _FILE, yaml.safe_dump(content, sort_keys=False))
    except OSError as error:
        raise StudyError(
            f"cannot write into {str(folder)!r}: {error.strerror}. Give another one with --out"
        ) from error
