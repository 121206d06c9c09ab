"""The numbers of the papers' figures 3 to 14, a tidy table each, from what the arms measured.

Source: arXiv 2008.03411 and 2008.03414, figures 3 to 14. A figure holds what the papers draw, and
beside it what they lack: the control, the background, the foreground mean, the relative RMSE.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, TypeAlias

from paramreuse.papers.arms import any_pspnet_arm, biased_pspnet_arm, lender_of, unet_arm
from paramreuse.papers.evidence import Arm, Evidence, NotMeasuredError, PairDistance, Start
from paramreuse.papers.model_words import (
    IDEAL_SOURCE,
    TREATMENTS,
    letter_of,
    model_words,
    transfer_model,
    transfer_sign,
    transfer_words,
)
from paramreuse.plain_text import Row
from paramreuse.sites.layers import Kind
from paramreuse.sweep.outcomes import Sweep

if TYPE_CHECKING:
    import pandas as pd

Frame: TypeAlias = "pd.DataFrame"
Part: TypeAlias = tuple[Callable[[Evidence, Start], Arm], Callable[[Arm], list[Row]]]

NETWORKS = {"unet": "UNet", "pspnet": "PSPNet"}
_ALL_KINDS = tuple(kind.value for kind in Kind)
_FAMILIES = ("conv", "norm")
_QUANTITIES = {"mrm": "MRM", "mrb": "MRB", "mrv": "MRV", "mrw": "MRW", "mrw_median": "MRW median"}


@dataclass(frozen=True, slots=True, eq=False)
class FigureFrames:
    """The figures that could be made, and why the others could not.

    Attributes:
        frames: Table by name: ``figure-03``, and ``figure-03-independent`` where the arm with
            independent starts has run. Every row has ``figure start network arm``; besides, by
            figure: 3 4 7 8 ``kind layer is_output replacement class foreground baseline dice
            drop_low drop_high``; 5 9 ``layer quantity value``; the others ``kind layer is_output
            first second first_words second_words label rmse relative_rmse``.
        missing: Reason by name of each figure of shared starts that could not be made.
    """

    frames: Mapping[str, Frame]
    missing: Mapping[str, str]


def figure_frames(evidence: Evidence) -> FigureFrames:
    """Gather the numbers of every figure of the papers.

    Args:
        evidence: What the arms measured.
    """
    import pandas as pd

    frames, missing = {}, {}
    starts: tuple[tuple[Start, str], ...] = (("shared", ""), ("independent", "-independent"))
    for start, ending in starts:
        for number, parts in _FIGURES.items():
            name = f"figure-{number:02d}{ending}"
            try:
                rows = [row for find, rows_of in parts for row in rows_of(find(evidence, start))]
            except NotMeasuredError as reason:
                if start == "shared":
                    missing[name] = str(reason)
                continue
            frames[name] = pd.DataFrame([{"figure": name, "start": start} | row for row in rows])
    return FigureFrames(frames, missing)


def _head(arm: Arm) -> Row:
    return {"network": NETWORKS.get(arm.network, arm.network), "arm": arm.name}


def _sweep(arm: Arm) -> Sweep:
    source = lender_of(arm)
    if source not in arm.sweeps:
        raise NotMeasuredError(f"the arm {arm.name!r} has no sweep of its first source")
    return arm.sweeps[source]


def _sweep_rows(arm: Arm, kinds: Collection[str]) -> list[Row]:
    """Return the score after each single swap, per replacement and class."""
    sweep = _sweep(arm)
    singles = {
        swap.name: swap.sites[0].is_output
        for swap in sweep.swaps
        if swap.is_single and swap.kind in kinds and swap.anchor.family in _FAMILIES
    }
    absent = sorted(set(kinds) - {s.kind for s in sweep.swaps if s.name in singles})
    if absent:
        raise NotMeasuredError(f"the arm {arm.name!r} has no single swap of {', '.join(absent)}")
    singly = replace(sweep, swaps=tuple(s for s in sweep.swaps if s.name in singles))
    foreground = dict(zip(sweep.classes, sweep.foreground, strict=True))
    return [
        _head(arm)
        | {
            "kind": row["kind"],
            "layer": row["layer"],
            "is_output": singles[str(row["swap"])],
            "replacement": row["replacement"],
            "class": row["class"],
            "foreground": foreground.get(str(row["class"]), False),
            "baseline": row["baseline"],
            "dice": row["score"],
            "drop_low": row["drop_low"],
            "drop_high": row["drop_high"],
        }
        for row in singly.rows(confidence=arm.confidence)
    ]


def _batchnorm_rows(arm: Arm) -> list[Row]:
    """Return the shifts and scales of each normalisation, one quantity a row."""
    norms = arm.batchnorms.get(arm.sources[0]) if arm.sources else None
    if not norms:
        raise NotMeasuredError(f"the arm {arm.name!r} has compared no BatchNorm of its source")
    return [
        _head(arm) | {"layer": row["layer"], "quantity": name, "value": _number(row[column])}
        for column, name in _QUANTITIES.items()
        for row in norms
    ]


def _number(value: float | None) -> float:
    """Return a stored number: the store cannot hold NaN and gives None instead."""
    return float("nan") if value is None else float(value)


def _pair_rows(arm: Arm, names: Sequence[str], kinds: Collection[str]) -> list[Row]:
    """Return the distances between every two of the models named."""
    unknown = [letter_of(name) for name in names if name not in arm.roles]
    if unknown:
        raise NotMeasuredError(f"the arm {arm.name!r} has no model {', '.join(unknown)}")
    words = model_words(arm)
    rows = []
    for first, second in combinations(names, 2):
        label = f"{letter_of(first)} - {letter_of(second)}"
        told = (f"{letter_of(first)} {words[first]}", f"{letter_of(second)} {words[second]}")
        between = _between(arm, first, second, kinds)
        rows += [_pair_row(arm, (first, second), told, label, pair) for pair in between]
    return rows


def _between(arm: Arm, first: str, second: str, kinds: Collection[str]) -> list[PairDistance]:
    distances = [d for d in arm.distances if {d.first, d.second} == {first, second}]
    of_kinds = [pair for pair in distances if pair.kind in kinds]
    if not of_kinds:
        raise NotMeasuredError(
            f"the arm {arm.name!r} has no distance in {', '.join(kinds)} between {first!r} and "
            f"{second!r}"
        )
    return of_kinds


def _pair_row(
    arm: Arm, names: tuple[str, str], words: tuple[str, str], label: str, pair: PairDistance
) -> Row:
    return _head(arm) | {
        "kind": pair.kind,
        "layer": pair.layer,
        "is_output": pair.is_output,
        "first": names[0],
        "second": names[1],
        "first_words": words[0],
        "second_words": words[1],
        "label": label,
        "rmse": pair.rmse,
        "relative_rmse": pair.relative_rmse,
    }


def _reuse_rows(arm: Arm, source: str, strategies: Sequence[str]) -> list[Row]:
    """Return how far the models that reuse a source are from the papers' ideal one.

    A training that a study leaves out, since its plan would freeze everything, has no curve.
    """
    trained = {(score.strategy, score.source, score.num_subjects) for score in arm.transfer}
    sizes = sorted({score.num_subjects for score in arm.transfer})
    if not sizes:
        raise NotMeasuredError(f"the arm {arm.name!r} has no transfer")
    if source not in arm.roles:
        raise NotMeasuredError(f"the arm {arm.name!r} has no model {source}")
    ideal = ("plan-finetune", IDEAL_SOURCE, sizes[-1])
    target = f"{transfer_sign(ideal[0], sizes[-1])}: {transfer_words(arm, *ideal[:2])}"
    rows = []
    for num_subjects in sizes:
        for strategy in strategies:
            model = (strategy, "" if strategy == "scratch" else source, num_subjects)
            if model == ideal or model not in trained:
                continue
            names = (transfer_model(*model), transfer_model(*ideal))
            words = (transfer_words(arm, *model[:2]), target)
            sign = transfer_sign(strategy, num_subjects)
            between = _between(arm, *names, _ALL_KINDS)
            rows += [_pair_row(arm, names, words, sign, pair) for pair in between]
    if not rows:
        raise NotMeasuredError(f"the arm {arm.name!r} has trained no model that reuses {source}")
    return rows


def _first_pair_rows(arm: Arm, kinds: Collection[str]) -> list[Row]:
    """Return the distances between the target and the first source."""
    return _pair_rows(arm, ("target", lender_of(arm)), kinds)


_NORM_SWEEPS = partial(_sweep_rows, kinds=("RM", "RV", "RW", "RB"))
_KERNEL_SWEEP = partial(_sweep_rows, kinds=("W",))
_BIAS_SWEEP = partial(_sweep_rows, kinds=("B",))
_KERNEL_DISTANCE = partial(_first_pair_rows, kinds=("W",))
_BIAS_DISTANCE = partial(_first_pair_rows, kinds=("B",))
_SAME_AND_OTHER_DATA = partial(_pair_rows, names=("target", "A2", "B1", "B2"), kinds=("W",))
_THREE_DATA_SETS = partial(_pair_rows, names=("target", "B1", "B2", "C1"), kinds=("W",))
_REUSE_OF_B2 = partial(_reuse_rows, source=IDEAL_SOURCE, strategies=tuple(TREATMENTS))
_REUSE_OF_C1 = partial(_reuse_rows, source="C1", strategies=("plan-freeze", "plan-finetune"))

_FIGURES: Mapping[int, tuple[Part, ...]] = {
    3: ((unet_arm, _NORM_SWEEPS),),
    4: ((unet_arm, _KERNEL_SWEEP), (unet_arm, _BIAS_SWEEP)),
    5: ((unet_arm, _batchnorm_rows),),
    6: ((unet_arm, _KERNEL_DISTANCE), (unet_arm, _BIAS_DISTANCE)),
    7: ((any_pspnet_arm, _NORM_SWEEPS),),
    8: ((any_pspnet_arm, _KERNEL_SWEEP), (biased_pspnet_arm, _BIAS_SWEEP)),
    9: ((any_pspnet_arm, _batchnorm_rows),),
    10: ((any_pspnet_arm, _KERNEL_DISTANCE), (biased_pspnet_arm, _BIAS_DISTANCE)),
    11: ((any_pspnet_arm, _SAME_AND_OTHER_DATA),),
    12: ((any_pspnet_arm, _THREE_DATA_SETS),),
    13: ((any_pspnet_arm, _REUSE_OF_B2),),
    14: ((any_pspnet_arm, _REUSE_OF_C1),),
}
"""What each figure is made of: which arm, and what of it."""
