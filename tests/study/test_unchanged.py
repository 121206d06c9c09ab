"""What results rest on: images, models and rows that have changed are noticed."""

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paramreuse.checkpoint import write_checkpoint
from paramreuse.data.phantom import read_phantom
from paramreuse.data.slices import ImageSet, ImageSlice
from paramreuse.errors import StudyError
from paramreuse.study.config import Study
from paramreuse.study.findings import judgements
from paramreuse.study.records import (
    FinishedStage,
    StoredDistance,
    StoredSweep,
    SweepScore,
    TrainedEpoch,
    TransferScore,
)
from paramreuse.study.run import report_run, run_study
from paramreuse.study.store import STORE, Store
from samples.studies import PHANTOM, given_content, seeded, study_of, trained_content

CHANGE: dict[str, str] = {}
"""What ``read_changed`` changes: ``image`` or ``labels`` of a subject."""


def read_changed(root: object = None, **options: Any) -> ImageSet:
    """The phantom, of which one subject may have changed since it was last read."""
    phantom = read_phantom(**options)

    def read_subject(subject: str) -> list[ImageSlice]:
        pieces = phantom.read_subject(subject)
        if CHANGE.get("subject") != subject:
            return pieces
        if CHANGE["what"] == "image":
            return [replace(piece, image=piece.image.flip(-1)) for piece in pieces]
        return [
            replace(p, labels=torch.zeros_like(p.labels)) for p in pieces if p.labels is not None
        ]

    return replace(phantom, read_subject=read_subject)


@pytest.fixture(autouse=True)
def _unchanged() -> Any:
    yield
    CHANGE.clear()


def watched(folder: Path, **changes: Any) -> Study:
    data = PHANTOM | {"reader": f"{__name__}:read_changed", "root": str(folder)}
    return study_of(given_content(folder, data={"cine": data}, **changes))


@pytest.mark.parametrize("what", ["image", "labels"])
def test_images_and_labels_that_changed_under_the_same_root_are_refused_by_name(
    tmp_path: Path, what: str
) -> None:
    study = watched(tmp_path, sweep={"engine": "full"})
    run_study(study, tmp_path / "run", until="compare")
    CHANGE.update(subject="cine-0001", what=what)

    with pytest.raises(
        StudyError,
        match=r"data.cine: the images or labels in .* have changed since .* \(changed: "
        r"'cine-0001'\)\. Put them back as they were, or give another folder with --out",
    ):
        run_study(study, tmp_path / "run", until="sweep")

    CHANGE.clear()
    run_study(study, tmp_path / "run", until="sweep")


def test_a_truncated_model_is_trained_again_by_the_same_command(tmp_path: Path) -> None:
    study = study_of(trained_content())
    run_study(study, tmp_path / "run", until="train")
    model = tmp_path / "run" / "models" / "ae.safetensors"
    whole = model.read_bytes()
    model.write_bytes(whole[: len(whole) // 2])

    run_study(study, tmp_path / "run", until="train")

    assert model.read_bytes() == whole


def test_a_replaced_model_is_refused_with_the_way_out(tmp_path: Path) -> None:
    study = study_of(trained_content())
    run_study(study, tmp_path / "run", until="train")
    model = tmp_path / "run" / "models" / "ae.safetensors"
    write_checkpoint(model, seeded(7))

    for again in (lambda: run_study(study, tmp_path / "run"), lambda: report_run(tmp_path / "run")):
        with pytest.raises(
            StudyError, match=r"models.ae: .* is not the model that was trained .* remove the file"
        ):
            again()


def test_a_bit_flipped_in_a_model_is_noticed(tmp_path: Path) -> None:
    study = study_of(trained_content())
    run_study(study, tmp_path / "run", until="train")
    model = tmp_path / "run" / "models" / "target.safetensors"
    content = bytearray(model.read_bytes())
    content[-3] ^= 1
    model.write_bytes(content)

    with pytest.raises(StudyError, match=r"models.target: .* is not the model that was trained"):
        run_study(study, tmp_path / "run", until="train")


def test_other_weights_than_before_have_everything_measured_again(tmp_path: Path) -> None:
    study = study_of(trained_content(sweep={"engine": "full"}))
    folder = tmp_path / "run"
    run_study(study, folder, until="sweep")
    store = Store(folder / STORE)
    # As on another machine, whose training ends elsewhere.
    store.put_fact("model/ae", "0" * 64)
    store.close()
    (folder / "models" / "ae.safetensors").unlink()

    run_study(study, folder, until="train")

    store = Store(folder / STORE)
    assert [store.count(kind) for kind in (StoredSweep, SweepScore, StoredDistance)] == [0, 0, 0]
    assert {finished.stage for finished in store.read(FinishedStage)} == {"data", "train"}
    store.close()


def given_run(tmp_path: Path) -> tuple[Study, Path]:
    study = study_of(given_content(tmp_path, sweep={"engine": "full"}))
    return study, run_study(study, tmp_path / "run", until="sweep")


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("DELETE FROM scores WHERE rowid = 7", "rows of the sweep of ae"),
        ("DELETE FROM distances", "rows of distances"),
        ("DELETE FROM sweeps", "rows of the sweep of ae"),
    ],
)
def test_rows_that_are_missing_are_noticed(tmp_path: Path, statement: str, what: str) -> None:
    study, folder = given_run(tmp_path)
    page = folder / "report.html"
    page.write_text("a good report")
    with sqlite3.connect(folder / STORE) as connection:
        connection.execute(statement)
    connection.close()

    with pytest.raises(StudyError, match=rf"has lost results: .* {what}"):
        run_study(study, folder)
    with pytest.raises(StudyError, match=rf"has lost results: .* {what}"):
        report_run(folder)
    assert page.read_text() == "a good report"


