"""The claim about where PSPNet's kernels cannot be reused: C5."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.stats import fisher_exact

from paramreuse.papers.evidence import Arm
from paramreuse.papers.rules.kernels_by_place import predicted_layers
from samples.arms import (
    LARGE,
    NONE,
    WAVERING,
    Drop,
    Drops,
    finding,
    made_up_arm,
    outcome,
    sweep_from,
)

PREDICTED = (1, 2, 6, 7, 11, 12, 16, 17)
OTHERS = (3, 4, 5, 9, 10, 14, 15, 19, 20)
SHORT_CONNECTIONS = (8, 13, 18)
PAPERS = (1, 6, 11, 12, 16, 17, 19, 20)
"""What the papers report as not reusable."""


def at(layers: Iterable[int], drop: Drop = LARGE) -> Drops:
    return {f"W {layer}": drop for layer in layers}


def arm_with(*drops: Drops, **more: Drops) -> Arm:
    joined = {name: drop for part in drops for name, drop in part.items()}
    return made_up_arm("pspnet", joined, **more)


def test_the_predicted_layers_are_those_of_the_papers_words() -> None:
    swaps = [
        swap
        for swap in arm_with().sweeps["A2"].swaps
        if swap.kind == "W" and swap.anchor.layer <= 20 and swap.anchor.shape[-1] > 1
    ]

    assert tuple(sorted(predicted_layers(swaps))) == PREDICTED
    assert tuple(swap.anchor.layer for swap in swaps) == tuple(sorted(PREDICTED + OTHERS))


def test_c5_holds_on_the_papers_own_list() -> None:
    judged = finding("C5", arm_with(at(PAPERS)))

    # 6 of 8 predicted, 2 of 9 others; by hand the chance of 6 or more among the 8 is
    # (C(8,6) C(9,2) + C(8,7) C(9,1) + C(8,8)) / C(17,8) = (1008 + 72 + 1) / 24310 = 0.0445.
    assert judged.outcome == "holds"
    assert judged.numbers == "not reusable: 6 of 8 predicted, 2 of 9 others (p = 0.044)"


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (PREDICTED, "holds"),
        (PREDICTED[:4], "holds"),
        (PREDICTED + OTHERS[:4], "holds"),
        # 5 of 8 against 3 of 9 is no more than chance, yet most of them were predicted.
        (PREDICTED[:5] + OTHERS[:3], "cannot tell"),
        (PREDICTED[:4] + OTHERS[:4], "cannot tell"),
        (PREDICTED[:3] + OTHERS[:4], "does not hold"),
        (OTHERS, "does not hold"),
        # So few, or so many, that no arrangement would show anything.
        ((), "cannot tell"),
        (PREDICTED[:3], "cannot tell"),
        (OTHERS[:3], "cannot tell"),
        (PREDICTED + OTHERS[:5], "cannot tell"),
        (PREDICTED + OTHERS, "cannot tell"),
        # Neither the short connections' 1x1 nor the layers behind the backbone count.
        ((*PREDICTED, *SHORT_CONNECTIONS, 21, 22, 23, 24, 25, 26), "holds"),
        ((*SHORT_CONNECTIONS, 21, 22, 23, 24, 25, 26), "cannot tell"),
    ],
)
def test_c5_asks_for_the_predicted_kernels(layers: tuple[int, ...], expected: str) -> None:
    assert outcome("C5", arm_with(at(layers))) == expected


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        (PREDICTED[:5] + OTHERS[:3], "hardly more often than the others"),
        (OTHERS, "were not predicted"),
        ((), "too few or too many kernels are not reusable"),
        (PREDICTED + OTHERS, "too few or too many kernels are not reusable"),
    ],
)
def test_c5_says_why_it_does_not_hold(layers: tuple[int, ...], reason: str) -> None:
    assert reason in finding("C5", arm_with(at(layers))).reason


def test_c5_gives_the_chance_that_scipy_gives() -> None:
    for hits, misses in product((4, 6, 8), (0, 2, 4)):
        layers = PREDICTED[:hits] + OTHERS[:misses]
        table = [[hits, 8 - hits], [misses, 9 - misses]]
        theirs = fisher_exact(table, alternative="greater").pvalue

        assert f"(p = {theirs:.3f})" in finding("C5", arm_with(at(layers))).numbers


def test_c5_holds_if_it_does_however_the_undecided_turn_out() -> None:
    # 8 of 8 against 0 to 2 of 9.
    sure = finding("C5", arm_with(at(PREDICTED), at((3, 4), WAVERING)))
    # 6 of 8 against 2 to 9 of 9.
    open_ = finding("C5", arm_with(at(PAPERS), at((3, 4, 5, 9, 10, 14, 15), WAVERING)))
    # 0 of 8 against 5 to 9 of 9.
    never = finding("C5", arm_with(at(OTHERS[:5]), at(OTHERS[5:], WAVERING)))

    assert (sure.outcome, open_.outcome, never.outcome) == ("holds", "cannot tell", "does not hold")
    assert sure.numbers == (
        "not reusable: 8 of 8 predicted, 0 of 9 others (p = 0.000) to "
        "not reusable: 8 of 8 predicted, 2 of 9 others (p = 0.002)"
    )
    assert open_.reason == "7 undecided kernels could turn it either way"


def test_c5_agrees_with_trying_every_way() -> None:
    rng = np.random.default_rng(3)
    for _ in range(12):
        layers = rng.permutation(sorted(PREDICTED + OTHERS)).tolist()
        bad, unsure = layers[: rng.integers(2, 9)], layers[9 : 9 + rng.integers(1, 4)]

        ways = {
            outcome("C5", arm_with(at(bad), at(unsure, NONE), at(chosen)))
            for size in product((False, True), repeat=len(unsure))
            for chosen in [[layer for layer, on in zip(unsure, size, strict=True) if on]]
        }

        expected = ways.pop() if len(ways) == 1 else "cannot tell"
        assert outcome("C5", arm_with(at(bad), at(unsure, WAVERING))) == expected


def test_c5_with_the_control_leaves_the_indifferent_kernels_out() -> None:
    # 8 of 8 against 4 of 9; 6 of 9 are indifferent or not reusable then: 8 of 8 against 4 of 4.
    indifferent = at(OTHERS[4:], NONE)
    drops = at(PREDICTED + OTHERS[:4])
    told_apart = arm_with(drops, shuffled={"W": LARGE})
    anything = arm_with(drops, shuffled={"W": LARGE, **indifferent})
    open_ = arm_with(drops, shuffled={"W": LARGE, **at(OTHERS[4:], WAVERING)})

    assert outcome("C5", told_apart, under="shared_control") == "holds"
    assert outcome("C5", anything, under="shared_control") == "cannot tell"
    assert outcome("C5", open_, under="shared_control") == "cannot tell"
    assert {outcome("C5", arm) for arm in (told_apart, anything, open_)} == {"holds"}
    assert finding("C5", anything, under="shared_control").numbers == (
        "not reusable: 8 of 8 predicted, 4 of 4 others (p = 1.000)"
    )


def test_c5_takes_the_recalibrated_kernels_where_that_is_the_condition() -> None:
    arm = arm_with(at(PREDICTED), recalibrated=at(OTHERS))

    assert outcome("C5", arm) == "holds"
    assert outcome("C5", arm, under="shared_recalibrated") == "does not hold"


def test_c5_cannot_tell_without_kernels_of_both_sorts() -> None:
    arm = arm_with(at(PREDICTED))
    sweep = arm.sweeps["A2"]

    def only(names: tuple[str, ...]) -> Arm:
        kept = tuple(swap for swap in sweep.swaps if swap.name in names)
        return replace(arm, sweeps={"A2": replace(sweep, swaps=kept)})

    assert finding("C5").reason == "the arm pspnet, shared start, has not run"
    assert finding("C5", only(("RM 1",))).reason == "the arm pspnet-shared has no swap of W"
    assert finding("C5", only(("W 1", "W 6", "W 25"))).reason == (
        "the arm pspnet-shared has swaps of 2 backbone kernels: expected some that are predicted "
        "not to be reusable, and others"
    )
    assert outcome("C5", replace(arm, sweeps={"A2": sweep_from("pspnet", {})})) == "cannot tell"
