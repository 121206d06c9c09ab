"""Known failures of neighbouring tools, and what this package does on the same input.

Every row runs the neighbour in its current published version and paramreuse one after the other.
A neighbour that has mended its failure is said to have; one that cannot be installed is named. The
exit status is 1 unless ours is right in every row.

Example: python benchmarks/gauntlet.py --environment gauntlet-libraries
"""

import argparse
import contextlib
import io
import json
import logging
import platform
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import distributions, version
from pathlib import Path

import torch

PEERS = {
    "monai": ("monai", "pytorch-ignite"),
    "lightning": ("lightning",),
    "weightwatcher": ("weightwatcher", "powerlaw"),
    "torch_cka": ("torch_cka",),
    # The one we are installed with: another would need an environment of its own.
    "torch": (),
}
"""Neighbour to what is installed for it, without dependencies, which are those of ours."""


@dataclass(frozen=True)
class Row:
    """One failure.

    Attributes:
        peer: Name of the package.
        version: The version that was run; empty if it could not be installed.
        failure: What its users have met.
        peer_did: What it did here.
        peer_fails: Whether that is the failure; None if the neighbour was not run.
        ours_did: What paramreuse did on the same input.
        ours_right: Whether that is right, or a clear refusal; None if it was not run.
    """

    peer: str
    version: str
    failure: str
    peer_did: str
    peer_fails: bool | None
    ours_did: str
    ours_right: bool | None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", type=Path, help="folder to install the neighbours into")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        environment = options.environment or Path(folder, "environment")
        problems = {peer: install(names, environment) for peer, names in PEERS.items()}
        # In front, so that what runs is what was published last, for us too.
        sys.path.insert(0, str(environment))
        from gauntlet_failures import FAILURES

        rows = []
        for peer, failure, work in FAILURES:
            if problems[peer]:
                row = Row(peer, "", failure, f"not run: {problems[peer]}", None, "not run", None)
            else:
                names = PEERS[peer]
                found = version_in(names[0], environment) if names else version(peer)
                row = run(peer, found, failure, lambda work=work: work(Path(folder)))
            rows.append(row)
    print(json.dumps([asdict(row) for row in rows], indent=1) if options.json else table(rows))
    return 0 if all(row.ours_right for row in rows) else 1


def install(names: tuple[str, ...], environment: Path) -> str:
    """Install what is not there yet, and return what went wrong, if anything."""
    absent = [name for name in names if not version_in(name, environment)]
    if not absent:
        return ""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--retries", "1"]
    done = subprocess.run(
        [*command, "--target", str(environment), *absent],
        capture_output=True,
        text=True,
        check=False,
    )
    told = [line for line in done.stderr.splitlines() if "is ignored" not in line]
    return f"pip: {told[-1] if told else done.returncode}" if done.returncode else ""


def version_in(name: str, environment: Path) -> str:
    """Return the version that lies in the folder, empty if there is none."""
    wanted = name.replace("-", "_").lower()
    for found in distributions(path=[str(environment)]):
        if found.metadata["Name"].replace("-", "_").lower() == wanted:
            return found.version
    return ""


def run(peer: str, found: str, failure: str, work: Callable[[], object]) -> Row:
    """Run one row; an import that fails is the neighbour's, any other error is nobody's guess."""
    try:
        with silence():
            outcome = work()
    except ImportError as error:
        return Row(peer, found, failure, f"not run: {error}", None, "not run", None)
    return Row(peer, found, failure, **asdict(outcome))


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep what neighbours print, log and warn to themselves."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        for name in ("lightning.pytorch", "lightning.fabric", "weightwatcher", "ignite"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        yield


def table(rows: list[Row]) -> str:
    """Return the rows as Markdown, with the versions that are the same for all below."""
    head = ("neighbour", "known failure", "it did", "ours did", "ours right")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        mended = " **Mended.**" if row.peer_fails is False else ""
        right = {True: "yes", False: "**no**", None: "not run"}[row.ours_right]
        cells = (f"{row.peer} {row.version}", row.failure, row.peer_did + mended, row.ours_did)
        lines.append("| " + " | ".join((*cells, right)) + " |")
    ours = f"paramreuse {version('paramreuse')}, torch {torch.__version__}"
    return "\n".join([*lines, "", f"{ours}, Python {platform.python_version()}."])


if __name__ == "__main__":
    sys.exit(main())
