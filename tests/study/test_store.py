"""The store: what is written comes back, and a killed sweep goes on where it was."""

import math
import sqlite3
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paramreuse.errors import StudyError
from paramreuse.reuse.verdict import judge
from paramreuse.sites.matching import SkippedTensor, match_sites
from paramreuse.study.records import TrainedEpoch, TrialStatistics
from paramreuse.study.store import Store
from paramreuse.study.stored_sweep import read_sweep, write_sweep
from paramreuse.sweep.outcomes import Sweep
from paramreuse.sweep.scores import Dice
from paramreuse.sweep.sweeping import sweep_sites
from samples.studies import seeded
from samples.sweeps import kernel, made_up_sweep

NUM_BATCHES = 3
SYNCED = 2
"""SQLite's number for a commit that waits for the disk."""


@pytest.fixture
def store(tmp_path: Path) -> Any:
    opened = Store(tmp_path / "results.sqlite")
    yield opened
    opened.close()


def three_batches(*, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor, list[str]]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(2, 1, 8, 8, generator=generator),
            torch.randint(0, 4, (2, 8, 8), generator=generator),
            [f"p{index}", f"p{index + 1}"],
        )
        for index in range(NUM_BATCHES)
    ]


def swept_little_network(**options: Any) -> Sweep:
    source = seeded(1).state_dict() | {"9.extra": torch.ones(1)}
    return sweep_sites(
        seeded(0),
        source,
        three_batches(),
        Dice(4),
        engine="full",
        swaps=["single", "layer"],
        **options,
    )


def same(one: Sweep, other: Sweep) -> bool:
    tables = ("baseline", "scores", "draws")
    plain = all(
        getattr(one, field.name) == getattr(other, field.name)
        for field in fields(Sweep)
        if field.name not in tables
    )
    np.testing.assert_array_equal(one.baseline, other.baseline)
    assert one.scores.keys() == other.scores.keys()
    for trial, scores in one.scores.items():
        np.testing.assert_array_equal(scores, other.scores[trial])
    assert one.draws.keys() == other.draws.keys()
    for trial, draws in one.draws.items():
        np.testing.assert_array_equal(draws, other.draws[trial])
    return plain


def test_a_sweep_comes_back_equal(store: Store) -> None:
    sweep = swept_little_network()

    write_sweep(store, "ae", sweep)
    stored = read_sweep(store, "ae")

    assert stored is not None
    assert same(stored, sweep)
    assert judge(stored).frame().equals(judge(sweep).frame())
    assert read_sweep(store, "other") is None


def test_scores_that_do_not_count_and_what_is_identical_come_back(store: Store) -> None:
    site = kernel(1)
    drops = {site: {"source": [0.0, 0.25], "shuffled": [0.5, float("nan")]}}
    sweep = made_up_sweep(drops, identical=[site])
    object.__setattr__(sweep, "skipped", (SkippedTensor("fc.weight", "no layer of this name"),))

    write_sweep(store, "ae", sweep)
    stored = read_sweep(store, "ae")

    assert stored is not None
    assert same(stored, sweep)
    assert np.isnan(stored.scores[site.name, "shuffled"][1, 1])


def test_a_sweep_is_replaced_whole(store: Store) -> None:
    write_sweep(store, "ae", made_up_sweep({kernel(n): {"source": [0.5]} for n in (1, 2)}))
    write_sweep(store, "ae", made_up_sweep({kernel(1): {"source": [0.25]}}))

    stored = read_sweep(store, "ae")
    assert stored is not None
    assert list(stored.scores) == [("W 1", "source")]


