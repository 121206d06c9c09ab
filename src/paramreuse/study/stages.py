"""The stages of a study: each measures, stores what it measured, and says what it found."""

import json
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import isfinite, isnan

import numpy as np

from paramreuse.checkpoint import write_checkpoint
from paramreuse.compare.batchnorm import BatchNormComparison, compare_batchnorms
from paramreuse.compare.distance import Comparison, compare_models
from paramreuse.data.selection import calibration_batches, draw_subjects
from paramreuse.reuse.plan import Plan
from paramreuse.reuse.plan_file import write_plan
from paramreuse.reuse.ranking import FeatureScores
from paramreuse.sites.swaps import Swap, kernel_sites, seed_of
from paramreuse.study.apart import each_of
from paramreuse.study.completeness import forget_stage
from paramreuse.study.config import TARGET
from paramreuse.study.findings import findings_of
from paramreuse.study.job import Job, epoch_columns, followed, opened
from paramreuse.study.pictures import keep_swap_pictures, keep_target_pictures
from paramreuse.study.records import (
    TRANSFERRED,
    Record,
    SplitSubject,
    StoredDistance,
    StoredLineage,
    StoredPicture,
    StoredShift,
    StoredSourceScore,
    StoredSweep,
    SweepScore,
    TrainedEpoch,
    TrialStatistics,
)
from paramreuse.study.source_scores import score_features
from paramreuse.study.store import Store
from paramreuse.study.stored_sweep import (
    joint_name,
    read_sweep,
    recalibrated_name,
    write_sweep,
)
from paramreuse.study.structure import keep_structure
from paramreuse.study.unchanged import note_checkpoint, note_images, note_model
from paramreuse.sweep.outcomes import Sweep
from paramreuse.sweep.recalibrated import sweep_recalibrated
from paramreuse.sweep.scores import subject_means
from paramreuse.sweep.scoring import score_subjects
from paramreuse.sweep.sweeping import sweep_sites
from paramreuse.training import EpochRow, TrainingResult, train_model


def run_data(job: Job) -> str:
    """Read every image set and store the split."""
    parts: list[str] = []
    for name in job.bench.study.data:
        images = job.bench.images(name)
        note_images(job, name)
        folds = {"train": images.train, "validation": images.validation}
        for fold, prepared in folds.items():
            counts = Counter(prepared.subjects if prepared else ())
            job.store.write(SplitSubject(name, fold, *item) for item in counts.items())
        parts.append(
            f"{name}: {len(images.split.train)} + {len(images.split.validation)} subjects, "
            f"{len(images.train or ())} + {len(images.validation)} slices"
        )
    return "; ".join(parts)


def run_train(job: Job) -> str:
    """Train every model that is not loaded from a file."""
    parts: list[str] = []
    models = job.bench.study.models
    built = [name for name, spec in models.items() if spec.checkpoint is None]
    missing = [name for name in built if not job.bench.checkpoint(name).exists()]
    with job.talk.progress("models") as progress:
        for done, (number, result) in enumerate(each_of(job, _trained, missing), start=1):
            _keep_model(job, missing[number], result)
            progress(done, len(missing))
    for name, spec in models.items():
        if spec.checkpoint is not None:
            note_checkpoint(job, name)
            parts.append(f"{name}: {opened(job, name).summary()}")
            continue
        _note_trained(job, name)
        measure = "Dice" if spec.task == "segmentation" else "minus squared error"
        parts.append(f"{name}: {measure} {job.store.fact(f'best/{name}'):.3f}")
    subjects, scores = score_subjects(
        job.bench.model(TARGET), job.bench.validation_batches(), job.bench.score
    )
    dice = float(np.nanmean(subject_means(scores, job.bench.score.foreground)))
    keep_target_pictures(job)
    keep_structure(job)
    return f"target's mean Dice {dice:.3f} on {len(subjects)} subjects ({', '.join(parts)})"


def _trained(job: Job, name: str) -> TrainingResult:
    """Train a model, and keep each epoch."""
    spec = job.bench.study.models[name]
    seed = seed_of(job.bench.study.seed, "train", name) % 2**31
    images = job.bench.images(spec.data)
    labelled_only = spec.task == "segmentation"
    train = draw_subjects(images.trainable, spec.subjects, seed, labelled_only=labelled_only)
    settings = job.bench.settings(spec, seed=seed, folder=job.bench.folder / "training" / name)

    def keep(row: EpochRow) -> None:
        job.store.write([TrainedEpoch(name, *epoch_columns(row))])

    with followed(job, name, spec.epochs, keep) as follow:
        result = train_model(
            job.bench.initial(name),
            train,
            images.validation,
            task=spec.task,
            settings=settings,
            on_epoch=follow,
        )
    for row in result.history:
        keep(row)
    return result


