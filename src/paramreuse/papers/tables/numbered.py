"""Tables 1 to 3 of the papers, their numbers beside ours, and the summaries over all arms."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from paramreuse.papers.evidence import Arm, Evidence, NotMeasuredError
from paramreuse.papers.model_words import NOTHING, letter_of, model_words
from paramreuse.papers.tables.published import PSPNET, REUSE, UNET, Reuse
from paramreuse.papers.tables.summaries import ablation_rows, distance_rows, head_of, share_rows
from paramreuse.plain_text import Row
from paramreuse.study.transfer.table import TrainingDice, trainings_of
from paramreuse.sweep.intervals import mean_interval
from paramreuse.sweep.outcomes import MEAN, Sweep, column_means
from paramreuse.sweep.scores import subject_means

if TYPE_CHECKING:
    import pandas as pd

Frame: TypeAlias = "pd.DataFrame"
Array: TypeAlias = NDArray[np.float64]

FEW, MANY = 10, 50
"""Numbers of training subjects in the papers' table 3."""


@dataclass(frozen=True, slots=True, eq=False)
class PaperTables:
    """The tables that could be made, and why the others could not.

    Attributes:
        frames: Table by name: ``table-1``, ``table-2``, ``table-3``, ``shares``, ``distances`` and
            ``ablation``. Dice and RMSE are fractions; ``paper...`` columns hold what the papers
            print, empty where no row of theirs corresponds.
        missing: Reason by name.
    """

    frames: Mapping[str, Frame]
    missing: Mapping[str, str]


def paper_tables(evidence: Evidence) -> PaperTables:
    """Make every table.

    Args:
        evidence: What the arms measured.
    """
    import pandas as pd

    frames, missing = {}, {}
    for name, (rows_of, reason) in _TABLES.items():
        try:
            rows = list(rows_of(evidence))
        except NotMeasuredError as not_made:
            missing[name] = str(not_made)
            continue
        if rows:
            frames[name] = pd.DataFrame(rows)
        else:
            missing[name] = reason
    return PaperTables(frames, missing)


def _first_sweep(arm: Arm) -> Sweep | None:
    """Return a sweep of the arm: all have the same baseline and classes."""
    return next(iter(arm.sweeps.values()), None)


def _unet_rows(evidence: Evidence) -> Iterator[Row]:
    for start in ("shared", "independent"):
        arm = evidence.unet(start)
        if arm is not None:
            yield from _baseline_rows(arm, UNET)


def _pspnet_rows(evidence: Evidence) -> Iterator[Row]:
    for start in ("shared", "independent"):
        for bias in (True, False):
            arm = evidence.pspnet(start, bias=bias)
            if arm is not None:
                rows = _baseline_rows(arm, PSPNET[bias])
                yield from ({"bias": "yes" if bias else "no"} | row for row in rows)


def _baseline_rows(arm: Arm, published: Sequence[float]) -> Iterator[Row]:
    """Yield the untouched target's Dice per class and their foreground mean, with intervals."""
    sweep = _first_sweep(arm)
    if sweep is None:
        return
    scores = np.column_stack([sweep.baseline, subject_means(sweep.baseline, sweep.foreground)])
    low, high = np.full((2, scores.shape[1]), np.nan)
    if sweep.subjects:
        # The tail of scores is where that of drops is, seen from above.
        above, below = mean_interval(-scores, confidence=arm.confidence)
        low, high = -below, -above
    printed = dict(zip(sweep.classes, published, strict=False))
    if len(sweep.classes) != len(published):
        printed = {}
    names = (*sweep.classes, MEAN)
    for name, dice, lower, upper in zip(names, column_means(scores), low, high, strict=True):
        yield {
            "arm": arm.name,
            "start": arm.start,
            "class": name,
            "dice": dice,
            "low": lower,
            "high": upper,
            "paper": printed.get(name, np.nan),
        }


