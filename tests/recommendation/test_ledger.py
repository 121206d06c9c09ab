"""The ledger of a recommendation, shared: who measures what, and what a killed process leaves."""

import time
from collections import Counter
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import paramreuse as pr
from paramreuse.recommendation.ledger import CLAIMS, Ledger
from samples.disks import disk_network
from samples.sharing import claim_for_ever, recommend_and_write, recommend_together


def test_what_one_has_claimed_no_other_gets_until_it_is_done(tmp_path: Path) -> None:
    one, other = Ledger(tmp_path, "same"), Ledger(tmp_path, "same")

    with one.claimed("a") as is_ours:
        assert is_ours
        with other.claimed("a") as is_theirs, other.claimed("b") as is_theirs_too:
            assert (is_theirs, is_theirs_too) == (False, True)
    with other.claimed("a") as is_theirs:
        assert is_theirs

    assert list((tmp_path / CLAIMS).iterdir()) == []
    one.close()
    other.close()


def test_a_claim_is_let_go_where_measuring_fails(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "same")

    with pytest.raises(ZeroDivisionError):
        ledger.gather(["a"], lambda place: 1 / 0, lambda: None)

    assert ledger.gather(["a"], lambda place: place + 1, lambda: None) == [1]
    ledger.close()


def test_without_a_folder_everything_is_one_s_own() -> None:
    ledger = Ledger(None, "same")

    with ledger.claimed("a") as is_ours:
        assert is_ours
    ledger.close()


def test_entries_come_in_the_order_of_their_names_and_what_another_has_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = Ledger(tmp_path, "same"), Ledger(tmp_path, "same")
    there.write("a", {"from": "there"})
    elsewhere = there.claimed("b")
    assert elsewhere.__enter__()
    waited: list[float] = []

    def wait(seconds: float) -> None:
        # The other process finishes while this one waits.
        waited.append(seconds)
        there.write("b", {"from": "there"})
        elsewhere.__exit__(None, None, None)

    monkeypatch.setattr(time, "sleep", wait)
    counted: list[int] = []
    entries = here.gather(["a", "b", "c"], lambda place: {"from": place}, lambda: counted.append(1))

    assert entries == [{"from": "there"}, {"from": "there"}, {"from": 2}]
    assert len(waited) == 1
    assert len(counted) == 3
    here.close()
    there.close()


def started(target: Any, *arguments: object) -> BaseProcess:
    process = get_context("spawn").Process(target=target, args=arguments)
    process.start()
    return process


@pytest.mark.slow
def test_a_killed_process_has_claimed_nothing(tmp_path: Path) -> None:
    told = tmp_path / "told"
    folder = tmp_path / "shared"
    process = started(claim_for_ever, folder, told)
    while not told.is_file() or not told.read_text():
        assert process.is_alive()
        time.sleep(0.1)
    ledger = Ledger(folder, "same")
    with ledger.claimed("0/full/x") as is_ours:
        assert not is_ours

    process.kill()
    process.join()

    with ledger.claimed("0/full/x") as is_ours:
        assert is_ours
    ledger.close()


@pytest.mark.slow
def test_two_processes_share_the_folds_and_find_what_one_finds(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        source = disk_network().state_dict()
    pr.write_checkpoint(tmp_path / "source.safetensors", source)
    diary, alone = tmp_path / "diary", tmp_path / "alone"
    processes = [
        started(
            recommend_and_write,
            *(tmp_path / "shared", tmp_path / "source.safetensors", diary),
            tmp_path / f"{name}.safetensors",
        )
        for name in ("one", "two")
    ]
    for process in processes:
        process.join()
    threads = torch.get_num_threads()
    # As many as the processes have: sums depend on it.
    torch.set_num_threads(1)
    whole = recommend_together(None, source, alone, pause=0.0)
    torch.set_num_threads(threads)

    assert [process.exitcode for process in processes] == [0, 0]
    trainings = [line.split(" ", 1) for line in diary.read_text().splitlines()]
    in_folds = [(pid, what) for pid, what in trainings if what.count("s") < 4]
    # Three candidates in four folds, each trained once by one of the two; both did some.
    assert len({what for _, what in in_folds}) == len(in_folds) == 12
    assert len(Counter(pid for pid, _ in in_folds)) == 2
    frames = [pd.read_csv(tmp_path / f"{name}.csv") for name in ("one", "two")]
    whole.frame().to_csv(tmp_path / "whole.csv", index=False)
    assert all(frame.equals(pd.read_csv(tmp_path / "whole.csv")) for frame in frames)
    for name in ("one", "two"):
        model = pr.read_checkpoint(tmp_path / f"{name}.safetensors")
        assert all(
            torch.equal(model[key], value) for key, value in whole.model.state_dict().items()
        )
