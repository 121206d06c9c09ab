"""Claims about whole networks: C1, C6 and C10."""

from dataclasses import replace

import numpy as np
import pytest

from paramreuse.papers.evidence import Arm
from paramreuse.papers.figures.data import figure_frames
from paramreuse.papers.rules.arms import shares_lost
from paramreuse.papers.tables.numbered import paper_tables
from samples.arms import (
    LARGE,
    NONE,
    WAVERING,
    Drop,
    Drops,
    evidence,
    finding,
    kernel_rmses,
    made_up_arm,
    outcome,
    sweep_from,
)


def kernel_drops(drop: Drop, *, layers: range, rest: Drop) -> Drops:
    return {"W": rest, **{f"W {layer}": drop for layer in layers}}


GOOD = made_up_arm("pspnet", {"W": NONE})
BAD = made_up_arm("unet", {"W": LARGE})


@pytest.mark.parametrize(
    ("pspnet", "unet", "expected"),
    [
        ({"W": NONE}, {"W": LARGE}, "holds"),
        # PSPNet: 13 of 25, then 12 of 25; UNet: 8 of 18, then 9 of 18.
        (kernel_drops(NONE, layers=range(1, 14), rest=LARGE), {"W": LARGE}, "holds"),
        (kernel_drops(NONE, layers=range(1, 13), rest=LARGE), {"W": LARGE}, "does not hold"),
        ({"W": NONE}, kernel_drops(NONE, layers=range(1, 9), rest=LARGE), "holds"),
        ({"W": NONE}, kernel_drops(NONE, layers=range(1, 10), rest=LARGE), "does not hold"),
        # The undecided ones could turn it, or could not.
        ({"W": WAVERING}, {"W": LARGE}, "cannot tell"),
        ({"W": NONE}, {"W": WAVERING}, "cannot tell"),
        (kernel_drops(WAVERING, layers=range(1, 13), rest=NONE), {"W": LARGE}, "holds"),
        (kernel_drops(WAVERING, layers=range(1, 13), rest=LARGE), {"W": LARGE}, "does not hold"),
        ({"W": NONE}, kernel_drops(WAVERING, layers=range(1, 9), rest=LARGE), "holds"),
        ({"W": NONE}, kernel_drops(WAVERING, layers=range(1, 10), rest=NONE), "does not hold"),
    ],
)
def test_c1_asks_for_half_of_pspnet_and_less_of_unet(
    pspnet: Drops, unet: Drops, expected: str
) -> None:
    assert outcome("C1", made_up_arm("pspnet", pspnet), made_up_arm("unet", unet)) == expected


def test_c1_leaves_the_output_layer_and_other_kinds_out() -> None:
    # 12 of 25 without the output layer 26; with it 13 of 26.
    pspnet = made_up_arm("pspnet", kernel_drops(NONE, layers=range(14, 27), rest=LARGE))

    judged = finding("C1", pspnet, BAD)

    assert judged.outcome == "does not hold"
    assert judged.numbers == (
        "baseline PSPNet 0.750, UNet 0.750; PSPNet kernels 12 of 25 reusable; UNet kernels 0 of 18 "
        "reusable"
    )
    assert judged.reason == "PSPNet kernels: fewer than 50% reusable"


def test_c1_says_how_many_are_undecided() -> None:
    pspnet = made_up_arm("pspnet", kernel_drops(WAVERING, layers=range(1, 15), rest=NONE))

    judged = finding("C1", pspnet, BAD)

    assert "PSPNet kernels 11 to 25 of 25 reusable" in judged.numbers
    assert judged.reason == "PSPNet kernels: 14 undecided"


