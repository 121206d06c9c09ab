"""The ranking of a study's sources, from what its store holds."""

from math import isnan
from pathlib import Path
from typing import Any

import pytest

from paramreuse.errors import StudyError
from paramreuse.study.config import Study
from paramreuse.study.findings import findings_of, ranking_rows
from paramreuse.study.run import run_study
from paramreuse.study.store import Store
from samples.studies import checkpoint, given_content, study_of


def three_sources(folder: Path) -> Study:
    """A source of which a bias alone fits, a stranger, and the target itself, in this order."""
    files: dict[str, dict[str, Any]] = {
        "target": {"seed": 0},
        "odd": {"seed": 2, "width": 3},
        "stranger": {"seed": 1},
        "same": {"seed": 0},
    }
    models = {
        name: {
            "data": "cine",
            "checkpoint": str(checkpoint(folder / f"{name}.safetensors", **made)),
        }
        for name, made in files.items()
    }
    content = given_content(folder, models=models, sources=["odd", "stranger", "same"])
    return study_of(content | {"sweep": {"engine": "full"}})


def test_a_source_without_a_kernel_that_fits_is_ranked_last(tmp_path: Path) -> None:
    study = three_sources(tmp_path)
    run_study(study, tmp_path / "run", until="sweep")
    store = Store(tmp_path / "run" / "results.sqlite")

    rows = findings_of(study, store).ranking.rows()

    # Were NaN compared with numbers, "odd" would stay where the study names it: first.
    assert [row["rank"] for row in rows] == [1, 2, 3]
    assert [row["source"] for row in rows] == ["same", "stranger", "odd"]
    assert isnan(rows[2]["kernel_share"])
    assert (rows[0]["kernel_share"], rows[0]["rmse"], rows[0]["rmse_rank"]) == (1.0, 0.0, 1)
    assert rows[0]["cka_pilot"] == pytest.approx(1.0)
    assert 0 < rows[1]["cka_pilot"] < 1
    # As texts, since NaN is not equal to itself.
    assert str(rows) == str(ranking_rows(tmp_path / "run"))
    store.close()


def test_nothing_is_ranked_before_the_sweep(tmp_path: Path) -> None:
    study = three_sources(tmp_path)
    run_study(study, tmp_path / "run", until="compare")
    store = Store(tmp_path / "run" / "results.sqlite")

    assert findings_of(study, store).ranking.rows() == []
    store.close()
    with pytest.raises(StudyError, match=r"nothing to judge in '.*run': no source has been swept"):
        ranking_rows(tmp_path / "run")
    with pytest.raises(StudyError, match="is not a run folder"):
        ranking_rows(tmp_path / "none")
