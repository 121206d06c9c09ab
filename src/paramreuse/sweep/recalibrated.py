"""The sweep after recalibration: what a swap costs once BatchNorm has been adapted to it.

Statistics that no longer fit what enters a layer explain much of what a swapped kernel costs, and
they can be recomputed without a label. What then remains is the cost of the kernel itself.

Source: REPAIR (ICLR 2023, arXiv 2211.08403); Schneider et al. (NeurIPS 2020, arXiv 2006.16971).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from paramreuse.distribution.pool import Pool
from paramreuse.engine.plain import FullEngine, device_of, require_evaluation_mode
from paramreuse.errors import ModelError, SiteMismatchError
from paramreuse.sites.copies import private_copy
from paramreuse.sites.layers import KERNEL_FAMILIES, Kind
from paramreuse.sites.lending import Weights, lend, tensors_of
from paramreuse.sites.matching import Site, compare_sites, require_sites
from paramreuse.sites.swaps import (
    SOURCE,
    Replacements,
    Swap,
    SwapChoice,
    is_identical,
    make_swaps,
    replacements_for,
)
from paramreuse.sweep.batches import Batch, Batches, walk_batches
from paramreuse.sweep.engines import ONE_AT_A_TIME
from paramreuse.sweep.lent_tensors import PutIn, put_in
from paramreuse.sweep.measuring import EngineMeter, Measured, Meter, Order
from paramreuse.sweep.outcomes import MEAN, Sweep
from paramreuse.sweep.recalibration import recalibrated, statistic_keys
from paramreuse.sweep.runner import Progress, Runner
from paramreuse.sweep.scores import Score
from paramreuse.sweep.scoring import score_subjects
from paramreuse.sweep.trials import Trial
from paramreuse.untouched import untouched_random_state


def sweep_recalibrated(  # noqa: PLR0913 - what sweep_sites takes, and the calibration
    target: nn.Module,
    source: Weights,
    batches: Batches,
    score: Score,
    calibration: Iterable[Any],
    *,
    swaps: SwapChoice | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    pool: Pool | None = None,
) -> Sweep:
    """Score every swap with the BatchNorm statistics recomputed after it.

    The baseline is the target with its own statistics recomputed on the same images, so that a drop
    is what the swap costs, not what recalibration does; ``notes`` has the score as trained beside
    it. The target, the source and the global random state are the same afterwards.

    Source: REPAIR (arXiv 2211.08403), statistics recomputed after weights were put in.

    Args:
        target: Network in evaluation mode; ``target(inputs)`` returns a tensor.
        source: Model, state dict or checkpoint path whose tensors are put in.
        batches: Re-iterable of ``(inputs, labels, subjects)``, the same every time.
        score: ``Dice(num_classes=4)`` or another ``Score``.
        calibration: Batches of target images, as for ``recalibrated``: tensors ``(N, C, H, W)``, or
            tuples that begin with one; labels are not looked at. Walked once, images are kept.
        swaps: As for ``make_swaps``; if not given, every kernel by itself, that of the output layer
            included. RM and RV that are recomputed anyway are not put in: a swap of several sites
            goes without them, and one of nothing else is left out, as ``notes`` says.
        seed: Seed of the intervals.
        progress: Called with the number of batches done, those for calibration counted, and of all;
            on workers those that were scored alone.
        pool: Workers (``ray_pool``), each of which takes a swap, as recalibration costs most of
            the time and serves all batches.

    Returns:
        Scores per swap, subject and class; the only replacement is ``"source"``.

    Raises:
        SiteMismatchError: Nothing of the source fits the target, nothing but RM and RV is to be
            swapped, or a set of swaps is unknown.
        ModelError: The target is in training mode, has no BatchNorm statistics, or does not return
            a tensor; or the calibration images cannot be used.
        ScoreError: The batches cannot be used, no subject has a foreground class, or an output is
            NaN; the message names the swap.
    """
    require_evaluation_mode(target)
    recomputed = statistic_keys(target)
    lent = lend(target, source)
    with ONE_AT_A_TIME, untouched_random_state(), torch.no_grad():
        images = _images_of(calibration, device_of(target))
        example = next(walk_batches(batches)).inputs.to(device_of(target))
        match = compare_sites(target, lent, example_input=example)
        require_sites(match)
        asked = make_swaps(match.sites, _kernels(match.sites) if swaps is None else swaps)
        chosen = _without(recomputed, asked)
        _, as_trained = score_subjects(target, batches, score)
        baseline = recalibrated(target, images)
        lenders = replacements_for(baseline, lent, (), seed=seed)
        known = put_in(lenders, [Trial(swap, SOURCE) for swap in chosen])
        part = _Part(score, lenders, known, tuple(images), recomputed)
        meter: Meter
        if pool is None:
            engine = part.engine()
            num_ahead = len(images) * _num_moving(lenders, chosen)
            meter = part.meter(engine)
            report = None if progress is None else _counting(progress, engine, num_ahead)
        else:
            meter, report = _SwapwiseMeter(part.detached(), pool), progress
        runner = Runner(score, lenders, known, meter, progress=report)
        runner.run(batches)
        sweep = runner.sweep(match.skipped)
    trained = replace(sweep, baseline=as_trained).baseline_scores()[MEAN]
    note = (
        f"baseline: statistics recomputed on {sum(map(len, images))} images, mean "
        f"{type(score).__name__} {sweep.baseline_scores()[MEAN]:.3f}; as trained {trained:.3f}"
    )
    return replace(sweep, notes=(note, *sweep.notes, *_left_out(asked, chosen)))


def _images_of(calibration: Iterable[Any], device: torch.device) -> list[Tensor]:
    images: list[Tensor] = []
    for index, batch in enumerate(calibration):
        inputs = batch[0] if isinstance(batch, tuple | list) and batch else batch
        if not isinstance(inputs, Tensor):
            raise ModelError(
                f"cannot recalibrate on batch {index}: expected images (N, C, H, W), or a tuple "
                f"that begins with them, got a {type(batch).__name__}"
            )
        if not bool(torch.isfinite(inputs).all()):
            raise ModelError(
                f"cannot recalibrate on batch {index}: its images hold NaN or infinite values"
            )
        images.append(inputs.to(device))
    return images


def _kernels(sites: Iterable[Site]) -> list[Site]:
    kernels = [site for site in sites if site.kind is Kind.W and site.family in KERNEL_FAMILIES]
    if not kernels:
        raise SiteMismatchError(
            "cannot sweep the kernels: none of the source fits the target. `paramreuse compare` "
            "says why; swaps='single' takes whatever fits"
        )
    return kernels


def _without(recomputed: frozenset[str], swaps: Sequence[Swap]) -> list[Swap]:
    """Take out of each swap what recalibration overwrites, and swaps of nothing else."""
    reduced = [
        replace(swap, sites=tuple(site for site in swap.sites if site.key not in recomputed))
        for swap in swaps
    ]
    chosen = [swap for swap in reduced if swap.sites]
    if not chosen:
        raise SiteMismatchError(
            f"cannot sweep {[swap.name for swap in swaps][:10]} with recalibration, which "
            "overwrites RM and RV whatever is put in. Swap kernels, or use sweep_sites"
        )
    return chosen


def _left_out(asked: Sequence[Swap], chosen: Sequence[Swap]) -> Iterator[str]:
    kept = {swap.name for swap in chosen}
    names = [swap.name for swap in asked if swap.name not in kept]
    if names:
        yield f"left out, since recalibration overwrites them: {', '.join(names)}"


class _RecalibratingEngine(FullEngine):
    """A full forward pass per variant, with the statistics recomputed for it.

    Args:
        model: The target with its own statistics recomputed.
        images: Batches to recompute on.
        recomputed: Keys of the statistics.
    """

    def __init__(
        self, model: nn.Module, images: Sequence[Tensor], recomputed: frozenset[str]
    ) -> None:
        super().__init__(model)
        self._base = model
        self._images = images
        self._recomputed = recomputed
        self._statistics: dict[frozenset[str], dict[str, Tensor]] = {}

    @property
    def num_batches(self) -> int:
        """How many batches went through the network for calibration."""
        return len(self._statistics) * len(self._images)

    def settled(self, variant: Mapping[str, Tensor]) -> Tensor:
        """Run the target with one variant and its statistics in place."""
        # One replacement is all there is, so the keys of a variant tell which it is.
        keys = frozenset(variant)
        if keys not in self._statistics:
            self._statistics[keys] = self._recompute(variant)
        return super().settled({**variant, **self._statistics[keys]})

    def _recompute(self, variant: Mapping[str, Tensor]) -> dict[str, Tensor]:
        twin = private_copy(self._base)
        tensors = tensors_of(twin)
        for key, tensor in variant.items():
            tensors[key].copy_(tensor)
        renewed = tensors_of(recalibrated(twin, self._images))
        return {key: renewed[key] for key in self._recomputed}


def _counting(progress: Progress, engine: _RecalibratingEngine, num_ahead: int) -> Progress:
    """Count the batches for calibration, ``num_ahead`` in all, along with those that are scored."""

    def count(done: int, total: int | None) -> None:
        progress(engine.num_batches + done, None if total is None else num_ahead + total)

    return count


def _num_moving(lenders: Replacements, swaps: Sequence[Swap]) -> int:
    """Count the variants that put in something else than the target holds."""
    moving = (
        swap.keys
        for swap in swaps
        if not is_identical(swap, lenders.tensors(swap, SOURCE), lenders.target)
    )
    return len(set(moving))


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """What a worker needs to measure any swap of a recalibrated sweep."""

    score: Score
    lenders: Replacements
    known: PutIn
    images: tuple[Tensor, ...]
    recomputed: frozenset[str]
    batches: tuple[Batch, ...] = ()

    def detached(self) -> "_Part":
        """Return the same with its tensors in memory, apart from the file they came from."""
        return replace(self, lenders=replace(self.lenders, source=dict(self.lenders.source)))

    def engine(self) -> _RecalibratingEngine:
        return _RecalibratingEngine(self.lenders.target, self.images, self.recomputed)

    def meter(self, engine: _RecalibratingEngine) -> EngineMeter:
        return EngineMeter(
            self.score,
            engine,
            tensors=self.known.tensors,
            identical=self.known.identical,
            not_finite=self.known.not_finite,
            device=device_of(self.lenders.target),
        )


class _SwapwiseMeter:
    """Measures on workers, each swap with all of its batches on one of them; a ``Meter``."""

    notes: tuple[str, ...] = ()

    def __init__(self, part: _Part, pool: Pool) -> None:
        self._part = part
        self._pool = pool

    def measure(self, orders: Iterable[Order]) -> Iterator[Measured]:
        """Measure every trial of the orders, all of which have the same ones."""
        asked = list(orders)
        part = replace(self._part, batches=tuple(order.batch for order in asked))
        for _, measured in self._pool.map(_prepare, part, asked[0].trials if asked else ()):
            yield from measured


def _prepare(part: _Part) -> Callable[[Trial], list[Measured]]:
    def measure(trial: Trial) -> list[Measured]:
        with untouched_random_state(), torch.no_grad():
            # An engine for each swap, as it keeps the statistics of every one it has seen.
            meter = part.meter(part.engine())
            orders = (Order(index, batch, [trial]) for index, batch in enumerate(part.batches))
            return list(meter.measure(orders))

    return measure
