"""Checkpoints on the Hugging Face hub: what is downloaded, and what is refused."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from paramreuse.checkpoint import hub, read_checkpoint, write_checkpoint
from paramreuse.checkpoint.hub import is_hub_address, local_file
from paramreuse.compare.distance import compare_models
from paramreuse.errors import CheckpointError, MissingExtraError

KERNEL = {"conv.weight": torch.arange(36.0).reshape(2, 2, 3, 3)}


class Repository:
    """A folder in place of the hub, which remembers what it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[tuple[str, str, str | None]] = []

    def __call__(self, repo: str, file: str, revision: str | None) -> Path:
        self.asked.append((repo, file, revision))
        path = self.folder / file
        if not path.exists():
            raise FileNotFoundError(file)
        return path


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    made = Repository(tmp_path)
    monkeypatch.setattr(hub, "_download", made)
    return made


def write_two_shards(folder: Path, index: str = "model.safetensors.index.json") -> None:
    write_checkpoint(folder / "model-1.safetensors", {"a": torch.ones(2)})
    write_checkpoint(folder / "model-2.safetensors", {"b": torch.zeros(2)})
    places = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    (folder / index).write_text(json.dumps({"weight_map": places}))


def test_without_a_file_it_is_the_usual_one(repository: Repository) -> None:
    write_checkpoint(repository.folder / "model.safetensors", KERNEL)

    checkpoint = read_checkpoint("hf://org/name")

    assert torch.equal(checkpoint["conv.weight"], KERNEL["conv.weight"])
    assert repository.asked == [("org/name", "model.safetensors", None)]


def test_a_named_file_of_a_revision_is_taken_and_nothing_else(repository: Repository) -> None:
    write_checkpoint(repository.folder / "unet" / "best.safetensors", KERNEL)

    assert list(read_checkpoint("hf://org/name@v1.0/unet/best.safetensors")) == ["conv.weight"]
    assert repository.asked == [("org/name", "unet/best.safetensors", "v1.0")]


def test_shards_are_downloaded_with_their_index(repository: Repository) -> None:
    write_two_shards(repository.folder)

    checkpoint = read_checkpoint("hf://org/name@main")

    assert list(checkpoint) == ["a", "b"]
    assert [file for _, file, _ in repository.asked] == [
        *("model.safetensors", "model.safetensors.index.json"),
        *("model-1.safetensors", "model-2.safetensors"),
    ]
    assert {revision for _, _, revision in repository.asked} == {"main"}


def test_shards_in_a_folder_are_looked_for_there(repository: Repository) -> None:
    (repository.folder / "unet").mkdir()
    write_two_shards(repository.folder / "unet")

    assert list(read_checkpoint("hf://org/name/unet/model.safetensors.index.json")) == ["a", "b"]


def test_an_index_that_points_elsewhere_downloads_nothing(repository: Repository) -> None:
    text = json.dumps({"weight_map": {"a": "../../other.safetensors"}})
    (repository.folder / "model.safetensors.index.json").write_text(text)

    with pytest.raises(CheckpointError, match="Do not trust this index"):
        read_checkpoint("hf://org/name")

    assert len(repository.asked) == 2


def test_a_model_on_the_hub_can_be_compared(repository: Repository, tmp_path: Path) -> None:
    write_checkpoint(repository.folder / "model.safetensors", KERNEL)
    mine = {"conv.weight": KERNEL["conv.weight"] + 0.5}

    (row,) = compare_models(mine, "hf://org/name").rows

    assert row.rmse == 0.5


def test_a_path_object_means_the_same() -> None:
    assert is_hub_address(Path("hf://org/name"))
    assert not is_hub_address("hf/org/name.safetensors")
    assert local_file("weights/hf.pt") == Path("weights/hf.pt")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://name", "expected hf://ORG/NAME"),
        ("hf://org/name/", "expected hf://ORG/NAME"),
        ("hf://org/name/pytorch_model.bin", "only safetensors files are taken"),
        ("hf://org/name", "has no 'model.safetensors' nor 'model.safetensors.index.json'"),
        ("hf://org/name/a.safetensors", "has no 'a.safetensors'. Name one"),
    ],
)
def test_what_cannot_be_taken_is_refused(
    repository: Repository, address: str, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(address)


def test_a_missing_library_is_named_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)

    with pytest.raises(MissingExtraError, match=r"pip install 'paramreuse\[hub\]'"):
        read_checkpoint("hf://org/name")


class AbsentError(Exception):
    """Stands for ``EntryNotFoundError`` of huggingface_hub."""


class UnreachableError(AbsentError, FileNotFoundError):
    """Stands for its ``LocalEntryNotFoundError``."""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UnreachableError("no network"), r"cannot be reached \(no network\). Connect"),
        (AbsentError("404"), "has no 'model.safetensors' nor"),
        (OSError("401 closed.\nmore"), "401 closed. Check organisation"),
        (ValueError("bad name"), "bad name. Check organisation"),
    ],
)
def test_errors_of_the_library_become_ours(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fail(repo: str, file: str, *, revision: str | None) -> str:
        raise error

    library, errors = ModuleType("huggingface_hub"), ModuleType("huggingface_hub.errors")
    library.hf_hub_download = fail  # type: ignore[attr-defined]
    errors.EntryNotFoundError = AbsentError  # type: ignore[attr-defined]
    errors.LocalEntryNotFoundError = UnreachableError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", library)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)

    with pytest.raises(CheckpointError, match=message):
        read_checkpoint("hf://org/name")
