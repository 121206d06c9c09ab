"""What a result was made with: versions, machine and command."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from paramreuse._version import __version__

_LIBRARIES = ("torch", "numpy", "scipy", "pandas", "lightning", "monai")


def provenance() -> dict[str, str]:
    """Return versions, machine and command, by name."""
    held = {"paramreuse": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            held[name] = version(name)
        except PackageNotFoundError:
            held[name] = "not installed"
    held["machine"] = f"{platform.system()} {platform.machine()}"
    held["command"] = " ".join(["paramreuse", *sys.argv[1:]])
    return held
