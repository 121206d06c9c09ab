"""A source whose keys have a prefix, like a Lightning checkpoint's, is reported as others are."""

from pathlib import Path

import numpy as np
import pytest

from paramreuse.checkpoint import write_checkpoint
from paramreuse.study.reporting import report_data
from paramreuse.study.run import open_job, run_study
from paramreuse.study.workbench import Workbench
from samples.studies import given_content, seeded, study_of


@pytest.mark.parametrize("prefix", ["model.", "net."])
def test_histograms_of_a_prefixed_source_are_those_of_the_same_source_without(
    tmp_path: Path, prefix: str
) -> None:
    reports = []
    for name in ("", prefix):
        folder = tmp_path / (name or "plain")
        folder.mkdir()
        content = given_content(folder, sweep={"engine": "full"})
        tensors = {f"{name}{key}": value for key, value in seeded(1).state_dict().items()}
        write_checkpoint(folder / "ae.safetensors", tensors)
        study = study_of(content)
        run_study(study, folder / "run", until="compare")
        with open_job(Workbench(study, folder / "run")) as job:
            (source,) = report_data(job).sources
        reports.append(source.histograms)

    plain, prefixed = reports
    assert "0.weight" in plain
    assert plain.keys() == prefixed.keys()
    for key, histogram in plain.items():
        np.testing.assert_array_equal(histogram.source, prefixed[key].source)
