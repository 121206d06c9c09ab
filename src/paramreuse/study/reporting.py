"""The report stage: tables, figures and the page, from what the store holds."""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paramreuse.errors import ParamReuseError, StudyError
from paramreuse.files import write_text
from paramreuse.plain_text import csv_text, plain_figure
from paramreuse.report.connections import layer_edges
from paramreuse.report.contents import Histogram, ReportData, SourceReport
from paramreuse.report.page import write_report
from paramreuse.reuse.plan import plan_reuse
from paramreuse.reuse.verdict import Verdict, judge, share_curve
from paramreuse.sites.lending import tensors_of
from paramreuse.sites.matching import Site, sites_of
from paramreuse.study.config import TARGET, Study
from paramreuse.study.costliest import costliest_kernel, mean_drop
from paramreuse.study.examples import example_images
from paramreuse.study.job import Job, opened
from paramreuse.study.source_ranking import ranked_sources
from paramreuse.study.store import Store
from paramreuse.study.stored_sweep import read_sweep
from paramreuse.study.transfer.attempts import attempts_of
from paramreuse.study.transfer.stage import transfer_rows
from paramreuse.sweep.outcomes import Sweep

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_BINS = 24
_TOLERANCES = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5)
_LEVEL = 0.9
"""Share of the final Dice of ``scratch`` that counts as reached, for the epochs to get there."""


def write_results(job: Job) -> Path:
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
        for name, frame in _tables(job, data).items():
            write_text(folder / "tables" / f"{name}.csv", csv_text(frame))
            job.tracker.log_table(name, frame)
        for name, figure in _figures(data).items():
            plain_figure(figure).savefig(folder / "figures" / f"{name}.svg", bbox_inches="tight")
            job.tracker.log_figure(name, figure)
    except OSError as error:
        raise StudyError(f"cannot write into {str(folder)!r}: {error.strerror}") from error
    page = folder / "report.html"
    write_report(data, page)
    return page


def report_data(job: Job) -> ReportData:
    """Gather what the page shows; what has not been measured is named there."""
    study, store = job.bench.study, job.store
    sources = tuple(_source_report(job, name) for name in study.sources)
    missing = {}
    if study.transfer is None:
        missing["transfer"] = "the study asks for no transfer training"
    sites: tuple[Site, ...] = ()
    edges = None
    try:
        sites, edges = _structure(job)
    except ParamReuseError as error:
        missing["connections"] = str(error)
    try:
        examples = example_images(job)
    except ParamReuseError as error:
        examples = ()
        missing["examples"] = str(error)
    return ReportData(
        study=study.name,
        network=_network_name(study.network.name),
        score="Dice",
        sources=sources,
        sites=sites,
        edges=edges,
        transfer=_transfer(job, sources),
        ranking=_ranking(job),
        curves=[
            {k: row[k] for k in ("model", "epoch", "train_loss", "validation_score")}
            for row in store.rows("epochs")
        ],
        examples=examples,
        provenance=_provenance(job),
        missing=missing,
    )


def _structure(job: Job) -> tuple[tuple[Site, ...], list[tuple[str, str]]]:
    """Return the target's sites and the connections between its layers."""
    target = job.bench.model(TARGET)
    images = job.bench.images(job.bench.target.data).validation.images
    example = images[:2].to(job.bench.torch_device)
    return tuple(sites_of(target, example_input=example)), layer_edges(target, example)


def _network_name(name: str) -> str:
    return {"pspnet": "PSPNet", "unet": "UNet"}.get(name, name)


