"""The data of the page, as its script reads them."""

from collections.abc import Iterable, Mapping, Sequence

from paramreuse.report.answer import Answer
from paramreuse.report.answer_view import answer_shown, plan_trial
from paramreuse.report.colours import CLASS_COLOURS
from paramreuse.report.contents import Histogram, ReportData, Row, SourceReport
from paramreuse.report.pictures import picture_rows
from paramreuse.report.plain_values import plain, short, table
from paramreuse.report.swap_facts import swap_facts
from paramreuse.report.transfer_table import best_first, summarise_transfer, transfer_classes
from paramreuse.report.words import WORDS
from paramreuse.reuse.control_notes import control_notes
from paramreuse.reuse.network import BETTER, REUSABLE_SHARE, WHAT_CAN_TELL
from paramreuse.reuse.verdict import ROUNDING
from paramreuse.sites.matching import Site, output_channels, units_of
from paramreuse.sweep.intervals import (
    FEWEST_SUBJECTS,
    LEAST_SKEWNESS,
    MOST_REACH_ABOVE,
    MOST_REACH_BELOW,
)
from paramreuse.sweep.outcomes import Sweep
from paramreuse.sweep.stopping import TOLERANCE

_PARTS = {
    "sweep": "Sweep: what swapping each site costs",
    "comparison": "Distance between target and source",
    "lineage": "Lineage: whether target and source share a start",
    "batchnorm": "BatchNorm: shift and scale caused by the source's statistics",
    "plan": "Plan: what to load from the source",
    "connections": "Connections of the network: layers are drawn in order only",
    "transfer": "Transfer: training with and without the plan",
    "ranking": "Ranking of the sources",
    "claims": "Claims checked",
    "curves": "Learning curves",
    "examples": "Example images",
    "provenance": "Provenance: versions, seeds, commands",
}


def page_payload(data: ReportData, answer: Answer | None = None) -> dict[str, object]:
    """Return what the page's script needs, in plain values.

    Args:
        data: What the page shows.
        answer: The answer on its first screen; computed from ``data`` if None.
    """
    answer = answer or answer_shown(data)
    sites = known_sites(data)
    site_index = {site.key: index for index, site in enumerate(sites)}
    classes = known_classes(data)
    return {
        "study": data.study,
        "network": data.network,
        "score": data.score,
        "baseline": plain(_baseline(data)),
        "share": REUSABLE_SHARE,
        "rounding": ROUNDING,
        "better": BETTER,
        "whatCanTell": WHAT_CAN_TELL,
        "fewestSubjects": FEWEST_SUBJECTS,
        "mostReach": [MOST_REACH_BELOW, MOST_REACH_ABOVE],
        "leastSkewness": LEAST_SKEWNESS,
        "colours": CLASS_COLOURS,
        "sites": [_site(site) for site in sites],
        "units": _units(sites, site_index),
        "edges": _edges(data, sites),
        "sources": [
            _source(source, site_index) | {"planTrial": plan_trial(answer, source.name)}
            for source in data.sources
        ],
        "transfer": table(data.transfer),
        "transferSummary": plain(best_first(_summed(data, classes))),
        "transferClasses": transfer_classes(data.transfer, classes),
        "depth": plain([dict(row) for row in data.depth]),
        "rewind": plain([dict(row) for row in data.rewind]),
        "ranking": table(data.ranking),
        "claims": table(data.claims),
        "curves": table(data.curves),
        "transferCurves": table(data.transfer_curves),
        "subjectScores": table(data.subject_scores),
        "examples": picture_rows(data.examples),
        "classes": classes,
        "words": dict(WORDS),
    }


def _summed(data: ReportData, classes: Sequence[str]) -> list[Row]:
    tolerance = data.sources[0].tolerance if data.sources else TOLERANCE
    return [*summarise_transfer(data.transfer, classes, tolerance=tolerance)]


def known_sites(data: ReportData) -> list[Site]:
    """Return the target's sites, front to back: those given, then any other that was swept."""
    swept = (site for sweep in _sweeps(data) for swap in sweep.swaps for site in swap.sites)
    sites: dict[str, Site] = {}
    for site in (*data.sites, *swept):
        sites.setdefault(site.key, site)
    return list(sites.values())


def known_classes(data: ReportData) -> list[str]:
    """Return the names of the classes, background first, as far as anything tells them."""
    for sweep in _sweeps(data):
        return list(sweep.classes)
    return [name for name in data.baseline or {} if name != "mean"]


