"""Checkpoints on the Hugging Face hub, named in a study and on the command line."""

import json
from pathlib import Path

import pytest

from paramreuse.checkpoint import hub
from paramreuse.cli import main
from paramreuse.study.by_hand import study_by_hand
from paramreuse.study.run import run_study
from paramreuse.study.study_file import read_study
from samples.studies import given_content, write_study


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was downloaded from the hub, in whose place there is the study's own folder."""
    names: list[str] = []

    def download(repo: str, file: str, revision: str | None) -> Path:
        names.append(f"{repo}/{file}")
        return tmp_path / file

    monkeypatch.setattr(hub, "_download", download)
    return names


@pytest.mark.slow
def test_a_study_takes_a_source_from_the_hub(asked: list[str], tmp_path: Path) -> None:
    content = given_content(tmp_path)
    content["models"]["ae"]["checkpoint"] = "hf://org/name/ae.safetensors"
    study = read_study(write_study(tmp_path / "study.yaml", content))
    assert asked == []  # reading the study downloads nothing

    folder = run_study(study, tmp_path / "run", until="compare")

    assert set(asked) == {"org/name/ae.safetensors"}
    assert not (folder / "models" / "ae.safetensors").exists()


def test_files_named_by_hand_may_be_on_the_hub() -> None:
    study = study_by_hand(
        network={"name": "unet"},
        target="target.pt",
        sources=["hf://org/name", "other=hf://org/other"],
        data={"reader": "phantom", "root": None},
        controls=["shuffled"],
        swaps=["single"],
    )

    places = {name: model.checkpoint for name, model in study.models.items()}
    assert places == {
        "target": str(Path("target.pt").absolute()),
        "name": "hf://org/name",
        "other": "hf://org/other",
    }


def test_the_command_line_compares_with_the_hub(
    asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given_content(tmp_path)
    target = str(tmp_path / "target.safetensors")

    with pytest.raises(SystemExit) as stopped:
        main(["compare", target, "hf://org/name/ae.safetensors", "--json"])

    assert stopped.value.code in (0, None)
    assert json.loads(capsys.readouterr().out)
    assert set(asked) == {"org/name/ae.safetensors"}