def _source_report(job: Job, name: str) -> SourceReport:
    store, spec = job.store, job.bench.study.judge
    sweep = read_sweep(store, name)
    lineage = store.rows("lineages", source=name)
    plan, notes = "", list(sweep.notes) if sweep else []
    folder = shlex.quote(str(job.bench.folder))
    plan_file = job.bench.folder / "plans" / f"{name}.yaml"
    if sweep is not None:
        verdict = judge(sweep, tolerance=spec.tolerance, confidence=spec.confidence)
        if "single" in job.bench.study.sweep.swaps:
            plan = plan_reuse(verdict, source=name, accept=spec.accept).summary()
        notes += _recalibrated_note(job, name)
        notes += _joint_note(store, name) + _borrowed_plan_note(job.bench.study, name)
    return SourceReport(
        name=name,
        sweep=sweep,
        tolerance=spec.tolerance,
        confidence=spec.confidence,
        accept=tuple(spec.accept),
        comparison=_without(store.rows("distances", source=name), "source", "position", "family"),
        lineage=lineage[0]["lineage"] if lineage else "",
        lineage_reason=lineage[0]["reason"] if lineage else "",
        identical_share=lineage[0]["identical_share"] if lineage else None,
        batchnorm=_without(store.rows("batchnorms", source=name), "source"),
        plan=plan_file.read_text(encoding="utf-8") if plan_file.is_file() else plan,
        plan_command=(
            f"paramreuse plan {folder} --source {name} --tolerance {{tolerance}} "
            f"-o plan.yaml && paramreuse train {folder} --plan plan.yaml "
            "-o model.safetensors"
        ),
        histograms=_histograms(job, name) if lineage else {},
        notes=tuple(notes),
    )


def _joint_note(store: Store, name: str) -> list[str]:
    joint = read_sweep(store, f"plan of {name}")
    if joint is None:
        return []
    drop = mean_drop(joint, "plan")
    cost = "give outputs that are not finite" if isnan(drop) else f"cost {drop:.3f}"
    return [f"All {len(joint.swaps[0].sites)} sites of the plan swapped in at once {cost}."]


def _borrowed_plan_note(study: Study, name: str) -> list[str]:
    owner = study.transfer.plan_from if study.transfer else None
    if owner in (None, name):
        return []
    return [f"In the transfer, what is loaded of it are the sites of the plan of {owner}."]


def _recalibrated_note(job: Job, name: str) -> list[str]:
    found = _recalibrated(job, name)
    if found is None:
        return []
    return [
        "With the BatchNorm statistics recomputed after each swap, the largest drop of a kernel, "
        f"the output layer aside, is {costliest_kernel(found)} ({'; '.join(found.notes)})."
    ]


def _recalibrated(job: Job, name: str) -> Sweep | None:
    """Return the sweep after recalibration if the study asks for it: it may be one of before."""
    if not job.bench.study.sweep.recalibrate:
        return None
    return read_sweep(job.store, f"recalibrated {name}")


def _without(rows: Sequence[dict[str, Any]], *columns: str) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in columns} for row in rows]


def _histograms(job: Job, source: str) -> dict[str, Histogram]:
    keys = [row["key"] for row in job.store.rows("distances", source=source)]
    ours, theirs = tensors_of(job.bench.checkpoint(TARGET)), opened(job, source)
    pairs = {key: (ours[key].float().numpy(), theirs[key].float().numpy()) for key in keys}
    return {key: _histogram(*pair) for key, pair in pairs.items() if _is_finite(*pair)}


def _is_finite(*tensors: Any) -> bool:
    return all(bool(np.isfinite(values).all()) for values in tensors)


def _histogram(ours: Any, theirs: Any) -> Histogram:
    low = float(min(ours.min(), theirs.min()))
    high = float(max(ours.max(), theirs.max()))
    edges = np.linspace(low, high if high > low else low + 1e-6, _BINS + 1)
    shares = [np.histogram(values, edges)[0] / values.size for values in (ours, theirs)]
    return Histogram(edges, shares[0], shares[1])


def _transfer(job: Job, sources: Sequence[SourceReport]) -> list[dict[str, Any]]:
    sweep = next((source.sweep for source in sources if source.sweep is not None), None)
    if sweep is None:
        return []
    pairs = zip(sweep.classes, sweep.foreground, strict=True)
    foreground = [name for name, counts in pairs if counts]
    rows = transfer_rows(job.store, foreground, attempts_of(job.bench.study, job.store))
    for row in rows:
        row["epochs_to_level"] = _epochs_to_level(job.store, rows, row)
    return rows


