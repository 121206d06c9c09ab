"""What the kernels together say of a network, and when they cannot."""

from dataclasses import replace
from math import isnan

import numpy as np
import pytest
import torch

from paramreuse.reuse.power import subjects_needed
from paramreuse.reuse.verdict import Verdict, judge
from paramreuse.sweep.constant import constant_score
from paramreuse.sweep.outcomes import Sweep
from paramreuse.sweep.scores import Accuracy, Dice, NegativeMSE
from samples.sweeps import kernel, made_up_sweep

NONE, SMALL, LARGE = [0.0] * 8, [0.25] * 8, [0.5] * 8
OPEN = [0.0, 0.0, 0.0, 1.0] * 2


def kernels(*pairs: tuple[list[float], list[float]]) -> Sweep:
    """Kernels with the drops of source and control."""
    drops = {kernel(n): {"source": s, "shuffled": c} for n, (s, c) in enumerate(pairs, start=1)}
    return made_up_sweep(drops)


def test_layers_where_anything_does_do_not_count_against_the_source() -> None:
    # Reusable, reusable, not reusable; the control passes at two more.
    sweep = kernels((NONE, LARGE), (SMALL, LARGE), (LARGE, LARGE), (NONE, NONE), (LARGE, SMALL))
    verdict = judge(sweep, tolerance=0.3)

    assert verdict.kernel_share == 2 / 3
    assert verdict.kernel_share_interval == (2 / 3, 2 / 3)
    assert verdict.paper_kernel_share == 3 / 5
    assert verdict.reusable_network


def test_the_interval_is_what_undecided_layers_leave_possible() -> None:
    # One reusable, one not, one whose source is open, one whose control is.
    sweep = kernels((NONE, LARGE), (LARGE, LARGE), (OPEN, LARGE), (NONE, OPEN))
    verdict = judge(sweep, tolerance=0.3)

    assert verdict.kernel_share == 1 / 3
    # The control of the fourth passes: 1 of 3; it fails and the third passes: 3 of 4.
    assert verdict.kernel_share_interval == (1 / 3, 3 / 4)


def test_independent_networks_are_never_called_not_reusable() -> None:
    sweep = replace(kernels((LARGE, LARGE), (LARGE, LARGE)), lineage="independent")
    said = judge(sweep, tolerance=0.3).summary()

    assert said.startswith(
        "single swaps cannot tell: the two networks use different coordinates (they were started "
        "independently); what can tell: loading the network as a whole"
    )
    assert "not a reusable network" not in said
    assert judge(sweep, tolerance=0.3).judgements[0].paper == "not reusable"


def test_a_source_no_better_than_its_shuffled_self_is_not_called_not_reusable() -> None:
    blind = judge(kernels((SMALL, LARGE), (LARGE, LARGE)), tolerance=0.1)
    told = judge(kernels(([0.24] * 8, LARGE), (LARGE, LARGE)), tolerance=0.1)

    # 0.25 is half of 0.5, and no worse: only above that nothing is saved.
    worse = judge(kernels(([0.26] * 8, LARGE), (LARGE, LARGE)), tolerance=0.1)
    assert "cost" in worse.cannot_tell
    assert (blind.cannot_tell, told.cannot_tell) == ("", "")
    assert told.summary().startswith("not a reusable network: 0 of 2")


def test_a_useless_target_is_named_first() -> None:
    sweep = kernels((NONE, NONE))
    nothing = judge(replace(sweep, baseline=np.tile([1.0, 0.0], (8, 1))), tolerance=0.02)
    constant = judge(replace(sweep, constant=0.74), tolerance=0.02)

    assert nothing.summary().startswith("the target is useless: its mean score is 0.000")
    assert constant.summary().startswith("the target is useless: its mean score of 0.750 is within")
    assert judge(replace(sweep, constant=0.7), tolerance=0.02).useless == ""


def test_a_control_that_cannot_differ_is_no_evidence() -> None:
    sweep = kernels((NONE, NONE), (NONE, LARGE))
    verdict = judge(replace(sweep, alike=frozenset({("W 1", "shuffled")})))

    assert [j.verdict for j in verdict.judgements] == ["undecided", "reusable"]
    assert isnan(verdict.judgements[0].control_drop)
    assert verdict.notes == (
        "the control shuffled puts in the same values as the source at W 1 (all values "
        "alike), so it shows nothing there",
    )


