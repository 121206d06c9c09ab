"""What the commands show: rows of what a run folder, or files, hold."""

from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paramreuse.checkpoint.hub import is_hub_address
from paramreuse.compare.batchnorm import compare_batchnorms
from paramreuse.compare.distance import Comparison, compare_models
from paramreuse.errors import StudyError
from paramreuse.files import write_text
from paramreuse.plain_text import csv_text
from paramreuse.reuse.plan import Plan, plan_reuse
from paramreuse.reuse.verdict import Verdict
from paramreuse.sites.lending import Weights, tensors_of
from paramreuse.sites.matching import sites_of
from paramreuse.study.aligning import align_named
from paramreuse.study.config import JudgeSpec, Study
from paramreuse.study.named import NETWORKS, load_named
from paramreuse.study.run_folder import read_run
from paramreuse.study.source_ranking import ranked_sources, stored_verdicts
from paramreuse.study.store import Store
from paramreuse.study.stored_sweep import read_sweep
from paramreuse.study.transfer.attempts import attempts_of
from paramreuse.study.transfer.stage import transfer_rows

Row = dict[str, Any]


def named_weights(name: str) -> Weights:
    """Return the tensors of a model named on the command line.

    Args:
        name: Path of a checkpoint or ``hf://ORG/NAME``, ``unet``, ``pspnet``, or
            ``package.module:factory``.

    Raises:
        CheckpointError: There is no such file, or it cannot be read.
        StudyError: There is no such module or factory.
    """
    is_file = is_hub_address(name) or Path(name).exists()
    if name in NETWORKS or (":" in name and not is_file):
        return load_named(name, NETWORKS, "network")()  # type: ignore[no-any-return]
    return tensors_of(name)


def site_rows(name: str) -> list[Row]:
    """List the sites of a named model."""
    return [
        {
            "site": site.name,
            "family": site.family,
            "layer": site.layer,
            "kind": str(site.kind),
            "key": site.key,
            "shape": "x".join(map(str, site.shape)),
            "output": site.is_output,
        }
        for site in sites_of(named_weights(name))
    ]


@dataclass(frozen=True, slots=True)
class FileComparisons:
    """A target compared with several sources.

    Attributes:
        target: Name of the target.
        comparisons: One per source.
        batchnorms: Rows of ``compare_batchnorms`` per source.
        alignments: Rows of ``Alignment.frame`` by source, where alignment was asked for.
    """

    target: str
    comparisons: tuple[Comparison, ...]
    batchnorms: tuple[list[Row], ...]
    alignments: dict[str, list[Row]] = field(default_factory=dict)

    def to_dict(self) -> Row:
        """Return what ``compare --json`` writes."""
        pairs = zip(self.comparisons, self.batchnorms, strict=True)
        return {
            "target": self.target,
            "sources": [
                found.to_dict() | {"batchnorm": norms} | self._aligned(found.source)
                for found, norms in pairs
            ],
        }

    def _aligned(self, source: str) -> Row:
        return {"alignment": self.alignments[source]} if source in self.alignments else {}


def compare_files(
    target: str,
    sources: Sequence[str],
    *,
    exclude: Sequence[str],
    csv: Path | None,
    align: tuple[str, Sequence[int]] | None = None,
) -> FileComparisons:
    """Compare a target with sources, all named on the command line.

    Args:
        target: Checkpoint, or network.
        sources: Likewise.
        exclude: Keys of the target to leave out.
        csv: File to write the distances to.
        align: Network to trace and shape of its input, to compare after alignment as well.

    Raises:
        CheckpointError: A file cannot be read.
        SiteMismatchError: Nothing of a source fits the target.
        StudyError: The CSV file cannot be written.
    """
    ours = named_weights(target)
    comparisons: list[Comparison] = []
    norms: list[list[Row]] = []
    for source in sources:
        theirs = named_weights(source)
        comparisons.append(compare_models(ours, theirs, exclude=exclude, names=(target, source)))
        norms.append(compare_batchnorms(ours, theirs).frame().to_dict("records"))
    if csv is not None:
        _write_distances(csv, comparisons)
    aligned: dict[str, list[Row]] = {}
    if align is not None:
        named = {source: named_weights(source) for source in sources}
        aligned = align_named(ours, named, network=align[0], shape=align[1])
    return FileComparisons(target, tuple(comparisons), tuple(norms), aligned)


def _write_distances(path: Path, comparisons: Sequence[Comparison]) -> None:
    import pandas as pd

    frames = [found.frame().assign(source=found.source) for found in comparisons]
    try:
        write_text(path, csv_text(pd.concat(frames, ignore_index=True)))
    except OSError as error:
        raise StudyError(f"cannot write {str(path)!r}: {error.strerror}") from error


