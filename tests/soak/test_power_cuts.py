"""The power fails at any moment, and what was not synced is lost: the study goes on."""

import random
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from samples.power_cut import Call, Disk, read_log
from samples.soak import LeftAlone, Runner, assert_continues, much, note

KINDS = ("nothing more", "names first", "torn")


def calls_of(runner: Runner, study: Path, out: Path) -> list[Call]:
    log = out.with_suffix(".log")
    assert runner.run(study, out, watch=(0, 0, log)) == 0
    calls = read_log(log)
    assert len(calls) > 100, "the calls are seen"
    return calls


def test_a_disk_holds_after_a_cut_what_was_synced() -> None:
    disk = Disk("/r", folders={"/r"})
    rng = np.random.default_rng(0)
    for call in (
        Call("create", 1, 0, "/r/.a.part", "", b""),
        Call("write", 1, 0, "/r/.a.part", "", b"abc"),
        Call("sync", 1, 0, "/r/.a.part", "", b"abc"),
        Call("write", 1, 3, "/r/.a.part", "", b"def"),
        Call("rename", 0, 0, "/r/.a.part", "/r/a", b""),
    ):
        disk.take(call)

    assert dict(disk.after_cut("nothing more", rng)) == {"/r/.a.part": b"abc"}
    assert dict(disk.after_cut("names first", rng)) == {"/r/a": b"abc"}
    disk.take(Call("sync", 0, 0, "/r", "", b""))
    assert dict(disk.after_cut("nothing more", rng)) == {"/r/a": b"abc"}
    disk.take(Call("sync", 1, 0, "/r/a", "", b"abcdef"))
    assert dict(disk.after_cut("nothing more", rng)) == {"/r/a": b"abcdef"}


@pytest.mark.slow
def test_a_power_cut_at_any_moment_loses_no_table(
    watching: Runner, left_alone: LeftAlone, out: Path
) -> None:
    dice, rng = random.Random(0), np.random.default_rng(0)  # noqa: S311
    calls = calls_of(watching, left_alone.study, out)
    # What follows a change of names is where order matters; the rest is drawn.
    renames = [i + 1 for i, call in enumerate(calls) if call.name in ("rename", "create")]
    trials = much(120, 6)
    moments = dice.sample(renames, min(len(renames), trials // 2))
    moments += dice.sample(range(1, len(calls)), trials - len(moments))
    tried: Counter[str] = Counter()
    for number, moment in enumerate(moments):
        kind = KINDS[number % len(KINDS)]
        disk = Disk(str(out), folders={str(out)})
        for call in calls[:moment]:
            disk.take(call)
        shutil.rmtree(out)
        disk.write_after_cut(out, kind, rng)
        print(moment, kind, calls[moment - 1].name, calls[moment - 1].path, flush=True)
        assert_continues(watching, out, left_alone)
        tried[kind] += 1
    note("power cuts", tried=tried.total(), of=len(calls), wrong=0, by_kind=dict(tried))
