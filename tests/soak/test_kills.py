"""A study killed at any moment, by SIGKILL, goes on and ends with the same tables."""

import random
import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest

from paramreuse.study.run import STAGES
from samples.soak import LeftAlone, Runner, assert_continues, much, note, stages_of

KILLS_PER_RUN = 3


def writes_of(runner: Runner, left_alone: LeftAlone, out: Path) -> int:
    """Return how often a run left alone writes; 0 where that cannot be seen."""
    if not runner.is_watching:
        return 0
    assert runner.run(left_alone.study, out, watch=(0, 0, None)) == 0
    shutil.rmtree(out)
    return runner.num_writes


@pytest.mark.slow
def test_a_study_killed_at_random_moments_ends_with_identical_tables(
    runner: Runner, left_alone: LeftAlone, out: Path
) -> None:
    dice = random.Random(0)  # noqa: S311
    hit: Counter[str] = Counter()
    num_writes = writes_of(runner, left_alone, out)
    trials = much(200, 6)
    for trial in range(trials):
        if num_writes and trial % 2:
            # Stages differ more in seconds than in writes.
            moment = (dice.randint(1, num_writes), -signal.SIGKILL, None)
            status = runner.run(left_alone.study, out, watch=moment)
        else:
            seconds = dice.uniform(0.02, 1.0) * left_alone.seconds
            status = runner.run(left_alone.study, out, kill_after=seconds)
        assert status in (0, -signal.SIGKILL), runner.told
        done = stages_of(out)
        stage = next((stage for stage in STAGES if stage not in done), "report")
        hit["after its end" if status == 0 else stage] += 1
        if trial % KILLS_PER_RUN == KILLS_PER_RUN - 1 or trial == trials - 1:
            assert_continues(runner, out, left_alone)
            shutil.rmtree(out)
    tried = hit.total() - hit["after its end"]
    note("kills", tried=tried, wrong=0, by_stage=dict(hit))
    assert tried > 0