def _epochs_to_level(
    store: Store, rows: Sequence[Mapping[str, Any]], row: Mapping[str, Any]
) -> float:
    """Return the first epoch that reaches 90 % of what ``scratch`` ends with; NaN if none does."""
    scratch = [
        other["mean"]
        for other in rows
        if other["strategy"] == "scratch" and other["num_subjects"] == row["num_subjects"]
    ]
    if not scratch:
        return float("nan")
    epochs = store.rows(
        "transfer_epochs",
        source=row["source"],
        strategy=row["strategy"],
        subjects=row["num_subjects"],
        seed=row["seed"],
    )
    level = _LEVEL * float(np.mean(scratch))
    reached = [
        epoch["epoch"]
        for epoch in epochs
        if epoch["validation_score"] is not None and epoch["validation_score"] >= level
    ]
    return float(min(reached, default=float("nan")))


def _ranking(job: Job) -> list[dict[str, Any]]:
    rows = ranked_sources(job.store, job.bench.study)
    return rows if len(rows) > 1 else []


def _provenance(job: Job) -> dict[str, object]:
    store, study = job.store, job.bench.study
    splits: dict[str, dict[str, list[str]]] = {}
    for row in store.rows("splits"):
        splits.setdefault(row["data"], {}).setdefault(row["fold"], []).append(row["subject"])
    return {
        "versions": store.fact("provenance") or {},
        "seed": study.seed,
        "study": study.model_dump(mode="json"),
        "subjects": splits,
        "stages": {
            row["stage"]: f"{row['summary']} ({row['seconds']:.1f} s, {row['finished']})"
            for row in store.rows("stages")
        },
        "left out": {
            row["source"]: [
                f"{item['key']}: {item['reason']}" for item in json.loads(row["skipped"])
            ]
            for row in store.rows("lineages")
        },
    }


def _tables(job: Job, data: ReportData) -> dict[str, "pd.DataFrame"]:
    import pandas as pd

    tables: dict[str, pd.DataFrame] = {}
    for source in data.sources:
        if source.sweep is None:
            continue
        verdict = judge(source.sweep, tolerance=source.tolerance, confidence=source.confidence)
        tables[f"sweep-{source.name}"] = source.sweep.frame(confidence=source.confidence)
        tables[f"verdict-{source.name}"] = verdict.frame()
        tables[f"share-{source.name}"] = pd.DataFrame(
            share_curve(source.sweep, _TOLERANCES, confidence=source.confidence)
        )
        renewed = _recalibrated(job, source.name)
        if renewed is not None:
            frame = renewed.frame(confidence=source.confidence)
            tables[f"recalibrated-{source.name}"] = frame
    held = {
        "distances": job.store.rows("distances"),
        "batchnorm": job.store.rows("batchnorms"),
        "learning": job.store.rows("epochs"),
        "transfer": list(data.transfer),
        "transfer-learning": job.store.rows("transfer_epochs"),
        "ranking": list(data.ranking),
    }
    return tables | {name: pd.DataFrame(rows) for name, rows in held.items() if rows}


def _figures(data: ReportData) -> dict[str, "Figure"]:
    import pandas as pd

    from paramreuse.report import figures

    drawn: dict[str, Figure] = {}
    compared = [
        {"source": source.name} | dict(row) for source in data.sources for row in source.comparison
    ]
    for source in data.sources:
        if source.sweep is not None:
            verdict = judge(source.sweep, tolerance=source.tolerance, confidence=source.confidence)
            drawn |= _sweep_figures(source, verdict)
        if source.batchnorm:
            frame = pd.DataFrame(source.batchnorm)
            drawn[f"batchnorm-{source.name}"] = _of(figures.plot_batchnorm, frame)
    if compared:
        drawn["distances"] = _of(figures.plot_distance, pd.DataFrame(compared))
    if data.transfer:
        drawn["transfer"] = _of(figures.plot_transfer, pd.DataFrame(data.transfer))
    return drawn


def _sweep_figures(source: SourceReport, verdict: Verdict) -> dict[str, "Figure"]:
    from paramreuse.report import figures

    assert source.sweep is not None
    singles = any(swap.is_single for swap in source.sweep.swaps)
    if not singles:
        return {}
    return {
        f"sweep-{source.name}": figures.figure_sweep(source.sweep),
        f"map-{source.name}": _of(figures.plot_map, verdict),
    }


def _of(plot: Callable[[Any], Any], content: object) -> "Figure":
    figure: Figure = plot(content).figure
    return figure
