"""The sweep: every swap scored on the validation set, per subject, nothing retrained.

Source: arXiv 2008.03411 and 2008.03414, "parameter reuse"; the controls and the intervals are ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from paramreuse.compare.distance import compare_models
from paramreuse.distribution.pool import Pool
from paramreuse.engine.plain import device_of, require_evaluation_mode
from paramreuse.engine.precision import float32_arithmetic
from paramreuse.errors import ScoreError
from paramreuse.notebook import progress_bar
from paramreuse.sites.lending import Weights, lend
from paramreuse.sites.matching import compare_sites, require_sites
from paramreuse.sites.swaps import (
    Controls,
    SwapChoice,
    make_swaps,
    replacements_for,
)
from paramreuse.sweep.batches import Batches, walk_batches
from paramreuse.sweep.constant import constant_score
from paramreuse.sweep.engines import ONE_AT_A_TIME
from paramreuse.sweep.evaluated import Evaluate, evaluated_sweep
from paramreuse.sweep.lent_tensors import PutIn, put_in
from paramreuse.sweep.measuring import Meter
from paramreuse.sweep.outcomes import Sweep
from paramreuse.sweep.runner import Progress, Runner, SweepLog
from paramreuse.sweep.scores import Score
from paramreuse.sweep.sharded import ShardedMeter, SweepPart
from paramreuse.sweep.stopping import CONFIDENCE, TOLERANCE, StoppingRule
from paramreuse.sweep.trials import make_trials
from paramreuse.untouched import untouched_random_state

_NOT_STOPPED = "every subject was scored, as ending swaps early would put other batches together"


def sweep_sites(  # noqa: PLR0913 - the agreed surface; everything after score has a default
    target: nn.Module,
    source: Weights,
    batches: Batches | None = None,
    score: Score | None = None,
    *,
    evaluate: Evaluate | None = None,
    swaps: SwapChoice = "single",
    controls: Controls = ("shuffled",),
    engine: str = "partial",
    memory_limit_gb: float | None = None,
    stop: str | None = None,
    tolerance: float = TOLERANCE,
    confidence: float = CONFIDENCE,
    exclude: Sequence[str] = (),
    seed: int = 0,
    log: SweepLog | None = None,
    progress: Progress | None = None,
    pool: Pool | None = None,
) -> Sweep:
    """Score every swap of a list, with the baseline and the controls.

    The target, the source and the global random state are the same afterwards. The target is tried
    out first: one whose outputs do not follow from its tensors and its input alone is swept in a
    slower way that is right for it, as ``notes`` says, or refused. Sweeps of several threads wait
    for each other. Batches are
    computed in float32, on graphics processors too, whatever precision PyTorch is allowed.

    Args:
        target: Network in evaluation mode; ``target(inputs)`` returns a tensor.
        source: Model, state dict or checkpoint path whose tensors are put in.
        batches: Re-iterable of ``(inputs, labels, subjects)``, the same every time.
        score: ``Dice(num_classes=4)`` or another ``Score``.
        evaluate: Instead of batches and score: a function from a model to a number, or to named
            numbers, higher is better. Runs in full for every swap and gives no intervals.
        swaps: As for ``make_swaps``.
        controls: ``"shuffled"``, ``"reinit"``, models; or names of your own and models. Running
            means and variances are shuffled three times, and scored by the mean of the draws.
        engine: ``"partial"``: only what depends on a swap is recomputed, where the target can be
            captured as a graph; ``"full"``: a plain forward pass per swap, the reference.
        memory_limit_gb: Bounds what the partial engine keeps of a batch, in units of 1e9 bytes.
        stop: ``None`` evaluates everything. ``"decided"`` takes the subjects in random order and
            ends a swap as soon as its verdict stands; its drop then covers only the subjects seen
            so far.
        tolerance: Largest drop that passes; what ``stop`` goes by.
        confidence: One minus the error rate, per swap, that ``stop`` may have.
        exclude: Keys of sites to leave out.
        seed: Seed of controls and intervals.
        log: Keeps statistics as they are measured and gives them back after an interruption.
        progress: Called with the number of evaluations done, and of all; a notebook shows a bar
            where it is left out.
        pool: Workers that measure batches, each with all of its swaps (``ray_pool``); the sweep of
            a counted score is bit for bit that of this process alone. ``evaluate`` runs here.

    Returns:
        Scores per swap, replacement, subject and class.

    Raises:
        SiteMismatchError: Nothing of the source fits the target, or a set of swaps is unknown.
        ModelError: The target is in training mode, does not return a tensor, or gives other outputs
            at each pass.
        ScoreError: The batches cannot be used, no subject has a foreground class, or the untouched
            target's outputs are NaN.
    """
    require_evaluation_mode(target)
    if evaluate is None and (batches is None or score is None):
        raise ScoreError("cannot sweep: give batches and a score, or evaluate=")
    if stop not in (None, "decided"):
        raise ScoreError(f"unknown rule stop={stop!r}: expected None or 'decided'")
    lent = lend(target, source)
    progress = progress or progress_bar("sweep")
    with ONE_AT_A_TIME, untouched_random_state():
        match = compare_sites(
            target, lent, exclude=exclude, example_input=_example(target, batches)
        )
        require_sites(match)
        wanted = make_swaps(match.sites, swaps)
        lenders = replacements_for(target, lent, controls, seed=seed)
        trials = make_trials(wanted, lenders.names)
        if evaluate is not None:
            sweep = evaluated_sweep(evaluate, trials, lenders, match.skipped, progress)
            return replace(sweep, lineage=_lineage(target, lent, exclude))
        assert batches is not None
        assert score is not None
        with torch.no_grad(), float32_arithmetic():
            example = _example(target, batches)
            assert example is not None
            known = put_in(lenders, trials)
            part = SweepPart(score, lenders, known.trials, example, engine, memory_limit_gb)
            meter, mixes_samples, notes = _meter(part, known, pool, needs_mixing=stop is not None)
            runner = Runner(score, lenders, known, meter, log=log, progress=progress)
            unstopped = (_NOT_STOPPED,) if stop is not None and mixes_samples else ()
            if stop is not None and not mixes_samples:
                runner.run_until_decided(batches, StoppingRule(tolerance, confidence))
            else:
                runner.run(batches)
            sweep = runner.sweep(match.skipped)
            return replace(
                sweep,
                notes=(*notes, *sweep.notes, *unstopped),
                lineage=_lineage(target, lent, exclude),
                constant=constant_score(batches, score),
            )


def _meter(
    part: SweepPart, known: PutIn, pool: Pool | None, *, needs_mixing: bool
) -> tuple[Meter, bool, tuple[str, ...]]:
    """Return what measures, whether samples mix where that is asked, and what is known already."""
    if pool is None:
        chosen = part.choose()
        return part.meter(chosen, known), chosen.mixes_samples, chosen.notes
    sharded = ShardedMeter(part.detached(), pool)
    return sharded, needs_mixing and sharded.mixes_samples(), ()


def _lineage(target: nn.Module, source: Mapping[str, Tensor], exclude: Sequence[str]) -> str:
    return compare_models(target, source, exclude=exclude).lineage.value


def _example(target: nn.Module, batches: Batches | None) -> Tensor | None:
    if batches is None:
        return None
    return next(walk_batches(batches)).inputs.to(device_of(target))
