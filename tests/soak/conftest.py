"""One process that runs studies for all tests here, and what a run left alone gives."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from samples.soak import LeftAlone, Runner, running, tables_of, tiny_study, watching_library


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    folder = tmp_path_factory.mktemp("runner")
    with running(folder, watching_library(folder)) as started:
        yield started


@pytest.fixture
def watching(runner: Runner) -> Runner:
    if not runner.is_watching:
        pytest.skip("needs Linux and a C compiler, to see what a process writes")
    return runner


@pytest.fixture(scope="session")
def left_alone(runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> LeftAlone:
    folder = tmp_path_factory.mktemp("left-alone")
    study = tiny_study(folder / "study.yaml")
    assert runner.run(study, folder / "first") == 0, runner.told
    start = time.monotonic()
    assert runner.run(study, folder / "second") == 0, runner.told
    seconds = time.monotonic() - start
    tables = tables_of(folder / "second")
    assert tables, "there is something to compare"
    assert tables == tables_of(folder / "first"), "a study gives the same tables twice"
    return LeftAlone(study, tables, seconds)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "run"
