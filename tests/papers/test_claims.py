"""The claims table: its rows and columns, and the parts that the rules share."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from paramreuse.papers.claims import (
    CLAIMS,
    Claim,
    claim_number_rows,
    claims_rows,
    judge_claims,
)
from paramreuse.papers.evidence import NotMeasuredError
from paramreuse.papers.rules.arms import kernels_of, mean_by_subject, swaps_of
from paramreuse.papers.rules.condition import CONDITIONS, Condition, Variant
from paramreuse.papers.rules.counting import Count, count_reusable, possible_words
from paramreuse.papers.rules.estimate import Estimate, estimate_gap, estimate_table
from paramreuse.papers.rules.finding import Finding, Outcome, all_of
from paramreuse.reuse.judgement import Word
from paramreuse.reuse.verdict import judge
from paramreuse.sites.swaps import Swap
from samples.arms import LARGE, NONE, evidence, made_up_arm

COLUMNS = [
    *("shared", "shared_control", "shared_relative", "shared_recalibrated"),
    *("independent", "independent_control", "independent_relative", "independent_recalibrated"),
]
PAGE = Path(__file__).parents[2] / "docs" / "claims.md"


def test_without_arms_nothing_can_be_told_and_every_reason_is_given() -> None:
    results = judge_claims(evidence())

    assert [result.claim.name for result in results] == [f"C{n}" for n in range(1, 11)]
    for row in claims_rows(results):
        assert list(row) == ["claim", "statement", "rule", *COLUMNS]
        assert row["statement"]
        assert row["rule"]
        assert {row[column] for column in COLUMNS} <= {"cannot tell", ""}
    for row in claim_number_rows(results):
        assert list(row) == ["claim", "condition", "outcome", "numbers", "reason"]
        assert re.fullmatch(r"the arm (unet|pspnet).*, has not run", row["reason"])


def test_each_claim_has_the_columns_that_make_a_difference_to_it() -> None:
    expected = {
        "C1": "control recalibrated",
        "C2": "",
        "C3": "control",
        "C4": "control recalibrated",
        "C5": "control recalibrated",
        "C6": "relative recalibrated",
        "C7": "",
        "C8": "relative",
        "C9": "relative",
        "C10": "recalibrated",
    }

    rows = {row["claim"]: row for row in claims_rows(judge_claims(evidence()))}

    for claim, variants in expected.items():
        filled = {
            f"{start}{suffix}"
            for start in ("shared", "independent")
            for suffix in ("", *(f"_{variant}" for variant in variants.split()))
        }
        assert {column for column in COLUMNS if rows[claim][column]} == filled


def test_a_table_row_and_its_numbers_say_the_same() -> None:
    arms = (
        made_up_arm("pspnet", {"RM": LARGE}, shuffled={"W": LARGE}),
        made_up_arm("unet", {"W": LARGE, "RM 1": LARGE}, shuffled={"W": LARGE}),
    )

    results = judge_claims(evidence(*arms))

    wide = {row["claim"]: row for row in claims_rows(results)}
    long = claim_number_rows(results)
    assert (wide["C1"]["shared"], wide["C1"]["independent"]) == ("holds", "cannot tell")
    assert (wide["C2"]["shared"], wide["C3"]["shared"]) == ("holds", "holds")
    assert all(wide[row["claim"]][row["condition"]] == row["outcome"] for row in long)
    assert len(long) == sum(bool(row[column]) for row in wide.values() for column in COLUMNS)
    assert [
        row["numbers"] for row in long if (row["claim"], row["condition"]) == ("C1", "shared")
    ] == [
        "baseline PSPNet 0.750, UNet 0.750; PSPNet kernels 25 of 25 reusable; UNet kernels 0 of 18 "
        "reusable"
    ]


def test_the_page_has_each_statement_and_rule_as_coded() -> None:
    quoted = PAGE.read_text(encoding="utf-8").replace("\n> ", " ")
    page = " ".join(quoted.split())

    missing = [
        f"{claim.name}: {text}"
        for claim in CLAIMS
        for text in (claim.statement, claim.rule)
        if text not in page
    ]
    assert missing == []


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_a_rule_is_stated_shortly(claim: Claim) -> None:
    assert len(re.findall(r"\.(?: |$)", claim.rule)) <= 2


HOLDS = Finding(Outcome.HOLDS, "1")
FAILS = Finding(Outcome.DOES_NOT_HOLD, "2", "two")
OPEN = Finding(Outcome.CANNOT_TELL, "3", "three")


def test_parts_hold_together_only_if_all_do() -> None:
    assert all_of([HOLDS, HOLDS]) == Finding(Outcome.HOLDS, "1; 1")
    assert all_of([HOLDS, OPEN]) == Finding(Outcome.CANNOT_TELL, "1; 3", "three")
    # What fails already cannot be saved by what is open.
    assert all_of([OPEN, FAILS, FAILS]) == Finding(Outcome.DOES_NOT_HOLD, "3; 2; 2", "two; two")


@pytest.mark.parametrize(
    ("estimate", "above", "below", "text"),
    [
        (Estimate(0.2, 0.1, 0.3), "holds", "does not hold", "x +0.200 [+0.100, +0.300]"),
        (Estimate(-0.2, -0.3, -0.1), "does not hold", "holds", "x -0.200 [-0.300, -0.100]"),
        (Estimate(0.1, -0.1, 0.3), "cannot tell", "cannot tell", "x +0.100 [-0.100, +0.300]"),
        (Estimate(0.0, 0.0, 0.0), "does not hold", "does not hold", "x +0.000 [+0.000, +0.000]"),
        # Rounding alone is nothing.
        (
            Estimate(0.0, 1e-17, 1e-16),
            "does not hold",
            "does not hold",
            "x +0.000 [+0.000, +0.000]",
        ),
        (Estimate(0.1, np.nan, np.nan), "cannot tell", "cannot tell", "x +0.100 (no interval)"),
        (Estimate(np.nan, np.nan, np.nan), "cannot tell", "cannot tell", "x not known"),
    ],
)
def test_an_estimate_is_above_or_below_zero_with_its_whole_interval(
    estimate: Estimate, above: str, below: str, text: str
) -> None:
    assert estimate.above_zero("x").outcome == above
    assert estimate.below_zero("x").outcome == below
    assert estimate.above_zero("x").numbers == estimate.below_zero("x").numbers == text


def test_a_gap_is_over_the_subjects_that_both_have() -> None:
    both = dict.fromkeys("abcdef", 0.5)
    gap = estimate_gap(
        {**both, "g": 9.0}, {**dict.fromkeys("fedcba", 0.1), "h": 9.0}, confidence=0.95
    )

    assert str(gap) == "+0.400 [+0.400, +0.400]"
    with pytest.raises(NotMeasuredError, match="5 subjects were scored, expected 6 or more"):
        estimate_gap(both, dict.fromkeys("abcde", 0.1), confidence=0.95)


def test_an_interval_over_a_table_resamples_rows_and_columns() -> None:
    rows = estimate_table(np.tile([[0.0], [0.1], [0.2]], (1, 6)), confidence=0.95)
    columns = estimate_table(np.tile([0.0, 0.1, 0.2], (6, 1)), confidence=0.95)

    # One row in three, three times over: a chance of 1 in 27, more than 2.5 %.
    assert str(rows) == str(columns) == "+0.100 [+0.000, +0.200]"
    assert str(estimate_table(np.full((3, 6), 0.1), confidence=0.95)) == "+0.100 [+0.100, +0.100]"


def test_a_swap_scored_on_too_few_subjects_is_undecided() -> None:
    arm = made_up_arm("unet", {"W": LARGE})
    sweep = arm.sweeps["A2"]
    scores = {name: table.copy() for name, table in sweep.scores.items()}
    scores["W 1", "source"][0] = np.nan

    words = possible_words(arm, replace(sweep, scores=scores), sweep.swaps[:1], Condition("shared"))

    assert words == [{Word.REUSABLE, Word.NOT_REUSABLE}]


@pytest.mark.parametrize(
    ("count", "at_least", "below"),
    [
        (Count(5, 0, 10), "holds", "does not hold"),
        (Count(4, 0, 10), "does not hold", "holds"),
        (Count(4, 1, 10), "cannot tell", "cannot tell"),
        (Count(5, 5, 10), "holds", "does not hold"),
        (Count(0, 4, 10), "does not hold", "holds"),
    ],
)
def test_a_share_counts_the_undecided_both_ways(count: Count, at_least: str, below: str) -> None:
    assert count.share_at_least(0.5, "x").outcome == at_least
    assert count.share_below(0.5, "x").outcome == below


def test_words_agree_with_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    # A single site asks for more subjects than a claim does.
    monkeypatch.setattr("samples.arms.NUM_SUBJECTS", 16)
    # Drops around the tolerance, so that every word turns up.
    rng = np.random.default_rng(0)
    names = [f"W {layer}" for layer in range(1, 26)]
    centres, spreads = rng.uniform(-0.03, 0.06, (2, 25)), rng.uniform(0, 0.02, (2, 25))
    drawn = [
        {
            name: rng.normal(centre, spread, 16).tolist()
            for name, centre, spread in zip(names, centres[row], spreads[row], strict=True)
        }
        for row in range(2)
    ]
    arm = made_up_arm("pspnet", drawn[0], shuffled=drawn[1])
    sweep = arm.sweeps["A2"]
    control = Condition("shared", Variant.CONTROL)

    ours = dict(
        zip(
            (swap.name for swap in sweep.swaps),
            possible_words(arm, sweep, sweep.swaps, control),
            strict=True,
        )
    )

    theirs = {j.swap.name: j.verdict for j in judge(sweep).judgements if j.swap.name in names}
    for name, word in theirs.items():
        expected = (word,) if word is not Word.UNDECIDED else ()
        assert tuple(ours[name]) == expected or (not expected and len(ours[name]) > 1)
    assert set(theirs.values()) == set(Word) - {Word.IDENTICAL, Word.TOO_FEW, Word.NOT_FINITE}


def test_words_rest_on_the_arms_tolerance_and_confidence() -> None:
    # Mean 0.03 with a standard error of 0.009.
    arm = made_up_arm("unet", {"W 1": (0.0, 0.01, 0.02, 0.04, 0.05, 0.06)})
    sweep = arm.sweeps["A2"]
    first = sweep.swaps[:1]

    def words(**fields: float) -> list[frozenset[Word]]:
        return possible_words(replace(arm, **fields), sweep, first, Condition("shared"))

    assert words() == [{Word.REUSABLE, Word.NOT_REUSABLE}]
    assert words(confidence=0.5) == [{Word.NOT_REUSABLE}]
    assert words(tolerance=0.09) == [{Word.REUSABLE}]


def test_a_drop_as_large_as_the_tolerance_is_reusable() -> None:
    # 0.75 - (0.75 - 0.02) is a little more than 0.02 in float64.
    arm = made_up_arm("unet", {"W 1": 0.02, "W 2": 0.0201})
    sweep = arm.sweeps["A2"]
    assert sweep.drops("W 1")[0, -1] > arm.tolerance

    words = possible_words(arm, sweep, swaps_of(arm, sweep, "W")[:2], Condition("shared"))

    assert words == [{Word.REUSABLE}, {Word.NOT_REUSABLE}]


def test_only_single_swaps_are_counted() -> None:
    arm = made_up_arm("unet", {"W": LARGE})
    sweep = arm.sweeps["A2"]
    kernel = sweep.swaps[0].anchor
    block = Swap("block down1", (kernel,), kernel)
    scores = {**sweep.scores, (block.name, "source"): sweep.baseline}
    more = replace(sweep, swaps=(block, *sweep.swaps), scores=scores)

    assert kernels_of(arm, more) == kernels_of(arm, sweep)
    assert swaps_of(arm, more, "W") == swaps_of(arm, sweep, "W") == kernels_of(arm, sweep)


def test_a_subject_that_one_swap_was_not_scored_on_is_left_out() -> None:
    arm = made_up_arm("unet", {"W": LARGE, "W 1": 0.0})
    sweep = arm.sweeps["A2"]
    scores = {name: table.copy() for name, table in sweep.scores.items()}
    scores["W 1", "source"][0] = np.nan

    means = mean_by_subject(replace(sweep, scores=scores), swaps_of(arm, sweep, "W")[:2])

    # With p0 over W 2 alone its mean would be 0.25.
    assert means == dict.fromkeys(["p1", "p2", "p3", "p4", "p5"], 0.125)


def test_the_same_values_are_reusable_whatever_the_control_says() -> None:
    arm = made_up_arm("unet", {"W": NONE}, shuffled={"W": NONE})
    sweep = arm.sweeps["A2"]
    kernel = sweep.swaps[0]
    same = replace(sweep, identical=frozenset({(kernel.name, "source")}))
    control = Condition("shared", Variant.CONTROL)

    assert count_reusable(arm, sweep, [kernel], control) == Count(0, 0, 1)
    assert count_reusable(arm, same, [kernel], control) == Count(1, 0, 1)


def test_the_conditions_are_the_columns() -> None:
    assert [condition.name for condition in CONDITIONS] == COLUMNS
