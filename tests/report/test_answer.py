"""The answer from facts made by hand: what to load, what it gains, how sure, how it is shown."""

import math
from typing import Any

import pytest

from paramreuse.report.answer import Answer, Facts, answer_of
from paramreuse.report.answer_view import picture_of, plan_trial
from paramreuse.report.start_words import plain_number
from paramreuse.report.starts import Trial, gain_of, starts_of

SUBJECTS = ("a", "b", "c")


def trial(strategy: str, source: str, scores: tuple[float, ...], **more: Any) -> Trial:
    by_subject = dict(zip(SUBJECTS, scores, strict=False))
    made = {"num_subjects": 4, "seed": 0, "mean": sum(scores) / max(1, len(scores))} | more
    return Trial(strategy, source, by_subject=by_subject, **made)


SCRATCH = trial("scratch", "", (0.5, 0.6, 0.7))
FULL = trial("full", "t1", (0.7, 0.8, 0.9))
PLAN = trial("plan-freeze", "t1", (0.4, 0.6, 0.7))


def answer(*trials: Trial, **more: Any) -> Answer:
    return answer_of(Facts(trials=trials, sources=["ae", "t1"], folder="runs/x", **more))


def test_the_best_start_is_named_with_gain_and_command() -> None:
    shown = answer(SCRATCH, FULL, PLAN)

    assert shown.kind == "measured"
    assert shown.headline == "Load everything from t1 and train all of it"
    # Every subject gains exactly 0.2, so the interval has no width.
    assert shown.sentences == (
        "Trained on 4 labelled subjects it reached 0.800 Dice: +0.200 (95 %: +0.200 to +0.200) "
        "over training from scratch.",
        "The interval over 3 subjects does not contain 0: a gain is certain enough.",
    )
    assert shown.command == (
        "paramreuse train runs/x --strategy full --source t1 --subjects 4 -o model.safetensors"
    )
    assert [start.key for start in shown.starts] == [
        ("full", "t1"),
        ("scratch", ""),
        ("plan-freeze", "t1"),
    ]
    assert shown.sources == ("t1", "ae")


def test_a_start_that_is_not_everything_is_compared_with_everything_too() -> None:
    shown = answer(SCRATCH, FULL, trial("prefix", "t1", (0.8, 0.9, 1.0)))

    assert shown.headline == "Load the front half of the layers from t1 and train everything"
    assert "Over loading everything from t1 it gained +0.100" in shown.sentences[1]


def test_where_no_start_beats_scratch_there_is_nothing_to_gain() -> None:
    shown = answer(SCRATCH, PLAN)

    assert shown.headline == "Nothing to gain: train from scratch"
    assert "the only start from a source" in shown.sentences[0]
    assert "0.567, a difference of \u22120.033 (95 %: " in shown.sentences[0]
    assert shown.command == (
        "paramreuse train runs/x --strategy scratch --subjects 4 -o model.safetensors"
    )
    assert shown.chosen is not None
    assert shown.chosen.strategy == "scratch"


def test_a_gain_whose_interval_contains_zero_may_be_chance() -> None:
    shown = answer(SCRATCH, trial("full", "ae", (0.4, 0.6, 0.9)))

    assert shown.headline == "Load everything from ae and train all of it"
    assert "could be chance" in shown.sentences[-1]


def test_one_number_without_subjects_is_not_called_sure() -> None:
    shown = answer(trial("scratch", "", (), mean=0.5), trial("full", "t1", (), mean=0.6))

    assert "+0.100 over training from scratch" in shown.sentences[0]
    assert "cannot be told from one number" in shown.sentences[-1]


def test_a_control_is_never_the_answer_and_is_named_where_it_wins() -> None:
    shown = answer(SCRATCH, FULL, trial("statistics", "t1", (0.9, 0.9, 0.9)))

    assert shown.headline == "Load everything from t1 and train all of it"
    assert "what helps is not what the source learned" in shown.sentences[-1]


def test_the_largest_number_of_subjects_decides() -> None:
    many = [trial("scratch", "", (0.9,), num_subjects=20), trial("full", "t1", (0.8,), seed=0)]

    shown = answer(SCRATCH, FULL, many[0], trial("full", "t1", (0.85,), num_subjects=20))

    assert shown.num_subjects == 20
    assert shown.headline == "Nothing to gain: train from scratch"


