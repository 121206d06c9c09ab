"""Versions that have to agree between a run and its workers, for both to give the same numbers."""

import sys
from collections.abc import Mapping

from paramreuse.errors import WorkerError


def own_versions() -> dict[str, str]:
    """Return the versions of this process, by the name of what they are of."""
    import torch

    import paramreuse

    # Builds for other devices have other suffixes: 2.13.0+cpu.
    release = str(torch.__version__).partition("+")[0]
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"paramreuse": paramreuse.__version__, "torch": release, "Python": python}


def require_same_versions(theirs: Mapping[str, str], place: str) -> None:
    """Refuse a worker that runs something else than this process does.

    Args:
        theirs: What the worker has; empty for what is not installed there.
        place: Where the worker is.

    Raises:
        WorkerError: A version differs; the message has both, and what to install.
    """
    ours = own_versions()
    other = [name for name, version in ours.items() if theirs.get(name) != version]
    if other:
        there = ", ".join(f"{name} {theirs.get(name) or 'missing'}" for name in other)
        here = ", ".join(f"{name} {ours[name]}" for name in other)
        raise WorkerError(
            f"cannot use the worker on {place}: it has {there}, this process has {here}, and "
            "results would not be the same. Install the same versions on every machine: pip "
            f"install 'paramreuse[ray]=={ours['paramreuse']}' torch=={ours['torch']}"
        )
