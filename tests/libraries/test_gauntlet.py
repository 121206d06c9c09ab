"""The gauntlet: known failures of neighbours, run with both on the same input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gauntlet.py"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paramreuse-tests"


def gauntlet(folder: Path, **environment: str) -> tuple[int, list[dict[str, object]]]:
    command = [sys.executable, str(SCRIPT), "--json", "--environment", str(folder)]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.stdout, done.stderr[-3000:]
    return done.returncode, json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.libraries
def test_ours_is_right_wherever_a_neighbour_can_be_run() -> None:
    status, rows = gauntlet(CACHE / "gauntlet")

    assert len(rows) == 10
    assert [row["failure"] for row in rows if row["ours_right"] is False] == []
    missing = {str(row["peer_did"]) for row in rows if row["ours_right"] is None}
    if missing:
        pytest.skip("; ".join(sorted(missing)))
    assert status == 0


@pytest.mark.slow
def test_a_neighbour_that_cannot_be_installed_is_named(tmp_path: Path) -> None:
    nowhere = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}

    status, rows = gauntlet(tmp_path / "environment", **nowhere)

    assert status == 1
    told = {row["peer"]: str(row["peer_did"]) for row in rows if row["ours_right"] is None}
    assert sorted(told) == ["lightning", "monai", "torch_cka", "weightwatcher"]
    assert all("not run: pip: ERROR: No matching distribution" in why for why in told.values())
