"""The decision, by numbers worked out by hand."""

import numpy as np
import pytest

from paramreuse.recommendation.audit import BlockAudit, audit_blocks, rewind_plan
from paramreuse.recommendation.bench import Evidence
from paramreuse.recommendation.decision import decide, worth_of
from paramreuse.recommendation.labelled import held_out_folds
from paramreuse.recommendation.prior import GainLine, Line, Measured, Prior, read_prior
from paramreuse.recommendation.screening import FirstLook, rank_looks
from paramreuse.reuse.blocks import blocks_of
from paramreuse.reuse.plan import Action
from paramreuse.sites.matching import sites_of
from samples.disks import disk_network

# Three held-out subjects against a halfway of three: a difference counts by half.
PRIOR = Prior(
    lines={
        "mix-0.75": Line(intercept=0.0, slope=1.0, zero_shot=0.02, halfway=3.0),
    },
    gain=GainLine(
        intercept=0.01,
        slope=1.0,
        source_slope=0.5,
        halfway=3.0,
        likeness_slope=0.1,
        source_likeness_slope=0.2,
        likeness_mean=0.3,
    ),
    level=(0.1, 0.9),
    level_variance=(0.01, 0.0),
    gain_variance=(0.0004, 0.0036),
    difference_variance=(0.0, 0.0),
)


def trial_evidence(scores: dict[tuple[str, str], list[float]]) -> Evidence:
    evidence = Evidence()
    evidence.scores = {key: dict(zip("abc", values, strict=True)) for key, values in scores.items()}
    return evidence


def test_gains_are_shrunk_by_the_number_of_subjects() -> None:
    measured = trial_evidence({("", "scratch"): [0.5, 0.5, 0.5], ("x", "full"): [0.6, 0.7, 0.8]})

    decision = decide(measured, ["x"], 3, prior=PRIOR)

    # Everything is .2 above scratch; half of it counts, and the grid's .01.
    assert decision.chosen.candidate == "full"
    assert decision.gain[0] == pytest.approx(0.11)
    # Everything held out at .7 is predicted at .1 + .9 * .7, scratch .11 below that.
    assert decision.scratch == pytest.approx(0.73 - 0.11)
    # Variance .0004 + .0036 / 3, deviation .04, 80 % within 1.2816 of them.
    assert decision.gain[2] - decision.gain[0] == pytest.approx(1.2816 * 0.04)


def test_two_sources_differ_by_a_slope_of_their_own() -> None:
    measured = trial_evidence(
        {
            ("", "scratch"): [0.5, 0.5, 0.5],
            ("x", "full"): [0.6, 0.6, 0.6],
            ("y", "full"): [0.8, 0.8, 0.8],
        }
    )

    gains = {o.source: o.gain for o in decide(measured, ["x", "y"], 3, prior=PRIOR).options}

    # On average .2 above scratch, so .11; y is .1 above that average, of which .5 * .5 counts.
    assert gains["y"] == pytest.approx(0.11 + 0.025)
    assert gains["x"] == pytest.approx(0.11 - 0.025)


def test_a_source_that_sees_what_pilots_see_is_predicted_to_gain_more() -> None:
    alike = trial_evidence(
        {
            ("", "scratch"): [0.5, 0.5, 0.5],
            ("x", "full"): [0.7, 0.7, 0.7],
            ("y", "full"): [0.7, 0.7, 0.7],
        }
    )
    alike.likenesses = {"x": [0.1, 0.3], "y": [0.5, 0.7]}

    gains = {o.source: o.gain for o in decide(alike, ["x", "y"], 3, prior=PRIOR).options}
    alike.likenesses = {"y": [0.5, 0.7]}
    unknown = {o.source: o.gain for o in decide(alike, ["x", "y"], 3, prior=PRIOR).options}

    # Both .11 above scratch. Likenesses .2 and .6: the mean is .1 above the grid, at a slope of
    # .1, and each is .2 away from it, at a slope of .2.
    assert gains["x"] == pytest.approx(0.11 + 0.01 - 0.04)
    assert gains["y"] == pytest.approx(0.11 + 0.01 + 0.04)
    assert unknown["x"] == unknown["y"] == pytest.approx(0.11)


def test_sources_are_ordered_by_likeness_and_without_it_by_what_they_score_untrained() -> None:
    looks = [FirstLook("x", as_is=0.1, ridge=0.5), FirstLook("y", as_is=float("nan"), ridge=0.2)]
    known = Evidence(likenesses={"x": [0.2], "y": [0.1, 0.7]})

    assert [look.source for look in rank_looks(looks, known)] == ["y", "x"]
    assert [look.source for look in rank_looks(looks, Evidence())] == ["x", "y"]


