"""From the run folders of the arms to the evidence that figures, tables and claims take."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

from paramreuse.checkpoint import read_checkpoint
from paramreuse.compare.distance import compare_models
from paramreuse.errors import CheckpointError, SiteMismatchError, StudyError
from paramreuse.papers.evidence import Arm, Evidence, PairDistance, Role, Start
from paramreuse.papers.model_words import IDEAL_SOURCE, transfer_model
from paramreuse.study.config import TARGET, Study
from paramreuse.study.findings import Findings, opened_findings
from paramreuse.study.records import StoredShift
from paramreuse.study.run_folder import lasting, read_run
from paramreuse.study.store import opened_store
from paramreuse.study.transfer.attempts import Attempt, attempts_of, kept_model
from paramreuse.study.transfer.table import wanted_scores


def gather(folder: Path, arms: Sequence[str], *, name: str, profile: str) -> Evidence:
    """Read what the arms measured; an arm that has not run is left out.

    Args:
        folder: Where the arms' run folders are.
        arms: Their names.
        name: Name of the protocol.
        profile: Its profile.

    Raises:
        StudyError: A run folder cannot be read, or two arms saw different images of one set.
    """
    ran = [arm for arm in arms if (folder / arm / "study.yaml").is_file()]
    _check_images(folder, ran)
    return Evidence(name, profile, tuple(_arm(folder / arm, arm) for arm in ran))


def _check_images(folder: Path, arms: Sequence[str]) -> None:
    """Refuse arms whose models saw other images under one description, as from another root."""
    known: dict[str, tuple[str, str]] = {}
    for arm in arms:
        stored = read_run(folder / arm)
        study = lasting(stored)
        used = {model.data for model in stored.models.values()}
        with opened_store(folder / arm) as store:
            digests = {name: store.fact(f"images/{name}") for name in sorted(used)}
        for name, digest in digests.items():
            described = json.dumps([name, study["data"][name], study["seed"]], sort_keys=True)
            if digest is None:
                continue
            other, expected = known.setdefault(described, (arm, digest))
            if digest != expected:
                raise StudyError(
                    f"the arms {other!r} and {arm!r} were run on different images of data.{name}: "
                    f"they cannot be compared. Remove {str(folder / arm)!r} and run it again"
                )


def _arm(folder: Path, name: str) -> Arm:
    with opened_findings(folder) as findings:
        study, store = findings.study, findings.store
        sweeps, recalibrated = findings.sweeps, findings.recalibrated
        norms = {source: store.read(StoredShift, source=source) for source in study.sources}
        attempts = attempts_of(study, store)
        transfer = tuple(wanted_scores(store, attempts))
        start = _start(findings)
    return Arm(
        name=name,
        network=study.network.name,
        start=start,
        bias=_has_biases(study),
        residual=study.network.residual,
        long_skips=study.network.long_skips,
        roles={
            model: Role(spec.data, study.data[spec.data].reader, spec.task)
            for model, spec in study.models.items()
        },
        sources=tuple(study.sources),
        sweeps=sweeps,
        recalibrated=recalibrated,
        tolerance=study.judge.tolerance,
        confidence=study.judge.confidence,
        distances=tuple(_distances(folder, study, attempts)),
        batchnorms={source: list(map(asdict, rows)) for source, rows in norms.items() if rows},
        transfer=transfer,
    )


def _start(findings: Findings) -> Start:
    """Tell how the target and the first source began; of given checkpoints their lineage tells."""
    study, first = findings.study, findings.study.sources[0]
    models = [study.models[name] for name in (TARGET, first)]
    if any(model.checkpoint is not None for model in models):
        lineage = findings.lineage(first)
        return "shared" if lineage and lineage.lineage == "shared" else "independent"
    return "shared" if {model.init for model in models} == {"shared"} else "independent"


def _has_biases(study: Study) -> bool:
    """Tell whether the convolutions have biases; the defaults are the networks' own."""
    given = study.network.bias
    return given if given is not None else study.network.name == "unet"


def _distances(folder: Path, study: Study, attempts: Sequence[Attempt]) -> Iterator[PairDistance]:
    """Compare every two models, the target first, and those of the transfer with the ideal one."""
    files = {name: folder / "models" / f"{name}.safetensors" for name in study.models}
    there = sorted((name for name in files if files[name].is_file()), key=_target_first)
    for first, second in combinations(there, 2):
        yield from _pair(first, files[first], second, files[second])
    kept = dict(_kept(folder, attempts))
    most = max(study.transfer.subjects) if study.transfer else 0
    ideal = transfer_model("plan-finetune", IDEAL_SOURCE, most)
    if ideal not in kept:
        return
    for name, path in kept.items():
        if name != ideal:
            yield from _pair(ideal, kept[ideal], name, path)


def _target_first(name: str) -> bool:
    return name != TARGET


def _kept(folder: Path, attempts: Sequence[Attempt]) -> Iterator[tuple[str, Path]]:
    """Name the first repetition of every training whose model was kept."""
    for attempt in attempts:
        path = kept_model(folder, attempt)
        if attempt.seed == 0 and path.is_file():
            yield transfer_model(attempt.strategy, attempt.source, attempt.num_subjects), path


def _pair(first: str, ours: Path, second: str, theirs: Path) -> Iterator[PairDistance]:
    try:
        comparison = compare_models(read_checkpoint(ours), read_checkpoint(theirs))
    except (CheckpointError, SiteMismatchError):
        return  # What cannot be compared is missing from the figure, which says so.
    for row in comparison.rows:
        site = row.site
        if site.family in ("conv", "norm"):
            yield PairDistance(
                first,
                second,
                site.layer,
                str(site.kind),
                is_output=site.is_output,
                rmse=row.rmse,
                relative_rmse=row.relative_rmse,
            )
