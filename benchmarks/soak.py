"""Everything by which this package's reliability is shown, at its full length.

python benchmarks/soak.py                     all of it, as Markdown; an hour on two cores
python benchmarks/soak.py kills power_cuts    some of them
python benchmarks/soak.py --trials 20 kills   a part of a piece
The pieces are tests (``tests/soak``) that ``make test`` runs a small part of, and the mutation
testing of the method. Findings of the fuzzing are kept where ``PARAMREUSE_FUZZ_CORPUS`` says.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
FUZZ_SECONDS = "60"
MUTANTS = "4"
"""Per part; ``benchmarks/mutation.py`` tries out as many as are asked for."""

PIECES: dict[str, list[str]] = {
    "kills": ["tests/soak/test_kills.py"],
    "failed_writes": ["tests/soak/test_failed_writes.py", "-k", "whichever_write"],
    "full_disk": ["tests/soak/test_failed_writes.py", "-k", "full_disk"],
    "power_cuts": ["tests/soak/test_power_cuts.py"],
    "growth": ["tests/soak/test_growth.py"],
    "hostile": ["tests/soak/test_hostile_files.py"],
    "fuzzing": ["tests/test_fuzzing.py"],
    "mutation": [],
}


def run_tests(arguments: list[str], trials: int | None) -> tuple[int, list[dict[str, object]]]:
    """Run a piece, and return pytest's status and what the tests noted."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        log.touch()
        environment = os.environ | {"PARAMREUSE_SOAK": "whole", "PARAMREUSE_SOAK_LOG": str(log)}
        environment.setdefault("PARAMREUSE_FUZZ_SECONDS", FUZZ_SECONDS)
        if trials is not None:
            environment["PARAMREUSE_SOAK_TRIALS"] = str(trials)
        command = [sys.executable, "-m", "pytest", "-q", "-rs", *arguments]
        done = subprocess.run(command, env=environment, cwd=ROOT, stdout=sys.stderr, check=False)
        rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return done.returncode, rows


def row_of(facts: dict[str, object]) -> str:
    """Return a row of the table: the piece, how often it was tried, and all else."""
    more = "; ".join(
        f"{name.replace('_', ' ')} {value}"
        for name, value in facts.items()
        if name not in ("piece", "tried")
    )
    return f"| {facts['piece']} | {facts['tried']} | {more} |"


def run_mutation() -> int:
    """Run a small sample of the mutation testing, whose own table follows."""
    command = [sys.executable, str(ROOT / "benchmarks" / "mutation.py"), "--sample", MUTANTS]
    print(flush=True)
    return subprocess.run(command, check=False).returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pieces", nargs="*", help=f"of {', '.join(PIECES)}; or all")
    parser.add_argument("--trials", type=int, help="instead of each piece's own number")
    options = parser.parse_args()
    unknown = [piece for piece in options.pieces if piece not in PIECES]
    if unknown:
        parser.error(f"unknown {unknown}: expected some of {list(PIECES)}")
    print("| what | tried | came of it |\n|---|--:|---|", flush=True)
    failed = []
    for piece in options.pieces or PIECES:
        started = time.monotonic()
        if piece == "mutation":
            status = run_mutation()
        else:
            status, rows = run_tests(PIECES[piece], options.trials)
            print("".join(f"{row_of(row)}\n" for row in rows), end="", flush=True)
        minutes = (time.monotonic() - started) / 60
        print(f"{piece}: {minutes:.1f} minutes", file=sys.stderr, flush=True)
        failed += [piece] if status else []
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
