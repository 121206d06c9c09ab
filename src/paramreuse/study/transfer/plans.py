"""The plans that the trainings of the transfer follow."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from paramreuse.reuse.plan import Action, Plan
from paramreuse.sites.lending import Weights
from paramreuse.sites.matching import SkippedTensor, compare_sites
from paramreuse.study.config import TARGET, Study
from paramreuse.study.findings import findings_of
from paramreuse.study.job import Job, opened
from paramreuse.study.transfer.attempts import Attempt


def fit_plan(
    plan: Plan, target: nn.Module, source: Weights
) -> tuple[Plan, tuple[SkippedTensor, ...]]:
    """Leave those sites of a plan that a source cannot give: the plan may be another source's.

    Args:
        plan: The plan.
        target: Network that the plan is for.
        source: Source whose tensors are to be loaded.

    Returns:
        The plan without them, and what was taken out of it, each with the reason.
    """
    reasons = {item.key: item.reason for item in compare_sites(target, source).skipped}
    missing = [site.key for site in plan.loaded if site.key in reasons]
    entries = tuple(
        replace(entry, action=Action.LEAVE, reason=reasons[entry.site.key])
        if entry.site.key in missing
        else entry
        for entry in plan.entries
    )
    skipped = tuple(SkippedTensor(key, reasons[key]) for key in missing)
    return replace(plan, entries=entries), skipped


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """The plan that the trainings from one source follow.

    Attributes:
        plan: The plan, without the sites that the source cannot give.
        skipped: Those sites, each with the reason.
    """

    plan: Plan
    skipped: tuple[SkippedTensor, ...]


def source_plans(job: Job, attempts: Sequence[Attempt]) -> dict[str, SourcePlan]:
    """Return the plan of every source from which an attempt follows one.

    It is the source's own, or that of ``transfer.plan_from`` as far as the source has its tensors.
    """
    spec = job.bench.study.transfer
    assert spec is not None, "only a study with a transfer section has attempts"
    sources = dict.fromkeys(attempt.source for attempt in attempts if attempt.strategy.follows_plan)
    planned = {source: spec.plan_from or source for source in sources}
    findings = findings_of(job.bench.study, job.store)
    plans = {name: findings.plan(name) for name in dict.fromkeys(planned.values())}
    target = job.bench.factory(TARGET)()
    return {
        source: SourcePlan(*fit_plan(plans[name], target, opened(job, source)))
        for source, name in planned.items()
    }


def tell_plans(study: Study, plans: Mapping[str, SourcePlan]) -> Iterator[str]:
    """Say whose plan is followed where it is not each source's own, and what it loses by that."""
    if study.transfer is None or study.transfer.plan_from is None or not plans:
        return
    yield f"every plan is that of {study.transfer.plan_from}"
    for source, fitted in plans.items():
        if fitted.skipped:
            first, wanted = fitted.skipped[0], len(fitted.plan.loaded) + len(fitted.skipped)
            yield (
                f"{source} cannot give {len(fitted.skipped)} of its {wanted} sites, such as "
                f"{first.key}: {first.reason}"
            )
