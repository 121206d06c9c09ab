"""Runs studies in forks of one process that has imported everything; no tests.

Reads a JSON object per line: arguments of the command line, where stderr goes, and what
``watched_writes.c`` has to do. Answers with the status that the process ended with.
"""

import ctypes
import importlib
import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

MODULES = (
    *("torch", "pandas", "scipy.stats", "lightning.pytorch", "monai.transforms", "monai.losses"),
    *("matplotlib.pyplot", "jinja2", "sqlite3", "safetensors.torch", "samples.studies"),
    *("paramreuse.cli.commands", "paramreuse.study.reporting", "paramreuse.training"),
    "paramreuse.data.phantom",
)


def run_in_fork(order: dict[str, Any]) -> None:
    """Become a process of the command line."""
    from paramreuse.cli import main

    os.setpgid(0, 0)
    errors = os.open(order["stderr"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream, to in enumerate((nowhere, nowhere, errors)):
        os.dup2(to, stream)
    sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
    if "watch" in order:
        root, number, error, log = order["watch"]
        log = log.encode() if log else None
        ctypes.CDLL(None).watch_writes(root.encode(), ctypes.c_long(number), error, log)
    status: object = 1
    try:
        main(order["arguments"])
        status = 0
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        import traceback

        traceback.print_exc()
    sys.stderr.flush()
    if "count" in order:
        counted = ctypes.CDLL(None).watched_writes
        counted.restype = ctypes.c_long
        Path(order["count"]).write_text(str(counted()))
    os._exit(int(str(status)))


def warm_up(folder: Path) -> None:
    """Draw figures once, so that the forks need not; nothing is trained before a fork."""
    import yaml

    from paramreuse.cli import main
    from samples.studies import given_content

    study = folder / "warm.yaml"
    content = given_content(folder, sweep={"engine": "full", "controls": []})
    study.write_text(yaml.safe_dump(content))
    with suppress(SystemExit):
        main(["run", str(study), "--out", str(folder / "warm"), "--device", "cpu"])


def wait_for(child: int, kill_after: float | None) -> int:
    """Return a child's status, after SIGKILL if it takes longer than it may."""
    end = float("inf") if kill_after is None else time.monotonic() + kill_after
    while True:
        done, status = os.waitpid(child, 0 if kill_after is None else os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            # Not waited for yet, so that the number is still the child's.
            os.kill(child, signal.SIGKILL)
            kill_after, end = None, float("inf")
        else:
            time.sleep(0.002)


def main_loop() -> None:
    for module in MODULES:
        importlib.import_module(module)
    answers = os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    warm_up(Path(sys.argv[1]))
    os.dup2(answers, 1)
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            run_in_fork(order)
        print(wait_for(child, order.get("kill_after")), flush=True)


if __name__ == "__main__":
    main_loop()
