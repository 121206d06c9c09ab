"""A study with arms: run, resumed, and what its arms show together."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from paramreuse.checkpoint import read_checkpoint
from paramreuse.cli import main
from paramreuse.compare.distance import rmse
from paramreuse.data.phantom import read_phantom
from paramreuse.data.slices import ImageSet, ImageSlice
from paramreuse.errors import DataError, StudyError
from paramreuse.papers.gathering import gather
from paramreuse.papers.protocol import arms_outcome, report_arms
from paramreuse.study.arms import Arms, Running, holds_arms, read_study_or_arms, run_arms
from paramreuse.study.config import Study
from paramreuse.study.run import STAGES
from paramreuse.study.run_folder import read_run
from samples.listening import Listener
from samples.studies import PHANTOM, trained_content, write_study

ARMS = {
    "unet-shared": {},
    "unet-independent": {
        "models": {"target": {"init": "independent"}, "A2": {"init": "independent"}}
    },
}


def write_two_arms(folder: Path, **more: Any) -> Path:
    content: dict[str, Any] = {
        "name": "two",
        "network": {"name": "unet", "width": 2},
        "data": {"A": PHANTOM},
        "models": {
            "target": {"data": "A", "epochs": 1},
            "A2": {"data": "A", "task": "autoencoder", "epochs": 1},
        },
        "sources": ["A2"],
        "sweep": {"engine": "full"},
        "arms": ARMS,
        "profiles": {"first": {}, "second": {"seed": 5}},
    }
    path = folder / "two.yaml"
    path.write_text(yaml.safe_dump(content | more, sort_keys=False), encoding="utf-8")
    return path


def arms_of(path: Path, profile: str = "first", **options: Any) -> Arms:
    """The arms of a study file."""
    asked = read_study_or_arms(path, profile=profile, **options)
    assert isinstance(asked, Arms)
    return asked


def run_all(arms: Arms, folder: Path, *, only: Sequence[str] = (), **how: Any) -> Path:
    """Run arms to what they show together."""
    return run_arms(arms, folder, report_arms, only=only, how=Running(**how))


READ: list[str] = []
"""Subjects that ``read_and_note`` has read."""


def read_and_note(root: object = None, **options: Any) -> ImageSet:
    """The phantom, which keeps the names of the subjects that are read."""
    phantom = read_phantom(**options)

    def read_subject(subject: str) -> list[ImageSlice]:
        READ.append(subject)
        return phantom.read_subject(subject)

    return replace(phantom, read_subject=read_subject)


def read_by_root(root: str, **options: Any) -> ImageSet:
    """The phantom whose seed is the name of its folder."""
    return read_phantom(seed=int(Path(root).name), **options)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a protocol of two tiny arms."""
    folder = tmp_path_factory.mktemp("protocol")
    protocol = arms_of(write_two_arms(folder), "first")
    return run_all(protocol, folder / "out")


@pytest.mark.slow
def test_every_arm_is_a_run_folder_of_its_own(ran: Path) -> None:
    for name in ARMS:
        arm = ran / "arms" / name
        content = yaml.safe_load((arm / "study.yaml").read_text())
        assert content["name"] == f"two-{name}"
        assert (arm / "report.html").is_file()


@pytest.mark.slow
def test_what_the_arms_show_together_is_written(ran: Path) -> None:
    claims = pd.read_csv(ran / "tables" / "claims.csv")

    assert list(claims["claim"]) == [f"C{number}" for number in range(1, 11)]
    assert (ran / "results.html").is_file()
    assert (ran / "results.md").is_file()
    for number in (3, 4, 5, 6):
        assert (ran / "figures" / f"figure-{number:02d}.svg").is_file()
        assert (ran / "figures" / f"figure-{number:02d}.csv").is_file()
    # No PSPNet has run, and the page says so.
    assert not (ran / "figures" / "figure-07.svg").exists()
    assert "pspnet" in (ran / "results.md").read_text().lower()


