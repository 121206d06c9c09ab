"""What a run ended with, as ``run --json`` writes it."""

from pathlib import Path

from paramreuse.plain_text import Row
from paramreuse.report.answer import Answer
from paramreuse.report.transfer_table import best_first
from paramreuse.study.answering import answer_in
from paramreuse.study.findings import opened_findings, verdict_rows
from paramreuse.study.transfer.table import summed_transfer


def outcome(folder: Path) -> Row:
    """Return what a run ended with: its folder, verdicts, transfer table and report.

    Returns:
        ``folder``; ``sources``, as ``judge --json``, and ``transfer``, one row per strategy, both
        the best first; ``answer``, what to load; and ``report``, the page's path. What is not there
        is empty, or None.
    """
    page = folder / "report.html"
    with opened_findings(folder) as findings:
        answer = answer_in(folder, findings)
        place = answer.sources.index
        return {
            "folder": str(folder),
            "sources": sorted(verdict_rows(findings), key=lambda row: place(row["source"])),
            "transfer": best_first(summed_transfer(findings.study, findings.store)),
            "answer": _answer_row(answer),
            "report": str(page) if page.exists() else None,
        }


def _answer_row(answer: Answer) -> Row:
    chosen = answer.chosen
    return {
        "kind": answer.kind,
        "headline": answer.headline,
        "sentences": list(answer.sentences),
        "cautions": list(answer.cautions),
        "command": answer.command,
        "strategy": chosen.strategy if chosen else None,
        "source": chosen.source if chosen else None,
    }
