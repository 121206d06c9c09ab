"""What a protocol ended with: its page, and what the command line tells of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paramreuse.papers.claims import claim_number_rows, claims_rows, judge_claims
from paramreuse.papers.evidence import Evidence
from paramreuse.papers.page.writing import write_results
from paramreuse.study.config import Study
from paramreuse.study.records import FinishedStage
from paramreuse.study.run_folder import read_run
from paramreuse.study.store import opened_store

_PAGE = "results.html"


def write_protocol(evidence: Evidence, folder: Path) -> Path:
    """Judge the claims, and write figures, tables and the page into the folder.

    Args:
        evidence: What the arms measured.
        folder: Where ``arms/NAME`` are.

    Returns:
        Path of the page.

    Raises:
        StudyError: A file cannot be written.
        MissingExtraError: jinja2 or matplotlib is not installed.
    """
    judged = judge_claims(evidence)
    return write_results(
        evidence,
        folder,
        claims_rows(judged),
        claim_number_rows(judged),
        provenance=_provenance(evidence, folder),
    )


def _provenance(evidence: Evidence, folder: Path) -> dict[str, str]:
    """Say how the results came about; versions and data are those of the first arm."""
    told: dict[str, str] = {}
    seconds = 0.0
    for arm in evidence.arms:
        study = read_run(folder / "arms" / arm.name)
        with opened_store(folder / "arms" / arm.name) as store:
            versions: Mapping[str, str] = store.fact("provenance") or {}
            seconds += sum(stage.seconds for stage in store.read(FinishedStage))
        if not told:
            told = {**versions, "seed": str(study.seed)} | _images(study)
    return told | {"computing time": f"{seconds / 60:.0f} min, all arms, one after the other"}


def _images(study: Study) -> dict[str, str]:
    return {
        f"image set {name}": f"{spec.reader}, {spec.train or 'all'} subjects to train and "
        f"{spec.validation or 'all'} to validate, {spec.size[0]} x {spec.size[1]} pixels"
        for name, spec in study.data.items()
    }


def protocol_outcome(evidence: Evidence, folder: Path) -> dict[str, Any]:
    """Return what ``run --json`` writes of a study with arms.

    Returns:
        ``folder``; ``arms``, the names of those that have run; ``claims``, the rows of the claims
        table; and ``report``, the page's path, None if it has not been written.
    """
    page = folder / _PAGE
    return {
        "folder": str(folder),
        "arms": [arm.name for arm in evidence.arms],
        "claims": claims_rows(judge_claims(evidence)),
        "report": str(page) if page.exists() else None,
    }