def test_c1_with_the_control_counts_no_indifferent_kernel() -> None:
    told_apart = made_up_arm("pspnet", {"W": NONE}, shuffled={"W": LARGE})
    indifferent = made_up_arm("pspnet", {"W": NONE}, shuffled={"W": NONE})
    open_ = made_up_arm("pspnet", {"W": NONE}, shuffled={"W": WAVERING})
    unet = made_up_arm("unet", {"W": LARGE}, shuffled={"W": LARGE})

    assert outcome("C1", told_apart, unet, under="shared_control") == "holds"
    assert outcome("C1", indifferent, unet, under="shared_control") == "does not hold"
    assert outcome("C1", open_, unet, under="shared_control") == "cannot tell"
    # The papers' rule does not ask what anything else would do there.
    assert {outcome("C1", arm, unet) for arm in (told_apart, indifferent, open_)} == {"holds"}
    assert finding("C1", GOOD, BAD, under="shared_control").reason == (
        "the arm pspnet-shared was swept without the shuffled control"
    )


def test_c1_takes_the_recalibrated_kernels_where_that_is_the_condition() -> None:
    unet = made_up_arm("unet", {"W": LARGE}, recalibrated={"W": NONE})
    pspnet = made_up_arm("pspnet", {"W": NONE}, recalibrated={"W": NONE})

    assert outcome("C1", pspnet, unet) == "holds"
    assert outcome("C1", pspnet, unet, under="shared_recalibrated") == "does not hold"
    assert finding("C1", GOOD, unet, under="shared_recalibrated").reason == (
        "the arm pspnet-shared was not swept with statistics recomputed from A2"
    )


def test_each_start_has_arms_of_its_own() -> None:
    arms = (
        GOOD,
        BAD,
        made_up_arm("pspnet", {"W": LARGE}, start="independent"),
        made_up_arm("unet", {"W": LARGE}, start="independent"),
    )

    assert outcome("C1", *arms) == "holds"
    assert outcome("C1", *arms, under="independent") == "does not hold"
    assert outcome("C1", *arms[:3], under="independent") == "cannot tell"
    assert finding("C1", *arms[:3], under="independent").reason == (
        "the arm unet, independent start, has not run"
    )
    assert finding("C1", BAD).reason == "the arm pspnet, shared start, has not run"


def test_the_first_source_is_the_one_that_is_judged() -> None:
    both = replace(GOOD, sources=("B2", "A2"))
    far = sweep_from("pspnet", {"W": LARGE})

    assert outcome("C1", replace(both, sweeps={**GOOD.sweeps, "B2": far}), BAD) == "does not hold"
    assert finding("C1", both, BAD).reason == "the arm pspnet-shared was not swept from B2"
    assert finding("C1", replace(both, sources=()), BAD).reason == (
        "the arm pspnet-shared has no source"
    )


def arms_with(unet: Drop, pspnet: Drop, *, rmse: float = 0.02, relative: float = 0.5) -> list[Arm]:
    return [
        made_up_arm("unet", {"W": unet}, distances=kernel_rmses("A2", 0.01)),
        made_up_arm("pspnet", {"W": pspnet}, distances=kernel_rmses("A2", rmse, relative=relative)),
    ]


@pytest.mark.parametrize(
    ("unet", "pspnet", "rmse", "expected"),
    [
        (0.5, 0.25, 0.02, "holds"),
        (0.5, 0.25, 0.1, "holds"),
        (0.5, 0.25, 0.101, "does not hold"),
        (0.5, 0.25, 0.0009, "does not hold"),
        (0.25, 0.25, 0.02, "does not hold"),
        (0.0, 0.25, 0.02, "does not hold"),
        (WAVERING, 0.1, 0.02, "cannot tell"),
        (0.5, 0.25, 0.0, "cannot tell"),
    ],
)
def test_c6_asks_for_a_larger_drop_at_rmses_of_one_magnitude(
    unet: Drop, pspnet: Drop, rmse: float, expected: str
) -> None:
    assert outcome("C6", *arms_with(unet, pspnet, rmse=rmse)) == expected


