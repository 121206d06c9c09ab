"""The papers' study at its smallest: every figure, every table, every claim."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

STUDY = Path(__file__).parents[2] / "studies" / "papers.yaml"


@pytest.mark.slow
def test_the_smoke_profile_ends_with_every_figure_and_table(tmp_path: Path) -> None:
    out = tmp_path / "out"

    subprocess.run(
        [sys.executable, "-m", "paramreuse", "run", STUDY, "--profile", "smoke", "--out", out],
        check=True,
        capture_output=True,
        env=os.environ | {"OMP_WAIT_POLICY": "passive"},
    )

    for number in range(3, 15):
        for ending in ("svg", "csv"):
            for start in ("", "-independent"):
                assert (out / "figures" / f"figure-{number:02d}{start}.{ending}").is_file()
    for name in ("table-1", "table-2", "table-3", "claims", "claim-numbers", "ablation", "shares"):
        assert len(pd.read_csv(out / "tables" / f"{name}.csv")) > 0
    claims = pd.read_csv(out / "tables" / "claims.csv", keep_default_na=False)
    assert list(claims["claim"]) == [f"C{number}" for number in range(1, 11)]
    assert set(claims["shared"]) <= {"holds", "does not hold", "cannot tell"}
    assert "Not here" not in (out / "results.md").read_text(encoding="utf-8")
