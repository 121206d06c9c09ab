"""What a run folder's store says: its sweeps, judged, planned and ranked; the only way in."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from paramreuse.errors import StudyError
from paramreuse.plain_text import Row
from paramreuse.reuse.plan import Plan
from paramreuse.reuse.planning import plan_reuse
from paramreuse.reuse.ranking import FeatureScores, Ranking, order_sources, ranked_source
from paramreuse.reuse.verdict import Verdict, judge
from paramreuse.sites.swaps import kernel_sites
from paramreuse.study.config import JudgeSpec, Study
from paramreuse.study.records import StoredDistance, StoredLineage, StoredSourceScore
from paramreuse.study.run_folder import read_run
from paramreuse.study.store import Store, opened_store
from paramreuse.study.stored_sweep import joint_name, read_sweep, recalibrated_name
from paramreuse.sweep.outcomes import MEAN, Sweep


@dataclass(frozen=True)
class Findings:
    """What the stored sweeps of a study show, at one tolerance.

    Sweeps and verdicts are read once: make another of these after a further sweep.

    Attributes:
        study: The study.
        store: Its facts.
        judged_by: Tolerance, confidence, and what a plan loads.
    """

    study: Study
    store: Store
    judged_by: JudgeSpec

    @cached_property
    def sweeps(self) -> dict[str, Sweep]:
        """The sweep of every source that has been swept, in the study's order."""
        stored = {source: read_sweep(self.store, source) for source in self.study.sources}
        return {source: sweep for source, sweep in stored.items() if sweep is not None}

    @cached_property
    def recalibrated(self) -> dict[str, Sweep]:
        """The sweeps after recalibration; none where the study no longer asks for them."""
        asked = self.study.sources if self.study.sweep.recalibrate else []
        stored = {source: read_sweep(self.store, recalibrated_name(source)) for source in asked}
        return {source: sweep for source, sweep in stored.items() if sweep is not None}

    def joint_sweep(self, source: str) -> Sweep | None:
        """Return what all that a plan loads costs at once; None where it was not measured."""
        return read_sweep(self.store, joint_name(source))

    @cached_property
    def verdicts(self) -> dict[str, Verdict]:
        """The judgement of every source that has been swept, in the study's order."""
        return {source: self.judge(sweep) for source, sweep in self.sweeps.items()}

    def judge(self, sweep: Sweep) -> Verdict:
        """Judge a sweep at this tolerance and confidence."""
        return judge(
            sweep, tolerance=self.judged_by.tolerance, confidence=self.judged_by.confidence
        )

    def verdict(self, source: str) -> Verdict:
        """Return the judgement of a source.

        Raises:
            StudyError: It is not a source of the study, or has not been swept.
        """
        if source in self.verdicts:
            return self.verdicts[source]
        if source in self.study.sources and not self.verdicts:
            raise StudyError(f"cannot judge {source!r}: it has not been swept. Run the sweep first")
        raise StudyError(f"unknown source {source!r}: expected one of {sorted(self.verdicts)}")

    @property
    def can_plan(self) -> bool:
        """Whether sites were swapped singly, on which a plan rests."""
        return "single" in self.study.sweep.swaps

    def plan(self, source: str) -> Plan:
        """Plan the reuse of a source.

        Raises:
            StudyError: As for ``verdict``.
        """
        return plan_reuse(self.verdict(source), source=source, accept=self.judged_by.accept)

    @cached_property
    def ranking(self) -> Ranking:
        """The sources that have been swept, the one that promises most first."""
        ranked = []
        for source, verdict in self.verdicts.items():
            judged = verdict.kernel_judgements
            keys = {site.key for j in judged for site in kernel_sites(j.swap.sites)}
            distances = self.store.read(StoredDistance, source=source)
            lineage = self.lineage(source)
            ranked.append(
                ranked_source(
                    source,
                    verdict,
                    [row for row in distances if row.key in keys],
                    lineage=lineage.lineage if lineage else "not compared",
                    scores=self.feature_scores(source),
                )
            )
        return order_sources(ranked)

    def feature_scores(self, source: str) -> FeatureScores:
        """Return the scores of a source's features; none where they were not stored."""
        stored = self.store.read(StoredSourceScore, source=source)
        return FeatureScores({row.name: row.value for row in stored})

    def lineage(self, source: str) -> StoredLineage | None:
        """Return whether a source shares the target's start; None where it was not compared."""
        return next(iter(self.store.read(StoredLineage, source=source)), None)