@pytest.mark.slow
def test_the_evidence_is_what_the_arms_measured(ran: Path) -> None:
    evidence = gather(ran / "arms", [*ARMS, "never-run"], name="two", profile="first")

    assert [(arm.name, arm.network, arm.start) for arm in evidence.arms] == [
        ("unet-shared", "unet", "shared"),
        ("unet-independent", "unet", "independent"),
    ]
    arm = evidence.arms[0]
    assert arm.bias  # UNet's default
    assert arm.roles["A2"].words == "phantom autoencoder"
    sweep = pd.read_csv(ran / "arms" / "unet-shared" / "tables" / "sweep-A2.csv")
    row = sweep.query("swap == 'W 3' and replacement == 'source' and `class` == 'mean'").iloc[0]
    drop = np.nanmean(arm.sweeps["A2"].drops("W 3")[:, -1])
    assert row["drop"] == pytest.approx(drop, abs=1e-12)


@pytest.mark.slow
def test_distances_are_those_of_the_files(ran: Path) -> None:
    evidence = gather(ran / "arms", list(ARMS), name="two", profile="first")
    models = ran / "arms" / "unet-shared" / "models"
    ours, theirs = (read_checkpoint(models / f"{name}.safetensors") for name in ("target", "A2"))
    expected = rmse(ours["down2.conv1.weight"], theirs["down2.conv1.weight"])

    distances = [d for d in evidence.arms[0].distances if (d.kind, d.layer) == ("W", 3)]

    assert [(d.first, d.second, d.is_output) for d in distances] == [("target", "A2", False)]
    assert distances[0].rmse == pytest.approx(expected, rel=1e-12)
    assert [d.layer for d in evidence.arms[0].distances if d.is_output and d.kind == "W"] == [19]


@pytest.mark.slow
def test_a_finished_protocol_is_not_run_again(ran: Path, tmp_path: Path) -> None:
    listener = Listener()
    protocol = arms_of(write_two_arms(tmp_path), "first")

    run_all(protocol, ran, talk=listener)

    trained = [line for stage, line in listener.said if stage == "train"]
    assert len(trained) == 2
    assert all(line.endswith("(finished before)") for line in trained)


@pytest.mark.slow
def test_the_folder_of_another_profile_is_refused(ran: Path, tmp_path: Path) -> None:
    protocol = arms_of(write_two_arms(tmp_path), "second")

    with pytest.raises(StudyError, match=r"with the profile 'first', not 'two' with 'second'"):
        run_all(protocol, ran)


