"""When a swap's verdict can no longer change."""

import numpy as np
import pytest
import torch
from torch import nn

import paramreuse.sweep.sweeping
from paramreuse.errors import ScoreError
from paramreuse.reuse.verdict import judge
from paramreuse.sweep.scores import Dice
from paramreuse.sweep.stopping import (
    Array,
    Side,
    StoppingRule,
    is_certainly_above,
    likely_side,
)
from paramreuse.sweep.sweeping import sweep_sites


def test_a_large_drop_is_certain_once_the_rest_cannot_make_up_for_it() -> None:
    # Three seen, one unseen of baseline 0.9, which gains 0.1 at best: (3 x 0.1 - 0.1) / 4 = 0.05.
    drops, unseen = np.full(3, 0.1), np.array([0.9])

    assert is_certainly_above(drops, unseen, tolerance=0.049)
    assert not is_certainly_above(drops, unseen, tolerance=0.051)


def test_the_unseen_may_all_come_out_perfect() -> None:
    # Two seen lost 0.2 each, four unseen of baseline 0.5 may gain 0.5 each: nothing is certain.
    assert not is_certainly_above(np.full(2, 0.2), np.full(4, 0.5), tolerance=0.02)


def test_nothing_is_certain_before_a_subject_is_seen() -> None:
    assert not is_certainly_above(np.zeros(0), np.array([1.0]), tolerance=0.0)


def test_subjects_that_do_not_count_are_left_out() -> None:
    rule = StoppingRule(tolerance=0.02)
    seen, unseen = np.array([np.nan, 0.5, 0.5]), np.array([np.nan, 0.8])

    # (0.5 + 0.5 - 0.2) / 3 = 0.27, with two subjects that count seen and one unseen.
    assert rule.side(seen, unseen, num_looks=5) is Side.ABOVE


def test_a_subject_that_does_not_count_is_none_that_lost_nothing() -> None:
    rule = StoppingRule(tolerance=0.09)

    # (0.3 - 0.1) / 2 = 0.1, above; with a third subject of drop 0 it were 0.067, and open.
    assert rule.side(np.array([np.nan, 0.3]), np.array([0.9]), num_looks=5) is Side.ABOVE


def test_a_drop_of_exactly_the_tolerance_passes() -> None:
    # (0.5 + 0.25 - 0.25) / 4 = 0.125, in numbers that binary fractions hold.
    assert not is_certainly_above(np.array([0.5, 0.25]), np.array([0.75, 1.0]), tolerance=0.125)
    assert likely_side(np.full(8, 0.125), 0.125, 0.5) is Side.BELOW


def test_bounds_of_the_mean_by_hand() -> None:
    # Mean 0.1, deviation 0.1, nine subjects: 0.1 - 2.896 x 0.1 / 3 at 1 % (t with 8 degrees). Above
    # k = 2 / (3 x 3), and -log(1 - k (2.896 + k / 4)) / k = 4.802.
    drops = 0.1 + 0.1 * np.array([-1.0, -1, -1, -1, 0, 1, 1, 1, 1])
    reach, above = 2.896459 * 0.1 / 3, 4.802 * 0.1 / 3

    assert likely_side(drops, 0.1 - reach - 1e-4, 0.01) is Side.ABOVE
    assert likely_side(drops, 0.1 - reach + 1e-4, 0.01) is Side.OPEN
    assert likely_side(drops, 0.1 + above - 1e-4, 0.01) is Side.OPEN
    assert likely_side(drops, 0.1 + above + 1e-4, 0.01) is Side.BELOW


def test_subjects_that_agree_by_chance_do_not_settle_a_close_case() -> None:
    drops = np.full(8, 0.019)

    # The deviation counts as 0.005, k = 2 / (3 sqrt(8)): 0.019 + 5.41 x 0.005 / sqrt(8) = 0.0286.
    assert likely_side(drops, 0.02, 0.01) is Side.OPEN
    assert likely_side(np.full(8, 0.010), 0.02, 0.01) is Side.BELOW


def test_fewer_than_eight_subjects_decide_nothing_likely() -> None:
    assert likely_side(np.zeros(7), 0.02, 0.01) is Side.OPEN


def test_looks_grow_by_about_the_square_root_of_two() -> None:
    assert StoppingRule().looks(40) == (8, 12, 16, 23, 32)
    assert StoppingRule().looks(8) == ()
    # Twelve are 11.3 rounded up: after the last subject there is nothing left to spare.
    assert StoppingRule().looks(12) == (8,)
    assert StoppingRule().looks(13) == (8, 12)


def test_the_wrong_side_is_called_less_often_than_stated() -> None:
    """Drops whose mean is just above the tolerance, 40 subjects, all looks together."""
    rule = StoppingRule(tolerance=0.02, confidence=0.95)
    rng = np.random.default_rng(0)
    looks = rule.looks(40)
    wrong = 0
    for _ in range(400):
        drops = rng.exponential(0.0201, 40)
        sides = [rule.side(drops[:n], np.full(40 - n, 0.8), num_looks=len(looks)) for n in looks]
        wrong += Side.BELOW in sides
    # 5 % stated, 20 of 400.
    assert 0 < wrong <= 20


