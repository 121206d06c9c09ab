"""Finding an arm of the evidence, or saying that it has not run."""

from paramreuse.papers.evidence import Arm, Evidence, NotMeasuredError, Start


def unet_arm(
    evidence: Evidence, start: Start, *, residual: bool = False, long_skips: bool = True
) -> Arm:
    """Return the arm of a UNet.

    Raises:
        NotMeasuredError: It has not run.
    """
    form = f"unet{', residual' if residual else ''}{'' if long_skips else ', no long connections'}"
    return _run(evidence.unet(start, residual=residual, long_skips=long_skips), form, start)


def pspnet_arm(evidence: Evidence, start: Start) -> Arm:
    """Return the arm of the PSPNet whose backbone has no biases.

    Raises:
        NotMeasuredError: It has not run.
    """
    return _run(evidence.pspnet(start), "pspnet", start)


def biased_pspnet_arm(evidence: Evidence, start: Start) -> Arm:
    """Return the arm of the PSPNet whose backbone has biases, or of the other if it has not run.

    Raises:
        NotMeasuredError: Neither has run.
    """
    return evidence.pspnet(start, bias=True) or pspnet_arm(evidence, start)


def any_pspnet_arm(evidence: Evidence, start: Start) -> Arm:
    """Return the arm of the PSPNet whose backbone has no biases, or of the other.

    Raises:
        NotMeasuredError: Neither has run.
    """
    return evidence.pspnet(start) or biased_pspnet_arm(evidence, start)


def _run(arm: Arm | None, form: str, start: Start) -> Arm:
    if arm is None:
        raise NotMeasuredError(f"the arm {form}, {start} start, has not run")
    return arm


def lender_of(arm: Arm) -> str:
    """Return the source that is swapped from: the first one, the papers' A2.

    Raises:
        NotMeasuredError: The arm has no source.
    """
    if not arm.sources:
        raise NotMeasuredError(f"the arm {arm.name} has no source")
    return arm.sources[0]
