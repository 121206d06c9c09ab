"""What a run ended with, as ``run --json`` writes it."""

from pathlib import Path
from typing import Any

from paramreuse.study.findings import opened_findings, verdict_rows
from paramreuse.study.transfer.table import summed_transfer

Row = dict[str, Any]


def outcome(folder: Path) -> Row:
    """Return what a run ended with: its folder, verdicts, transfer table and report.

    Returns:
        ``folder``; ``sources``, as ``judge --json``; ``transfer``, one row per strategy; and
        ``report``, the page's path. What is not there is empty, or None.
    """
    page = folder / "report.html"
    with opened_findings(folder) as findings:
        return {
            "folder": str(folder),
            "sources": verdict_rows(findings),
            "transfer": summed_transfer(findings.study, findings.store),
            "report": str(page) if page.exists() else None,
        }
