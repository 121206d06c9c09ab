"""Pools: every task once, whatever comes first; workers of other versions are refused."""

import builtins
import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from paramreuse.distribution import ray_session
from paramreuse.distribution.pool import Alone, in_order
from paramreuse.distribution.ray_pool import ray_pool
from paramreuse.distribution.versions import own_versions, require_same_versions
from paramreuse.errors import MissingExtraError, ParamReuseError, WorkerError
from samples.studies import given_content, status_of, write_study


def adding(number: int) -> Callable[[int], int]:
    return lambda task: task + number


def test_one_process_prepares_once_and_takes_tasks_as_they_are_asked_for() -> None:
    taken: list[int] = []

    def tasks() -> Any:
        for task in (10, 20):
            taken.append(task)
            yield task

    results = Alone().map(adding, 1, tasks())

    assert next(results) == (0, 11)
    assert taken == [10]
    assert list(results) == [(1, 21)]


def test_results_are_put_in_order_as_soon_as_those_before_are_there() -> None:
    came: list[int] = []

    def results() -> Any:
        for number in (1, 0, 3, 2):
            came.append(number)
            yield number, "abcd"[number]

    ordered = in_order(results())

    assert next(ordered) == "a"
    assert came == [1, 0]
    assert list(ordered) == ["b", "c", "d"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"torch": "2.9.1"}, r"node-7: it has torch 2\.9\.1, this process has torch \d"),
        ({"paramreuse": ""}, r"node-7: it has paramreuse missing, this process has paramreuse"),
        ({"Python": "3.8"}, r"it has Python 3\.8"),
    ],
    ids=str,
)
def test_a_worker_of_another_version_is_refused(change: Mapping[str, str], message: str) -> None:
    require_same_versions(own_versions(), "node-7")

    with pytest.raises(WorkerError, match=message) as raised:
        require_same_versions(own_versions() | change, "node-7")
    assert "results would not be the same" in str(raised.value)
    assert "pip install 'paramreuse[ray]==" in str(raised.value)


def test_without_ray_the_message_has_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import_module = builtins.__import__

    def without_ray(name: str, *rest: Any) -> Any:
        if name == "ray":
            raise ImportError(name)
        return import_module(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_ray)
    monkeypatch.delitem(sys.modules, "ray", raising=False)

    with (
        pytest.raises(MissingExtraError, match=r"Run: pip install 'paramreuse\[ray\]'"),
        ray_pool(2),
    ):
        pass


@pytest.fixture
def without_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray is there, and is not asked to begin anything."""

    def never(**_: object) -> None:
        raise AssertionError("a session was begun")

    monkeypatch.setattr(ray_session, "require_ray", lambda: None)
    monkeypatch.setattr(ray_session, "_init", never)


@pytest.mark.usefixtures("without_a_session")
@pytest.mark.parametrize("address", ["cluster", "10.0.0.1:x", ":6379", "ray://host:10001", "h:"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(WorkerError, match="expected HOST:PORT"), ray_pool(address=address):
        pass


@pytest.mark.usefixtures("without_a_session")
def test_an_address_where_nothing_answers_is_refused_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    with (
        pytest.raises(WorkerError, match=rf"127\.0\.0\.1:{port}'.*nothing answers there") as raised,
        ray_pool(address=f"127.0.0.1:{port}"),
    ):
        pass
    assert "--workers N" in str(raised.value)


@pytest.mark.usefixtures("without_a_session")
@pytest.mark.parametrize("command", ["run", "recommend"])
def test_the_command_line_says_what_is_wrong_with_an_address(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    study = write_study(tmp_path / "study.yaml", given_content(tmp_path))

    assert status_of(command, study, "--out", tmp_path / "run", "--ray", "nowhere") == 2
    assert "cannot join the Ray cluster at 'nowhere'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"workers": 0}, "0 workers: expected at least 1"),
        ({}, "either a number of processes"),
        ({"workers": 2, "address": "auto"}, "either a number of processes"),
    ],
    ids=str,
)
def test_workers_are_asked_for_in_one_way(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamReuseError, match=message), ray_pool(**given):
        pass


def test_a_local_session_is_its_own_whatever_cluster_the_surroundings_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    surroundings = {"RAY_ADDRESS": "10.0.0.1:6379", "RAY_AUTH_MODE": "disabled"}
    begun: list[tuple[object, dict[str, str]]] = []

    def begin(**options: object) -> None:
        begun.append((options["address"], dict(os.environ)))

    class NotBegun:
        is_initialized = staticmethod(lambda: False)
        shutdown = staticmethod(lambda: None)

    monkeypatch.setattr(ray_session, "require_ray", NotBegun)
    monkeypatch.setattr(ray_session, "_init", begin)
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(Path, "exists", lambda _: False)  # of a token in the home folder

    with ray_session.local_session(1):
        pass

    ((address, variables),) = begun
    assert address == "local"
    assert variables.keys() & surroundings.keys() == set()
    assert "RAY_AUTH_TOKEN" in variables
    assert {name: os.environ[name] for name in surroundings} == surroundings
    assert "RAY_AUTH_TOKEN" not in os.environ