def findings_of(study: Study, store: Store) -> Findings:
    """Return what a study's stored sweeps show at its own tolerance."""
    return Findings(study, store, study.judge)


@contextmanager
def opened_findings(
    folder: Path, *, tolerance: float | None = None, confidence: float | None = None
) -> Iterator[Findings]:
    """Open what a run folder shows.

    Args:
        folder: The run folder.
        tolerance: Instead of the study's.
        confidence: Instead of the study's.

    Raises:
        StudyError: The folder is not a run folder; or its sweep stopped where the verdict at
            another tolerance was decided.
    """
    study = read_run(folder)
    spec = _judged_by(study, tolerance, confidence)
    with opened_store(folder) as store:
        yield Findings(study, store, spec)


def _judged_by(study: Study, tolerance: float | None, confidence: float | None) -> JudgeSpec:
    given = {"tolerance": tolerance, "confidence": confidence}
    spec = study.judge.model_copy(update={k: v for k, v in given.items() if v is not None})
    if study.sweep.stop is not None and spec != study.judge:
        raise StudyError(
            f"cannot judge at another tolerance or confidence: the sweep stopped where the verdict "
            f"at {study.judge.tolerance} and {study.judge.confidence} was decided. Run the study "
            "without sweep.stop"
        )
    return spec


def _require_swept(findings: Findings, folder: Path) -> None:
    if not findings.sweeps:
        raise StudyError(
            f"nothing to judge in {str(folder)!r}: no source has been swept yet. "
            f"`paramreuse sweep {folder}` does it"
        )


def verdict_rows(findings: Findings) -> list[Row]:
    """Return the judgement of every swept source; what ``judge --json`` writes."""
    return [
        {
            "source": source,
            "tolerance": verdict.tolerance,
            "confidence": verdict.confidence,
            "reusable_network": verdict.reusable_network,
            "kernel_share": verdict.kernel_share,
            "kernel_share_interval": verdict.kernel_share_interval,
            "expected_wrong": verdict.expected_wrong,
            "useless": verdict.useless,
            "cannot_tell": verdict.cannot_tell,
            "notes": verdict.notes,
            "paper_kernel_share": verdict.paper_kernel_share,
            "summary": verdict.summary(),
            "sites": list(verdict.rows()),
        }
        for source, verdict in findings.verdicts.items()
    ]


def judgements(folder: Path, *, tolerance: float | None, confidence: float | None) -> list[Row]:
    """Judge every swept source of a run folder; the rows are those of ``verdict_rows``.

    Raises:
        StudyError: As for ``opened_findings``; or no source has been swept.
    """
    with opened_findings(folder, tolerance=tolerance, confidence=confidence) as findings:
        _require_swept(findings, folder)
        return verdict_rows(findings)


def sweep_rows(folder: Path) -> list[Row]:
    """Return the rows of every sweep of a run folder, on the mean of the foreground classes."""
    with opened_findings(folder) as findings:
        confidence = findings.judged_by.confidence
        return [
            {"source": source} | row
            for source, sweep in findings.sweeps.items()
            for row in sweep.rows(confidence=confidence)
            if row["class"] == MEAN
        ]


def planned(
    folder: Path, source: str | None, *, tolerance: float | None, confidence: float | None
) -> Plan:
    """Plan the reuse of one source of a run folder.

    Raises:
        StudyError: The source is not named and there are several, or it has not been swept.
    """
    with opened_findings(folder, tolerance=tolerance, confidence=confidence) as findings:
        _require_swept(findings, folder)
        names = sorted(findings.sweeps)
        if source is None and len(names) > 1:
            raise StudyError(f"which source? Say one of {names} with --source")
        return findings.plan(source or names[0])


def ranking_rows(folder: Path) -> list[Row]:
    """Rank the swept sources of a run folder by how much gain they promise."""
    with opened_findings(folder) as findings:
        _require_swept(findings, folder)
        return findings.ranking.rows()


def ranking_note(folder: Path) -> str:
    """Say of which sources of a run folder single swaps cannot tell anything: ``Ranking.note``."""
    with opened_findings(folder) as findings:
        return findings.ranking.note
