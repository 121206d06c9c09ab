"""The report stage: tables, figures and the page, from what the store holds."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paramreuse.errors import StudyError
from paramreuse.files import write_text
from paramreuse.plain_text import csv_text
from paramreuse.report.contents import Histogram, ReportData, SourceReport
from paramreuse.report.page import write_report
from paramreuse.reuse.verdict import share_curve
from paramreuse.sites.lending import lend, tensors_of
from paramreuse.sites.matching import sites_of, source_key
from paramreuse.study.answering import answer_in, trials_in
from paramreuse.study.config import TARGET, Study
from paramreuse.study.drawn_figures import drawings_of, write_figures
from paramreuse.study.examples import example_images
from paramreuse.study.findings import Findings, findings_of
from paramreuse.study.job import Job, opened
from paramreuse.study.records import (
    FinishedStage,
    Record,
    SplitSubject,
    StoredDistance,
    StoredLineage,
    StoredShift,
    TrainedEpoch,
    TransferEpoch,
)
from paramreuse.study.stages import costliest_words
from paramreuse.study.store import Store
from paramreuse.study.structure import structure_of
from paramreuse.study.transfer.attempts import attempts_of
from paramreuse.study.transfer.curves import start_curves
from paramreuse.study.transfer.depth import depth_rows
from paramreuse.study.transfer.rewound import rewind_rows
from paramreuse.study.transfer.subject_scores import subject_scores
from paramreuse.study.transfer.table import transfer_rows

if TYPE_CHECKING:
    import pandas as pd

_BINS = 24
_TOLERANCES = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5)


def write_job_report(job: Job) -> Path:
    """Write ``tables/*.csv``, ``figures/*.svg`` and ``report.html`` into the run folder.

    Returns:
        Path of the page.

    Raises:
        StudyError: A file cannot be written.
    """
    data = report_data(job)
    folder = job.bench.folder
    try:
        for name in ("tables", "figures"):
            (folder / name).mkdir(exist_ok=True)
        findings = findings_of(job.bench.study, job.store)
        texts: dict[str, str] = {}
        for name, frame in _tables(findings, data).items():
            texts[name] = csv_text(frame)
            write_text(folder / "tables" / f"{name}.csv", texts[name])
            job.tracker.log_table(name, frame)
        write_figures(drawings_of(findings, data), folder / "figures", texts, job.tracker)
    except OSError as error:
        raise StudyError(f"cannot write into {str(folder)!r}: {error.strerror}") from error
    page = folder / "report.html"
    write_report(data, page)
    return page


def report_data(job: Job) -> ReportData:
    """Gather what the page shows; what has not been measured is named there."""
    study, store = job.bench.study, job.store
    findings = findings_of(study, store)
    answer = answer_in(job.bench.folder, findings)
    sources = tuple(_source_report(job, findings, name) for name in answer.sources)
    missing = {}
    if study.transfer is None:
        missing["transfer"] = "the study asks for no transfer training"
    structure = structure_of(job)
    if structure.edges is None:
        missing["connections"] = structure.reason
    examples = example_images(job.bench.folder, findings, answer)
    if not examples:
        missing["examples"] = "none were kept when this was measured"
    return ReportData(
        study=study.name,
        network=_network_name(study.network.name),
        score="Dice",
        sources=sources,
        sites=structure.sites,
        edges=structure.edges,
        transfer=_transfer(findings),
        depth=depth_rows(job, *trials_in(findings)),
        rewind=rewind_rows(store, attempts_of(study, store)),
        ranking=_ranking(findings, answer.sources),
        curves=[
            {k: row[k] for k in ("model", "epoch", "train_loss", "validation_score")}
            for row in map(asdict, store.read(TrainedEpoch))
        ],
        transfer_curves=start_curves(study, store, answer.num_subjects),
        subject_scores=subject_scores(trials_in(findings)[answer.is_long], answer),
        examples=examples,
        provenance=_provenance(job),
        missing=missing,
        answer=answer,
    )


def _ranking(findings: Findings, best_first: Sequence[str]) -> list[dict[str, Any]]:
    """Return the ranking of two or more sources, in the order of what training with them gave."""
    rows = [dict(row) for row in findings.ranking.rows()]
    if len(rows) < 2:
        return []
    return sorted(rows, key=lambda row: best_first.index(str(row["source"])))


def _network_name(name: str) -> str:
    return {"pspnet": "PSPNet", "unet": "UNet"}.get(name, name)


def _source_report(job: Job, findings: Findings, name: str) -> SourceReport:
    store, spec = job.store, findings.judged_by
    sweep, lineage = findings.sweeps.get(name), findings.lineage(name)
    folder = shlex.quote(str(job.bench.folder))
    return SourceReport(
        name=name,
        sweep=sweep,
        tolerance=spec.tolerance,
        confidence=spec.confidence,
        accept=tuple(spec.accept),
        joint_drop=_joint_drop(findings, name),
        comparison=_without(
            store.read(StoredDistance, source=name), "source", "position", "family"
        ),
        lineage=lineage.lineage if lineage else "",
        lineage_reason=lineage.reason if lineage else "",
        identical_share=lineage.identical_share if lineage else None,
        batchnorm=_without(store.read(StoredShift, source=name), "source"),
        plan=_plan_text(job, findings, name),
        plan_command=(
            f"paramreuse plan {folder} --source {name} --tolerance {{tolerance}} "
            f"-o plan.yaml && paramreuse train {folder} --plan plan.yaml "
            "-o model.safetensors"
        ),
        histograms=_histograms(job, name) if lineage else {},
        notes=tuple(_notes(findings, name)),
    )


def _plan_text(job: Job, findings: Findings, name: str) -> str:
    """Return the plan file, or what the plan would load where there is no file yet."""
    plan_file = job.bench.folder / "plans" / f"{name}.yaml"
    if plan_file.is_file():
        return plan_file.read_text(encoding="utf-8")
    return findings.plan(name).summary() if findings.can_plan and name in findings.sweeps else ""


def _notes(findings: Findings, name: str) -> Iterator[str]:
    if name not in findings.sweeps:
        return
    yield from findings.sweeps[name].notes
    renewed = findings.recalibrated.get(name)
    if renewed is not None:
        yield (
            "With the BatchNorm statistics recomputed after each swap, the largest drop of a "
            "kernel, the output layer aside, is "
            f"{costliest_words(renewed, renewed.kernels)} ({'; '.join(renewed.notes)})."
        )
    yield from _borrowed_plan_note(findings.study, name)


def _joint_drop(findings: Findings, name: str) -> float | None:
    joint = findings.joint_sweep(name)
    return None if joint is None else joint.mean_drop("plan")


def _borrowed_plan_note(study: Study, name: str) -> list[str]:
    owner = study.transfer.plan_from if study.transfer else None
    if owner in (None, name):
        return []
    return [f"In the transfer, what is loaded of it are the sites of the plan of {owner}."]


def _without(records: Sequence[Record], *columns: str) -> list[dict[str, Any]]:
    return [{k: v for k, v in asdict(r).items() if k not in columns} for r in records]


def _histograms(job: Job, source: str) -> dict[str, Histogram]:
    compared = {row.key for row in job.store.read(StoredDistance, source=source)}
    ours = tensors_of(job.bench.checkpoint(TARGET))
    # The source may name its tensors otherwise, such as a Lightning checkpoint with "model." first.
    theirs = lend(ours, opened(job, source))
    pairs: dict[str, tuple[Any, Any]] = {}
    for site in sites_of(ours):
        key = source_key(site, theirs)
        if site.key in compared and key is not None:
            pairs[site.key] = (ours[site.key].float().numpy(), theirs[key].float().numpy())
    return {key: _histogram(*pair) for key, pair in pairs.items() if _is_finite(*pair)}


def _is_finite(*tensors: Any) -> bool:
    return all(bool(np.isfinite(values).all()) for values in tensors)


def _histogram(ours: Any, theirs: Any) -> Histogram:
    low = float(min(ours.min(), theirs.min()))
    high = float(max(ours.max(), theirs.max()))
    edges = np.linspace(low, high if high > low else low + 1e-6, _BINS + 1)
    shares = [np.histogram(values, edges)[0] / values.size for values in (ours, theirs)]
    return Histogram(edges, shares[0], shares[1])


def _transfer(findings: Findings) -> list[dict[str, Any]]:
    sweep = next(iter(findings.sweeps.values()), None)
    if sweep is None:
        return []
    attempts = attempts_of(findings.study, findings.store)
    return transfer_rows(findings.store, sweep.foreground_classes, attempts)


def _provenance(job: Job) -> dict[str, object]:
    store, study = job.store, job.bench.study
    splits: dict[str, dict[str, list[str]]] = {}
    for row in store.read(SplitSubject):
        splits.setdefault(row.data, {}).setdefault(row.fold, []).append(row.subject)
    return {
        "versions": store.fact("provenance") or {},
        "seed": study.seed,
        "study": study.model_dump(mode="json"),
        "subjects": splits,
        "stages": {
            row.stage: f"{row.summary} ({row.seconds:.1f} s, {row.finished})"
            for row in store.read(FinishedStage)
        },
        "left out": {
            row.source: [f"{item['key']}: {item['reason']}" for item in json.loads(row.skipped)]
            for row in store.read(StoredLineage)
        },
    }


def _tables(findings: Findings, data: ReportData) -> dict[str, "pd.DataFrame"]:
    import pandas as pd

    confidence = findings.judged_by.confidence
    tables: dict[str, pd.DataFrame] = {}
    for source, sweep in findings.sweeps.items():
        tables[f"sweep-{source}"] = sweep.frame(confidence=confidence)
        tables[f"verdict-{source}"] = findings.verdicts[source].frame()
        tables[f"share-{source}"] = pd.DataFrame(
            share_curve(sweep, _TOLERANCES, confidence=confidence)
        )
        if source in findings.recalibrated:
            renewed = findings.recalibrated[source]
            tables[f"recalibrated-{source}"] = renewed.frame(confidence=confidence)
    rows: dict[str, Sequence[Mapping[str, object]]] = {
        "distances": _rows(findings.store, StoredDistance),
        "batchnorm": _rows(findings.store, StoredShift),
        "learning": _rows(findings.store, TrainedEpoch),
        "transfer": data.transfer,
        "depth": data.depth,
        "rewind": data.rewind,
        "transfer-learning": [
            # This table's own name of the column, which scripts read.
            {"subjects" if name == "num_subjects" else name: value for name, value in row.items()}
            for row in _rows(findings.store, TransferEpoch)
        ],
        "ranking": data.ranking,
    }
    return tables | {name: pd.DataFrame(rows[name]) for name in rows if rows[name]}


def _rows(store: Store, kind: type[Record]) -> list[dict[str, Any]]:
    return [asdict(record) for record in store.read(kind)]
