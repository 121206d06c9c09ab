"""Which trainings a study's transfer asks for: by which strategies, from which sources."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isnan
from pathlib import Path

from paramreuse.errors import StudyError
from paramreuse.reuse.ranking import RankedSource
from paramreuse.study.config import Study
from paramreuse.study.findings import findings_of
from paramreuse.study.records import LongTransferScore, TransferScore
from paramreuse.study.store import Store
from paramreuse.study.transfer.strategy import Strategy


@dataclass(frozen=True, slots=True)
class Attempt:
    """One training of the transfer table.

    Attributes:
        strategy: As in the study file.
        source: Name of the source, ``""`` for ``scratch``.
        num_subjects: Number of training subjects.
        seed: Which repetition, from 0.
        is_long: Whether it is trained twice as long as the study says.
    """

    strategy: Strategy
    source: str
    num_subjects: int
    seed: int
    is_long: bool = False

    @property
    def name(self) -> str:
        """What the attempt is called in messages and file names."""
        start = f"-{self.source}" if self.source else ""
        length = "-twice" if self.is_long else ""
        return f"{self.strategy}{start}-{self.num_subjects}-{self.seed}{length}"

    @property
    def times(self) -> int:
        """How many times as long it is trained as the study says."""
        return 2 if self.is_long else 1

    @property
    def scores(self) -> type[TransferScore]:
        """The record that its scores are kept in."""
        return LongTransferScore if self.is_long else TransferScore

    @property
    def training(self) -> tuple[str, str, int, int]:
        """What tells it apart in the store: source, strategy, number of subjects, repetition."""
        return self.source, self.strategy.value, self.num_subjects, self.seed

    @property
    def columns(self) -> dict[str, object]:
        """The attempt as columns of a table."""
        return {
            "source": self.source,
            "strategy": self.strategy.value,
            "num_subjects": self.num_subjects,
            "seed": self.seed,
        }


def kept_model(folder: Path, attempt: Attempt) -> Path:
    """Return where a run folder keeps the trained model of an attempt, if the study asks for it."""
    return folder / "models" / "transfer" / f"{attempt.name}.safetensors"


def list_attempts(
    subjects: Sequence[int], strategies: Sequence[Strategy], seeds: int, sources: Sequence[str]
) -> list[Attempt]:
    """List every training of the transfer table, once where the strategy needs no source."""
    return [
        Attempt(strategy, source, number, seed)
        for number in subjects
        for strategy in strategies
        for source in (sources if strategy.needs_source else [""])
        for seed in range(seeds)
    ]


def lengthened(attempts: Sequence[Attempt], study: Study) -> list[Attempt]:
    """Return the attempts that are trained a second time, twice as long.

    Args:
        attempts: The trainings of the transfer table.
        study: The study, which says whether any are. ``recommended`` has a length of its own where
            the study gives no steps.
    """
    spec = study.transfer
    if spec is None or not spec.check_convergence:
        return []
    return [
        replace(attempt, is_long=True)
        for attempt in attempts
        if spec.steps is not None or attempt.strategy is not Strategy.RECOMMENDED
    ]


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
        return [best.name] if best else []
    return study.transfer.sources


def _best(study: Study, store: Store) -> RankedSource | None:
    """Return what the ranking says of its first source; None where no source can be ranked."""
    ranked = findings_of(study, store).ranking.sources
    return None if not ranked or isnan(ranked[0].verdict.kernel_share) else ranked[0]


def tell_choice(study: Study, store: Store) -> Iterator[str]:
    """Say which source is the best and by what, where the study leaves the choice to the ranking.

    Raises:
        StudyError: No source can be ranked.
    """
    spec = study.transfer
    if spec is None or spec.sources != "best" or not any(s.needs_source for s in spec.strategies):
        return
    best = _best(study, store)
    if best is None:
        raise StudyError(
            f"cannot choose the best of {study.sources}: no kernel of any of them has been "
            "swapped in. Name sources in transfer.sources, or sweep others"
        )
    more = "; single swaps cannot tell more of it" if best.verdict.cannot_tell else ""
    yield (
        f"{best.name} is the best of {len(study.sources)} sources: it ranks first, with "
        f"{100 * best.verdict.kernel_share:.0f} % of its kernel layers reusable (mean drop "
        f"{best.mean_drop:.3f}){more}"
    )