def test_a_training_without_a_score_is_no_answer() -> None:
    shown = answer(SCRATCH, trial("full", "t1", (), mean=math.nan))

    assert shown.headline == "Nothing to gain: train from scratch"
    assert shown.starts[-1].key == ("full", "t1")


def test_without_trainings_the_answer_is_how_to_get_one() -> None:
    shown = answer(time_to_answer="at most about 3 minutes")

    assert shown.kind == "open"
    assert "takes at most about 3 minutes" in shown.sentences[0]
    assert shown.command == "paramreuse recommend runs/x/study.yaml --out runs/x"
    assert picture_of(shown) is None


def timed(strategy: str, source: str, mean: float, steps: float) -> Trial:
    return trial(strategy, source, (mean, mean, mean), steps_to_scratch=steps)


def test_of_starts_that_end_equal_the_one_that_is_fast_is_taken() -> None:
    slow, fast = timed("full", "t1", 0.704, 80), timed("prefix", "t1", 0.700, 20)
    scratch = timed("scratch", "", 0.6, 100)

    assert answer(scratch, slow, fast).headline.startswith("Load the front half")
    # 0.006 apart they do not end equal any more.
    further = timed("prefix", "t1", 0.698, 20)
    assert answer(scratch, slow, further).headline == "Load everything from t1 and train all of it"
    unknown = timed("full", "t1", 0.704, math.nan)
    assert answer(scratch, unknown, fast).headline == "Load everything from t1 and train all of it"


def test_a_start_that_only_ends_like_scratch_is_taken_for_its_speed() -> None:
    shown = answer(timed("scratch", "", 0.700, 380), timed("full", "t1", 0.697, 40))

    assert shown.headline == "Load everything from t1 and train all of it"
    assert shown.sentences[-1] == (
        "It reaches what training from scratch ends at after 40 steps; training from scratch "
        "takes 380."
    )
    slower = answer(timed("scratch", "", 0.700, 40), timed("full", "t1", 0.697, 380))
    assert slower.headline == "Nothing to gain: train from scratch"


def test_the_gain_at_the_end_decides_and_the_rest_is_called_speed() -> None:
    once = [SCRATCH, FULL, trial("prefix", "t1", (0.6, 0.7, 0.8))]
    twice = [
        trial("scratch", "", (0.7, 0.8, 0.9)),
        trial("full", "t1", (0.72, 0.82, 0.92)),
        trial("prefix", "t1", (0.75, 0.85, 0.95)),
    ]

    shown = answer(*once, long_trials=twice)

    # At first everything leads by 0.1; at the end the front half, by 0.05 over scratch.
    assert shown.headline.startswith("Load the front half")
    assert shown.sentences[0] == (
        "Trained on 4 labelled subjects, twice as long as the study says, it reached 0.850 Dice: "
        "+0.050 (95 %: +0.050 to +0.050) over training from scratch."
    )
    assert (
        "After the study's own number of steps the gain is +0.100, of which +0.050 is speed."
        in shown.sentences
    )
    picture = picture_of(shown)
    assert picture is not None
    assert "4 labelled subjects, twice as long as the study says;" in picture.caption


def test_the_command_trains_as_long_as_what_was_compared() -> None:
    long = [trial("scratch", "", (0.7, 0.7, 0.7)), trial("full", "t1", (0.9, 0.9, 0.9))]

    assert "--steps 40 -o" in answer(SCRATCH, FULL, steps=40).command
    assert "--steps 80 -o" in answer(SCRATCH, FULL, long_trials=long, steps=40).command
    assert "--epochs 6 -o" in answer(SCRATCH, FULL, long_trials=long, epochs=3).command


def test_without_scratch_at_twice_the_length_the_study_s_own_length_decides() -> None:
    shown = answer(SCRATCH, FULL, long_trials=[trial("full", "t1", (0.9, 0.9, 0.9))])

    assert "it reached 0.800 Dice: +0.200" in shown.sentences[0]
    assert not shown.is_long