def test_too_few_subjects_are_said_instead_of_a_word() -> None:
    verdict = judge(kernels(([0.0] * 7, [0.5] * 7)))

    assert verdict.summary().startswith("too few subjects: 7 were scored, 8 or more are needed")
    assert (verdict.kernel_share, verdict.kernel_share_interval) == (0.0, (0.0, 1.0))
    assert not verdict.reusable_network


def test_expected_wrong_adds_up_the_doubts() -> None:
    rng = np.random.default_rng(0)
    close = kernels((rng.normal(0.01, 0.01, 20).tolist(), [0.5] * 20))
    verdict = judge(close, tolerance=0.02)

    assert verdict.judgements[0].verdict == "reusable"
    assert 0 < verdict.expected_wrong < 0.025
    assert judge(kernels((NONE, LARGE)), tolerance=0.02).expected_wrong == 0.0


@pytest.mark.parametrize("tolerance", [0.0, 0.02])
def test_drops_that_are_all_the_same_are_judged_without_a_width(tolerance: float) -> None:
    verdict = judge(kernels((NONE, LARGE), ([0.021] * 8, LARGE)), tolerance=tolerance)

    assert [j.verdict for j in verdict.judgements] == ["reusable", "not reusable"]


def test_a_class_that_one_subject_has_leaves_the_verdict_to_the_others() -> None:
    sweep = kernels((NONE, LARGE))
    with_gaps = {name: np.column_stack([s, s[:, 1]]) for name, s in sweep.scores.items()}
    for scores in with_gaps.values():
        scores[1:, 2] = np.nan
    baseline = np.column_stack([sweep.baseline, sweep.baseline[:, 1]])
    baseline[1:, 2] = np.nan
    rare = replace(
        sweep,
        classes=("0", "1", "rare"),
        foreground=(False, True, True),
        baseline=baseline,
        scores=with_gaps,
    )

    rows = [row for row in rare.rows() if row["class"] == "rare"]
    assert [row["subjects"] for row in rows] == [1, 1]
    assert np.isnan([row["drop_low"] for row in rows]).all()
    assert judge(rare).judgements[0].verdict == "reusable"


def test_ten_thousand_sites_are_judged() -> None:
    rng = np.random.default_rng(0)
    drops = {
        kernel(n): {"source": row.tolist()}
        for n, row in enumerate(rng.exponential(0.02, (10_000, 8)))
    }
    verdict: Verdict = judge(made_up_sweep(drops))

    assert len(verdict.judgements) == 10_000
    assert verdict.expected_wrong > 0


def test_subjects_needed_by_hand() -> None:
    # Mean 0.01, upper end 0.05 on 10 subjects: 10 x (0.04 / 0.01)^2 = 160.
    rng = np.random.default_rng(1)
    drops = rng.normal(size=10)
    drops = 0.01 + 0.02 * (drops - drops.mean()) / drops.std()
    sweep = made_up_sweep({kernel(1): {"source": drops.tolist()}})
    (judged,) = judge(sweep).judgements
    reach = judged.drop_high - judged.drop

    assert judged.verdict == "undecided"
    assert subjects_needed(sweep) == int(np.ceil(10 * (reach / (0.02 - judged.drop + 1e-9)) ** 2))
    assert subjects_needed(kernels((NONE, LARGE))) is None
    assert subjects_needed(kernels(([0.0], [0.5]))) is None


def test_the_best_constant_prediction_by_hand() -> None:
    # Two subjects; class 1 holds one pixel in four and three in four: Dice 2/5 and 6/7.
    labels = torch.tensor([[[0, 0], [0, 1]], [[0, 1], [1, 1]]])
    batches = [(torch.zeros(2, 1, 2, 2), labels, ["a", "b"])]

    assert constant_score(batches, Dice(2)) == pytest.approx((0.4 + 6 / 7) / 2)
    # Balanced accuracy of one class everywhere is a half.
    assert constant_score(batches, Accuracy(2)) == pytest.approx(0.5)
    assert constant_score(batches, NegativeMSE()) is None