def test_an_empty_store_is_noticed_and_no_report_is_written_over(tmp_path: Path) -> None:
    study, folder = given_run(tmp_path)
    (folder / "report.html").write_text("a good report")
    (folder / STORE).write_bytes(b"")

    for again in (
        lambda: run_study(study, folder),
        lambda: report_run(folder),
        lambda: judgements(folder, tolerance=None, confidence=None),
    ):
        with pytest.raises(StudyError, match=r"results.sqlite' has no content, although a study"):
            again()
    assert (folder / "report.html").read_text() == "a good report"


def test_another_database_in_the_place_of_the_store_is_noticed(tmp_path: Path) -> None:
    study, folder = given_run(tmp_path)
    (folder / STORE).unlink()
    with sqlite3.connect(folder / STORE) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    connection.close()

    with pytest.raises(StudyError, match=r"a database of something else, with the tables \['songs"):
        run_study(study, folder)


def test_a_store_made_anew_in_the_place_of_the_old_one_is_noticed(tmp_path: Path) -> None:
    study, folder = given_run(tmp_path)
    for path in folder.glob(f"{STORE}*"):
        path.unlink()
    Store(folder / STORE).close()

    with pytest.raises(StudyError, match=r"holds no results, although a study was run in"):
        run_study(study, folder)


# Formats.


def test_a_store_of_a_newer_format_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / STORE
    Store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()

    with pytest.raises(StudyError, match=r"of format 99, .* up to 1\. Update paramreuse"):
        Store(path)


def test_a_store_without_a_format_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / STORE
    with sqlite3.connect(path) as connection:
        connection.executescript(
            """CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
            CREATE TABLE transfers (
                source TEXT NOT NULL, strategy TEXT NOT NULL, subjects INTEGER NOT NULL,
                seed INTEGER NOT NULL, subject TEXT NOT NULL, class TEXT NOT NULL, score REAL,
                PRIMARY KEY (source, strategy, subjects, seed, subject, class));
            CREATE TABLE transfer_epochs (
                source TEXT NOT NULL, strategy TEXT NOT NULL, subjects INTEGER NOT NULL,
                seed INTEGER NOT NULL, epoch INTEGER NOT NULL, train_loss REAL,
                validation_score REAL, seconds REAL,
                PRIMARY KEY (source, strategy, subjects, seed, epoch));
            INSERT INTO transfers VALUES ('ae', 'full', 4, 0, 'p1', 'LV', 0.5);"""
        )
    connection.close()

    store = Store(path)

    (trained,) = store.read(TransferScore)
    assert (trained.num_subjects, trained.label, trained.score) == (4, "LV", 0.5)
    store.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    connection.close()
    Store(path).close()


def test_a_study_of_a_newer_format_is_refused_with_the_way_out() -> None:
    with pytest.raises(StudyError, match=r"format: the file is of format 2, .* Update paramreuse"):
        study_of(trained_content(format=2))
    assert study_of(trained_content()) == study_of(trained_content(format=1))


def test_null_comes_back_as_nan(tmp_path: Path) -> None:
    store = Store(tmp_path / STORE)
    store.write([TrainedEpoch("target", 1, 0.5, float("nan"), 1.0)])

    (epoch,) = store.read(TrainedEpoch)

    assert np.isnan(epoch.validation_score)
    assert (epoch.model, epoch.epoch, epoch.train_loss) == ("target", 1, 0.5)
    store.close()


def test_a_run_that_ended_right_after_a_training_still_tells_its_model_from_another(
    tmp_path: Path,
) -> None:
    study, folder = study_of(trained_content()), tmp_path / "run"
    run_study(study, folder, until="train")
    store = Store(folder / STORE)
    digest = store.fact("model/target")
    # As if the process had been killed between the file and the note of it.
    store.remove_fact("model/target")
    store.remove(FinishedStage, stage="train")
    store.close()

    run_study(study, folder, until="train")

    store = Store(folder / STORE)
    assert store.fact("model/target") == digest is not None
    store.close()
