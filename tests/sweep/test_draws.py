"""Controls that are drawn several times: what is scored, combined, stored and told."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from paramreuse.reuse.control_notes import control_notes
from paramreuse.reuse.verdict import judge
from paramreuse.sites.draws import draw_name, num_draws
from paramreuse.sites.layers import Kind
from paramreuse.sites.matching import Site, match_sites
from paramreuse.sites.swaps import Swap, replacements_for
from paramreuse.study.records import SweepScore
from paramreuse.study.store import Store
from paramreuse.study.stored_sweep import read_sweep, write_sweep
from paramreuse.sweep.outcomes import Sweep
from paramreuse.sweep.scores import Accuracy
from paramreuse.sweep.sweeping import sweep_sites
from paramreuse.sweep.trials import all_draws_in, any_draw_in, group_draws, make_trials
from samples.networks import small_batches, small_network
from samples.sweeps import made_up_sweep

MEANS = Site(1, "norm1", Kind.RM, "running_mean", (2,), family="norm")
KERNEL = Site(1, "conv1", Kind.W, "weight", (2, 2, 3, 3))


def drawn_sweep(*draws: list[float]) -> Sweep:
    """One running mean whose source passes; a control with these drops of each draw."""
    mean = np.mean(draws, axis=0).tolist()
    sweep = made_up_sweep({MEANS: {"source": [0.0] * len(mean), "shuffled": mean}})
    baseline = sweep.baseline[:, 1]
    scores = [np.column_stack([np.ones(len(d)), baseline - np.array(d)]) for d in draws]
    return replace(sweep, draws={("RM 1", "shuffled"): tuple(scores)})


def small(target: nn.Module, source: nn.Module, **options: Any) -> Sweep:
    return sweep_sites(target, source, small_batches(), Accuracy(2), engine="full", **options)


def test_running_statistics_are_shuffled_three_times_and_nothing_else_is() -> None:
    sites = (MEANS, replace(MEANS, kind=Kind.RV), KERNEL)
    mean, variance, kernel = (Swap(site.name, (site,), site) for site in sites)
    pair = Swap("RM+W 1", (MEANS, KERNEL), MEANS)

    assert [t.name for t in make_trials([mean], ("source", "shuffled"))] == [
        ("RM 1", "source"),
        ("RM 1", "shuffled"),
        ("RM 1", "shuffled, draw 2"),
        ("RM 1", "shuffled, draw 3"),
    ]
    assert [num_draws(s, "shuffled") for s in (mean, variance, kernel, pair)] == [3, 3, 1, 1]
    assert [num_draws(mean, name) for name in ("source", "reinit", "other")] == [1, 1, 1]


def test_each_draw_is_another_order_of_the_source_and_the_first_is_as_it_always_was() -> None:
    target, source = small_network(0), small_network(1)
    site = next(s for s in match_sites(target, source) if s.kind is Kind.RM)
    lenders = replacements_for(target, source.state_dict(), ("shuffled",), seed=7)

    draws = [lenders.tensor(site, "shuffled", draw) for draw in range(3)]

    own = source.state_dict()[site.key]
    assert all(sorted(d.tolist()) == sorted(own.tolist()) for d in draws)
    assert len({tuple(d.tolist()) for d in draws}) > 1
    assert draws[0].tolist() == lenders.tensor(site, "shuffled").tolist()


def test_the_score_of_a_control_is_the_mean_over_its_draws() -> None:
    target, source = small_network(0), small_network(1)
    sweep = small(target, source, controls=("shuffled",))
    lenders = replacements_for(target, source.state_dict(), ("shuffled",))
    name = ("RM 1", "shuffled")
    site = next(s.anchor for s in sweep.swaps if s.name == "RM 1")

    # Each draw by itself, put in as a model of its own.
    alone = [
        small(
            target,
            source,
            swaps=[site],
            controls={"own": {site.key: lenders.tensor(site, "shuffled", draw)}},
        ).scores["RM 1", "own"]
        for draw in range(3)
    ]

    assert [held.tolist() for held in sweep.draws[name]] == [held.tolist() for held in alone]
    np.testing.assert_array_equal(sweep.scores[name], np.mean(alone, axis=0))
    # Two normalisations: their RM and RV are drawn twice more.
    assert sweep.num_trials == len(sweep.swaps) * 2 + 4 * 2


def test_a_control_breaks_if_a_draw_does_and_shows_nothing_if_all_do() -> None:
    mean = Swap("RM 1", (MEANS,), MEANS)
    groups = group_draws(make_trials([mean], ("source", "shuffled")))
    second = ("RM 1", draw_name("shuffled", 1))

    assert any_draw_in({second}, groups) == {("RM 1", "shuffled")}
    assert all_draws_in({second}, groups) == frozenset()
    assert all_draws_in(set(groups["RM 1", "shuffled"]), groups) == {("RM 1", "shuffled")}


def test_one_lucky_draw_does_not_make_a_site_indifferent() -> None:
    # By the first draw alone anything would do; the mean of .0, .3 and .3 is .2.
    sweep = drawn_sweep([0.0] * 8, [0.3] * 8, [0.3] * 8)
    (found,) = judge(sweep, tolerance=0.1).judgements

    assert found.verdict == "reusable"
    assert found.control_drop == pytest.approx(0.2)
    assert found.control_draws == pytest.approx((0.0, 0.3, 0.3))


def test_the_draws_that_differ_most_are_named() -> None:
    assert list(control_notes(drawn_sweep([0.0] * 8, [0.3] * 8, [0.1] * 8))) == [
        "the control shuffled was drawn 3 times at 1 swaps and counts by the mean of its draws; "
        "smallest and largest drop where they differ most: RM 1 0.000 to 0.300"
    ]


def test_the_draws_are_stored_and_their_mean_is_worked_out_again(tmp_path: Path) -> None:
    sweep = drawn_sweep([0.0] * 8, [0.3] * 8, [0.1] * 8)
    store = Store(tmp_path / "results.sqlite")
    write_sweep(store, "ae", sweep)
    rows = store.read(SweepScore, sweep="ae", subject="p0")
    found = read_sweep(store, "ae")
    store.close()

    assert {row.replacement: row.score for row in rows if row.label == "1"} == {
        "baseline": 0.75,
        "source": 0.75,
        "shuffled": 0.75,
        "shuffled, draw 2": 0.45,
        "shuffled, draw 3": 0.65,
    }
    assert found is not None
    assert found.draw_drops("RM 1", "shuffled") == sweep.draw_drops("RM 1", "shuffled")
    assert found.mean_drop("RM 1", "shuffled") == pytest.approx(0.4 / 3)
    assert found.scores.keys() == sweep.scores.keys()


def test_draws_of_a_control_stop_together() -> None:
    names = [f"p{n}" for n in range(48)]
    batches = [
        (images, labels, names[start : start + len(images)])
        for start, (images, labels, _) in zip(range(0, 48, 6), small_batches(8), strict=True)
    ]
    sweep = sweep_sites(
        *(small_network(0), small_network(1), batches, Accuracy(2)), engine="full", stop="decided"
    )

    for draws in sweep.draws.values():
        seen = [np.isfinite(scores).tolist() for scores in draws]
        assert seen == [seen[0]] * 3
