"""One training of the transfer: a fresh target, started and trained as its strategy says."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor, nn

from paramreuse.data.preparation import PreparedSet, batches
from paramreuse.data.selection import draw_subjects
from paramreuse.recommendation.recommending import recommend
from paramreuse.reuse.blocks import Block
from paramreuse.reuse.plan import Plan
from paramreuse.reuse.recipe import PLAIN
from paramreuse.sites.swaps import seed_of
from paramreuse.study.config import TARGET, ModelSpec
from paramreuse.study.job import Job, epoch_columns, followed
from paramreuse.study.records import TransferEpoch, TransferStep
from paramreuse.study.transfer.attempts import Attempt
from paramreuse.study.transfer.measuring import Measuring, measured_plan
from paramreuse.study.transfer.own_training import own_training, train_by_own
from paramreuse.study.transfer.rewound import rewind_fact
from paramreuse.study.transfer.spec import TransferSpec
from paramreuse.study.transfer.speed import length_fact
from paramreuse.study.transfer.starts import Lender, followed_plan, start_model
from paramreuse.study.transfer.strategy import Strategy
from paramreuse.sweep.scores import subject_means
from paramreuse.sweep.scoring import score_subjects
from paramreuse.training import EpochRow, initial_model, train_model
from paramreuse.training.steps import StepSettings, StepWatch, finish_training, train_steps

_LOOKS = 10
"""How often a training by steps is scored on its way, where it is."""


def is_watched(job: Job, attempt: Attempt) -> bool:
    """Tell whether a training is scored on its way; one by epochs is in any case.

    Args:
        job: The study's.
        attempt: The training.
    """
    spec = _spec_of(job)
    own_way = spec.train is not None or attempt.strategy is Strategy.RECOMMENDED
    by_steps = spec.steps is not None and not own_way
    return by_steps and spec.check_convergence and not attempt.is_long


def note_epoch_length(job: Job, attempt: Attempt, training: ModelSpec) -> None:
    """Keep how many steps an epoch of a training has, by which its epochs are told in steps.

    Args:
        job: The study's.
        attempt: The training.
        training: How a model is trained.

    Raises:
        DataError: There are not as many training subjects.
    """
    if _spec_of(job).steps is None and job.store.fact(length_fact(attempt.name)) is None:
        length = len(batches(_drawn(job, attempt), training.batch_size))
        job.store.put_fact(length_fact(attempt.name), length)


def _drawn(job: Job, attempt: Attempt) -> PreparedSet:
    trainable = job.bench.images(job.bench.target.data).trainable
    return draw_subjects(trainable, attempt.num_subjects, _seed(job, attempt, "subjects"))


def train_attempt(job: Job, attempt: Attempt, plan: Plan | None, training: ModelSpec) -> nn.Module:
    """Train the target afresh, and do afterwards what the strategy's plan asks for.

    Args:
        job: The study's.
        attempt: Strategy, source, number of subjects and repetition.
        plan: Plan for the source, where the strategy follows that of the verdict.
        training: How a model is trained where the strategy does not say otherwise.

    Returns:
        The trained model in evaluation mode.

    Raises:
        DataError: There are not as many training subjects.
        ModelError: The training diverged.
    """
    spec = _spec_of(job)
    drawn = _drawn(job, attempt)
    if attempt.strategy is Strategy.RECOMMENDED:
        return _recommended(job, attempt, drawn, training)
    model = initial_model(job.bench.factory(TARGET), _seed(job, attempt, "init"))
    if attempt.strategy.measures:
        plan = _measured(job, attempt, drawn, training)
    lender = (
        Lender(job.bench.tensors(attempt.source), plan, _seed(job, attempt, _draw_name(attempt)))
        if attempt.source
        else None
    )
    loaded = followed_plan(model, attempt.strategy, lender)
    start_model(model, attempt.strategy, lender)
    start = _values(model, loaded)
    seed = _seed(job, attempt, "train")
    own = own_training(spec)
    if own is not None:
        model = train_by_own(own, model, drawn, loaded, training=training, seed=seed)
    elif spec.steps is not None:
        walked = batches(drawn, training.batch_size)
        model.to(job.bench.torch_device)
        steps = spec.steps * attempt.times
        watch = _watch(job, attempt, steps) if is_watched(job, attempt) else None
        model = train_steps(
            model, walked, loaded, steps, seed, settings=step_settings(training), watch=watch
        )
    else:
        model = _train_by_epochs(job, attempt, model, drawn, training)
    if loaded is None or loaded.recipe == PLAIN:
        return model
    inputs = [images for images, _, _ in batches(drawn, training.batch_size)]
    return finish_training(model, start, loaded, inputs)


def _spec_of(job: Job) -> TransferSpec:
    spec = job.bench.study.transfer
    assert spec is not None, "only a study with a transfer section trains here"
    return spec


def _seed(job: Job, attempt: Attempt, *words: str) -> int:
    return seed_of(job.bench.study.seed, "transfer", str(attempt.seed), *words) % 2**31


def _draw_name(attempt: Attempt) -> str:
    """Name what a strategy draws by: a training twice as long starts from the same draw."""
    return replace(attempt, is_long=False).name


def _values(model: nn.Module, plan: Plan | None) -> Mapping[str, Tensor]:
    state = model.state_dict()
    return {} if plan is None else {site.key: state[site.key].clone() for site in plan.loaded}


def _measured(job: Job, attempt: Attempt, drawn: PreparedSet, training: ModelSpec) -> Plan:
    """Measure the plan of a strategy; that of a training twice as long is the same."""
    steps = _spec_of(job).steps
    assert steps is not None, "a strategy that measures needs steps"

    def note(blocks: Sequence[Block], drops: np.ndarray) -> None:
        names = [block.name for block in blocks]
        job.store.put_fact(rewind_fact(attempt), {"blocks": names, "drops": drops.tolist()})

    measuring = Measuring(
        job.bench.factory(TARGET),
        job.bench.score,
        step_settings(training),
        steps,
        job.bench.torch_device,
        _seed(job, attempt, "measure"),
        note,
    )
    labelled = batches(drawn, training.batch_size)
    return measured_plan(attempt.strategy, job.bench.tensors(attempt.source), labelled, measuring)


def step_settings(training: ModelSpec) -> StepSettings:
    """Return how each step of a training by steps is made.

    Args:
        training: How the model is trained by epochs.
    """
    return StepSettings(
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        augment=bool(training.augment),
    )


def _watch(job: Job, attempt: Attempt, steps: int) -> StepWatch:
    """Score a training on the validation subjects at every tenth of its steps, and keep that."""
    bench = job.bench

    def look(step: int, model: nn.Module) -> None:
        _, scores = score_subjects(model, bench.validation_batches(), bench.score)
        mean = float(np.nanmean(subject_means(scores, bench.score.foreground)))
        job.store.write([TransferStep(*attempt.training, step, mean)])

    due = frozenset(max(1, round(steps * k / _LOOKS)) for k in range(1, _LOOKS + 1))
    return StepWatch(due, look)


def _train_by_epochs(
    job: Job, attempt: Attempt, model: nn.Module, drawn: PreparedSet, training: ModelSpec
) -> nn.Module:
    """Train with the validation fold choosing the best epoch, and keep every epoch."""

    def keep(row: EpochRow) -> None:
        if not attempt.is_long:
            job.store.write([TransferEpoch(*attempt.training, *epoch_columns(row))])

    bench = job.bench
    folder = bench.folder / "training" / attempt.name
    settings = bench.settings(training, seed=_seed(job, attempt, "train"), folder=folder)
    validation = bench.images(bench.target.data).validation
    with followed(job, attempt.name, settings.epochs, keep) as follow:
        result = train_model(model, drawn, validation, settings=settings, on_epoch=follow)
    for row in result.history:
        keep(row)
    return result.model


def _recommended(job: Job, attempt: Attempt, drawn: PreparedSet, training: ModelSpec) -> nn.Module:
    """Let ``recommend`` choose among the study's sources, seeing the drawn subjects alone."""
    folder = job.bench.folder / "training" / attempt.name
    folder.mkdir(parents=True, exist_ok=True)
    steps = _spec_of(job).steps
    with job.talk.progress(attempt.name) as progress:
        recommendation = recommend(
            job.bench.factory(TARGET),
            {name: job.bench.tensors(name) for name in job.bench.study.sources},
            batches(drawn, training.batch_size),
            steps=None if steps is None else steps * attempt.times,
            score=job.bench.score,
            seed=_seed(job, attempt, "train"),
            folder=folder,
            progress=lambda spent, most: progress(round(spent), round(most)),
        )
    job.talk.say("transfer", f"{attempt.name}: {recommendation.reason}")
    return recommendation.model.eval()