def test_scratch_is_chosen_where_everything_is_predicted_to_lose_more_than_a_tie() -> None:
    def chosen(full: float) -> str:
        scores = {("", "scratch"): [0.5] * 3, ("x", "full"): [full] * 3}
        return decide(trial_evidence(scores), ["x"], 3, prior=PRIOR).chosen.candidate

    # Half of the measured difference and the grid's .01: -.002 and -.008.
    assert chosen(0.476) == "full"
    assert chosen(0.464) == "scratch"


def test_a_candidate_is_chosen_when_its_prediction_is_more_than_a_tie_ahead() -> None:
    scores = {
        ("", "scratch"): [0.5, 0.5, 0.5],
        ("x", "full"): [0.6, 0.6, 0.6],
        ("x", "as-is"): [0.3, 0.3, 0.3],
        ("x", "mix-0.75"): [0.588, 0.588, 0.588],
    }
    # Half of the score comes without training: .02 * .5 for it, half of -.012 against it: +.004.
    tied = decide(trial_evidence(scores), ["x"], 3, prior=PRIOR)
    ahead = decide(trial_evidence(scores | {("x", "mix-0.75"): [0.6] * 3}), ["x"], 3, prior=PRIOR)

    assert tied.options[0].candidate == "mix-0.75"
    assert tied.chosen.candidate == "full"
    assert ahead.chosen.candidate == "mix-0.75"
    assert ahead.gain_over_full[0] == pytest.approx(0.01)


def test_scratch_is_chosen_when_nothing_is_gained() -> None:
    measured = trial_evidence({("", "scratch"): [0.7, 0.7, 0.7], ("x", "full"): [0.6, 0.6, 0.6]})

    decision = decide(measured, ["x"], 3, prior=PRIOR)

    assert decision.chosen.source == ""
    assert decision.gain[0] == 0


def test_a_source_that_a_fresh_draw_replaces_is_not_in_the_running() -> None:
    measured = trial_evidence({("", "scratch"): [0.5, 0.5, 0.5], ("x", "full"): [0.9, 0.9, 0.9]})
    measured.drops["x"] = np.array([[0.3, 0.4], [0.3, 0.4], [0.0, 0.4]])[:, :, None]

    decision = decide(measured, ["x"], 3, prior=PRIOR)

    assert decision.worthless == ("x",)
    assert decision.chosen.candidate == "scratch"


def test_worth_is_what_the_source_saves_of_a_fresh_draw_in_the_front_half() -> None:
    drops = np.array([[0.1, 0.5], [0.0, 0.01], [0.1, 0.3], [0.4, 0.4], [0.0, 0.9]])[:, :, None]

    # Four blocks before the output layer; the second does not matter, so the front half of those
    # that do is the first and the third: 1 - .2 / .8.
    assert worth_of(drops) == pytest.approx(0.75)


def test_where_no_block_matters_nothing_speaks_against_a_source() -> None:
    assert worth_of(np.zeros((4, 2, 3))) == 1.0


def test_the_prior_that_is_shipped_can_be_read_and_trusts_more_subjects_more() -> None:
    prior = read_prior()

    few, many = (prior.gain.at(Measured(0.0, 0.1), number, None) for number in (2, 8))
    assert prior.gain.intercept < few < many
    assert prior.gain_sd(8) < prior.gain_sd(2)


def test_folds_hold_out_every_subject_once() -> None:
    for number in (2, 3, 4, 9):
        folds = held_out_folds(range(number), seed=1)

        assert len(folds) == min(number, 4)
        assert sorted(s for fold in folds for s in fold) == list(range(number))


def test_a_rewind_plan_reads_each_block_by_its_two_drops() -> None:
    blocks = blocks_of(sites_of(disk_network()))
    audits = (
        BlockAudit(blocks[0].name, rewind=-0.01, reinit=0.5),
        BlockAudit(blocks[1].name, rewind=0.1, reinit=0.4),
        BlockAudit(blocks[2].name, rewind=0.3, reinit=0.4),
    )

    plan = rewind_plan(blocks, audits, num_subjects=4)

    treated = {e.site.path: (e.action, e.rate) for e in plan.entries}
    assert treated["0"] == (Action.FREEZE, 1.0)
    assert treated["3"] == (Action.TRAIN, pytest.approx(1 / 3))
    assert treated["6"] == (Action.LEAVE, 1.0)
    # With eight subjects a block that needs no training is slowed, not frozen.
    slowed = {
        e.site.path: (e.action, e.rate) for e in rewind_plan(blocks, audits, num_subjects=8).entries
    }
    assert slowed["0"] == (Action.TRAIN, 0.1)


def test_audits_are_means_over_subjects() -> None:
    blocks = blocks_of(sites_of(disk_network()))
    drops = np.zeros((3, 2, 2))
    drops[1] = [[0.1, 0.3], [0.5, 0.7]]

    audit = audit_blocks(blocks, drops)[1]

    assert (audit.rewind, audit.reinit) == (pytest.approx(0.2), pytest.approx(0.6))
    assert audit.reading == "the source helps, training it helps more"
