"""Sessions of Ray: begun on this machine or joined by address, and left as they were."""

import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paramreuse.errors import WorkerError
from paramreuse.extras import missing_extra

_QUIET: Mapping[str, str] = {
    # Nothing is reported to anybody.
    "RAY_USAGE_STATS_ENABLED": "0",
    # A task without a graphics processor is not told that it has none.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # On a machine that is busy it takes longer than the 30 seconds that Ray waits.
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_worker_register_timeout_seconds": "300",
}
_SOMEBODY_ELSES = ("RAY_ADDRESS", "RAY_AUTH_MODE")
"""What a caller has set for a cluster: a session of our own begins beside that cluster, and without
a mode Ray demands the token, also where it was imported under another."""

_SECONDS_TO_ANSWER = 10.0

_TOKEN = secrets.token_hex(32)
"""One for the whole process: Ray reads its token once."""


def require_ray() -> Any:
    """Return Ray.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise missing_extra("use workers", "ray") from error
    return ray


@contextmanager
def local_session(workers: int) -> Iterator[None]:
    """Begin a session of this machine alone, and end it.

    It listens to those who have its token, and keeps its files in a temporary folder that goes
    with it.

    Args:
        workers: Number of worker processes.

    Raises:
        MissingExtraError: Ray is not installed.
        WorkerError: A session cannot be begun.
    """
    with _environment(_QUIET):  # some of it is read when it is imported
        ray = require_ray()
    if ray.is_initialized():
        yield
        return
    # Sockets lie in it, and their paths may have 107 characters.
    folder = tempfile.mkdtemp(prefix="paramreuse-", dir="/tmp" if os.path.isdir("/tmp") else None)  # noqa: S108
    try:
        with _environment({**_QUIET, **_token()}, without=_SOMEBODY_ELSES):
            _init(
                address="local",
                include_dashboard=False,
                num_cpus=workers,
                _temp_dir=folder,
                _node_ip_address="127.0.0.1",
            )
            try:
                yield
            finally:
                ray.shutdown()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def joined_session(address: str) -> Iterator[int]:
    """Join the session of a cluster, and leave it.

    Args:
        address: ``HOST:PORT``, or ``auto``.

    Yields:
        The number of CPUs of the cluster.

    Raises:
        MissingExtraError: Ray is not installed.
        WorkerError: There is no such address, or nothing answers there.
    """
    with _environment(_QUIET):
        ray = require_ray()
        if address != "auto":
            _require_listener(address)
        _init(address=address)
        try:
            yield max(1, int(ray.cluster_resources().get("CPU", 1)))
        finally:
            ray.shutdown()


def _token() -> dict[str, str]:
    """Return the token of a local session, so that Ray writes none into the home folder."""
    has_one = Path("~/.ray/auth_token").expanduser().exists() or "RAY_AUTH_TOKEN_PATH" in os.environ
    return {} if has_one else {"RAY_AUTH_TOKEN": _TOKEN}


def _require_listener(address: str) -> None:
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or "/" in address:
        raise WorkerError(
            f"cannot join the Ray cluster at {address!r}: expected HOST:PORT, as `ray start "
            "--head` says it, or auto"
        )
    try:
        socket.create_connection((host, int(port)), timeout=_SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError) as error:
        raise WorkerError(
            f"cannot join the Ray cluster at {address!r}: nothing answers there ({error}). See "
            "whether `ray start --head` runs on that machine and its port can be reached, or use "
            "--workers N on this machine"
        ) from error


def _init(**options: Any) -> None:
    """Begin or join a session, and leave the process's signal handlers as they were."""
    import ray

    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    logger = logging.getLogger("ray")
    level = logger.level
    # It tells how it is secured, whatever level it is given below.
    logger.setLevel(logging.ERROR)
    try:
        ray.init(
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
            **options,
        )
    except Exception as error:  # Ray raises whatever its parts do, and RuntimeError for the rest
        raise WorkerError(
            f"cannot start workers: {str(error).strip()[:500] or type(error).__name__}. See "
            "whether Ray runs by itself: python -c 'import ray; ray.init()'"
        ) from error
    finally:
        logger.setLevel(level)
        if is_main:
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _environment(values: Mapping[str, str], *, without: Iterable[str] = ()) -> Iterator[None]:
    """Set variables of Ray's that are not set yet, and take back these and what Ray sets."""
    before = {name: value for name, value in os.environ.items() if _is_rays(name)}
    os.environ.update({name: value for name, value in values.items() if name not in before})
    for name in without:
        os.environ.pop(name, None)
    try:
        yield
    finally:
        for name in [name for name in os.environ if _is_rays(name)]:
            del os.environ[name]
        os.environ.update(before)


def _is_rays(name: str) -> bool:
    """Tell whether Ray sets a variable; it has ``breakpoint()`` open its own debugger as well."""
    return name.startswith("RAY_") or name == "PYTHONBREAKPOINT"