def missing_parts(data: ReportData) -> list[dict[str, str]]:
    """Name the parts that are not there, each with the reason where one is known."""
    sources = data.sources
    absent = {
        "connections": data.edges is None,
        **{
            name: not getattr(data, name)
            for name in ("transfer", "ranking", "claims", "curves", "examples", "provenance")
        },
    }
    for name in ("sweep", "comparison", "lineage", "batchnorm", "plan"):
        absent[name] = not sources or any(not _has(source, name) for source in sources)
    parts = []
    for name, text in _PARTS.items():
        if absent[name]:
            lacking = [source for source in sources if not _has(source, name)]
            some = len(lacking) < len(sources) and name not in data.missing
            whose = (
                f" (for {', '.join(source.name for source in lacking)})" if lacking and some else ""
            )
            parts.append({"part": text + whose, "reason": data.missing.get(name, "")})
    return parts


def _has(source: SourceReport, name: str) -> bool:
    return not hasattr(source, name) or bool(getattr(source, name))


def _sweeps(data: ReportData) -> Iterable[Sweep]:
    return (source.sweep for source in data.sources if source.sweep is not None)


def _baseline(data: ReportData) -> Mapping[str, float]:
    if data.baseline is not None:
        return data.baseline
    return next((sweep.baseline_scores() for sweep in _sweeps(data)), {})


def _site(site: Site) -> dict[str, object]:
    return {
        "key": site.key,
        "name": site.name,
        "layer": site.layer,
        "family": site.family,
        "path": site.path,
        "kind": site.kind.value,
        "attribute": site.attribute,
        "shape": site.shape,
        "output": site.is_output,
    }


def _units(sites: Sequence[Site], site_index: Mapping[str, int]) -> list[object]:
    return [
        {
            "name": unit.name,
            "path": unit.sites[0].path,
            "channels": output_channels(unit.sites[0]) if unit.sites[0].shape else 1,
            "output": unit.sites[0].is_output,
            "sites": [site_index[site.key] for site in unit.sites],
        }
        for unit in units_of(sites)
    ]


def _edges(data: ReportData, sites: Sequence[Site]) -> list[list[int]] | None:
    """Return the known connections as pairs of unit numbers; None where none are known."""
    if data.edges is None:
        return None
    unit_of = {
        site.path: number for number, unit in enumerate(units_of(sites)) for site in unit.sites
    }
    pairs = {
        (unit_of[start], unit_of[end])
        for start, end in data.edges
        if start in unit_of and end in unit_of
    }
    return [[start, end] for start, end in sorted(pairs) if start != end]


def _source(source: SourceReport, site_index: Mapping[str, int]) -> dict[str, object]:
    return {
        "name": source.name,
        "tolerance": source.tolerance,
        "confidence": source.confidence,
        "lineage": source.lineage,
        "lineageReason": source.lineage_reason,
        "identicalShare": plain(source.identical_share),
        "plan": source.plan,
        "planCommand": source.plan_command,
        "notes": list(source.notes),
        "jointDrop": plain(source.joint_drop),
        "jointMeasured": source.joint_drop is not None,
        "accept": [str(word) for word in source.accept],
        "comparison": table(source.comparison),
        "batchnorm": table(source.batchnorm),
        "histograms": {key: _histogram(histogram) for key, histogram in source.histograms.items()},
        "sweep": None if source.sweep is None else _sweep(source, source.sweep, site_index),
    }


def _sweep(source: SourceReport, sweep: Sweep, site_index: Mapping[str, int]) -> dict[str, object]:
    base = sweep.baseline_scores()
    return {
        "subjects": [str(subject) for subject in sweep.subjects],
        "classes": sweep.classes,
        "foreground": sweep.foreground,
        "baseline": [short(score) for score in base.values()],
        "judgedBaseline": plain(sweep.mean_baseline),
        "constant": plain(sweep.constant),
        "lineage": sweep.lineage,
        "controls": sweep.controls,
        "notes": [*sweep.notes, *control_notes(sweep)],
        "skipped": [[skipped.key, skipped.reason] for skipped in sweep.skipped],
        "swaps": swap_facts(source, sweep, site_index),
    }


def _histogram(histogram: Histogram) -> dict[str, object]:
    return {
        name: [short(float(v)) for v in getattr(histogram, name)]
        for name in ("edges", "target", "source")
    }
