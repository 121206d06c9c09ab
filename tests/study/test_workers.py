"""Studies on workers: every table is that of one process, whatever was done where."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from paramreuse.papers.protocol import run_asked
from paramreuse.reuse.ranking import rank_sources
from paramreuse.study import apart
from paramreuse.study.apart import StudyPart
from paramreuse.study.arms import Running, read_study_or_arms
from paramreuse.study.images import Shelf
from paramreuse.study.job import Job
from paramreuse.study.recommending import RecommendationOrder, recommend_in_study
from paramreuse.study.records import (
    Record,
    StoredDistance,
    StoredLineage,
    StoredShift,
    StoredSourceScore,
    StoredSweep,
    SweepScore,
    TrainedEpoch,
    TransferEpoch,
    TransferScore,
)
from paramreuse.study.run import run_study
from paramreuse.study.store import Store
from paramreuse.study.talk import Silent
from paramreuse.sweep.scores import Accuracy
from samples.networks import small_batches, small_network
from samples.pools import Elsewhere
from samples.studies import PHANTOM, given_content, study_of, trained_content, write_study

TABLES: tuple[type[Record], ...] = (
    *(TrainedEpoch, StoredDistance, StoredShift, StoredLineage, StoredSourceScore),
    *(StoredSweep, SweepScore, TransferScore, TransferEpoch),
)


def rows_of(folder: Path) -> dict[type[Record], list[str]]:
    """Every measured row but for how long it took, in no order."""
    store = Store(folder / "results.sqlite")
    rows = {kind: [asdict(row) for row in store.read(kind)] for kind in TABLES}
    store.close()
    return {
        kind: sorted(repr({k: v for k, v in row.items() if k != "seconds"}) for row in of_kind)
        for kind, of_kind in rows.items()
    }


def whole_study() -> dict[str, Any]:
    return trained_content(
        sweep={"batch_size": 2, "recalibrate": True},
        transfer={
            **{"subjects": [1], "strategies": ["scratch", "full", "plan-finetune"]},
            **{"seeds": 2, "keep_seeds": 1, "epochs": 1},
        },
    )


@pytest.mark.slow
def test_a_study_on_workers_measures_what_one_process_does(tmp_path: Path) -> None:
    study, pool = study_of(whole_study()), Elsewhere()

    run_study(study, tmp_path / "alone", until="transfer")
    run_study(study, tmp_path / "shared", until="transfer", pool=pool)

    alone, shared = rows_of(tmp_path / "alone"), rows_of(tmp_path / "shared")
    assert all(alone.values())
    for table in TABLES:
        assert alone[table] == shared[table], table
    for kept in ("target", "ae", "transfer/full-ae-1-0"):
        name = f"models/{kept}.safetensors"
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "shared" / name).read_bytes()
    # Two models, a source, three batches, three kernels and six trainings.
    assert pool.num_tasks == 2 + 1 + 3 + 3 + 6


@pytest.mark.slow
def test_a_study_on_workers_that_was_killed_does_only_what_is_missing(tmp_path: Path) -> None:
    study = study_of(whole_study())
    run_study(study, tmp_path / "alone", until="transfer")
    left = [3]

    class Deadly(Elsewhere):
        def map(self, prepare: Any, shared: Any, tasks: Any) -> Any:
            for numbered in super().map(prepare, shared, tasks):
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt
                yield numbered

    runs = 0
    while left[0] < 0 or not runs:
        left[0] = 3
        runs += 1
        try:
            run_study(study, tmp_path / "shared", until="transfer", pool=Deadly())
        except KeyboardInterrupt:
            continue

    # Three results a run: without what was kept the first stage with more would never end.
    assert runs > 3
    assert rows_of(tmp_path / "alone") == rows_of(tmp_path / "shared")


def test_arms_on_workers_end_as_one_after_the_other(tmp_path: Path) -> None:
    content = given_content(tmp_path)
    content["arms"] = {"shuffled": {}, "drawn": {"sweep": {"controls": ["reinit"]}}}
    arms = read_study_or_arms(write_study(tmp_path / "mine.yaml", content))

    for folder, pool in (("alone", None), ("shared", Elsewhere())):
        run_asked(arms, tmp_path / folder, how=Running(until="sweep", pool=pool))

    for name in ("shuffled", "drawn"):
        alone, shared = (rows_of(tmp_path / each / "arms" / name) for each in ("alone", "shared"))
        assert alone[SweepScore]
        assert alone == shared


def test_a_recommendation_on_workers_is_that_of_one_process(tmp_path: Path) -> None:
    images = PHANTOM | {"train": 4, "validation": 2}
    images["options"] = {"subjects": 6, "slices": 3, "size": 16}
    study = study_of(given_content(tmp_path, data={"cine": images}))
    order, pool = RecommendationOrder(subjects=3, steps=6), Elsewhere()

    alone, score = recommend_in_study(study, tmp_path / "alone", order, talk=Silent())
    shared, again = recommend_in_study(study, tmp_path / "shared", order, talk=Silent(), pool=pool)

    assert alone.frame().equals(shared.frame())
    assert (alone.source, alone.candidate, alone.gain) == (
        shared.source,
        shared.candidate,
        shared.gain,
    )
    assert score == again
    assert alone.spent == pytest.approx(shared.spent)
    # As it is, from scratch, everything, the head; each with three subjects held out in turn.
    assert pool.num_tasks == 4 * 3


def test_a_ranking_on_workers_is_that_of_one_process() -> None:
    pilot = small_network(0)
    sources = {f"number {seed}": small_network(seed) for seed in (1, 2, 3)}
    batches, pool = small_batches(2), Elsewhere()

    alone = rank_sources(pilot, sources, batches, Accuracy(2))
    shared = rank_sources(pilot, sources, batches, Accuracy(2), pool=pool)

    assert alone.frame().equals(shared.frame())
    assert pool.num_tasks == 3


def folder_written_to(job: Job, name: str) -> Path:
    (job.bench.folder / name).write_text("half done")
    return job.bench.folder


def test_a_worker_that_does_not_see_the_run_folder_leaves_nothing_behind(tmp_path: Path) -> None:
    study, run = study_of(given_content(tmp_path)), tmp_path / "run"
    work = apart._prepare((folder_written_to, StudyPart(study, run, "cpu", Shelf(), {})))

    elsewhere = work("checkpoint").result
    run.mkdir()
    (run / "study.yaml").touch()
    here = work("checkpoint").result

    assert elsewhere != run
    assert not elsewhere.exists()
    assert here == run
    assert (run / "checkpoint").is_file()
