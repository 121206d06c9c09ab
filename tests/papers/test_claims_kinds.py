"""Claims about the kinds of tensors: C2, C3, C4 and C7."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from paramreuse.papers.evidence import Arm
from paramreuse.sweep.outcomes import Sweep
from samples.arms import (
    LARGE,
    NONE,
    WAVERING,
    Drop,
    Drops,
    finding,
    made_up_arm,
    only_kinds,
    outcome,
    sweep_from,
)


def both(unet: Drops, pspnet: Drops, **controls: Drops) -> tuple[Arm, Arm]:
    return made_up_arm("unet", unet, **controls), made_up_arm("pspnet", pspnet, **controls)


@pytest.mark.parametrize(
    ("unet", "pspnet", "expected"),
    [
        (LARGE, LARGE, "holds"),
        (LARGE, NONE, "does not hold"),
        (NONE, LARGE, "does not hold"),
        (NONE, WAVERING, "does not hold"),
        (LARGE, WAVERING, "cannot tell"),
        (WAVERING, LARGE, "cannot tell"),
        # The tolerance is 0.02: a drop as large passes.
        (0.02, LARGE, "does not hold"),
        (0.021, LARGE, "holds"),
    ],
)
def test_c2_asks_for_a_drop_at_the_first_mean_of_both(
    unet: Drop, pspnet: Drop, expected: str
) -> None:
    assert outcome("C2", *both({"RM 1": unet}, {"RM 1": pspnet})) == expected


def test_c2_looks_at_the_first_mean_alone() -> None:
    everything_else = {"RM": LARGE, "RM 1": NONE, "RV": LARGE, "W": LARGE}

    assert outcome("C2", *both(everything_else, everything_else)) == "does not hold"


def test_c2_gives_the_drop_beyond_the_arms_tolerance() -> None:
    unet, pspnet = both({"RM 1": 0.05}, {"RM 1": LARGE})

    judged = finding("C2", replace(unet, tolerance=0.07), pspnet)

    assert judged.numbers == (
        "UNet drop of RM 1 minus the tolerance -0.020 [-0.020, -0.020]; "
        "PSPNet drop of RM 1 minus the tolerance +0.230 [+0.230, +0.230]"
    )
    assert judged.reason == "UNet drop of RM 1 minus the tolerance is not above 0"


def test_intervals_have_the_confidence_of_the_arm() -> None:
    # Mean 0.03 with a standard error of 0.009: the tolerance is within 95 %, and not within 50 %.
    unet, pspnet = both({"RM 1": (0.0, 0.01, 0.02, 0.04, 0.05, 0.06)}, {"RM 1": LARGE})

    assert outcome("C2", unet, pspnet) == "cannot tell"
    assert outcome("C2", replace(unet, confidence=0.5), pspnet) == "holds"


def test_c2_cannot_tell_without_running_means() -> None:
    unet, pspnet = both({"RM 1": LARGE}, {"RM 1": LARGE})
    sweep = pspnet.sweeps["A2"]
    behind = tuple(swap for swap in sweep.swaps if swap.name != "RM 1")

    assert finding("C2", unet, only_kinds(pspnet, "W")).reason == (
        "the arm pspnet-shared has no swap of RM"
    )
    without_first = replace(pspnet, sweeps={"A2": replace(sweep, swaps=behind)})
    assert finding("C2", unet, without_first).reason == "the arm pspnet-shared has no swap of RM 1"
    assert finding("C2", unet).reason == "the arm pspnet, shared start, has not run"


@pytest.mark.parametrize("number", [1, 2, 5])
def test_few_subjects_decide_nothing(number: int) -> None:
    unet, pspnet = both({"RM 1": LARGE}, {"RM 1": LARGE})
    sweep = unet.sweeps["A2"]
    few = replace(
        sweep,
        subjects=sweep.subjects[:number],
        baseline=sweep.baseline[:number],
        scores={name: scores[:number] for name, scores in sweep.scores.items()},
    )
    unknown = replace(sweep, subjects=())

    for cut, counted in ((few, number), (unknown, 0)):
        for claim in ("C1", "C2", "C3", "C4", "C6", "C7"):
            judged = finding(claim, replace(unet, sweeps={"A2": cut}), pspnet)
            assert judged.outcome == "cannot tell"
            assert judged.reason == (
                f"unet-shared: {counted} subjects were scored, expected 6 or more for an interval "
                "over subjects"
            )


STATISTICS = {"RM": 0.1, "RV": 0.1}


@pytest.mark.parametrize(
    ("drops", "expected"),
    [
        (STATISTICS, "holds"),
        ({}, "does not hold"),
        ({"RM": 0.01, "RV": 0.0, "RB": 0.02}, "does not hold"),
        ({"RM": WAVERING, "RW": [0.02] * 6}, "cannot tell"),
        # RM and RV cost more, but RW and RB too much: 18 of 36, then 33 and 32 of 36 reusable.
        ({"RM": 0.5, "RV": 0.5, "RW": 0.1}, "does not hold"),
        ({**STATISTICS, "RW 1": 0.1, "RW 2": 0.1, "RB 3": 0.1}, "holds"),
        ({**STATISTICS, "RW 1": 0.1, "RW 2": 0.1, "RB 3": 0.1, "RB 4": 0.1}, "does not hold"),
        ({**STATISTICS, "RW 1": 0.1, "RW 2": 0.1, "RB 3": 0.1, "RB 4": WAVERING}, "cannot tell"),
    ],
)
def test_c3_asks_for_costly_statistics_and_reusable_weights(drops: Drops, expected: str) -> None:
    pspnet = made_up_arm("pspnet", STATISTICS)

    assert outcome("C3", made_up_arm("unet", drops), pspnet) == expected


def test_c3_asks_it_of_both_networks() -> None:
    assert outcome("C3", *both(STATISTICS, {"RM": 0.0})) == "does not hold"
    assert outcome("C3", *both(STATISTICS, STATISTICS)) == "holds"
    assert finding("C3", *both({"RM": 0.1, "RV": 0.3, "RW": 0.01}, STATISTICS)).numbers == (
        "UNet mean drop of RM, RV minus RW, RB +0.195 [+0.195, +0.195]; UNet RW, RB 36 of 36 "
        "reusable; PSPNet mean drop of RM, RV minus RW, RB +0.100 [+0.100, +0.100]; PSPNet RW, RB "
        "50 of 50 reusable"
    )


def test_c3_with_the_control_counts_no_indifferent_weight() -> None:
    for shuffled, expected in (
        (LARGE, "holds"),
        (NONE, "does not hold"),
        (WAVERING, "cannot tell"),
    ):
        arms = both(STATISTICS, STATISTICS, shuffled={"RW": shuffled, "RB": LARGE})
        assert outcome("C3", *arms, under="shared_control") == expected
        assert outcome("C3", *arms) == "holds"


def test_c3_cannot_tell_without_one_of_the_kinds() -> None:
    unet, pspnet = both(STATISTICS, STATISTICS)

    judged = finding("C3", only_kinds(unet, "RM", "RV", "RW"), pspnet)

    assert (judged.outcome, judged.reason) == (
        "cannot tell",
        "the arm unet-shared has no swap of RB",
    )


SENSITIVE = {"W": 0.5, "RM": 0.1, "RV": 0.1, "RW": 0.01, "RB": 0.01}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, "holds"),
        # The first layer's bias is not asked for.
        ({"B 1": LARGE}, "holds"),
        ({"B 2": LARGE}, "does not hold"),
        ({"B 18": WAVERING}, "cannot tell"),
        # Every other kind has to cost less than W.
        *[({kind: 0.5}, "does not hold") for kind in ("RM", "RV", "RW", "RB")],
        ({"B 1": 0.5, "W": 0.02}, "does not hold"),
        ({"RV": [2.5 * drop + 0.3 for drop in WAVERING]}, "cannot tell"),
    ],
)
def test_c4_asks_for_reusable_biases_and_costly_kernels(more: Drops, expected: str) -> None:
    unet = made_up_arm("unet", {**SENSITIVE, **more})

    assert outcome("C4", unet, made_up_arm("pspnet", SENSITIVE)) == expected


def test_c4_leaves_the_output_layer_out() -> None:
    unet = made_up_arm("unet", {**SENSITIVE, "B 19": LARGE})
    pspnet = made_up_arm("pspnet", {**SENSITIVE, "B 26": LARGE})

    assert outcome("C4", unet, pspnet) == "holds"


def test_c4_takes_the_pspnet_with_biases_where_it_has_run() -> None:
    unet = made_up_arm("unet", SENSITIVE)
    without = made_up_arm("pspnet", SENSITIVE)
    biased = made_up_arm("pspnet", {**SENSITIVE, "B 6": LARGE}, bias=True)

    assert outcome("C4", unet, without) == "holds"
    assert outcome("C4", unet, without, biased) == "does not hold"
    assert outcome("C4", unet, biased) == "does not hold"
    assert finding("C4", unet).reason == "the arm pspnet, shared start, has not run"


def test_c4_with_the_control_counts_no_indifferent_bias() -> None:
    for shuffled, expected in (
        (LARGE, "holds"),
        (NONE, "does not hold"),
        (WAVERING, "cannot tell"),
    ):
        arms = both(SENSITIVE, SENSITIVE, shuffled={"B": LARGE, "B 6": shuffled})
        assert outcome("C4", *arms, under="shared_control") == expected
        assert outcome("C4", *arms) == "holds"


def test_c4_takes_the_recalibrated_kernels_where_that_is_the_condition() -> None:
    unet, pspnet = both(SENSITIVE, SENSITIVE)
    again = {"A2": sweep_from("unet", {"W": 0.05})}
    same = {"A2": sweep_from("pspnet", {"W": 0.5})}
    arms = replace(unet, recalibrated=again), replace(pspnet, recalibrated=same)

    assert outcome("C4", *arms) == "holds"
    assert outcome("C4", *arms, under="shared_recalibrated") == "does not hold"


def test_c4_takes_each_share_of_its_own_baseline() -> None:
    # W loses 0.15 of 0.25 after recalibration, RM 0.2 of 0.75: the smaller drop, the larger share.
    drops = {"W": 0.5, "RM": 0.2}
    unet, pspnet = both(drops, drops)
    low = np.tile([1.0, 0.25], (6, 1))

    def again(network: str) -> dict[str, Sweep]:
        sweep = sweep_from(network, {"W": 0.5 + 0.15})
        return {"A2": replace(sweep, baseline=low)}

    arms = (
        replace(unet, recalibrated=again("unet")),
        replace(pspnet, recalibrated=again("pspnet")),
    )

    judged = finding("C4", *arms, under="shared_recalibrated")

    assert judged.outcome == "holds"
    assert "UNet W minus RM +0.333 [+0.333, +0.333] (0.600 against 0.267)" in judged.numbers


@pytest.mark.parametrize("kind", ["W", "B", "RM", "RV", "RW", "RB"])
def test_c4_cannot_tell_without_one_of_the_kinds(kind: str) -> None:
    unet, pspnet = both(SENSITIVE, SENSITIVE)
    others = [other for other in ("W", "B", "RM", "RV", "RW", "RB") if other != kind]

    judged = finding("C4", unet, only_kinds(pspnet, *others))

    assert (judged.outcome, judged.reason) == (
        "cannot tell",
        f"the arm pspnet-shared has no swap of {kind}",
    )


def falling(noise: float) -> Drops:
    """Drops of RM that fall with depth for half of the subjects, by ``noise`` for the others."""
    return {
        f"RM {layer}": [0.02 * (18 - layer)] * 3 + [noise * layer] * 3 for layer in range(1, 19)
    }


@pytest.mark.parametrize(
    ("drops", "value", "expected"),
    [
        (falling(-0.01), "-1.000 [-1.000, -1.000]", "holds"),
        ({f"RM {layer}": 0.01 * layer for layer in range(1, 19)}, "+1.000", "does not hold"),
        # As steep down for half of the subjects as up for the others, nearly.
        (falling(0.019), "-1.000 [-1.000, +1.000]", "cannot tell"),
    ],
)
def test_c7_asks_for_drops_that_fall_with_depth(drops: Drops, value: str, expected: str) -> None:
    judged = finding("C7", made_up_arm("unet", drops))

    assert value in judged.numbers
    assert judged.outcome == expected


def test_c7_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).normal(size=18)
    arm = made_up_arm("unet", {f"RM {n}": float(v) for n, v in enumerate(values, start=1)})

    theirs = spearmanr(np.arange(18), values).statistic

    assert finding("C7", arm).numbers == (
        f"UNet rank correlation of RM's drop with the layer {theirs:+.3f} "
        f"[{theirs:+.3f}, {theirs:+.3f}]"
    )


def test_c7_cannot_tell_where_there_is_no_rank() -> None:
    equal = made_up_arm("unet", {"RM": LARGE, "W": NONE})
    arm = made_up_arm("unet", {"RM 1": LARGE})
    sweep = arm.sweeps["A2"]
    two = tuple(swap for swap in sweep.swaps if swap.name in ("RM 1", "RM 2"))

    assert finding("C7", equal).reason == "every RM drops alike"
    assert finding("C7", replace(arm, sweeps={"A2": replace(sweep, swaps=two)})).reason == (
        "the arm unet-shared has swaps of RM at 2 layers, too few to rank"
    )
    assert finding("C7").reason == "the arm unet, shared start, has not run"
    unknown = replace(arm, sweeps={"A2": replace(sweep, subjects=())})
    assert outcome("C7", unknown) == "cannot tell"


def test_equal_drops_share_a_rank_whatever_rounding_does() -> None:
    # In float64 the mean of 0.1 and 0.1 is not quite that of 0.05 and 0.15.
    ways = ([0.1] * 6, [0.05, 0.15] * 3)
    tail = {f"RM {layer}": ways[layer % 2] for layer in range(2, 19)}
    arm = made_up_arm("unet", {"RM 1": LARGE, **tail})
    drops = arm.sweeps["A2"].mean_drops()
    assert len({drops[name, "source"].mean for name in tail}) == 2

    theirs = spearmanr(np.arange(18), [1.0] + [0.0] * 17).statistic

    assert f"layer {theirs:+.3f} [" in finding("C7", arm).numbers
