"""Running a study file: one study, the papers' arms with their claims, or arms of your own."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paramreuse.errors import StudyError
from paramreuse.papers.evidence import Evidence
from paramreuse.papers.gathering import gather
from paramreuse.papers.results import protocol_outcome, write_protocol
from paramreuse.study.arms import (
    AS_A_WHOLE,
    Arms,
    FolderArms,
    Running,
    arms_in,
    holds_arms,
    run_arms,
)
from paramreuse.study.comparison import compare_runs, comparison_outcome, write_comparison
from paramreuse.study.config import Study
from paramreuse.study.outcome import outcome
from paramreuse.study.run import report_run, run_study
from paramreuse.study.variants import ARMS

_NETWORKS = ("unet", "pspnet")
_FIRST_SOURCE = "A2"
"""What the papers call the source that is swapped into A1, their target."""


def run_asked(
    asked: Study | Arms,
    folder: str | os.PathLike[str],
    *,
    only: Sequence[str] = (),
    how: Running = AS_A_WHOLE,
) -> dict[str, Any]:
    """Run what a study file asks for, and return what it ended with.

    Args:
        asked: What the file holds.
        folder: Run folder, or where ``arms/NAME`` and the results go.
        only: Names of the arms to run, as for ``run_arms``.
        how: How each study is run.

    Returns:
        What ``run --json`` writes.

    Raises:
        ParamReuseError: As for ``run_study`` and ``run_arms``.
    """
    if isinstance(asked, Arms):
        return arms_outcome(run_arms(asked, folder, report_arms, only=only, how=how))
    if only:
        raise StudyError(f"there is no arm {only[0]!r}: the file is of one study. Leave --arm out")
    return outcome(
        run_study(
            asked,
            folder,
            until=how.until,
            device=how.device,
            talk=how.talk,
            logger=how.logger,
            pool=how.pool,
        )
    )


def report_folder(folder: str | os.PathLike[str]) -> Path:
    """Write tables, figures and page of a run folder, or of a folder of arms.

    Returns:
        Path of the page.

    Raises:
        StudyError: It is neither, or cannot be written.
    """
    return report_arms(Path(folder)) if holds_arms(folder) else report_run(folder)


def report_folders(folders: Sequence[Path], out: Path | None) -> Path:
    """Write the page of one folder, or the page that compares several run folders.

    Args:
        folders: One run folder or folder of arms; or two run folders or more.
        out: Where the comparison goes; ``comparison.html`` in the working folder if None.

    Returns:
        Path of the page.

    Raises:
        StudyError: As for ``report_folder`` and ``compare_runs``; or a page of one folder is to
            go elsewhere.
    """
    if len(folders) > 1:
        return compare_runs(folders, out or Path("comparison.html"))
    if out is not None:
        raise StudyError(
            "cannot write the report elsewhere: it is report.html in its run folder. Leave --out "
            "out; it is for the page that compares several runs"
        )
    return report_folder(folders[0])


def report_arms(folder: Path) -> Path:
    """Write what the arms of a folder show together: the papers' claims, or their comparison.

    Returns:
        Path of the page.

    Raises:
        StudyError: The folder holds no arms, or cannot be written.
    """
    stored = arms_in(folder)
    if are_the_papers(stored.arms):
        return write_protocol(_evidence(folder, stored), folder)
    return write_comparison(folder, list(stored.arms), name=stored.name)


def arms_outcome(folder: Path) -> dict[str, Any]:
    """Return what the arms of a folder ended with, as ``run --json`` writes it.

    Raises:
        StudyError: The folder holds no arms.
    """
    stored = arms_in(folder)
    if are_the_papers(stored.arms):
        return protocol_outcome(_evidence(folder, stored), folder)
    return comparison_outcome(folder, list(stored.arms))


def are_the_papers(studies: Mapping[str, Mapping[str, Any]]) -> bool:
    """Tell whether arms are the papers': UNets and PSPNets whose first source is their A2.

    Args:
        studies: Content of each arm's study, by name of the arm.
    """
    return all(
        study.get("network", {}).get("name") in _NETWORKS
        and study.get("sources", [""])[0] == _FIRST_SOURCE
        for study in studies.values()
    )


def _evidence(folder: Path, stored: FolderArms) -> Evidence:
    return gather(folder / ARMS, list(stored.arms), name=stored.name, profile=stored.profile)
