"""Which trainings a study's transfer asks for: of which sources, under which plans."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

from paramreuse.errors import StudyError
from paramreuse.reuse.plan import Plan
from paramreuse.sites.matching import SkippedTensor
from paramreuse.study.config import TARGET, Study
from paramreuse.study.job import Job, opened
from paramreuse.study.source_ranking import ranked_sources
from paramreuse.study.stages import plan_of
from paramreuse.study.store import Store
from paramreuse.study.transfer.plans import Attempt, fit_plan, list_attempts


def attempts_of(study: Study, store: Store) -> list[Attempt]:
    """List the trainings of a study's transfer table; none if it asks for no transfer.

    Args:
        study: The study.
        store: Its facts, which tell the best source where that one is asked for; as long as no
            source can be ranked only ``scratch`` is listed.
    """
    spec = study.transfer
    if spec is None:
        return []
    return list_attempts(spec.subjects, spec.strategies, spec.seeds, _sources(study, store))


def _sources(study: Study, store: Store) -> Sequence[str]:
    assert study.transfer is not None, "only a study with a transfer section lends"
    if study.transfer.sources == "all":
        return study.sources
    if study.transfer.sources == "best":
        best = _best(study, store)
        return [best["source"]] if best else []
    return study.transfer.sources


def _best(study: Study, store: Store) -> dict[str, Any] | None:
    """Return what the ranking says of its first source; None where no source can be ranked."""
    rows = ranked_sources(store, study)
    return None if not rows or isnan(rows[0]["kernel_share"]) else rows[0]


def tell_choice(study: Study, store: Store) -> Iterator[str]:
    """Say which source is the best and by what, where the study leaves the choice to the ranking.

    Raises:
        StudyError: No source can be ranked.
    """
    spec = study.transfer
    if spec is None or spec.sources != "best" or set(spec.strategies) == {"scratch"}:
        return
    best = _best(study, store)
    if best is None:
        raise StudyError(
            f"cannot choose the best of {study.sources}: no kernel of any of them has been "
            "swapped in. Name sources in transfer.sources, or sweep others"
        )
    yield (
        f"{best['source']} is the best of {len(study.sources)} sources: it ranks first, with "
        f"{100 * best['kernel_share']:.0f} % of its kernel layers reusable (mean drop "
        f"{best['mean_drop']:.3f})"
    )


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
    sources = dict.fromkeys(attempt.source for attempt in attempts if attempt.follows_plan)
    planned = {source: spec.plan_from or source for source in sources}
    plans = {name: plan_of(job, name) for name in dict.fromkeys(planned.values())}
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
    for source, found in plans.items():
        if found.skipped:
            first, wanted = found.skipped[0], len(found.plan.loaded) + len(found.skipped)
            yield (
                f"{source} cannot give {len(found.skipped)} of its {wanted} sites, such as "
                f"{first.key}: {first.reason}"
            )