def test_a_sweep_stopped_anywhere_goes_on_to_the_same_scores(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = swept_little_network()
    num_trials = whole.num_trials

    class Stopped(Exception):  # noqa: N818 - no error
        pass

    for allowed in (1, 2 * num_trials - 3, 2 * num_trials + 5):

        def stop(done: int, total: int | None, last: int = allowed) -> None:
            if done >= last:
                raise Stopped

        with pytest.raises(Stopped):
            swept_little_network(log=store.sweep_log("ae"), progress=stop)

    before = store.count(TrialStatistics)
    log = store.sweep_log("ae")
    recorded: list[object] = []
    monkeypatch.setattr(log, "record", lambda *facts: recorded.append(facts))
    resumed = swept_little_network(log=log)

    assert same(resumed, whole)
    assert before > 2 * num_trials
    # Three batches, each with the baseline; what was recorded is not measured again.
    assert len(recorded) == NUM_BATCHES * (num_trials + 1) - before


def test_a_finished_sweep_leaves_no_statistics_behind(store: Store) -> None:
    sweep = swept_little_network(log=store.sweep_log("ae"))
    assert store.count(TrialStatistics)

    write_sweep(store, "ae", sweep)

    assert store.count(TrialStatistics) == 0


def test_statistics_of_other_images_are_refused(store: Store) -> None:
    swept_little_network(log=store.sweep_log("ae"))

    with pytest.raises(StudyError, match="the sweep of 'ae': batch 0 holds other images"):
        sweep_sites(
            *(seeded(0), seeded(1), three_batches(seed=1), Dice(4)),
            engine="full",
            log=store.sweep_log("ae"),
        )


def test_statistics_are_told_apart_by_sweep(store: Store) -> None:
    log = store.sweep_log("ae")
    log.record(0, "digest", ("W 1", "source"), np.array([[[1.0, 0.1 + 0.2]]]))

    ((trial, sums),) = log.read_batch(0, "digest").items()
    assert trial == ("W 1", "source")
    # Every bit comes back: 0.1 + 0.2 is not 0.3.
    np.testing.assert_array_equal(sums, [[[1.0, 0.1 + 0.2]]])
    assert store.sweep_log("other").read_batch(0, "digest") == {}
    assert log.read_batch(1, "digest") == {}


def test_what_was_written_survives_a_connection_that_was_never_closed(tmp_path: Path) -> None:
    left = Store(tmp_path / "results.sqlite")
    left.put_fact("baseline", 0.5)

    assert (tmp_path / "results.sqlite-wal").exists()
    other = Store(tmp_path / "results.sqlite")
    assert other.fact("baseline") == 0.5
    other.close()
    left.close()


def test_what_is_written_together_is_written_whole_or_not_at_all(store: Store) -> None:
    def fail_in_between() -> None:
        with store.together():
            store.put_fact("one", 1)
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        fail_in_between()

    assert store.fact("one") is None
    with store.together():
        store.put_fact("one", 1)
    assert store.fact("one") == 1


def test_rows_replace_those_of_the_same_key_and_nan_is_null(store: Store) -> None:
    row = TrainedEpoch("target", 1, float("nan"), 0.5, 2.0)
    store.write([row, replace(row, train_loss=0.25), replace(row, epoch=2)])

    first, second = store.read(TrainedEpoch)
    assert (first.train_loss, math.isnan(second.train_loss)) == (0.25, True)
    with sqlite3.connect(store.path) as connection:
        (nulls,) = connection.execute(
            "SELECT COUNT(*) FROM epochs WHERE train_loss IS NULL"
        ).fetchone()
    connection.close()
    assert nulls == 1
    assert [read.epoch for read in store.read(TrainedEpoch, epoch=2)] == [2]
    store.remove(TrainedEpoch, epoch=2)
    assert store.read(TrainedEpoch) == [first]


def test_the_store_is_plain_sqlite(store: Store) -> None:
    write_sweep(store, "ae", made_up_sweep({kernel(1): {"source": [0.25, 0.5]}}))

    with sqlite3.connect(store.path) as connection:
        (mean,) = connection.execute(
            "SELECT AVG(score) FROM scores WHERE swap = 'W 1' AND class = '1'"
        ).fetchone()
    connection.close()

    # Baseline 0.75, drops 0.25 and 0.5.
    assert mean == 0.375


def test_matching_sites_survive_the_store(store: Store) -> None:
    sites = match_sites(seeded(0), seeded(1))
    sweep = made_up_sweep({site: {"source": [0.0]} for site in sites})

    write_sweep(store, "ae", sweep)
    stored = read_sweep(store, "ae")

    assert stored is not None
    assert [swap.sites[0] for swap in stored.swaps] == sites


def test_lasting_facts_wait_for_the_disk_all_or_none_and_others_do_not(store: Store) -> None:
    def waits() -> bool:
        return store._connection.execute("PRAGMA synchronous").fetchone()[0] == SYNCED

    with store.lasting():
        store.put_fact("one", 1)
        waited = waits()
    with pytest.raises(StudyError), store.lasting():
        store.write([TrainedEpoch("target", 1, 0.5, 0.5, 1.0), TrainedEpoch("target", {}, 0, 0, 0)])

    assert (waited, waits()) == (True, False)
    assert (store.fact("one"), store.count(TrainedEpoch)) == (1, 0)