@contextmanager
def _store_of(folder: Path) -> Iterator[Store]:
    store = Store(folder / "results.sqlite")
    try:
        yield store
    finally:
        store.close()


def _verdicts(
    folder: Path, tolerance: float | None, confidence: float | None
) -> dict[str, Verdict]:
    study = read_run(folder)
    spec = _judged_by(study, tolerance, confidence)
    with _store_of(folder) as store:
        verdicts = stored_verdicts(store, study.sources, spec)
    _require_swept(verdicts, folder)
    return verdicts


def _require_swept(found: Sized, folder: Path) -> None:
    if not found:
        raise StudyError(
            f"nothing to judge in {str(folder)!r}: no source has been swept yet. "
            f"`paramreuse sweep {folder}` does it"
        )


def _judged_by(study: Study, tolerance: float | None, confidence: float | None) -> JudgeSpec:
    """Return by what a study is judged.

    Raises:
        StudyError: Its sweep stopped where the verdict at another tolerance was decided.
    """
    given = {"tolerance": tolerance, "confidence": confidence}
    spec = study.judge.model_copy(update={k: v for k, v in given.items() if v is not None})
    if study.sweep.stop is not None and spec != study.judge:
        raise StudyError(
            f"cannot judge at another tolerance or confidence: the sweep stopped where the verdict "
            f"at {study.judge.tolerance} and {study.judge.confidence} was decided. Run the study "
            "without sweep.stop"
        )
    return spec


def judgements(folder: Path, *, tolerance: float | None, confidence: float | None) -> list[Row]:
    """Judge every swept source of a run folder; what ``judge --json`` writes."""
    return [
        {
            "source": source,
            "tolerance": verdict.tolerance,
            "confidence": verdict.confidence,
            "reusable_network": verdict.reusable_network,
            "kernel_share": verdict.kernel_share,
            "paper_kernel_share": verdict.paper_kernel_share,
            "summary": verdict.summary(),
            "sites": list(verdict.rows()),
        }
        for source, verdict in _verdicts(folder, tolerance, confidence).items()
    ]


def sweep_rows(folder: Path) -> list[Row]:
    """Return the rows of every sweep of a run folder, on the mean of the foreground classes."""
    study = read_run(folder)
    rows: list[Row] = []
    with _store_of(folder) as store:
        for source in study.sources:
            sweep = read_sweep(store, source)
            held = sweep.rows(confidence=study.judge.confidence) if sweep else iter(())
            rows += [{"source": source} | row for row in held if row["class"] == "mean"]
    return rows


def planned(
    folder: Path, source: str | None, *, tolerance: float | None, confidence: float | None
) -> Plan:
    """Plan the reuse of one source of a run folder.

    Raises:
        StudyError: The source is not named and there are several, or it has not been swept.
    """
    verdicts = _verdicts(folder, tolerance, confidence)
    if source is None and len(verdicts) > 1:
        raise StudyError(f"which source? Say one of {sorted(verdicts)} with --source")
    name = source or next(iter(verdicts))
    if name not in verdicts:
        raise StudyError(f"unknown source {name!r}: expected one of {sorted(verdicts)}")
    accept = read_run(folder).judge.accept
    return plan_reuse(verdicts[name], source=name, accept=accept)


def ranking_rows(folder: Path) -> list[Row]:
    """Rank the swept sources of a run folder: most reusable kernel layers first."""
    study = read_run(folder)
    with _store_of(folder) as store:
        rows = ranked_sources(store, study)
    _require_swept(rows, folder)
    return rows


def outcome(folder: Path) -> Row:
    """Return what a run ended with: its folder, verdicts, transfer table and report.

    Returns:
        ``folder``; ``sources``, as ``judge --json``; ``transfer``, one row per strategy; and
        ``report``, the page's path. What is not there is empty, or None.
    """
    study = read_run(folder)
    with _store_of(folder) as store:
        swept = [source for source in study.sources if store.rows("sweeps", sweep=source)]
        rows = summed_transfer(study, store)
    page = folder / "report.html"
    return {
        "folder": str(folder),
        "sources": judgements(folder, tolerance=None, confidence=None) if swept else [],
        "transfer": rows,
        "report": str(page) if page.exists() else None,
    }


def summed_transfer(study: Study, store: Store) -> list[Row]:
    """Return one row per strategy, source and number of subjects: means over seeds."""
    from paramreuse.report.transfer_table import summarise_transfer

    classes = [row["class"] for row in store.rows("transfers")]
    names = list(dict.fromkeys(classes))
    rows = transfer_rows(store, names[1:], attempts_of(study, store))
    return [dict(row) for row in summarise_transfer(rows, names)]
