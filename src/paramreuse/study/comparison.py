"""What several runs show beside each other, arms of a file or any others."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from paramreuse.errors import StudyError
from paramreuse.files import write_text
from paramreuse.plain_text import Row, csv_text
from paramreuse.report.answer import Answer
from paramreuse.report.arms_page import ArmsPage, Table, arms_html
from paramreuse.report.starts import SCRATCH
from paramreuse.report.transfer_table import summarise_transfer
from paramreuse.study.answering import answer_in
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


def answers_compared(runs: Mapping[str, Path]) -> list[Row]:
    """Return one row per run: what it says to load, what that reached, and what it gained.

    Args:
        runs: Run folders by name.

    Returns:
        Rows with ``arm answer source score scratch gain gain_low gain_high subjects cautions``;
        what is not known is None, and ``cautions`` is how many there are.
    """
    rows: list[Row] = []
    for name, folder in runs.items():
        with opened_findings(folder) as findings:
            answer = answer_in(folder, findings)
        rows.append({"arm": name} | _answer_row(answer))
    return rows


def _answer_row(answer: Answer) -> Row:
    chosen, scratch = answer.chosen, next((s for s in answer.starts if s.strategy == SCRATCH), None)
    gain = answer.gain
    return {
        "answer": answer.headline,
        "source": chosen.source if chosen and chosen.source else None,
        "score": chosen.score.mean if chosen else None,
        "scratch": scratch.score.mean if scratch else None,
        "gain": gain.mean if gain else None,
        "gain_low": gain.low if gain else None,
        "gain_high": gain.high if gain else None,
        "subjects": answer.num_subjects,
        "cautions": len(answer.cautions),
    }


def sweep_comparison(runs: Mapping[str, Path]) -> list[Row]:
    """Return one row per run and swept source: what its swaps cost, and what can be reused.

    Args:
        runs: Run folders by name.

    Returns:
        Rows with ``arm source lineage baseline kernel_share paper_kernel_share mean_drop rmse
        relative_rmse reusable_network``; ``baseline`` is the untouched target's mean score.
    """
    rows: list[Row] = []
    for name, folder in runs.items():
        with opened_findings(folder) as findings:
            rows += [{"arm": name} | row for row in _source_rows(findings)]
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


def transfer_comparison(runs: Mapping[str, Path]) -> list[Row]:
    """Return the rows of every run's transfer table, its name in front.

    Args:
        runs: Run folders by name.
    """
    rows: list[Row] = []
    for name, folder in runs.items():
        with opened_findings(folder) as findings:
            sweep = next(iter(findings.sweeps.values()), None)
            attempts = attempts_of(findings.study, findings.store)
            foreground = sweep.foreground_classes if sweep else ()
            trained = transfer_rows(findings.store, foreground, attempts)
            classes = sweep.classes if sweep else ()
            rows += [{"arm": name} | row for row in summarise_transfer(trained, classes)]
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
    """Write the tables of the arms of a file, and the page that shows them.

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

    runs = _runs_of(folder, arms)
    tables = _tables(runs)
    reports = {arm: f"{ARMS}/{arm}/report.html" for arm in runs}
    page = ArmsPage(
        f"{name}: its arms compared",
        tuple(tables.values()),
        reports,
        tuple(arm for arm in arms if arm not in runs),
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


def compare_runs(folders: Sequence[Path], out: Path) -> Path:
    """Write a page that compares run folders.

    Args:
        folders: Two run folders or more; each is called by its name, or its path where two share
            a name.
        out: The page to write.

    Returns:
        Path of the page.

    Raises:
        StudyError: One is not a run folder, is given twice, or the page cannot be written.
        MissingExtraError: jinja2 is not installed.
    """
    runs = _named(folders)
    reports = {
        name: Path(os.path.relpath(folder / "report.html", out.parent)).as_posix()
        for name, folder in runs.items()
        if (folder / "report.html").is_file()
    }
    page = ArmsPage("Runs compared", tuple(_tables(runs).values()), reports, ())
    try:
        write_text(out, arms_html(page))
    except OSError as error:
        raise StudyError(f"cannot write the page {str(out)!r}: {error.strerror}") from error
    return out


def _named(folders: Sequence[Path]) -> dict[str, Path]:
    places = [folder.resolve() for folder in folders]
    twice = next((folder for folder in places if places.count(folder) > 1), None)
    if twice is not None:
        raise StudyError(f"cannot compare {str(twice)!r} with itself: name each run once")
    names = [folder.name for folder in places]
    return {
        place.name if names.count(place.name) == 1 else str(folder): folder
        for place, folder in zip(places, folders, strict=True)
    }


def _tables(runs: Mapping[str, Path]) -> dict[str, Table]:
    contents = {name: lasting(read_run(folder)) for name, folder in runs.items()}
    for content in contents.values():
        content.pop("name")
    return {
        "answers": Table("What came out", answers_compared(runs)),
        "arms": Table("What was measured, source by source", sweep_comparison(runs)),
        "transfer": Table("Transfer: mean score of each training", transfer_comparison(runs)),
        "differences": Table("What differs between them", differences(contents)),
    }


def _runs_of(folder: Path, arms: Sequence[str]) -> dict[str, Path]:
    return {arm: folder / ARMS / arm for arm in arms_that_ran(folder, arms)}


def comparison_outcome(folder: Path, arms: Sequence[str]) -> Row:
    """Return what ``run --json`` writes of a study with arms of your own.

    Args:
        folder: Where ``arms/NAME`` are.
        arms: Names of all arms.

    Returns:
        ``folder``; ``arms``, the names of those that have run; ``answers``, ``comparison`` and
        ``transfer``, the rows of the tables; and ``report``, the page's path, None if it has not
        been written.
    """
    runs = _runs_of(folder, arms)
    page = folder / PAGE
    return {
        "folder": str(folder),
        "arms": list(runs),
        "answers": answers_compared(runs),
        "comparison": sweep_comparison(runs),
        "transfer": transfer_comparison(runs),
        "report": str(page) if page.exists() else None,
    }
