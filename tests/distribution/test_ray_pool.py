"""Workers of Ray on this machine: what dies is replaced, and results are those of one process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from paramreuse.distribution.pool import Pool
from paramreuse.distribution.ray_pool import RayPool, ray_pool
from paramreuse.errors import WorkerError
from paramreuse.study.records import SweepScore, TrialStatistics
from paramreuse.study.run import run_study
from paramreuse.study.store import Store
from paramreuse.sweep.scores import Dice
from paramreuse.sweep.sweeping import sweep_sites
from samples.studies import given_content, seeded, status_of, study_of, write_study

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def surroundings() -> tuple[dict[str, str], Any]:
    """Return what Ray must leave as it was; other libraries set variables of their own."""
    rays = {k: v for k, v in os.environ.items() if k.startswith("RAY_") or k == "PYTHONBREAKPOINT"}
    return rays, signal.getsignal(signal.SIGTERM)


@pytest.fixture(scope="module")
def workers() -> Iterator[Pool]:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'paramreuse[ray]'")
    before = surroundings()
    with ray_pool(2) as pool:
        yield pool
    assert surroundings() == before


def batches() -> list[tuple[Tensor, Tensor, list[str]]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(2, 1, 8, 8, generator=generator),
            torch.randint(0, 4, (2, 8, 8), generator=generator),
            [f"patient {index}", f"patient {index + 1}"],
        )
        for index in range(5)
    ]


def told(shared: Tensor) -> Callable[[int], tuple[int, int, float]]:
    return lambda task: (os.getpid(), torch.get_num_threads(), float(shared.sum()) + task)


def test_tasks_are_done_in_other_processes_which_share_the_threads(workers: Pool) -> None:
    results = dict(workers.map(told, torch.ones(3), range(6)))

    assert {number: result[2] for number, result in results.items()} == {
        number: 3.0 + number for number in range(6)
    }
    assert os.getpid() not in {result[0] for result in results.values()}
    assert {result[1] for result in results.values()} == {max(1, torch.get_num_threads() // 2)}


class Mortal(Dice):
    """Takes its process down the first time it is asked in another than the test's."""

    def __init__(self, mark: Path) -> None:
        super().__init__(num_classes=4)
        self.mark, self.home = mark, os.getpid()

    def statistics(self, outputs: Tensor, labels: Tensor) -> Tensor:
        if os.getpid() != self.home and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().statistics(outputs, labels)


def test_a_sweep_whose_worker_is_killed_is_that_of_one_process(
    workers: Pool, tmp_path: Path
) -> None:
    score = Mortal(tmp_path / "killed")

    shared = sweep_sites(seeded(0), seeded(1), batches(), score, pool=workers)
    alone = sweep_sites(seeded(0), seeded(1), batches(), score)

    assert score.mark.exists()
    assert shared.frame().equals(alone.frame())


def deadly(_: object) -> Callable[[object], object]:
    return lambda task: os.kill(os.getpid(), signal.SIGKILL)


def test_work_that_kills_every_worker_ends_with_what_to_do(workers: Pool) -> None:
    with pytest.raises(WorkerError, match=r"so did those that took over its work \(3 times\)"):
        list(workers.map(deadly, None, [0]))


def failing(_: object) -> Callable[[object], object]:
    def fail(task: object) -> object:
        raise KeyError(task)

    return fail


def test_an_error_of_a_task_is_raised_as_it_was(workers: Pool) -> None:
    with pytest.raises(KeyError, match="five"):
        list(workers.map(failing, None, ["five"]))


def test_what_cannot_be_sent_is_said(workers: Pool, tmp_path: Path) -> None:
    with (
        (tmp_path / "open").open("w") as file,
        pytest.raises(WorkerError, match="cannot send the work"),
    ):
        list(workers.map(told, file, [0]))  # type: ignore[arg-type]


def test_workers_of_another_torch_are_refused(
    workers: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", "1.0.0")

    with pytest.raises(WorkerError, match=r"it has torch \d.*, this process has torch 1\.0\.0"):
        list(workers.map(told, torch.ones(1), [0]))


def nested(pool: RayPool) -> Callable[[int], list[int]]:
    return lambda task: sorted(result for _, result in pool.map(doubling, task, range(3)))


def doubling(number: int) -> Callable[[int], int]:
    return lambda task: 2 * task + number


def test_tasks_of_tasks_wait_in_the_same_queue(workers: Pool) -> None:
    """As arms of a study do: had a waiting task kept its place, this would never end."""
    assert dict(workers.map(nested, workers, [0, 1, 2])) == {
        0: [0, 2, 4],
        1: [1, 3, 5],
        2: [2, 4, 6],
    }


def scores_of(folder: Path) -> set[str]:
    store = Store(folder / "results.sqlite")
    rows = {repr(row) for row in store.read(SweepScore)}
    store.close()
    return rows


def small_batches(content: dict[str, Any]) -> dict[str, Any]:
    return content | {"sweep": {"batch_size": 1}}


def test_a_run_on_workers_that_is_killed_goes_on_to_the_same_scores(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'paramreuse[ray]'")
    content = small_batches(given_content(tmp_path))
    path = write_study(tmp_path / "study.yaml", content)
    run_study(study_of(content), tmp_path / "alone", until="sweep")
    folder = tmp_path / "run"
    arguments = ["run", path, "--out", folder, "--until", "sweep", "--workers", "2", "--quiet"]
    paths = [str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    process = subprocess.Popen(
        [sys.executable, "-m", "paramreuse", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    while process.poll() is None and not _has_begun(folder):
        time.sleep(0.02)
    process.kill()
    process.communicate()

    assert status_of(*arguments) == 0
    assert scores_of(folder) == scores_of(tmp_path / "alone")


def _has_begun(folder: Path) -> bool:
    if not (folder / "study.yaml").is_file():
        return False
    store = Store(folder / "results.sqlite")
    begun = store.count(TrialStatistics) > 0
    store.close()
    return begun


def test_a_local_session_begins_and_demands_its_token_whatever_was_set_for_a_cluster() -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'paramreuse[ray]'")
    # Ray reads the mode when it is imported, here before there is a session.
    lines = [
        "import os, ray",
        "from paramreuse.distribution.ray_pool import ray_pool",
        "with ray_pool(1) as pool:",
        "    print(os.environ['RAY_AUTH_MODE'], *pool.map(lambda n: lambda k: n + k, 1, [1, 2]))",
        "print(os.environ['RAY_AUTH_MODE'], os.environ['RAY_ADDRESS'])",
    ]

    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        env=os.environ | {"RAY_ADDRESS": "127.0.0.1:1", "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.splitlines() == ["token (0, 2) (1, 3)", "disabled 127.0.0.1:1"], done.stderr
