"""What makes the numbers of a study doubtful, each from facts made by hand."""

from math import nan

from paramreuse.report.starts import Trial
from paramreuse.study.cautions import (
    nothing_learnt,
    one_seed,
    speed_in_gain,
    unconverged,
    untrained_sources,
)
from paramreuse.study.records import StoredDistance


def distance(kind: str, cosine: float) -> StoredDistance:
    return StoredDistance("s", 0, "norm", 1, "bn", kind, "bn.x", 4, 1.0, 1.0, cosine)


def test_running_means_of_zero_tell_an_untrained_source() -> None:
    rows = {
        "fresh": [distance("RM", nan), distance("RB", 0.5)],
        "trained": [distance("RM", nan), distance("RM", 0.9)],
        "without norms": [distance("W", nan)],
    }

    (caution,) = untrained_sources(rows)

    assert caution.startswith("fresh looks untrained")


def test_starts_no_better_than_one_class_everywhere_are_said_to_show_nothing() -> None:
    trials = [Trial("full", "s", 4, 0, 0.11), Trial("scratch", "", 4, 0, nan)]

    (caution,) = nothing_learnt(trials, 0.1, 0.02)

    assert caution.startswith(
        "no training does better than predicting one class everywhere (0.100)"
    )
    assert list(nothing_learnt(trials, 0.08, 0.02)) == []
    assert list(nothing_learnt(trials, None, 0.02)) == []
    assert list(nothing_learnt([], 0.1, 0.02)) == []


def test_one_repetition_is_said() -> None:
    trials = [Trial("full", "s", 4, seed, 0.5) for seed in (0, 1)]

    assert len(list(one_seed(trials[:1]))) == 1
    assert list(one_seed(trials)) == []
    assert list(one_seed([])) == []


def test_a_training_that_improves_in_its_last_fifth_has_not_converged() -> None:
    rising = [(epoch, epoch / 10) for epoch in range(1, 11)]
    settled = [(epoch, min(epoch, 7) / 10) for epoch in range(1, 11)]
    rare = [(epoch, 0.5 if epoch % 5 == 0 else nan) for epoch in range(1, 11)]

    (caution,) = unconverged({"full-ae": rising, "scratch": settled, "rare": rare}, 0.02)

    assert "full-ae" in caution
    assert "scratch" not in caution
    assert list(unconverged({"none": []}, 0.02)) == []


def test_a_gain_over_a_training_from_scratch_that_has_not_converged_is_partly_speed() -> None:
    def scratch(*means: float) -> list[Trial]:
        return [Trial("scratch", "", 4, seed, mean) for seed, mean in enumerate(means)]

    few = [Trial("scratch", "", 2, 0, 0.9)]
    (caution,) = speed_in_gain([*few, *scratch(0.5, 0.6)], scratch(0.7, 0.8), 0.02)

    assert caution.startswith("part of this gain is speed")
    assert "from 0.550 to 0.750" in caution
    assert list(speed_in_gain(scratch(0.5), scratch(0.52), 0.03)) == []
    assert list(speed_in_gain(scratch(0.5), [], 0.02)) == []
    assert list(speed_in_gain([], [], 0.02)) == []
    assert list(speed_in_gain(scratch(0.5), scratch(nan), 0.02)) == []
