"""Writing what all arms show together: figures, tables, and a page of them in two forms."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from paramreuse._version import __version__
from paramreuse.errors import StudyError
from paramreuse.files import write_text
from paramreuse.papers.evidence import Arm, Evidence
from paramreuse.papers.figures.data import figure_frames
from paramreuse.papers.figures.drawing import draw
from paramreuse.papers.figures.svg import svg_text
from paramreuse.papers.figures.table import title_of
from paramreuse.papers.model_words import letter_of, model_words
from paramreuse.papers.page.content import (
    ResultsContent,
    Section,
    ShownFigure,
    ShownTable,
    shown_table,
)
from paramreuse.papers.page.html import results_html
from paramreuse.papers.page.markdown import results_markdown
from paramreuse.papers.tables.numbered import paper_tables
from paramreuse.plain_text import csv_text
from paramreuse.report.contents import Row

if TYPE_CHECKING:
    import pandas as pd

Frame: TypeAlias = "pd.DataFrame"

_TITLES = {
    "arms": "What was run",
    "claims": "The claims",
    "rules": "The rules that they are judged by",
    "claim-numbers": "The numbers behind the claims",
    "table-1": "Table 1. UNet: Dice of the untouched target",
    "table-2": "Table 2. PSPNet with and without biases: Dice of the untouched target",
    "table-3": "Table 3. Dice after reuse",
    "ablation": "Short and long connections: mean drop over the kernels of a UNet",
    "shares": "Layers that can be reused, by kind",
    "distances": "Distance between the kernels of two models, medians over the layers",
}
_HIDDEN = {
    "claims": ("rule",),
    "table-3": ("network", "start", "source", "paper_subjects"),
    "shares": ("network", "source_words", "tolerance"),
    "distances": ("network",),
}
"""Columns that only the files hold."""

_FOLDED = ("rules", "claim-numbers", "shares", "distances")

_ABOUT_CLAIMS = (
    "Each claim of the papers, judged by its rule under each condition: holds, does not "
    "hold, or cannot tell (the numbers below say why). Empty: the condition makes no difference to "
    "the rule. Shared, independent: whether all models began from the same weights. Control: what "
    "shuffled values do as well is not reusable. Relative: RMSE over the size of both tensors. "
    "Recalibrated: BatchNorm statistics recomputed after each swap. Swaps are those from the "
    "first source of an arm."
)
_ABOUT_TABLES = (
    "Dice per class on the validation subjects. The columns called paper hold what the papers "
    "print for ACDC, T1 and RVSC; where other data stand in for these, they are there for "
    "orientation only. In table 3 the papers' 10 subjects stand beside the fewest and their 50 "
    "beside the most; mean is over all classes, as the papers take it, and foreground mean leaves "
    "the background out, first per subject; sd is over the seeds."
)
_ABOUT_FIGURES = (
    "Numbered as in the papers. A table beside each holds what is drawn, and what is not: the "
    "control, the background, the foreground mean, the output layer and the relative RMSE."
)
_ABOUT_SUMMARIES = (
    "The ablation's drops are of the foreground mean, over the subjects on which every kernel was "
    "scored. Paper share: the drop is at most the tolerance, no control. Share: the interval is "
    "below the tolerance and that of every control above it, or both models hold the same. "
    "Recalibrated paper share: with the BatchNorm statistics recomputed after each swap; such "
    "swaps have no control, so it compares with the paper share alone. The output layer is left "
    "out."
)


def write_results(
    evidence: Evidence,
    folder: Path,
    claim_rows: Sequence[Row],
    claim_number_rows: Sequence[Row],
    *,
    provenance: Mapping[str, object] | None = None,
) -> Path:
    """Write ``tables/*.csv``, ``figures/*.{svg,csv}``, ``results.md`` and ``results.html``.

    A figure or table that can no longer be made is taken away, and the page says why it is missing.

    Args:
        evidence: What the arms measured.
        folder: Where; an arm whose ``arms/NAME/report.html`` is there is linked to.
        claim_rows: The claims table, one row per claim: ``claim statement rule``, then the outcome
            under each condition.
        claim_number_rows: The numbers behind it, one row per claim and condition.
        provenance: How the results came about, by name, e.g. command, seed and versions.

    Returns:
        Path of ``results.html``.

    Raises:
        StudyError: A file cannot be written.
        MissingExtraError: jinja2 or matplotlib is not installed.
    """
    figures, tables = figure_frames(evidence), paper_tables(evidence)
    drawings = {name: svg_text(draw(frame), _short(name)) for name, frame in figures.frames.items()}
    frames = _own_frames(evidence, claim_rows, claim_number_rows) | dict(tables.frames)
    content = ResultsContent(
        f"What the arms of {evidence.name} show",
        {"profile": evidence.profile or "none", "paramreuse": __version__}
        | {name: str(value) for name, value in (provenance or {}).items()},
        (
            Section("Claims", _ABOUT_CLAIMS, _shown(frames, "claims", "rules", "claim-numbers")),
            Section("Tables", _ABOUT_TABLES, _shown(frames, "table-1", "table-2", "table-3")),
            Section("Figures", _ABOUT_FIGURES, figures=_shown_figures(figures.frames, drawings)),
            Section(
                "Summaries", _ABOUT_SUMMARIES, _shown(frames, "ablation", "shares", "distances")
            ),
            Section("Arms", "", _shown(frames, "arms"), links=_report_links(evidence, folder)),
        ),
        dict(figures.missing) | dict(tables.missing),
    )
    texts = {f"tables/{name}.csv": csv_text(frame) for name, frame in frames.items()}
    texts |= {f"figures/{name}.csv": csv_text(frame) for name, frame in figures.frames.items()}
    texts |= {f"figures/{name}.svg": drawing for name, drawing in drawings.items()}
    texts |= {"results.md": results_markdown(content), "results.html": results_html(content)}
    try:
        _write(folder, texts)
    except OSError as error:
        raise StudyError(f"cannot write into {str(folder)!r}: {error.strerror}") from error
    return folder / "results.html"


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    """Write the files, and remove those of an earlier run that it does not replace."""
    for name in ("tables", "figures"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    before = [folder / "tables" / f"{name}.csv" for name in _TITLES]
    before += folder.glob("figures/figure-[0-9][0-9]*.*")
    for path in set(before) - {folder / name for name in texts}:
        path.unlink(missing_ok=True)
    for name, text in texts.items():
        write_text(folder / name, text)


def _short(name: str) -> str:
    return name.replace("figure-", "f").replace("-independent", "i")


def _own_frames(
    evidence: Evidence, claim_rows: Sequence[Row], claim_number_rows: Sequence[Row]
) -> dict[str, Frame]:
    import pandas as pd

    rows = {
        "arms": [_arm_row(arm) for arm in evidence.arms],
        "claims": [dict(row) for row in claim_rows],
        "rules": [{"claim": row["claim"], "rule": row["rule"]} for row in claim_rows],
        "claim-numbers": [dict(row) for row in claim_number_rows],
    }
    return {name: pd.DataFrame(table) for name, table in rows.items() if table}


def _arm_row(arm: Arm) -> dict[str, object]:
    words = model_words(arm)
    sweep = next(iter(arm.sweeps.values()), None)
    return {
        "arm": arm.name,
        "network": arm.network,
        "start": arm.start,
        "bias": arm.bias,
        "residual": arm.residual if arm.network == "unet" else "",
        "long_skips": arm.long_skips if arm.network == "unet" else "",
        "models": "; ".join(f"{letter_of(name)} {said}" for name, said in words.items()),
        "swept": ", ".join(letter_of(name) for name in arm.sweeps),
        "subjects": len(sweep.subjects) if sweep else 0,
        "tolerance": arm.tolerance,
    }


def _report_links(evidence: Evidence, folder: Path) -> dict[str, str]:
    pages = {arm.name: f"arms/{arm.name}/report.html" for arm in evidence.arms}
    return {f"report of {name}": page for name, page in pages.items() if (folder / page).is_file()}


def _shown(frames: Mapping[str, Frame], *names: str) -> list[ShownTable]:
    return [
        shown_table(
            _TITLES[name],
            frames[name].to_dict("records"),
            f"tables/{name}.csv",
            hidden=_HIDDEN.get(name, ()),
            is_folded=name in _FOLDED,
        )
        for name in names
        if name in frames
    ]


def _shown_figures(frames: Mapping[str, Frame], drawings: Mapping[str, str]) -> list[ShownFigure]:
    return [
        ShownFigure(
            title_of(frame).replace("\n", " "),
            drawings[name],
            f"figures/{name}.svg",
            f"figures/{name}.csv",
        )
        for name, frame in sorted(frames.items())
    ]