def recommendation(**more: Any) -> dict[str, Any]:
    rows = [("mix-0.75", "t1", 0.55), ("full", "t1", 0.54), ("scratch", "", 0.45)]
    return {
        "source": "t1",
        "candidate": "mix-0.75",
        "reason": "Because.",
        "gain": [0.1, 0.04, 0.16],
        "gain_over_full": [0.01, -0.02, 0.03],
        "candidates": [
            {"candidate": name, "source": source, "score": score, "low": 0.4, "high": 0.6}
            for name, source, score in rows
        ],
        "sources": [{"name": "t1"}, {"name": "ae"}],
        "validation_score": 0.75,
    } | more


def test_a_recommendation_is_the_answer_whatever_the_transfer_says() -> None:
    shown = answer(SCRATCH, PLAN, recommendation=recommendation())

    assert shown.kind == "recommended"
    assert shown.headline.endswith("then go a quarter of the way back")
    assert shown.sentences[0] == (
        "Predicted gain in Dice on new subjects: +0.100 (80 %: +0.040 to +0.160) over training "
        "from scratch; +0.010 (80 %: \u22120.020 to +0.030) over loading everything."
    )
    assert "0.750" in shown.sentences[1]
    assert (
        shown.command == "paramreuse train runs/x --strategy mixed --source t1 -o model.safetensors"
    )
    picture = picture_of(shown)
    assert picture is not None
    assert [row.role for row in picture.rows] == ["chosen", "other", "scratch"]


def test_a_recommendation_to_train_from_scratch_gives_its_reason() -> None:
    shown = answer(
        recommendation=recommendation(
            source="", candidate="scratch", gain=[0.0, None, None], gain_over_full=[None] * 3
        )
    )

    assert shown.headline == "Nothing to gain: train from scratch"
    assert shown.sentences[0] == "Because."
    assert "--strategy scratch" in shown.command


def test_an_interval_is_over_repetitions_where_there_are_three() -> None:
    trials = [trial("full", "t1", (m, m, m + 0.3), seed=k) for k, m in enumerate((0.4, 0.5, 0.6))]

    (start,) = starts_of(trials)

    # Student's t with 2 degrees of freedom: 4.303 times 0.1 / sqrt(3).
    assert start.score.over == "3 repetitions"
    assert start.score.mean == pytest.approx(0.6)
    assert start.score.high - start.score.mean == pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-4)


def test_a_gain_is_paired_by_repetition() -> None:
    trials = [
        *(trial("scratch", "", (0.1 * k,), seed=k) for k in range(3)),
        *(trial("full", "t1", (0.1 * k + 0.05,), seed=k) for k in range(1, 4)),
    ]

    gain = gain_of(trials, ("full", "t1"), ("scratch", ""))

    assert gain is not None
    assert gain.mean == pytest.approx(0.05)
    assert gain_of(trials, ("full", "none"), ("scratch", "")) is None


def test_the_picture_keeps_scratch_and_places_dots_by_score() -> None:
    starts = [trial("full", f"s{n:02}", (0.9 - 0.01 * n,)) for n in range(30)]

    picture = picture_of(answer(trial("scratch", "", (0.2,)), *starts))

    assert picture is not None
    assert len(picture.rows) == 12
    assert picture.left_out == 19
    assert picture.rows[-1].role == "scratch"
    places = [row.at for row in picture.rows]
    assert places == sorted(places, key=lambda at: -(at or 0))
    assert picture.rows[-1].at == picture.scratch


def test_a_plan_that_lost_is_told_beside_what_won() -> None:
    told = plan_trial(answer(SCRATCH, FULL, PLAN), "t1")

    assert told == {
        "chosen": False,
        "known": True,
        "text": "Trained: plan, frozen 0.567, from scratch 0.600, everything from t1 0.800.",
    }
    won = plan_trial(answer(SCRATCH, trial("plan-freeze", "t1", (0.9,))), "t1")
    assert won["chosen"] is True


def test_no_minus_stands_in_front_of_nothing() -> None:
    assert [plain_number(value) for value in (-0.0004, -0.0006, 0.25)] == [
        "0.000",
        "\u22120.001",
        "0.250",
    ]
    low = trial("full", "t1", (-0.001, 0.0, 0.001))
    shown = picture_of(answer(low, trial("scratch", "", (-0.1, 0.0, 0.1))))
    assert shown is not None
    assert {text for _, text in shown.ticks}.isdisjoint({"-0", "\u22120"})
    assert not any("-" in text for _, text in shown.ticks)