def _reuse_rows(evidence: Evidence) -> Iterator[Row]:
    for arm in evidence.arms:
        groups: dict[tuple[int, str, str], list[TrainingDice]] = {}
        for one in trainings_of(arm.transfer):
            groups.setdefault((one.num_subjects, one.source, one.strategy), []).append(one)
        classes = _classes(arm)
        sizes = sorted({size for size, _, _ in groups})
        for (size, source, strategy), trainings in sorted(groups.items(), key=lambda g: g[0][0]):
            published = _published(arm, _papers_size(sizes, size), source, strategy)
            ours = _transfer_summary(trainings, classes, _foreground(arm, classes))
            yield (
                head_of(arm)
                | {
                    "subjects": size,
                    "loaded": model_words(arm).get(source, source) if source else NOTHING,
                    "source": letter_of(source) if source else "",
                    "strategy": strategy,
                }
                | ours
                | _published_columns(published, classes)
            )


def _classes(arm: Arm) -> list[str]:
    """Return the classes in their order, that of the papers' columns."""
    sweep = _first_sweep(arm)
    seen = dict.fromkeys(score.label for score in arm.transfer)
    return list(seen if sweep is None else sweep.classes)


def _foreground(arm: Arm, classes: Sequence[str]) -> Sequence[str]:
    """Name the classes that enter a subject's mean: without a sweep all but the first."""
    sweep = _first_sweep(arm)
    return classes[1:] if sweep is None else sweep.foreground_classes


def _transfer_summary(
    trainings: Sequence[TrainingDice], classes: Sequence[str], foreground: Sequence[str]
) -> Row:
    """Return the mean over seeds of each class, of all classes and of the foreground, with spread.

    Args:
        trainings: One per repetition.
        classes: Names of the classes.
        foreground: Which of them enter the foreground mean.
    """
    means = [training.by_class() for training in trainings]
    by_class = np.array([[mean.get(name, np.nan) for name in classes] for mean in means])
    of_all = column_means(by_class.T)
    of_foreground = np.array([training.mean(foreground) for training in trainings])
    return dict(zip(classes, column_means(by_class), strict=True)) | {
        "mean": of_all.mean(),
        "mean_sd": _spread(of_all),
        "foreground_mean": of_foreground.mean(),
        "foreground_sd": _spread(of_foreground),
        "seeds": len(trainings),
    }


def _spread(values: Array) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def _papers_size(sizes: Sequence[int], size: int) -> int | None:
    """Return the papers' number of subjects that ours stands for: the fewest, or the most."""
    if len(sizes) == 1:
        return MANY if size == MANY else FEW
    return FEW if size == sizes[0] else MANY if size == sizes[-1] else None


def _published(arm: Arm, size: int | None, source: str, strategy: str) -> Reuse | None:
    """Return the papers' row that corresponds; theirs are all of a PSPNet."""
    wanted = (size, source, strategy)
    rows = REUSE if arm.network == "pspnet" else ()
    return next((r for r in rows if (r.num_subjects, r.source, r.strategy) == wanted), None)


def _published_columns(row: Reuse | None, classes: Sequence[str]) -> Row:
    dice: Sequence[float] = row.dice if row and len(row.dice) == len(classes) else ()
    by_class = dict(zip(classes, dice, strict=False))
    return {
        "paper_subjects": row.num_subjects if row else "",
        "paper_mean": row.mean if row else np.nan,
        **{f"paper_{name}": by_class.get(name, np.nan) for name in classes},
        "paper_note": row.note if row else "",
    }


_TABLES: Mapping[str, tuple[Callable[[Evidence], Iterator[Row]], str]] = {
    "table-1": (_unet_rows, "no arm with a UNet was swept"),
    "table-2": (_pspnet_rows, "no arm with a PSPNet was swept"),
    "table-3": (_reuse_rows, "no arm has a transfer"),
    "shares": (share_rows, "no arm was swept"),
    "distances": (distance_rows, "no arm compared two models"),
    "ablation": (ablation_rows, "no arm with a UNet was swept"),
}
"""How the rows of each table are made, and why there are none."""
