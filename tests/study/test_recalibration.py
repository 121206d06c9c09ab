"""Recalibration in a study: which images, added to a folder that is there, resumed, reported."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from paramreuse.data import selection
from paramreuse.data.preparation import UNLABELLED, PreparedSet
from paramreuse.data.selection import calibration_batches
from paramreuse.errors import ModelError, StudyError
from paramreuse.study import stages
from paramreuse.study.run import open_job, report_run, run_study
from paramreuse.study.run_folder import holds_study
from paramreuse.study.stages import costliest_words
from paramreuse.study.store import Store
from paramreuse.study.stored_sweep import read_sweep
from paramreuse.study.workbench import Workbench
from paramreuse.sweep.outcomes import Sweep
from paramreuse.sweep.recalibration import recalibrated
from paramreuse.sweep.scoring import score_subjects
from samples.listening import Listener
from samples.paper_figures import made_up_sites, paper_sweep
from samples.studies import PHANTOM, checkpoint, given_content, study_of, trained_content

PLAIN = {"engine": "full"}
RECALIBRATE = PLAIN | {"recalibrate": True}
BARE = f"{__name__}:bare"


def bare(in_channels: int, num_classes: int) -> nn.Module:
    """A network without BatchNorm."""
    return nn.Conv2d(in_channels, num_classes, 1)


def stored_sweep(folder: Path, name: str) -> Sweep | None:
    store = Store(folder / "results.sqlite")
    stored = read_sweep(store, name)
    store.close()
    return stored


def slices_of(**numbers: int) -> PreparedSet:
    """So many slices of each subject, numbered by their first pixel, every other one unlabelled."""
    subjects = tuple(name for name, number in numbers.items() for _ in range(number))
    images = torch.arange(float(len(subjects)))[:, None, None, None].expand(-1, 1, 2, 2)
    labels = torch.where(torch.arange(len(subjects)) % 2 == 0, 0, UNLABELLED)
    return PreparedSet(
        images, labels[:, None, None].expand(-1, 2, 2), subjects, subjects, ("background", "RV")
    )


def drawn(prepared: PreparedSet, batch_size: int = 2, seed: int = 0) -> list[list[int]]:
    """Numbers of the slices in each batch."""
    cut = calibration_batches(prepared, batch_size, seed=seed)
    return [images[:, 0, 0, 0].int().tolist() for images, _, _ in cut]


def test_slices_are_drawn_evenly_over_subjects_up_to_a_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepared = slices_of(a=9, b=1, c=4)
    monkeypatch.setattr(selection, "NUM_SLICES", 6)

    chosen = [index for batch in drawn(prepared) for index in batch]

    # One of each, then one of a and c each, then of either: b has no more.
    counts = Counter(prepared.subjects[index] for index in chosen)
    assert len(set(chosen)) == 6
    assert sorted(counts.values()) == [1, 2, 3]
    assert counts["b"] == 1
    assert drawn(prepared) == drawn(prepared) != drawn(prepared, seed=1)


def test_all_slices_are_taken_where_they_are_few_labelled_or_not() -> None:
    batches = drawn(slices_of(a=3, b=2))

    # A last batch of one slice would leave BatchNorm one value per channel behind a pooling.
    assert [len(batch) for batch in batches] == [2, 3]
    assert sorted(index for batch in batches for index in batch) == [0, 1, 2, 3, 4]


def test_the_statistics_are_those_of_the_training_slices(tmp_path: Path) -> None:
    study = study_of(given_content(tmp_path, sweep=RECALIBRATE))
    talk = Listener()

    folder = run_study(study, tmp_path / "run", until="sweep", talk=talk)

    stored = stored_sweep(folder, "recalibrated ae")
    assert stored is not None
    assert [swap.name for swap in stored.swaps] == ["W 1", "W 2", "W 3"]
    assert stored.replacements == ("source",)
    bench = Workbench(study, folder)
    # Six slices, fewer than a batch of the target's training: one batch of them all.
    renewed = recalibrated(bench.model("target"), [bench.images("cine").trainable.images])
    _, expected = score_subjects(renewed, bench.validation_batches(), bench.score)
    np.testing.assert_array_equal(stored.baseline, expected)
    assert ("sweep", f"ae: {stored.notes[0]}") in talk.said
    assert stored.notes[0].startswith("baseline: statistics recomputed on 6 images, mean Dice 0.")
    # W 3 is the output layer's, which is left out.
    worst = max((float(np.nanmean(stored.drops(name)[:, -1])), name) for name in ("W 1", "W 2"))
    assert f", of a kernel after recalibration {worst[0]:.3f} at {worst[1]} (" in talk.said[-1][1]


def test_the_costliest_kernel_is_not_that_of_the_output_layer() -> None:
    costs = {1: 0.1, 2: 0.25, 3: 0.5}
    kernels = [site for site in made_up_sites(2, biased=False) if site.kind == "W"]
    sweep = paper_sweep(kernels, lambda site, replacement: costs[site.layer])
    output = paper_sweep([site for site in kernels if site.is_output])

    assert costliest_words(sweep, sweep.kernels) == "0.250 at W 2"
    assert costliest_words(sweep, sweep.swaps) == "0.500 at W 3"
    assert costliest_words(output, output.kernels) == "not measured"


def test_the_size_of_the_sweeps_batches_changes_no_score(tmp_path: Path) -> None:
    scores = []
    for size in (1, 16):
        sweep = RECALIBRATE | {"batch_size": size}
        study = study_of(given_content(tmp_path, sweep=sweep))
        stored = stored_sweep(
            run_study(study, tmp_path / str(size), until="sweep"), "recalibrated ae"
        )
        assert stored is not None
        scores.append(stored.frame()["score"].tolist())

    np.testing.assert_array_equal(*scores)


def test_it_can_be_added_to_a_folder_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = given_content(tmp_path, sweep=PLAIN)
    folder = run_study(study_of(content), tmp_path / "run", until="sweep")
    plain = stored_sweep(folder, "ae")

    def never(*_: object, **__: object) -> None:
        raise AssertionError("swept again")

    with monkeypatch.context() as patch:
        patch.setattr(stages, "sweep_sites", never)
        run_study(study_of(content | {"sweep": RECALIBRATE}), folder, until="sweep")
        patch.setattr(stages, "sweep_recalibrated", never)
        talk = Listener()
        run_study(study_of(content | {"sweep": RECALIBRATE}), folder, until="sweep", talk=talk)
        assert talk.said[-1][1].endswith("(finished before)")
        # Nor is it lost, or made again, where it is not asked for any more.
        run_study(study_of(content), folder, until="sweep")

    again = stored_sweep(folder, "ae")
    assert stored_sweep(folder, "recalibrated ae") is not None
    assert plain is not None
    assert again is not None
    pd.testing.assert_frame_equal(again.frame(), plain.frame())


@pytest.mark.slow
def test_the_report_has_a_table_and_a_line_of_it(tmp_path: Path) -> None:
    study = study_of(given_content(tmp_path, sweep=RECALIBRATE))
    folder = run_study(study, tmp_path / "run", until="sweep")

    page = report_run(folder).read_text(encoding="utf-8")

    stored = stored_sweep(folder, "recalibrated ae")
    assert stored is not None
    table = pd.read_csv(folder / "tables" / "recalibrated-ae.csv", dtype={"path": str})
    pd.testing.assert_frame_equal(table, stored.frame())
    costliest = costliest_words(stored, stored.kernels)
    assert f"the output layer aside, is {costliest} (baseline: statistics" in page


@pytest.mark.slow
def test_the_report_is_without_it_where_it_is_not_asked_for_any_more(tmp_path: Path) -> None:
    content = given_content(tmp_path, sweep=RECALIBRATE)
    folder = run_study(study_of(content), tmp_path / "run", until="sweep")
    run_study(study_of(content | {"sweep": PLAIN}), folder, until="sweep")

    page = report_run(folder).read_text(encoding="utf-8")

    assert stored_sweep(folder, "recalibrated ae") is not None
    assert (folder / "tables" / "sweep-ae.csv").is_file()
    assert not (folder / "tables" / "recalibrated-ae.csv").exists()
    assert "statistics recomputed" not in page


def test_a_folder_with_it_goes_on_without_it(tmp_path: Path) -> None:
    study = study_of(trained_content(sweep=RECALIBRATE))
    with open_job(Workbench(study, tmp_path / "run")):
        pass

    assert holds_study(tmp_path / "run", study_of(trained_content()))


def test_an_interrupted_one_leaves_nothing_and_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    content: dict[str, Any] = given_content(tmp_path, sources=["ae", "other"])
    other = {"data": "cine", "checkpoint": str(checkpoint(tmp_path / "other.safetensors", 2))}
    content["models"]["other"] = other
    study = study_of(content | {"sweep": RECALIBRATE})

    def interrupt(label: str, done: int) -> None:
        if label == "recalibrated sweep of other" and done > 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(study, tmp_path / "run", until="sweep", talk=Listener(interrupt))
    first = stored_sweep(tmp_path / "run", "recalibrated ae")
    assert first is not None
    assert stored_sweep(tmp_path / "run", "recalibrated other") is None
    seen: Counter[str] = Counter()
    again = Listener(lambda label, done: seen.update([label]))
    run_study(study, tmp_path / "run", until="sweep", talk=again)

    assert stored_sweep(tmp_path / "run", "recalibrated other") is not None
    assert "recalibrated sweep of ae" not in seen
    assert "recalibrated sweep of other" in seen


def test_what_cannot_be_recalibrated_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    content = given_content(tmp_path, sweep=RECALIBRATE)
    with pytest.raises(StudyError, match=r"sweep.recalibrate: .* training images of data.cine"):
        study_of(content | {"data": {"cine": PHANTOM | {"train": 0}}})

    plain = trained_content(sweep=RECALIBRATE, network={"name": BARE})
    with pytest.raises(ModelError, match="nothing to recalibrate in Conv2d"):
        run_study(study_of(plain), tmp_path / "run")
    assert not (tmp_path / "run").exists()
