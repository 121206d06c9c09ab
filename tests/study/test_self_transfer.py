"""Self-transfer: an auto-encoder of all images, labelled or not, lends to a segmentation of few."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from paramreuse.checkpoint import read_checkpoint
from paramreuse.data.phantom import read_phantom
from paramreuse.data.slices import ImageSet, ImageSlice
from paramreuse.study import stages
from paramreuse.study.records import FinishedStage, StoredSweep, TransferScore
from paramreuse.study.run import run_study
from paramreuse.study.store import Store
from paramreuse.study.study_file import read_study
from samples.studies import LITTLE, PHANTOM, little, study_of, trained_content

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "studies" / "self-transfer.yaml"

HALF = PHANTOM | {
    "reader": f"{__name__}:read_half",
    "root": "/",
    "options": {"subjects": 4, "slices": 4, "size": 16},
}
"""Four subjects of four slices, two of which are labelled; two subjects are to be trained on."""


def read_half(root: object = None, **options: Any) -> ImageSet:
    """The phantom, with the labels of every second slice kept back."""
    phantom = read_phantom(**options)

    def read_subject(subject: str) -> list[ImageSlice]:
        pieces = phantom.read_subject(subject)
        return [replace(p, labels=None) if n % 2 else p for n, p in enumerate(pieces)]

    return replace(phantom, read_subject=read_subject)


BATCHES: list[Tensor] = []
"""What reached a network in training."""


class Noting(nn.Sequential):
    """A little network that notes what it is trained on."""

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            BATCHES.append(inputs.detach().clone())
        return super().forward(inputs)


def counting(**options: int) -> nn.Module:
    return Noting(*little(**options))  # type: ignore[arg-type]


def half_labelled(**target: Any) -> dict[str, Any]:
    """A study whose trainings see the images as they are, so that they can be told apart."""
    models = {
        "target": {"data": "half", "epochs": 1, "augment": False} | target,
        "self": {"data": "half", "task": "autoencoder", "epochs": 2, "augment": False},
    }
    network = {"name": f"{__name__}:counting"}
    return trained_content(data={"half": HALF}, models=models, sources=["self"], network=network)


@pytest.fixture
def trained_on(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """The slices that reached each training, by task, as they come in."""
    seen: dict[str, Tensor] = {}
    train: Callable[..., Any] = stages.train_model

    def followed(*arguments: Any, task: str, **more: Any) -> Any:
        BATCHES.clear()
        result = train(*arguments, task=task, **more)
        seen[task] = torch.cat(BATCHES)
        return result

    monkeypatch.setattr(stages, "train_model", followed)
    return seen


def test_an_auto_encoder_is_trained_on_slices_without_labels_too(
    tmp_path: Path, trained_on: dict[str, Tensor]
) -> None:
    run_study(study_of(half_labelled()), tmp_path / "run", until="train")

    # Two subjects of four slices, half of them labelled; one epoch against two.
    assert len(trained_on["segmentation"]) == 4
    assert len(trained_on["autoencoder"]) == 2 * 8
    # Every slice once per epoch, and among them those that the segmentation is trained on.
    slices = trained_on["autoencoder"].flatten(1).unique(dim=0)
    labelled = trained_on["segmentation"].flatten(1).unique(dim=0)
    assert (len(slices), len(labelled)) == (8, 4)
    assert len(torch.cat([slices, labelled]).unique(dim=0)) == 8


def test_a_pilot_of_few_subjects_does_not_keep_images_from_the_auto_encoder(
    tmp_path: Path, trained_on: dict[str, Tensor]
) -> None:
    run_study(study_of(half_labelled(subjects=1)), tmp_path / "run", until="train")

    assert len(trained_on["segmentation"]) == 2
    assert len(trained_on["autoencoder"]) == 2 * 8


def test_an_auto_encoder_learns_the_same_whatever_is_labelled(tmp_path: Path) -> None:
    weights = []
    for name, reader in (("half", HALF["reader"]), ("whole", "phantom")):
        content = half_labelled()
        content["data"] = {"half": HALF | {"reader": reader}}
        folder = run_study(study_of(content), tmp_path / name, until="train")
        weights.append(
            {m: read_checkpoint(folder / "models" / f"{m}.safetensors") for m in ("self", "target")}
        )

    same = {
        name: all(torch.equal(half[name][key], whole[name][key]) for key in half[name])
        for half, whole in [weights]
        for name in half
    }
    assert same == {"self": True, "target": False}


# The study that ships.


def test_the_study_of_self_transfer_has_a_pilot_and_a_source_of_the_same_images() -> None:
    study = read_study(STUDY, roots={"acdc": "/elsewhere"})
    target, own = study.models["target"], study.models["self"]

    assert study.data["acdc"].root == "/elsewhere"
    assert (target.data, target.subjects) == (own.data, 5) == ("acdc", 5)
    assert (own.task, own.subjects) == ("autoencoder", None)
    assert len(study.sources) == 2
    assert study.transfer is not None
    assert (study.transfer.subjects, study.transfer.sources) == ([5], "best")


def test_the_guide_shows_the_study_as_it_is() -> None:
    text = (ROOT / "docs" / "guides" / "self-transfer.md").read_text(encoding="utf-8")
    shown = text.partition("```yaml\n")[2].partition("```")[0]

    assert yaml.safe_load(shown) == yaml.safe_load(STUDY.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_study_runs_on_the_phantom_and_trains_from_one_source(tmp_path: Path) -> None:
    content = yaml.safe_load(STUDY.read_text(encoding="utf-8"))
    content["network"] = {"name": LITTLE}
    content["data"] = {
        "acdc": PHANTOM,
        "drawn": PHANTOM | {"options": PHANTOM["options"] | {"domain": "rvsc"}},
    }
    for model in content["models"].values():
        model |= {"epochs": 1}
    content["models"]["target"]["subjects"] = 1
    content["judge"]["accept"] += ["undecided", "not reusable"]
    content["transfer"] |= {"subjects": [1], "seeds": 1}

    folder = run_study(study_of(content), tmp_path / "run")

    store = Store(folder / "results.sqlite")
    (stage,) = store.read(FinishedStage, stage="transfer")
    trained = {score.source for score in store.read(TransferScore)}
    swept = {stored.sweep for stored in store.read(StoredSweep)}
    store.close()
    assert {"self", "drawn-seg"} <= swept
    (best,) = trained - {""}
    assert f"; {best} is the best of 2 sources: it ranks first, with " in stage.summary
    assert (folder / "report.html").is_file()
