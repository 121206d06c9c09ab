"""A study killed at any moment, by SIGKILL, goes on and ends with the same tables."""

import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from paramreuse.study.run import STAGES
from samples.soak import (
    assert_continues,
    much,
    note,
    reference,
    running,
    stages_of,
    tiny_study,
)

KILLS_PER_RUN = 3


@pytest.mark.slow
def test_a_study_killed_at_random_moments_ends_with_identical_tables(tmp_path: Path) -> None:
    dice = random.Random(0)  # noqa: S311
    hit: Counter[str] = Counter()
    study = tiny_study(tmp_path / "study.yaml")
    out = tmp_path / "run"
    with running(tmp_path / "runner") as runner:
        wanted, seconds = reference(runner, study, tmp_path / "whole")
        for trial in range(much(200, 8)):
            if trial % KILLS_PER_RUN == 0:
                shutil.rmtree(out, ignore_errors=True)
            status = runner.run(study, out, kill_after=dice.uniform(0.02, 1.0) * seconds)
            done = stages_of(out)
            if status == 0:
                hit["after its end"] += 1
            else:
                assert status == -9, runner.told
                hit[next((s for s in STAGES if s not in done), "report")] += 1
            if trial % KILLS_PER_RUN == KILLS_PER_RUN - 1:
                assert_continues(runner, study, out, wanted)
        assert_continues(runner, study, out, wanted)
    note("kills", tried=hit.total() - hit["after its end"], wrong=0, by_stage=dict(hit))
    assert hit.total() - hit["after its end"] > 0