def _keep_model(job: Job, name: str, result: TrainingResult) -> None:
    # On the disk before the model, which is not trained again once it is there.
    with job.store.lasting():
        job.store.put_fact(f"best/{name}", result.best_score)
    path = job.bench.checkpoint(name)
    path.parent.mkdir(exist_ok=True)
    write_checkpoint(path, result.model, {"study": job.bench.study.name, "model": name})


def _note_trained(job: Job, name: str) -> None:
    """Keep what tells a model from another one, also where a run ended right after training it."""
    if note_model(job, name):
        job.talk.say("train", f"{name}: other weights than before, so that all is measured again")
        _forget_measured(job.store)
    shutil.rmtree(job.bench.folder / "training" / name, ignore_errors=True)


_MEASURED: tuple[type[Record], ...] = (
    *(StoredSweep, SweepScore, TrialStatistics),
    *(StoredDistance, StoredShift, StoredLineage, StoredSourceScore),
    *(*TRANSFERRED, StoredPicture),
)


def _forget_measured(store: Store) -> None:
    """Remove what was measured of models that are no longer there."""
    with store.together():
        for kind in _MEASURED:
            store.remove(kind)
        for stage in ("compare", "sweep", "plan", "transfer"):
            forget_stage(store, stage)


def run_compare(job: Job) -> str:
    """Measure every source's distance from the target, and score what its features are worth."""
    sources = job.bench.study.sources
    parts: dict[str, str] = {}
    for number, found in each_of(job, _compared, sources, models=(TARGET, *sources)):
        parts[sources[number]] = _store_compared(job, sources[number], found)
    return "; ".join(parts[source] for source in sources)


@dataclass(frozen=True, slots=True, eq=False)
class _Compared:
    """How a source compares with the target."""

    comparison: Comparison
    batchnorms: BatchNormComparison
    scores: FeatureScores


def _compared(job: Job, source: str) -> _Compared:
    target = job.bench.model(TARGET)
    images = job.bench.images(job.bench.target.data).validation.images
    example = images[:2].to(job.bench.torch_device)
    lent = job.bench.tensors(source)
    result = compare_models(target, lent, names=(TARGET, source), example_input=example)
    norms = compare_batchnorms(target, lent)
    return _Compared(result, norms, score_features(job, source))


def _store_compared(job: Job, source: str, found: _Compared) -> str:
    """Store how a source compares with the target, and say it in a few words."""
    result = found.comparison
    with job.store.together():
        job.store.write(
            StoredDistance(source, position, row.site.family, **row.to_dict())
            for position, row in enumerate(result.rows)
        )
        job.store.write(StoredShift(source, **asdict(row)) for row in found.batchnorms.rows)
        job.store.write([_stored_lineage(source, result)])
    job.store.write(StoredSourceScore(source, *item) for item in found.scores.values.items())
    if found.scores.reason:
        job.talk.say("compare", f"{source}: {found.scores.reason}")
    kernels = {site.key for site in kernel_sites(row.site for row in result.rows)}
    relative = [row.relative_rmse for row in result.rows if row.site.key in kernels]
    relative = [value for value in relative if isfinite(value)]
    median = f"{np.median(relative):.2f}" if relative else "not measured"
    return f"{source}: {result.lineage} start, median relative RMSE of W {median}"


def _stored_lineage(source: str, result: Comparison) -> StoredLineage:
    return StoredLineage(
        source=source,
        lineage=str(result.lineage),
        reason=result.lineage_reason,
        identical_share=result.identical_share,
        skipped=json.dumps([asdict(item) for item in result.skipped]),
    )


def run_sweep(job: Job) -> str:
    """Score every swap of every source, and kernels after recalibration where that is asked for."""
    parts: list[str] = []
    for source in job.bench.study.sources:
        sweep = read_sweep(job.store, source) or _sweep_one(job, source)
        part = (
            f"{source}: {len(sweep.swaps)} swaps, {sweep.num_trials} with controls, on "
            f"{len(sweep.subjects)} subjects, largest drop {costliest_words(sweep, sweep.swaps)}"
        )
        notes = sweep.notes
        if job.bench.study.sweep.recalibrate:
            name = recalibrated_name(source)
            renewed = read_sweep(job.store, name) or _recalibrate_one(job, source, name)
            costliest = costliest_words(renewed, renewed.kernels)
            part += f", of a kernel after recalibration {costliest}"
            notes += renewed.notes
        parts.append(part)
        for note in notes:
            job.talk.say("sweep", f"{source}: {note}")
    return "; ".join(parts)


