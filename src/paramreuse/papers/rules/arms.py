"""Finding in the evidence what a rule needs, or saying what has not been measured."""

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from paramreuse.papers.arms import lender_of
from paramreuse.papers.evidence import Arm, NotMeasuredError
from paramreuse.papers.rules.condition import Condition, Variant
from paramreuse.papers.rules.estimate import require_subjects
from paramreuse.reuse.verdict import ROUNDING
from paramreuse.sites.swaps import SOURCE, Swap
from paramreuse.sweep.outcomes import MEAN, Sweep
from paramreuse.sweep.scores import subject_means

Array = NDArray[np.float64]

TARGET = "target"
"""Name of the papers' A1."""

NOTHING_TO_LOSE = 10
"""A target that scores below so many tolerances has nothing to lose: every drop is small there."""


def sweep_of(arm: Arm) -> Sweep:
    """Return the single swaps from the first source.

    Raises:
        NotMeasuredError: They were not scored.
    """
    return _swept(arm, arm.sweeps, "was not swept")


def kernel_sweep_of(arm: Arm, condition: Condition) -> Sweep:
    """Return the kernel swaps from the first source, recalibrated if that is the condition.

    Raises:
        NotMeasuredError: They were not scored.
    """
    if condition.variant is not Variant.RECALIBRATED:
        return sweep_of(arm)
    return _swept(arm, arm.recalibrated, "was not swept with statistics recomputed")


def _swept(arm: Arm, sweeps: Mapping[str, Sweep], what_lacks: str) -> Sweep:
    lender = lender_of(arm)
    if lender not in sweeps:
        raise NotMeasuredError(f"the arm {arm.name} {what_lacks} from {lender}")
    sweep = sweeps[lender]
    baselines = _baselines(sweep)
    if not _can_lose(sweep.baseline_scores()[MEAN], arm):
        raise NotMeasuredError(
            f"the target of the arm {arm.name} scores only {sweep.baseline_scores()[MEAN]:.3f}, "
            f"less than {NOTHING_TO_LOSE} times the tolerance of {arm.tolerance:g}: nothing to lose"
        )
    require_subjects(int(np.isfinite(baselines).sum()) if sweep.subjects else 0, arm.name)
    return sweep


def _baselines(sweep: Sweep) -> Array:
    """Return each subject's foreground mean of the untouched target, shape ``(P,)``."""
    return subject_means(sweep.baseline, sweep.foreground)


def _can_lose(baseline: float, arm: Arm) -> bool:
    return baseline > 0 and baseline >= NOTHING_TO_LOSE * arm.tolerance - ROUNDING


def swaps_of(arm: Arm, sweep: Sweep, *kinds: str) -> tuple[Swap, ...]:
    """Return the single swaps of some kinds, the output layer aside.

    Raises:
        NotMeasuredError: There is none of one of the kinds.
    """
    single = [swap for swap in sweep.swaps if swap.is_single and not swap.anchor.is_output]
    for kind in kinds:
        if all(swap.kind != kind for swap in single):
            raise NotMeasuredError(f"the arm {arm.name} has no swap of {kind}")
    return tuple(swap for swap in single if swap.kind in kinds)


def kernels_of(arm: Arm, sweep: Sweep) -> tuple[Swap, ...]:
    """Return the single swaps of kernels, the output layer aside.

    Raises:
        NotMeasuredError: There is none.
    """
    if not sweep.kernels:
        raise NotMeasuredError(f"the arm {arm.name} has no swap of W")
    return sweep.kernels


def mean_by_subject(
    sweep: Sweep, swaps: Sequence[Swap], replacement: str = SOURCE
) -> dict[Hashable, float]:
    """Return each subject's mean drop over several swaps.

    A subject on which one of them was not scored is left out, since its mean would be one over
    other swaps; so are all where no subjects are known.
    """
    means = sweep.foreground_drops(swaps, replacement).mean(axis=1).tolist()
    named = zip(sweep.subjects, means, strict=True) if sweep.subjects else ()
    return {subject: mean for subject, mean in named if np.isfinite(mean)}


def shares_lost(arm: Arm, sweep: Sweep, swaps: Sequence[Swap]) -> dict[Hashable, float]:
    """Return which share of its own baseline each subject loses, as a mean over several swaps.

    A subject whose baseline leaves nothing to lose is left out as well, since a share of next to
    nothing is any number.
    """
    baselines = dict(zip(sweep.subjects, _baselines(sweep).tolist(), strict=True))
    return {
        subject: drop / baselines[subject]
        for subject, drop in mean_by_subject(sweep, swaps).items()
        if _can_lose(baselines[subject], arm)
    }
