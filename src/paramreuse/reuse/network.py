"""What the kernels together say of a network, and when single swaps cannot say anything of it."""

from collections.abc import Sequence
from math import isnan, nan

from paramreuse.reuse.judgement import Judgement
from paramreuse.sweep.outcomes import Sweep
from paramreuse.sweep.stopping import Side

REUSABLE_SHARE = 0.5
"""Smallest share of reusable kernel layers for a network to count as reusable."""

BETTER = 0.5
"""A source that costs at most this part of what its shuffled values cost does better than they.
Between independent starts no kernel came below 0.67, with a shared start a fifth of them or more;
docs/results/calibration.md."""

WHAT_CAN_TELL = (
    "what can tell: loading the network as a whole and training, the rewind sweep (the source's "
    "values put back into a copy of it that was trained on), or the channels aligned first "
    "(align_models), where that brings the kernels near"
)


def share_of_reusable(kernels: Sequence[Judgement]) -> tuple[float, float, float]:
    """Return the share of reusable kernels among those where the control fails, and its range.

    Where a control passes as well, any values do, which says nothing for or against the source.
    Kernels that hold the same values in both networks count as reusable, those seen on too few
    subjects as not shown to be. Without a control every kernel counts.

    Args:
        kernels: Judgements of the kernels.

    Returns:
        The share, and the smallest and the largest that the kernels leave possible whose interval
        holds the tolerance; 0 where no control fails, NaN where there is no kernel.
    """
    if not kernels:
        return nan, nan, nan
    reusable = sum(kernel.can_be_loaded for kernel in kernels)
    others = [kernel for kernel in kernels if not kernel.can_be_loaded]
    failing = [k for k in others if k.control_side is Side.ABOVE or k.has_too_few]
    unsure = [k for k in others if k.control_side is Side.OPEN and not k.has_too_few]
    least = _share(reusable, len(failing) + sum(k.side is not Side.BELOW for k in unsure))
    gained = sum(k.side is Side.OPEN for k in failing)
    gained += sum(k.side is not Side.ABOVE for k in unsure)
    most = _share(reusable + gained, sum(k.side is Side.ABOVE for k in failing))
    return _share(reusable, len(failing)), least, most


def _share(reusable: int, others: int) -> float:
    return reusable / (reusable + others) if reusable else 0.0


def why_useless(sweep: Sweep, tolerance: float) -> str:
    """Say why a target is too poor for a verdict; nothing where it is not.

    Args:
        sweep: What was measured.
        tolerance: Largest drop that passes.
    """
    baseline, constant = sweep.mean_baseline, sweep.constant
    if not sweep.subjects or not baseline >= 0:
        return ""
    if baseline <= tolerance:
        return (
            f"the target is useless: its mean score is {baseline:.3f}, so that no swap can cost "
            f"more than the tolerance of {tolerance:g}. Train it better before anything is judged"
        )
    if constant is not None and baseline <= constant + tolerance:
        return (
            f"the target is useless: its mean score of {baseline:.3f} is within the tolerance of "
            f"{tolerance:g} of the {constant:.3f} that predicting one class everywhere gives. "
            "Train it better before anything is judged"
        )
    return ""


def why_blind(kernels: Sequence[Judgement], lineage: str) -> str:
    """Say why single swaps cannot tell whether a source is of use; nothing where they can.

    Args:
        kernels: Judgements of the kernels.
        lineage: ``shared``, ``independent``, ``undecided``, or nothing where it is not known.
    """
    if lineage == "independent":
        return (
            "single swaps cannot tell: the two networks use different coordinates (they were "
            f"started independently); {WHAT_CAN_TELL}"
        )
    told = [k for k in kernels if k.control_side is Side.ABOVE and not isnan(k.control_drop)]
    if told and not any(k.can_be_loaded or k.drop <= BETTER * k.control_drop for k in told):
        return (
            "single swaps cannot tell: the two networks use different coordinates (at no kernel "
            "layer does the source save half of what its shuffled values cost); "
            f"{WHAT_CAN_TELL}"
        )
    return ""
