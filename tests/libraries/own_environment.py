"""Libraries that cannot share our environment, each installed into a folder of its own; no tests.

torchvision's wheel does not import beside a CPU build of torch, and where it is installed and
fails, lightning fails too. So it must not be in our environment: it is installed without its
dependencies into a folder that only a process of its own has on its path, in front of ours.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
REQUIREMENTS = {
    # torchvision 0.28 is that of torch 2.13.
    "vision": ("torchvision==0.28.0", "timm==1.0.31", "segmentation-models-pytorch==0.6.0"),
    "transformers": ("transformers==5.23.0", "tokenizers==0.23.3", "regex"),
    "schedule": ("finetuning-scheduler==2.14.1",),
}
_UNREACHABLE = (
    *("Connection", "connection", "Name or service not known", "timed out", "ProxyError"),
    *("SSLError", "(from versions: none)"),
)
"""What pip says where there is no registry, rather than no such version in it."""


def folder_with(name: str) -> Path:
    """Return the folder of an environment, which is installed once and kept in the user's cache."""
    requirements = REQUIREMENTS[name]
    content = " ".join((*requirements, sys.version.split()[0]))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paramreuse-tests"
    folder = cache / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=cache, prefix=f".{name}-"))
    try:
        install(requirements, draft)
        draft.rename(folder)
    except OSError:  # another run was faster
        if not folder.exists():
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def install(requirements: tuple[str, ...], folder: Path) -> None:
    options = ["--quiet", "--no-deps", "--retries", "1", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder)]
    done = subprocess.run([*command, *requirements], capture_output=True, text=True, check=False)
    if done.returncode:
        told = [line for line in done.stderr.splitlines() if "is ignored" not in line]
        said = " ".join(told[-3:])
        if any(mark in done.stderr for mark in _UNREACHABLE):
            pytest.skip(f"cannot install {' '.join(requirements)}: {said}")
        pytest.fail(f"pip could not install {' '.join(requirements)}: {said}")


def run_tests(file: str, name: str) -> None:
    """Run the tests of a file in the environment of that name.

    Warnings are no errors there: they are the libraries' own.
    """
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(folder_with(name)), os.environ.get("PYTHONPATH", "")]),
        "HF_HUB_OFFLINE": "1",
    }
    options = ["-o", "filterwarnings=default", "-p", "no:cacheprovider", "--no-header"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(HERE / file)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    if done.returncode:
        pytest.fail(f"{file} in its own environment:\n{done.stdout[-6000:]}{done.stderr[-2000:]}")
    assert " passed" in done.stdout
    assert " skipped" not in done.stdout