def _one_weight(value: float) -> nn.Module:
    """Return a model whose class 1 is predicted where input times weight is positive."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([0.0, value]).view(2, 1, 1, 1))
        model[0].bias.zero_()
    return model


def _batches(num_subjects: int) -> list[tuple[torch.Tensor, torch.Tensor, list[str]]]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(num_subjects, 1, 4, 4, generator=generator)
    labels = (images[:, 0] > 0).long()
    ids = [f"s{index}" for index in range(num_subjects)]
    return [(images[i : i + 4], labels[i : i + 4], ids[i : i + 4]) for i in range(0, len(ids), 4)]


def test_decided_swaps_free_the_machine_and_the_verdicts_stay() -> None:
    target, source = _one_weight(1.0), _one_weight(-1.0)
    batches, score = _batches(24), Dice(num_classes=2)

    everything = sweep_sites(target, source, batches, score)
    decided = sweep_sites(target, source, batches, score, stop="decided")

    subjects = decided.frame().query("replacement == 'source' and `class` == 'mean'")["subjects"]
    # The weight turned over ruins everything, which the first look at 8 of 24 subjects tells.
    assert subjects.tolist()[0] == 8
    assert decided.subjects == everything.subjects
    words = [[j.verdict for j in judge(sweep).judgements] for sweep in (everything, decided)]
    assert words[0] == words[1]
    np.testing.assert_array_equal(decided.baseline, everything.baseline)


def _shifted(bias: float) -> nn.Module:
    """Return a model that differs from ``_one_weight(1.0)`` in what it adds to class 1."""
    model = _one_weight(1.0)
    with torch.no_grad():
        model[0].bias[1] = bias  # type: ignore[index, operator]
    return model


def _subjects_seen(controls: dict[str, nn.Module]) -> dict[str, int]:
    """Return how many of 40 subjects the swap of the bias saw, by replacement."""
    target, source = _one_weight(1.0), _shifted(1e-9)
    sweep = sweep_sites(
        target,
        source,
        _batches(40),
        Dice(2),
        controls=controls,
        stop="decided",
        exclude=["0.weight"],
    )
    frame = sweep.frame().query("`class` == 'mean'")
    return dict(zip(frame["replacement"], frame["subjects"], strict=True))


def test_a_control_goes_on_as_long_as_it_may_change_the_verdict() -> None:
    # The source passes at the first look. Whether the control does, which would make the swap
    # indifferent, is open for longer: its mean drop over all 40 is 0.0207.
    seen = _subjects_seen({"near": _shifted(0.05)})

    assert seen["source"] == 8
    assert seen["near"] > 8


def test_a_control_that_passes_ends_the_others() -> None:
    seen = _subjects_seen({"near": _shifted(0.05), "same": _shifted(2e-9)})

    # Source and one control pass: indifferent, whatever the other control does.
    assert seen == {"source": 8, "near": 8, "same": 8}


def test_every_look_is_asked_once_and_told_of_all_subjects(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, list[float], int]] = []

    class Recording(StoppingRule):
        def side(self, drops: Array, baselines_unseen: Array, *, num_looks: int) -> Side:
            asked.append((len(drops), sorted(baselines_unseen), num_looks))
            return Side.OPEN

    monkeypatch.setattr(paramreuse.sweep.sweeping, "StoppingRule", Recording)
    # Every subject has two batches of two samples, and is seen whole before it counts.
    batches = [(torch.cat([x, -x]), torch.cat([y, y]), [*ids, *ids]) for x, y, ids in _batches(14)]
    batches = [
        (x[i : i + 1], y[i : i + 1], ids[i : i + 1]) for x, y, ids in batches for i in range(len(x))
    ]

    sweep = sweep_sites(
        _one_weight(1.0), _one_weight(-1.0), batches, Dice(2), controls=(), stop="decided"
    )

    means = sweep.baseline[:, 1]
    assert [(number, looks) for number, _, looks in asked] == [(8, 2), (8, 2), (12, 2), (12, 2)]
    order = list(np.random.default_rng(0).permutation(14))
    for number, unseen, _ in asked:
        assert unseen == sorted(means[order[number:]])


def test_progress_ends_at_the_total_when_stopped_early() -> None:
    calls: list[tuple[int, int | None]] = []
    target, source = _one_weight(1.0), _one_weight(-1.0)

    sweep_sites(
        target,
        source,
        _batches(24),
        Dice(num_classes=2),
        stop="decided",
        progress=lambda done, total: calls.append((done, total)),
    )

    assert calls[-1][0] == calls[-1][1]


def test_an_unknown_rule_is_named() -> None:
    with pytest.raises(ScoreError, match="expected None or 'decided'"):
        sweep_sites(_one_weight(1.0), _one_weight(2.0), _batches(4), Dice(2), stop="soon")