def _sweep_one(job: Job, source: str) -> Sweep:
    bench, spec = job.bench, job.bench.study.sweep
    models = {name: opened(job, name) for name in spec.controls if name in bench.study.models}
    with job.talk.progress(f"sweep of {source}") as progress:
        sweep = sweep_sites(
            bench.model(TARGET),
            opened(job, source),
            bench.validation_batches(),
            bench.score,
            swaps=list(spec.swaps),
            controls={name: models.get(name, name) for name in spec.controls},
            engine=spec.engine,
            memory_limit_gb=spec.memory_limit_gb,
            stop=spec.stop,
            tolerance=bench.study.judge.tolerance,
            confidence=bench.study.judge.confidence,
            seed=bench.study.seed,
            log=job.store.sweep_log(source),
            progress=progress,
            pool=job.pool,
        )
    write_sweep(job.store, source, sweep)
    keep_swap_pictures(job, source, sweep)
    return sweep


def _recalibrate_one(job: Job, source: str, name: str) -> Sweep:
    bench = job.bench
    # Batches as large as in the target's training, which is how it came by its statistics.
    images = calibration_batches(
        bench.images(bench.target.data).trainable,
        bench.target.batch_size,
        seed=seed_of(bench.study.seed, "calibration"),
    )
    with job.talk.progress(f"recalibrated sweep of {source}") as progress:
        sweep = sweep_recalibrated(
            bench.model(TARGET),
            opened(job, source),
            bench.validation_batches(),
            bench.score,
            images,
            seed=bench.study.seed,
            progress=progress,
            pool=job.pool,
        )
    write_sweep(job.store, name, sweep)
    return sweep


def costliest_words(sweep: Sweep, swaps: Iterable[Swap]) -> str:
    """Name the swap that costs most and what it costs, e.g. ``0.512 at W 6``.

    Args:
        sweep: What was measured.
        swaps: Swaps of the sweep.

    Returns:
        ``not measured`` if none of them has a finite drop.
    """
    by_cost = sweep.by_cost(swaps)
    return f"{by_cost[0][1]:.3f} at {by_cost[0][0].name}" if by_cost else "not measured"


def run_judge(job: Job) -> str:
    """Judge every source."""
    verdicts = findings_of(job.bench.study, job.store)
    judged = {source: verdicts.verdict(source) for source in job.bench.study.sources}
    for source, verdict in judged.items():
        for note in verdict.notes:
            job.talk.say("judge", f"{source}: {note}")
    return "; ".join(f"{source}: {verdict.summary()}" for source, verdict in judged.items())


def run_plan(job: Job) -> str:
    """Write a plan for every source, and check it jointly before anything is trained."""
    parts: list[str] = []
    (job.bench.folder / "plans").mkdir(exist_ok=True)
    findings = findings_of(job.bench.study, job.store)
    if not findings.can_plan:
        return "nothing to plan without single swaps"
    for source in job.bench.study.sources:
        plan = findings.plan(source)
        write_plan(plan, job.bench.folder / "plans" / f"{source}.yaml")
        parts.append(f"{source}: {plan.summary()}, {_joint(job, source, plan)}")
    return "; ".join(parts)


def _joint(job: Job, source: str, plan: Plan) -> str:
    """Swap in all that a plan loads at once, store the sweep, and say what it costs."""
    name = joint_name(source)
    job.store.remove(StoredSweep, sweep=name)
    if not plan.loaded:
        return "nothing to swap in jointly"
    sweep = sweep_sites(
        job.bench.model(TARGET),
        opened(job, source),
        job.bench.validation_batches(),
        job.bench.score,
        swaps=[plan.as_swap()],
        controls=(),
        engine="full",
        seed=job.bench.study.seed,
    )
    write_sweep(job.store, name, sweep)
    drop = sweep.mean_drop("plan")
    if isnan(drop):
        return "swapped in jointly it gives outputs that are not finite"
    beyond = drop > job.bench.study.judge.tolerance
    more = ", more than the tolerance: its sites do not go together" if beyond else ""
    return f"swapped in jointly it costs {drop:.3f}{more}"