def test_c6_is_paired_by_subject() -> None:
    spread = [0.75 * share for share in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)]
    more = [drop + 0.75 * 0.01 for drop in spread]
    unet, pspnet = arms_with(more, spread)
    others = replace(pspnet.sweeps["A2"], subjects=tuple("uvwxyz"))
    turned = replace(pspnet.sweeps["A2"], subjects=tuple(f"p{5 - n}" for n in range(6)))

    # Unpaired, 0.01 would be lost in a spread of 0.5.
    assert finding("C6", unet, pspnet).numbers.startswith(
        "share of the score lost, UNet's kernels minus PSPNet's +0.010 [+0.010, +0.010] (0.260 "
        "against 0.250); median RMSE UNet 0.01"
    )
    assert outcome("C6", unet, replace(pspnet, sweeps={"A2": turned})) == "cannot tell"
    assert finding("C6", unet, replace(pspnet, sweeps={"A2": others})).reason == (
        "paired: 0 subjects were scored, expected 6 or more for an interval over subjects"
    )


def test_c6_takes_the_median_over_kernels() -> None:
    unet, pspnet = arms_with(0.5, 0.25)
    lopsided = kernel_rmses("A2", [0.01, 0.01, 0.01, 9.0, 9.0])

    assert outcome("C6", unet, replace(pspnet, distances=lopsided)) == "holds"
    assert finding("C6", unet, replace(pspnet, distances=())).reason == (
        "the arm pspnet-shared has no RMSE between the kernels of target and A2"
    )


def test_c6_takes_the_relative_rmse_where_that_is_the_condition() -> None:
    near = arms_with(0.5, 0.25, rmse=0.02, relative=0.01)
    far = arms_with(0.5, 0.25, rmse=9.0, relative=0.6)

    assert (outcome("C6", *near), outcome("C6", *near, under="shared_relative")) == (
        "holds",
        "does not hold",
    )
    assert (outcome("C6", *far), outcome("C6", *far, under="shared_relative")) == (
        "does not hold",
        "holds",
    )


def test_c6_takes_the_recalibrated_kernels_where_that_is_the_condition() -> None:
    unet, pspnet = arms_with(0.5, 0.25)
    unet = replace(unet, recalibrated={"A2": sweep_from("unet", {"W": 0.1})})
    pspnet = replace(pspnet, recalibrated={"A2": sweep_from("pspnet", {"W": 0.2})})

    assert outcome("C6", unet, pspnet) == "holds"
    assert outcome("C6", unet, pspnet, under="shared_recalibrated") == "does not hold"


CHANGING = {f"W {layer}" for layer in range(1, 18, 2)}
"""Each first convolution of a double one."""


def four_unets(plain: Drops, residual: Drops, plain_bare: Drops, residual_bare: Drops) -> list[Arm]:
    """Plain and residual with long connections, then without."""
    forms = {
        "plain": (plain, False, True),
        "residual": (residual, True, True),
        "plain-bare": (plain_bare, False, False),
        "residual-bare": (residual_bare, True, False),
    }
    return [
        made_up_arm("unet", drops, name=name, residual=residual, long_skips=long_skips)
        for name, (drops, residual, long_skips) in forms.items()
    ]


MUCH, LITTLE, OPEN = {"W": 0.5}, {"W": 0.1}, {"W": WAVERING}
ONLY_CHANGING = {"W": 0.1, **dict.fromkeys(CHANGING, 0.5)}
"""What the rival explanation expects: the change of the number of features is what costs."""


@pytest.mark.parametrize(
    ("drops", "expected"),
    [
        ((MUCH, LITTLE, MUCH, LITTLE), "holds"),
        ((LITTLE, MUCH, MUCH, LITTLE), "does not hold"),
        ((MUCH, LITTLE, LITTLE, MUCH), "does not hold"),
        ((LITTLE, LITTLE, LITTLE, LITTLE), "does not hold"),
        ((OPEN, LITTLE, MUCH, LITTLE), "cannot tell"),
        ((MUCH, LITTLE, MUCH, {"W": [2 * d + 0.3 for d in WAVERING]}), "cannot tell"),
        # The residual network costs less only where the number of features changes.
        ((ONLY_CHANGING, LITTLE, MUCH, LITTLE), "does not hold"),
        ((MUCH, LITTLE, ONLY_CHANGING, LITTLE), "does not hold"),
    ],
)
def test_c10_asks_for_less_cost_by_short_connections_alone(
    drops: tuple[Drops, Drops, Drops, Drops], expected: str
) -> None:
    assert outcome("C10", *four_unets(*drops)) == expected


