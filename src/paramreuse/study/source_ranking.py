"""The sources of a study judged and ranked, from what its store holds."""

from collections.abc import Sequence
from typing import Any

from paramreuse.reuse.ranking import finite_mean, last_if_nan
from paramreuse.reuse.verdict import Verdict, judge
from paramreuse.sites.swaps import kernel_sites
from paramreuse.study.config import JudgeSpec, Study
from paramreuse.study.store import Store
from paramreuse.study.stored_sweep import read_sweep

Row = dict[str, Any]


def stored_verdicts(store: Store, sources: Sequence[str], spec: JudgeSpec) -> dict[str, Verdict]:
    """Judge every source that has been swept, in the order of ``sources``."""
    sweeps = {source: read_sweep(store, source) for source in sources}
    return {
        source: judge(sweep, tolerance=spec.tolerance, confidence=spec.confidence)
        for source, sweep in sweeps.items()
        if sweep is not None
    }


def ranked_sources(store: Store, study: Study) -> list[Row]:
    """Rank the swept sources of a study, as ``ranking.rank_sources`` does.

    Returns:
        One row per source with the columns of ``Ranking.frame``: most reusable kernel layers
        first, ties by the smaller mean drop, sources without a kernel that fits last.
    """
    verdicts = stored_verdicts(store, study.sources, study.judge)
    rows = [_ranking_row(store, source, verdict) for source, verdict in verdicts.items()]
    by_rmse = sorted(rows, key=lambda row: last_if_nan(row["rmse"]))
    rows.sort(key=lambda r: (last_if_nan(-r["kernel_share"]), last_if_nan(r["mean_drop"])))
    return [
        {"rank": rank} | row | {"rmse_rank": by_rmse.index(row) + 1}
        for rank, row in enumerate(rows, start=1)
    ]


def _ranking_row(store: Store, source: str, verdict: Verdict) -> Row:
    kernels = {site.key for j in verdict.kernel_judgements for site in kernel_sites(j.swap.sites)}
    held = [row for row in store.rows("distances", source=source) if row["key"] in kernels]
    lineage = store.rows("lineages", source=source)
    return {
        "source": source,
        "lineage": lineage[0]["lineage"] if lineage else "not compared",
        "kernel_share": verdict.kernel_share,
        "paper_kernel_share": verdict.paper_kernel_share,
        "mean_drop": finite_mean([j.drop for j in verdict.kernel_judgements]),
        "rmse": _mean_of(held, "rmse"),
        "relative_rmse": _mean_of(held, "relative_rmse"),
    }


def _mean_of(rows: Sequence[Row], column: str) -> float:
    # The store holds nothing for what is not finite.
    return finite_mean([row[column] for row in rows if row[column] is not None])
