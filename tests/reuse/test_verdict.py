"""The verdict: measured drops turned into words."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from paramreuse.errors import ScoreError
from paramreuse.reuse.judgement import Judgement, Word
from paramreuse.reuse.verdict import Verdict, judge, share_curve
from paramreuse.sites.layers import Kind
from paramreuse.sites.matching import Site
from paramreuse.sites.swaps import Swap
from samples.sweeps import kernel, made_up_sweep

NONE, SMALL, LARGE = [0.0] * 8, [0.25] * 8, [0.5] * 8
UNSURE = [0.0, 0.0, 0.0, 1.0] * 2
"""Mean 0.25, with an interval from below 0 to above 0.5."""


def judged(
    source: Sequence[float],
    controls: Mapping[str, Sequence[float]] | None = None,
    *,
    tolerance: float = 0.3,
    **options: Any,
) -> Judgement:
    """Verdict on one kernel with these drops of each subject."""
    sweep = made_up_sweep({kernel(1): {"source": source, **(controls or {})}}, **options)
    (judgement,) = judge(sweep, tolerance=tolerance).judgements
    return judgement


@pytest.mark.parametrize(
    ("source", "controls", "paper", "verdict"),
    [
        (SMALL, {"shuffled": LARGE}, "reusable", "reusable"),
        (SMALL, {}, "reusable", "reusable"),
        (SMALL, {"shuffled": NONE}, "reusable", "indifferent"),
        (SMALL, {"shuffled": LARGE, "reinit": NONE}, "reusable", "indifferent"),
        (SMALL, {"shuffled": UNSURE}, "reusable", "undecided"),
        (SMALL, {"shuffled": UNSURE, "reinit": NONE}, "reusable", "indifferent"),
        (SMALL, {"shuffled": UNSURE, "reinit": LARGE}, "reusable", "undecided"),
        (LARGE, {"shuffled": LARGE}, "not reusable", "not reusable"),
        (LARGE, {"shuffled": NONE}, "not reusable", "not reusable"),
        (UNSURE, {"shuffled": LARGE}, "reusable", "undecided"),
        (UNSURE, {"shuffled": NONE}, "reusable", "undecided"),
        ([-0.5] * 8, {"shuffled": LARGE}, "reusable", "reusable"),
    ],
)
def test_each_word_has_its_drops(
    source: list[float], controls: dict[str, list[float]], paper: str, verdict: str
) -> None:
    judgement = judged(source, controls)

    assert (judgement.paper, judgement.verdict) == (paper, verdict)


def test_a_drop_as_large_as_the_tolerance_passes() -> None:
    assert judged(SMALL, tolerance=0.25).verdict is Word.REUSABLE
    assert judged(SMALL, tolerance=0.25).paper is Word.REUSABLE
    assert judged(SMALL, tolerance=0.2499).verdict is Word.NOT_REUSABLE
    # Scores 0.75 - 0.02 give a drop of 0.02 and a little more in float64.
    assert judged([0.02] * 11, tolerance=0.02).drop > 0.02
    assert judged([0.02] * 11, tolerance=0.02).verdict is Word.REUSABLE
    assert judged([0.02] * 11, tolerance=0.02).paper is Word.REUSABLE
    assert judged(NONE, tolerance=0.0).verdict is Word.REUSABLE


def test_the_default_tolerance_is_two_hundredths() -> None:
    verdict = judge(made_up_sweep({kernel(1): {"source": [0.019] * 8}}))

    assert (verdict.tolerance, verdict.confidence) == (0.02, 0.95)
    assert verdict.judgements[0].verdict is Word.REUSABLE


def test_one_subject_decides_nothing() -> None:
    judgement = judged([0.0], {"shuffled": [0.5]})

    assert judgement.verdict is Word.TOO_FEW
    assert judgement.paper is Word.REUSABLE
    assert np.isnan([judgement.drop_low, judgement.drop_high]).all()
    assert judged([0.9]).verdict is Word.TOO_FEW


def test_seven_subjects_are_too_few_and_eight_are_not() -> None:
    assert judged([0.1] * 7, tolerance=0.02).verdict == "too few subjects"
    assert judged([0.1] * 8, tolerance=0.02).verdict is Word.NOT_REUSABLE
    # Subjects in which no foreground class counts do not count.
    assert judged([*[0.1] * 7, np.nan], tolerance=0.02).verdict is Word.TOO_FEW


def test_without_subjects_the_point_stands_in_for_the_interval() -> None:
    for source, control, expected in (
        (0.25, 0.5, "reusable"),
        (0.25, 0.25, "indifferent"),
        (0.5, 0.5, "not reusable"),
    ):
        judgement = judged([source], {"shuffled": [control]}, has_subjects=False)
        assert judgement.verdict == expected
        assert np.isnan([judgement.drop_low, judgement.drop_high]).all()


def test_identical_values_are_called_so_whatever_the_control_says() -> None:
    sweep = made_up_sweep({kernel(1): {"source": NONE, "shuffled": NONE}}, identical=[kernel(1)])

    verdict = judge(sweep)

    assert verdict.judgements[0].verdict is Word.IDENTICAL
    assert verdict.judgements[0].can_be_loaded
    # It counts as reusable in the share.
    assert verdict.kernel_share == 1.0


def test_identical_is_decided_with_one_subject() -> None:
    sweep = made_up_sweep({kernel(1): {"source": [0.0]}}, identical=[kernel(1)])

    assert judge(sweep).judgements[0].verdict is Word.IDENTICAL


def test_the_control_drop_is_the_smallest_of_all_controls() -> None:
    judgement = judged(SMALL, {"shuffled": LARGE, "reinit": UNSURE})

    assert (judgement.drop, judgement.control_drop) == (0.25, 0.25)
    assert np.isnan(judged(SMALL).control_drop)


def three_kernels(*drops: list[float], is_output: tuple[int, ...] = ()) -> Verdict:
    sites = [kernel(n, is_output=n in is_output) for n in range(1, len(drops) + 1)]
    mean = Site(1, "norm1", Kind.RM, "running_mean", (2,))
    measured = {site: {"source": drop} for site, drop in zip(sites, drops, strict=True)}
    return judge(made_up_sweep({**measured, mean: {"source": LARGE}}), tolerance=0.3)


def test_the_share_is_of_kernels_and_leaves_the_output_layer_out() -> None:
    verdict = three_kernels(SMALL, LARGE, SMALL, LARGE, is_output=(4,))

    # Two of three; with the output layer 2 of 4, with the running mean 2 of 5.
    assert verdict.kernel_share == verdict.paper_kernel_share == 2 / 3
    assert [j.swap.name for j in verdict.kernel_judgements] == ["W 1", "W 2", "W 3"]
    assert verdict.layers_of("W", "reusable") == (1, 3)
    assert verdict.layers_of("RM", "not reusable") == (1,)


def test_half_of_the_kernels_make_a_reusable_network() -> None:
    assert three_kernels(SMALL, LARGE).reusable_network
    assert not three_kernels(SMALL, LARGE, LARGE).reusable_network


def test_undecided_and_indifferent_kernels_count_for_the_papers_only() -> None:
    drops = {
        kernel(1): {"source": UNSURE, "shuffled": LARGE},
        kernel(2): {"source": SMALL, "shuffled": SMALL},
    }

    verdict = judge(made_up_sweep(drops), tolerance=0.3)

    assert (verdict.kernel_share, verdict.paper_kernel_share) == (0.0, 1.0)
    assert not verdict.reusable_network
    assert verdict.paper_reusable_network
    assert verdict.summary() == (
        "not a reusable network: 0 of 2 kernel layers can be reused (1 indifferent, 0 not "
        "reusable, 1 undecided; 2 by the papers' rule) at a tolerance of 0.3; 0.00 (0.00 to 1.00) "
        "of those where the control fails; of 1 verdicts about 0.0 may be wrong"
    )


def test_linear_kernels_count_and_embeddings_do_not() -> None:
    drops = {
        kernel(1, family="linear"): {"source": SMALL},
        kernel(1, family="embedding"): {"source": LARGE},
    }

    assert judge(made_up_sweep(drops), tolerance=0.3).kernel_share == 1.0


def test_without_single_kernels_there_is_no_share() -> None:
    first, second = kernel(1), kernel(2)
    sweep = made_up_sweep({first: {"source": NONE}})
    both = Swap("W 1", (first, second), first)
    verdict = judge(replace(sweep, swaps=(both,)))

    assert np.isnan(verdict.kernel_share)
    assert not verdict.reusable_network
    assert verdict.summary() == "1 swaps judged, no single kernel among them"


def test_the_frame_has_exactly_the_agreed_columns() -> None:
    frame = three_kernels(SMALL, LARGE).frame()

    columns = "swap family layer path kind drop drop_low drop_high control_drop paper verdict"
    assert list(frame.columns) == columns.split()
    assert frame["swap"].tolist() == ["W 1", "W 2", "RM 1"]
    assert frame["verdict"].tolist() == ["reusable", "not reusable", "not reusable"]
    assert frame.loc[0, ["drop", "drop_low", "drop_high"]].tolist() == [0.25, 0.25, 0.25]


def test_another_tolerance_needs_no_new_measurement() -> None:
    sweep = made_up_sweep({kernel(n): {"source": [n / 8] * 8} for n in range(1, 5)})

    curve = share_curve(sweep, [0.0, 0.125, 0.3, 1.0])

    assert [row["tolerance"] for row in curve] == [0.0, 0.125, 0.3, 1.0]
    assert [row["kernel_share"] for row in curve] == [0.0, 0.25, 0.5, 1.0]
    assert [row["paper_kernel_share"] for row in curve] == [0.0, 0.25, 0.5, 1.0]


def test_a_wider_confidence_decides_less() -> None:
    drops = [0.0, 0.1, 0.2, 0.3, 0.2, 0.1, 0.15, 0.15]
    sweep = made_up_sweep({kernel(1): {"source": drops}})

    words = [judge(sweep, tolerance=0.22, confidence=c).judgements[0].verdict for c in (0.8, 0.999)]

    assert words == ["reusable", "undecided"]


@pytest.mark.parametrize("tolerance", [-0.01, float("nan"), float("inf")])
def test_a_tolerance_that_is_none_is_refused(tolerance: float) -> None:
    with pytest.raises(ScoreError, match=r"tolerance is .*: expected a number of at least 0"):
        judge(made_up_sweep({kernel(1): {"source": NONE}}), tolerance=tolerance)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_a_confidence_that_is_none_is_refused(confidence: float) -> None:
    with pytest.raises(ScoreError, match=r"confidence is .*: expected more than 0"):
        judge(made_up_sweep({kernel(1): {"source": NONE}}), confidence=confidence)


def test_the_summary_says_when_there_was_no_control() -> None:
    bare = judge(made_up_sweep({kernel(1): {"source": SMALL}}), tolerance=0.3)
    verdict = judge(made_up_sweep({kernel(1): {"source": SMALL, "shuffled": LARGE}}), tolerance=0.3)

    assert bare.summary().startswith("a reusable network (without a control): 1 of 1")
    assert verdict.summary().startswith("a reusable network: 1 of 1")