def test_c10_gives_four_differences_and_names_the_one_that_fails() -> None:
    judged = finding("C10", *four_unets(MUCH, LITTLE, ONLY_CHANGING, LITTLE))

    # 9 of 18 kernels change the number of features: (0.5 + 0.1) / 2 - 0.1, over 0.75.
    assert judged.numbers == (
        "share of the score lost, with long connections, kernels of plain minus residual +0.533 "
        "[+0.533, +0.533] (0.667 against 0.133); share of the score lost, with long connections, "
        "same-feature kernels of plain minus residual +0.533 [+0.533, +0.533] (0.667 against "
        "0.133); share of the score lost, without, kernels of plain minus residual +0.267 "
        "[+0.267, +0.267] (0.400 against 0.133); share of the score lost, without, same-feature "
        "kernels of plain minus residual +0.000 [+0.000, +0.000] (0.133 against 0.133)"
    )
    assert judged.reason == (
        "share of the score lost, without, same-feature kernels of plain minus residual is not "
        "above 0"
    )


@pytest.mark.parametrize(
    ("missing", "form"),
    [
        (0, "unet"),
        (1, "unet, residual"),
        (2, "unet, no long connections"),
        (3, "unet, residual, no long connections"),
    ],
)
def test_c10_needs_all_four_arms(missing: int, form: str) -> None:
    arms = four_unets(MUCH, LITTLE, MUCH, LITTLE)
    del arms[missing]

    assert outcome("C10", *arms) == "cannot tell"
    assert finding("C10", *arms).reason == f"the arm {form}, shared start, has not run"


def test_c10_takes_the_recalibrated_kernels_where_that_is_the_condition() -> None:
    arms = [
        replace(arm, recalibrated={"A2": sweep_from("unet", LITTLE)})
        for arm in four_unets(MUCH, LITTLE, MUCH, LITTLE)
    ]

    assert outcome("C10", *arms) == "holds"
    assert outcome("C10", *arms, under="shared_recalibrated") == "does not hold"


def scoring(arm: Arm, baseline: float, *, lost: float) -> Arm:
    """The arm with another baseline, of which every swap loses a share."""
    sweep = arm.sweeps["A2"]
    scores = {name: np.tile([1.0, baseline * (1 - lost)], (6, 1)) for name in sweep.scores}
    scored = replace(sweep, baseline=np.tile([1.0, baseline], (6, 1)), scores=scores)
    return replace(arm, sweeps={"A2": scored})


def test_c6_and_c10_compare_what_each_network_had_to_lose() -> None:
    unet, pspnet = arms_with(NONE, NONE)
    # Shares of 0.5 and 0.6.
    arms = scoring(unet, 0.8, lost=0.5), scoring(pspnet, 0.7, lost=0.6)
    judged = finding("C6", *arms)
    assert judged.outcome == "does not hold"
    assert "-0.100 [-0.100, -0.100] (0.500 against 0.600)" in judged.numbers
    # Drops of 0.4 and 0.45, shares of 0.8 and 0.5: the smaller drop is the larger share.
    assert outcome("C6", scoring(unet, 0.5, lost=0.8), scoring(pspnet, 0.9, lost=0.5)) == "holds"
    plain, residual, *bare = four_unets(MUCH, LITTLE, MUCH, LITTLE)
    unets = scoring(plain, 0.5, lost=0.8), scoring(residual, 0.9, lost=0.5)
    assert outcome("C10", *unets, *bare) == "holds"


