"""Claims about which source is near and which transfers well: C8 and C9."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from paramreuse.papers.evidence import Arm, Role
from paramreuse.papers.rules.distances import nearness_gap
from paramreuse.study.records import TransferScore
from samples.arms import (
    ROLES,
    WAVERING,
    Drop,
    finding,
    kernel_rmses,
    made_up_arm,
    outcome,
    transfer_scores,
)

SOURCES = ("A2", "B1", "B2")
"""Same data, same task, neither."""

Rmse = float | Sequence[float]
OVER_LAYERS = (0.5, 2.0, 0.5, 2.0, 0.5)
"""Times 0.1: below and above 0.1 in turn."""


def arm_of(
    rmses: dict[str, Rmse], *, relative: dict[str, Rmse] | None = None, **fields: Any
) -> Arm:
    relative = relative or rmses
    pairs = [p for s, r in rmses.items() for p in kernel_rmses(s, r, relative=relative[s])]
    return made_up_arm("pspnet", {}, **{"distances": pairs, "sources": SOURCES, **fields})


def wavering_around(rmse: float) -> list[float]:
    return [rmse * factor for factor in OVER_LAYERS]


@pytest.mark.parametrize(
    ("rmses", "expected"),
    [
        # Below either of the two that share something is enough.
        ({"A2": 0.1, "B1": 0.9, "B2": 0.5}, "holds"),
        ({"A2": 0.9, "B1": 0.1, "B2": 0.5}, "holds"),
        ({"A2": 0.9, "B1": 0.9, "B2": 0.1}, "holds"),
        ({"A2": 0.1, "B1": 0.2, "B2": 0.5}, "does not hold"),
        ({"A2": 0.1, "B1": 0.5, "B2": 0.5}, "cannot tell"),
        # Nearer by 5 %, or by less: as near as each other then, so that sharing predicts nothing.
        ({"A2": 0.95, "B1": 0.95, "B2": 1.0}, "does not hold"),
        ({"A2": 0.96, "B1": 0.96, "B2": 1.0}, "holds"),
        ({"A2": 0.5, "B1": 0.96, "B2": 1.0}, "cannot tell"),
        ({"A2": 0.5, "B1": 1.0, "B2": 0.96}, "cannot tell"),
        ({"A2": 0.5, "B1": 1.0, "B2": 0.95}, "holds"),
        ({"A2": [0.9, 1.0, 0.9, 1.0, 1.0], "B1": 0.99, "B2": 1.0}, "cannot tell"),
        ({"A2": 0.1, "B1": 0.1, "B2": wavering_around(0.1)}, "cannot tell"),
        # Layers differ by orders of magnitude, and each counts the same: four of five are nearer.
        ({"A2": [1e-4] * 4 + [1.0], "B1": 0.0, "B2": [1e-5] * 4 + [2.0]}, "holds"),
        ({"A2": [1e-4] * 4 + [1.0], "B1": 0.0, "B2": [1e-3] * 4 + [0.5]}, "does not hold"),
    ],
)
def test_c8_asks_for_a_near_source_that_shares_nothing(
    rmses: dict[str, Rmse], expected: str
) -> None:
    assert outcome("C8", arm_of(rmses)) == expected


def test_a_layer_that_is_the_same_in_all_models_tells_nothing_apart() -> None:
    # The mean of 0 and four times (0.1 - 0.2) / 0.2.
    gap = nearness_gap(
        dict(enumerate([0.0, *[0.1] * 4])), dict(enumerate([0.0, *[0.2] * 4])), confidence=0.95
    )

    assert gap.value == pytest.approx(-0.4)


def test_c8_gives_medians_and_differences() -> None:
    judged = finding("C8", arm_of({"A2": 0.1, "B1": 0.9, "B2": 0.3}))

    # (0.3 - 0.1) / 0.3 and (0.3 - 0.9) / 0.9.
    assert judged.numbers == (
        "median RMSE B2 0.3, A2 0.1, B1 0.9; relative difference B2 against A2 +0.667 [+0.667, "
        "+0.667], B2 against B1 -0.667 [-0.667, -0.667]"
    )


def test_c8_shares_its_confidence_among_the_pairs() -> None:
    # Resampled, four or five of five are the last with chance 0.0067: 0.025 each way, or 0.0025.
    rmses = [0.05, 0.07, 0.07, 0.07, 0.105]
    alone = {"target": ROLES["target"], "A2": ROLES["A2"], "B2": ROLES["B2"]}
    pair = arm_of({"A2": 0.1, "B2": rmses}, roles=alone)
    more = {f"B{n}": ROLES["B2"] for n in range(3, 12)}
    many = arm_of({"A2": 0.1, "B2": rmses, **dict.fromkeys(more, 0.2)}, roles={**alone, **more})

    assert outcome("C8", pair) == "holds"
    # By ten chances one such difference means less.
    assert outcome("C8", many) == "cannot tell"


def test_c8_tells_data_sets_by_name_and_not_by_reader() -> None:
    phantom = {
        "target": Role("A", "phantom", "segmentation"),
        "A2": Role("A", "phantom", "autoencoder"),
        "B2": Role("B", "phantom", "autoencoder"),
    }

    assert outcome("C8", arm_of({"A2": 0.9, "B2": 0.1}, roles=phantom)) == "holds"


def test_c8_takes_the_relative_rmse_where_that_is_the_condition() -> None:
    arm = arm_of({"A2": 0.1, "B1": 0.1, "B2": 0.5}, relative={"A2": 0.9, "B1": 0.9, "B2": 0.5})

    assert outcome("C8", arm) == "does not hold"
    assert outcome("C8", arm, under="shared_relative") == "holds"
    assert finding("C8", arm).numbers.startswith("median RMSE B2 0.5,")
    assert finding("C8", arm, under="shared_relative").numbers.startswith(
        "median relative RMSE B2 0.5,"
    )


def test_c8_cannot_tell_without_sources_of_both_sorts() -> None:
    near = {"A2": 0.1, "B1": 0.1, "B2": 0.5}
    no_stranger = {name: role for name, role in ROLES.items() if name != "B2"}
    only_stranger = {name: ROLES[name] for name in ("target", "B2")}

    assert finding("C8").reason == "the arm pspnet, shared start, has not run"
    assert finding("C8", arm_of(near, roles=no_stranger)).reason == (
        "the arm pspnet-shared has 0 sources that share neither data nor task with the target "
        "and 2 that share one: expected some of each"
    )
    assert outcome("C8", arm_of(near, roles=only_stranger)) == "cannot tell"
    assert finding("C8", arm_of(near, roles={})).reason == (
        "the arm pspnet-shared does not say what the target was trained for"
    )
    assert finding("C8", arm_of({"A2": 0.1, "B2": 0.1})).reason == (
        "the arm pspnet-shared has no RMSE between the kernels of target and B1"
    )


RANKED = {"A2": 0.1, "B1": 0.9, "B2": 0.5}
"""A2 is the nearest, B1 the farthest."""


def trained_scores(
    a2: Sequence[Drop] = (0.8,) * 3,
    b1: Sequence[Drop] = (0.5,) * 3,
    b2: Sequence[Drop] = (0.7,) * 3,
    scratch: Sequence[Drop] = (0.6,) * 3,
) -> list[TransferScore]:
    """The same Dice under both strategies, three repetitions."""
    dice = {("", "scratch"): scratch}
    for strategy in ("plan-finetune", "plan-freeze"):
        dice |= {("A2", strategy): a2, ("B1", strategy): b1, ("B2", strategy): b2}
    return transfer_scores(dice)


def but(strategy: str, source: str, dice: Sequence[Drop]) -> list[TransferScore]:
    kept = [s for s in trained_scores() if (s.source, s.strategy) != (source, strategy)]
    return kept + transfer_scores({(source, strategy): dice})


def each_has_its_rival() -> list[TransferScore]:
    """B1 is better than A2 when trained along, B2 when frozen."""
    better = {("B1", "plan-finetune"): (0.9,) * 3, ("B2", "plan-freeze"): (0.9,) * 3}
    kept = [s for s in trained_scores() if (s.source, s.strategy) not in better]
    return kept + transfer_scores(better)


WAVERING_DICE = tuple(0.6 + drop for drop in WAVERING)
"""Mean 0.7."""


@pytest.mark.parametrize(
    ("transfer", "expected"),
    [
        (trained_scores(), "holds"),
        # Of B1 and B2 either may be the better one.
        (trained_scores(b1=(0.85,) * 3), "does not hold"),
        (trained_scores(b2=(0.85,) * 3), "does not hold"),
        # As good is neither better nor worse.
        (trained_scores(a2=(0.7,) * 3), "cannot tell"),
        (trained_scores(b2=[WAVERING_DICE] * 3, a2=(0.72,) * 3), "cannot tell"),
        # It takes both strategies to hold, and the same rival in both not to.
        (but("plan-freeze", "A2", (0.6,) * 3), "cannot tell"),
        (but("plan-finetune", "A2", (0.6,) * 3), "cannot tell"),
        (each_has_its_rival(), "cannot tell"),
        # Better on the whole, but not in every repetition; nor worse in all.
        (trained_scores(a2=(0.9, 0.9, 0.69)), "cannot tell"),
        (trained_scores(a2=(0.71, 0.5, 0.5)), "cannot tell"),
        # Two repetitions do not say what chance in training does.
        (trained_scores((0.8,) * 2, (0.5,) * 2, (0.7,) * 2), "cannot tell"),
        (trained_scores((0.6,) * 2, (0.5,) * 2, (0.7,) * 2), "cannot tell"),
    ],
)
def test_c9_asks_for_the_best_transfer_from_the_nearest(
    transfer: list[TransferScore], expected: str
) -> None:
    assert outcome("C9", arm_of(RANKED, transfer=transfer)) == expected


def test_c9_cannot_tell_where_none_is_the_nearest() -> None:
    close = arm_of({**RANKED, "B2": wavering_around(0.11)}, transfer=trained_scores())

    assert finding("C9", close).outcome == "cannot tell"
    assert "nearer" in finding("C9", close).reason
    equal = arm_of({**RANKED, "B2": 0.1}, transfer=trained_scores(a2=(0.5,) * 3))
    assert finding("C9", equal).reason == ("the layers do not say that A2 is nearer than B2 by 5%")
    hardly = arm_of({**RANKED, "B2": 0.104}, transfer=trained_scores())
    assert outcome("C9", hardly) == "cannot tell"


def test_c9_gives_the_numbers_of_the_farthest_against_nothing() -> None:
    judged = finding("C9", arm_of(RANKED, transfer=trained_scores()))

    assert judged.numbers == (
        "median RMSE A2 0.1, B2 0.5, B1 0.9; "
        "relative difference A2 against B2 -0.800 [-0.800, -0.800]; "
        "plan-finetune: Dice of A2 minus B2 +0.100 [+0.100, +0.100]; "
        "plan-finetune: Dice of A2 minus B1 +0.300 [+0.300, +0.300]; "
        "plan-freeze: Dice of A2 minus B2 +0.100 [+0.100, +0.100]; "
        "plan-freeze: Dice of A2 minus B1 +0.300 [+0.300, +0.300]; "
        "plan-finetune: Dice of B1 (largest RMSE) minus nothing loaded -0.100 [-0.100, -0.100]; "
        "plan-freeze: Dice of B1 (largest RMSE) minus nothing loaded -0.100 [-0.100, -0.100]"
    )
    without = [score for score in trained_scores() if score.source]
    assert finding("C9", arm_of(RANKED, transfer=without)).numbers.endswith(
        "plan-freeze: Dice of B1 (largest RMSE) minus nothing loaded not known"
    )


def test_c9_takes_the_smallest_number_of_subjects() -> None:
    reversed_ = [replace(s, num_subjects=50, score=1 - s.score) for s in trained_scores()]

    assert outcome("C9", arm_of(RANKED, transfer=[*reversed_, *trained_scores()])) == "holds"


def test_c9_leaves_out_the_background_and_what_does_not_count() -> None:
    seven = trained_scores(*([[dice] * 7] * 3 for dice in (0.8, 0.5, 0.7, 0.6)))
    background = [replace(s, score=0.0) if s.label == "0" else s for s in seven]
    absent = [
        replace(s, score=float("nan")) if (s.source, s.subject) == ("A2", "p0") else s
        for s in seven
    ]

    expected = finding("C9", arm_of(RANKED, transfer=seven))
    assert expected.outcome == "holds"
    assert finding("C9", arm_of(RANKED, transfer=background)) == expected
    assert finding("C9", arm_of(RANKED, transfer=absent)) == expected


def test_c9_cannot_tell_with_few_subjects_or_repetitions() -> None:
    five = [s for s in trained_scores() if s.subject != "p0"]
    two = [s for s in trained_scores() if s.seed < 2]

    assert finding("C9", arm_of(RANKED, transfer=five)).reason == (
        "plan-finetune: A2 and B2: 5 subjects were scored, expected 6 or more for an interval "
        "over subjects"
    )
    assert finding("C9", arm_of(RANKED, transfer=two)).reason == (
        "2 repetitions do not show what chance in training does: expected 3 or more"
    )


@pytest.mark.slow
def test_c9_seldom_fails_where_all_sources_are_equal() -> None:
    rng = np.random.default_rng(0)
    names = ("A2", "B1", "B2", "B3", "B4")
    arm = arm_of({"A2": 0.1, **dict.fromkeys(names[1:], 0.5)}, sources=names)
    outcomes = []
    for _ in range(100):
        drawn = {
            (name, way): (0.7 + rng.normal(0, 0.02, (3, 1)) + rng.normal(0, 0.01, (3, 6))).tolist()
            for name in names
            for way in ("plan-finetune", "plan-freeze")
        }
        outcomes.append(outcome("C9", replace(arm, transfer=transfer_scores(drawn))))

    assert outcomes.count("does not hold") <= 8
    assert outcomes.count("holds") <= 8


def test_c9_is_paired_by_subject_and_repetition() -> None:
    spread = [0.0, 0.2, 0.4, 0.6, 0.8, 0.9]
    lower = [[d / 2 for d in spread], spread, spread]
    higher = [[d + 0.01 for d in repetition] for repetition in lower]
    transfer = trained_scores(
        a2=higher, b2=lower, b1=[[d - 0.01 for d in repetition] for repetition in lower]
    )

    judged = finding("C9", arm_of(RANKED, transfer=transfer))

    assert judged.outcome == "holds"
    assert "Dice of A2 minus B2 +0.010 [+0.010, +0.010]" in judged.numbers


def test_c9_takes_the_relative_rmse_where_that_is_the_condition() -> None:
    arm = arm_of(RANKED, relative={"A2": 0.9, "B1": 0.5, "B2": 0.1}, transfer=trained_scores())

    assert outcome("C9", arm) == "holds"
    assert outcome("C9", arm, under="shared_relative") == "does not hold"
    assert finding("C9", arm).numbers.startswith("median RMSE A2 0.1,")
    assert finding("C9", arm, under="shared_relative").numbers.startswith(
        "median relative RMSE B2 0.1,"
    )


def test_c9_cannot_tell_without_two_sources_that_were_transferred() -> None:
    one_way = [s for s in trained_scores() if s.source == "A2" or s.strategy != "plan-freeze"]

    assert finding("C9").reason == "the arm pspnet, shared start, has not run"
    assert finding("C9", arm_of(RANKED)).reason == "the arm pspnet-shared has no transfer"
    assert finding("C9", arm_of(RANKED, transfer=one_way)).reason == (
        "the arm pspnet-shared has transfers by plan-finetune and plan-freeze from ['A2']: "
        "expected 2 sources or more"
    )
    assert finding("C9", arm_of({"A2": 0.1, "B1": 0.9}, transfer=trained_scores())).reason == (
        "the arm pspnet-shared has no RMSE between the kernels of target and B2"
    )
