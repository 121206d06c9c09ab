"""What the arms of a study file show beside each other, whatever they differ in."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from paramreuse.errors import StudyError
from paramreuse.files import write_text
from paramreuse.plain_text import Row, csv_text
from paramreuse.report.arms_page import ArmsPage, Table, arms_html
from paramreuse.report.transfer_table import summarise_transfer
from paramreuse.study.findings import Findings, opened_findings
from paramreuse.study.run_folder import lasting, read_run
from paramreuse.study.transfer.attempts import attempts_of
from paramreuse.study.transfer.table import transfer_rows
from paramreuse.study.variants import ARMS
from paramreuse.sweep.outcomes import MEAN

PAGE = "results.html"
"""Name of the page on which arms are compared."""


def arms_that_ran(folder: Path, arms: Sequence[str]) -> list[str]:
    """Return the arms of a folder that have a run folder.

    Args:
        folder: Where ``arms/NAME`` are.
        arms: Names of all arms.
    """
    return [name for name in arms if (folder / ARMS / name / "study.yaml").is_file()]


def sweep_comparison(folder: Path, arms: Sequence[str]) -> list[Row]:
    """Return one row per arm and swept source: what its swaps cost, and what can be reused.

    Args:
        folder: Where ``arms/NAME`` are.
        arms: Names of arms that have run.

    Returns:
        Rows with ``arm source lineage baseline kernel_share paper_kernel_share mean_drop rmse
        relative_rmse reusable_network``; ``baseline`` is the untouched target's mean score.
    """
    rows: list[Row] = []
    for arm in arms:
        with opened_findings(folder / ARMS / arm) as findings:
            rows += [{"arm": arm} | row for row in _source_rows(findings)]
    return rows


def _source_rows(findings: Findings) -> Iterator[Row]:
    ranked = {source.name: source for source in findings.ranking.sources}
    for name, sweep in findings.sweeps.items():
        source, verdict = ranked[name], findings.verdicts[name]
        yield {
            "source": name,
            "lineage": source.lineage,
            "baseline": sweep.baseline_scores()[MEAN],
            "kernel_share": verdict.kernel_share,
            "paper_kernel_share": verdict.paper_kernel_share,
            "mean_drop": source.mean_drop,
            "rmse": source.rmse,
            "relative_rmse": source.relative_rmse,
            "reusable_network": verdict.reusable_network,
        }


def transfer_comparison(folder: Path, arms: Sequence[str]) -> list[Row]:
    """Return the rows of every arm's transfer table, the arm in front.

    Args:
        folder: Where ``arms/NAME`` are.
        arms: Names of arms that have run.
    """
    rows: list[Row] = []
    for arm in arms:
        with opened_findings(folder / ARMS / arm) as findings:
            sweep = next(iter(findings.sweeps.values()), None)
            attempts = attempts_of(findings.study, findings.store)
            foreground = sweep.foreground_classes if sweep else ()
            trained = transfer_rows(findings.store, foreground, attempts)
            classes = sweep.classes if sweep else ()
            rows += [{"arm": arm} | row for row in summarise_transfer(trained, classes)]
    return rows


def differences(studies: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Return one row per key of a study that is not the same in all arms.

    Args:
        studies: Content of each arm's study, by name of the arm.

    Returns:
        Rows with ``key``, e.g. ``network.width``, and a column per arm.
    """
    flat = {arm: dict(_flattened(study)) for arm, study in studies.items()}
    keys = dict.fromkeys(key for content in flat.values() for key in content)
    rows = [{"key": key} | {arm: flat[arm].get(key) for arm in flat} for key in keys]
    return [row for row in rows if len({repr(row[arm]) for arm in flat}) > 1]


def _flattened(content: Any, place: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(content, Mapping) and content:
        for key, value in content.items():
            yield from _flattened(value, f"{place}.{key}".lstrip("."))
    else:
        yield place, content


def write_comparison(folder: Path, arms: Sequence[str], *, name: str) -> Path:
    """Write the tables of the comparison, and the page that shows them.

    Args:
        folder: Where ``arms/NAME`` are, and the results go.
        arms: Names of all arms; those that have not run are named on the page.
        name: Name of the study file's studies.

    Returns:
        Path of the page.

    Raises:
        StudyError: A file cannot be written.
        MissingExtraError: jinja2 is not installed.
    """
    import pandas as pd

    ran = arms_that_ran(folder, arms)
    contents = {arm: lasting(read_run(folder / ARMS / arm)) for arm in ran}
    for content in contents.values():
        content.pop("name")
    tables = {
        "arms": Table("What was measured, arm by arm", sweep_comparison(folder, ran)),
        "transfer": Table(
            "Transfer: mean score of each training", transfer_comparison(folder, ran)
        ),
        "differences": Table("What differs between the arms", differences(contents)),
    }
    page = ArmsPage(
        name,
        tuple(tables.values()),
        {arm: f"{ARMS}/{arm}/report.html" for arm in ran},
        tuple(arm for arm in arms if arm not in ran),
    )
    try:
        (folder / "tables").mkdir(exist_ok=True)
        for file, table in tables.items():
            text = csv_text(pd.DataFrame(table.rows)) if table.rows else ""
            write_text(folder / "tables" / f"{file}.csv", text)
        write_text(folder / PAGE, arms_html(page))
    except OSError as error:
        raise StudyError(f"cannot write into {str(folder)!r}: {error.strerror}") from error
    return folder / PAGE


def comparison_outcome(folder: Path, arms: Sequence[str]) -> Row:
    """Return what ``run --json`` writes of a study with arms of your own.

    Args:
        folder: Where ``arms/NAME`` are.
        arms: Names of all arms.

    Returns:
        ``folder``; ``arms``, the names of those that have run; ``comparison`` and ``transfer``, the
        rows of the tables; and ``report``, the page's path, None if it has not been written.
    """
    ran = arms_that_ran(folder, arms)
    page = folder / PAGE
    return {
        "folder": str(folder),
        "arms": ran,
        "comparison": sweep_comparison(folder, ran),
        "transfer": transfer_comparison(folder, ran),
        "report": str(page) if page.exists() else None,
    }