@pytest.mark.parametrize("baselines", [(0.8, 0.82), (0.82, 0.8)])
def test_c6_and_c10_cannot_rank_networks_that_lose_everything(
    baselines: tuple[float, float],
) -> None:
    unet, pspnet = arms_with(NONE, NONE)
    judged = finding(
        "C6", scoring(unet, baselines[0], lost=1), scoring(pspnet, baselines[1], lost=1)
    )
    assert (judged.outcome, judged.reason) == (
        "cannot tell",
        "UNet's kernels minus PSPNet's: both lose nearly all of the score, which cannot rank them",
    )
    plain, residual, *bare = four_unets(MUCH, LITTLE, MUCH, LITTLE)
    lost = [scoring(a, b, lost=1) for a, b in zip((plain, residual), baselines, strict=True)]
    assert outcome("C10", *lost, *bare) == "cannot tell"


@pytest.mark.parametrize(("least", "expected"), [(0.9, "cannot tell"), (0.89, "holds")])
def test_nearly_everything_is_nine_tenths_on_both_sides(least: float, expected: str) -> None:
    unet, pspnet = arms_with(NONE, NONE)

    arms = scoring(unet, 0.8, lost=0.99), scoring(pspnet, 0.8, lost=least)

    assert outcome("C6", *arms) == expected


@pytest.mark.parametrize("baseline", [0.0, 0.19, float("nan")])
def test_a_target_that_learnt_nothing_tells_nothing(baseline: float) -> None:
    judged = finding("C1", scoring(GOOD, baseline, lost=0), BAD)

    assert (judged.outcome, judged.reason) == (
        "cannot tell",
        f"the target of the arm pspnet-shared scores only {baseline:.3f}, less than 10 times the "
        "tolerance of 0.02: nothing to lose",
    )


def test_a_target_of_ten_tolerances_is_judged() -> None:
    judged = finding("C1", scoring(GOOD, 0.2, lost=0), BAD)

    assert judged.outcome == "holds"
    assert judged.numbers.startswith("baseline PSPNet 0.200, UNet 0.750; ")


def test_a_subject_with_nothing_to_lose_is_left_out_of_shares() -> None:
    arm = made_up_arm("unet", {"W": [0.15, *[0.3] * 5]})
    sweep = arm.sweeps["A2"]
    baseline = sweep.baseline.copy()
    baseline[0, 1] = 0.19

    shares = shares_lost(arm, replace(sweep, baseline=baseline), sweep.swaps[:1])

    assert shares == pytest.approx(dict.fromkeys(["p1", "p2", "p3", "p4", "p5"], 0.3 / 0.75))


def test_two_arms_of_one_form_are_named_whatever_their_order() -> None:
    other = replace(made_up_arm("pspnet", {"W": LARGE}), name="another")

    for arms in ((GOOD, other, BAD), (other, GOOD, BAD)):
        judged = finding("C1", *arms)
        assert judged.outcome == "cannot tell"
        assert "pspnet-shared" in judged.reason
        assert "another" in judged.reason
    twice = evidence(replace(BAD, name="again"), BAD)
    assert "again and unet-shared" in paper_tables(twice).missing["table-1"]
    assert "again and unet-shared" in figure_frames(twice).missing["figure-03"]


def test_the_unet_is_the_one_with_biases() -> None:
    without = made_up_arm("unet", {"W": NONE}, bias=False, name="no-bias")

    assert outcome("C1", GOOD, without, BAD) == "holds"
    assert finding("C1", GOOD, without).reason == "the arm unet, shared start, has not run"


def test_the_relative_rmse_is_called_so() -> None:
    arms = arms_with(0.5, 0.25)

    assert "; median RMSE UNet" in finding("C6", *arms).numbers
    assert "; median relative RMSE UNet" in finding("C6", *arms, under="shared_relative").numbers
