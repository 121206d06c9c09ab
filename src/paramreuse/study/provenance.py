"""What a result was made with: versions, machine and command."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from paramreuse._version import __version__

_LIBRARIES = ("torch", "numpy", "scipy", "pandas", "lightning", "monai")


def provenance() -> dict[str, str]:
    """Return versions, machine and command, by name."""
    facts = {"paramreuse": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            facts[name] = "not installed"
    facts["machine"] = f"{platform.system()} {platform.machine()}"
    facts["command"] = " ".join(["paramreuse", *sys.argv[1:]])
    return facts