@pytest.mark.slow
def test_json_of_a_protocol(ran: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = write_two_arms(tmp_path)

    with pytest.raises(SystemExit) as ended:
        main(["run", str(study), "--profile", "first", "--out", str(ran), "--json", "--quiet"])

    written = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0
    assert written["arms"] == list(ARMS)
    assert written["claims"][0]["claim"] == "C1"
    assert Path(written["report"]) == ran / "results.html"


@pytest.mark.slow
def test_arms_can_be_shared_out(tmp_path: Path) -> None:
    protocol = arms_of(write_two_arms(tmp_path), "first")
    out = tmp_path / "out"

    run_all(protocol, out, only=["unet-independent"], until="data")

    assert [path.name for path in (out / "arms").iterdir()] == ["unet-independent"]
    assert not (out / "results.html").exists()
    assert holds_arms(out)
    assert arms_outcome(out)["arms"] == ["unet-independent"]
    assert report_arms(out) == out / "results.html"


@pytest.mark.slow
def test_arms_with_the_same_images_read_them_once(tmp_path: Path) -> None:
    noted = PHANTOM | {"reader": f"{__name__}:read_and_note", "root": str(tmp_path)}
    other = {"data": {"A": {"size": [24, 24]}}}
    study = write_two_arms(tmp_path, data={"A": noted}, arms={**ARMS, "other-size": other})
    READ.clear()

    run_all(arms_of(study, "first"), tmp_path / "out", until="data")

    assert sorted(READ) == sorted([f"cine-{n:04d}" for n in range(4)] * 2)


@pytest.mark.slow
def test_images_that_no_model_sees_may_differ(tmp_path: Path) -> None:
    noted = PHANTOM | {"reader": f"{__name__}:read_by_root", "root": str(tmp_path / "3")}
    study = write_two_arms(tmp_path, data={"A": PHANTOM, "unused": noted})
    out = tmp_path / "out"
    for arm, root in (("unet-shared", "3"), ("unet-independent", "4")):
        roots = {"unused": str(tmp_path / root)}
        protocol = arms_of(study, "first", roots=roots)
        run_all(protocol, out, only=[arm], until="data")

    assert report_arms(out).is_file()


@pytest.mark.slow
def test_an_interrupted_arm_can_be_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setitem(STAGES, "train", interrupt)
    out = tmp_path / "out"

    with pytest.raises(KeyboardInterrupt):
        run_all(arms_of(write_two_arms(tmp_path), "first"), out)

    assert arms_outcome(out)["arms"] == ["unet-shared"]


def test_a_refused_study_leaves_no_folder(tmp_path: Path) -> None:
    study = write_two_arms(tmp_path, data={"A": PHANTOM | {"train": 99}})

    with pytest.raises(DataError, match=r"data\.A"):
        run_all(arms_of(study, "first"), tmp_path / "out")

    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_folder_of_arms_is_no_run_folder_and_says_where_they_are(ran: Path) -> None:
    with pytest.raises(StudyError, match=r"holds several arms.*'unet-independent', 'unet-shared'"):
        read_run(ran)


def test_an_unknown_arm_is_named(tmp_path: Path) -> None:
    protocol = arms_of(write_two_arms(tmp_path), "first")

    with pytest.raises(StudyError, match=r"unknown arm 'u-net': expected some of \['unet-shared'"):
        run_all(protocol, tmp_path / "out", only=["u-net"])
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    protocol = arms_of(write_two_arms(tmp_path), "first")
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("mine")

    with pytest.raises(StudyError, match="it holds something else"):
        run_all(protocol, out)


def test_arms_outside_the_folder_are_not_read(tmp_path: Path) -> None:
    content = {"name": "two", "profile": "", "arms": {"../elsewhere": {}}}
    (tmp_path / "protocol.yaml").write_text(yaml.safe_dump(content))

    with pytest.raises(StudyError, match=r"expected name, profile and arms.*wrong is arms"):
        arms_outcome(tmp_path)


@pytest.mark.parametrize("arms", [None, [1], {"one": 3}])
def test_a_damaged_list_of_arms_is_no_traceback(tmp_path: Path, arms: object) -> None:
    (tmp_path / "protocol.yaml").write_text(
        yaml.safe_dump({"name": "a", "profile": "", "arms": arms})
    )

    with pytest.raises(StudyError, match="wrong is arms"):
        arms_outcome(tmp_path)


@pytest.mark.slow
def test_arms_of_two_files_are_not_mixed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = arms_of(write_two_arms(tmp_path), "first")
    run_all(first, out, only=["unet-shared"], until="data")
    other = arms_of(write_two_arms(tmp_path, seed=9), "first")

    with pytest.raises(StudyError, match="was started with another arm 'unet-shared'"):
        run_all(other, out, only=["unet-independent"], until="data")
    assert not (out / "arms" / "unet-independent").exists()


@pytest.mark.slow
def test_arms_that_saw_other_images_are_not_compared(tmp_path: Path) -> None:
    # The root is not part of what a folder is made for, so that data may move.
    noted = PHANTOM | {"reader": f"{__name__}:read_by_root", "root": str(tmp_path / "3")}
    study = write_two_arms(tmp_path, data={"A": noted})
    out = tmp_path / "out"
    for arm, root in (("unet-shared", "3"), ("unet-independent", "4")):
        protocol = arms_of(study, "first", roots={"A": str(tmp_path / root)})
        run_all(protocol, out, only=[arm], until="data")

    with pytest.raises(StudyError, match=r"'unet-shared' and 'unet-independent' were run on diff"):
        report_arms(out)


def test_a_study_without_arms_is_none(tmp_path: Path) -> None:
    one = write_study(tmp_path / "one.yaml", trained_content())

    assert isinstance(read_study_or_arms(one), Study)
    with pytest.raises(StudyError, match="holds no arms"):
        report_arms(tmp_path)


@pytest.mark.slow
def test_arms_noted_before_a_key_was_there_are_the_same_arms(tmp_path: Path) -> None:
    out, arms = tmp_path / "out", arms_of(write_two_arms(tmp_path))
    run_all(arms, out, only=["unet-shared"], until="data")
    noted = yaml.safe_load((out / "protocol.yaml").read_text())
    for study in noted["arms"].values():
        for model in study["models"].values():
            model.pop("optimiser")
    (out / "protocol.yaml").write_text(yaml.safe_dump(noted))

    run_all(arms, out, only=["unet-independent"], until="data")

    assert (out / "arms" / "unet-independent").is_dir()
