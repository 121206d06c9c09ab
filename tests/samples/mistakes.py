"""Forty mistakes of a newcomer, each made on a folder of small files; no tests.

Run as a module, it writes the table of ``docs/mistakes.md`` again.
"""

import io
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from paramreuse.checkpoint import write_checkpoint
from paramreuse.cli import main
from paramreuse.networks import unet
from samples.image_files import write_nifti

_MASKS = Path("mine/masks")


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake.

    Attributes:
        made: What is done wrong, in the words of the page.
        arguments: The command.
        cure: Part of the message that says what to do.
        changes: Values of the study by their dotted keys; None takes a key out.
        spoil: What else is done in the folder beforehand.
    """

    made: str
    arguments: str
    cure: str
    changes: Mapping[str, Any] | None = None
    spoil: Callable[[], object] | None = None


CHECK = "check study.yaml --device cpu --quiet"


def _text(path: str, text: str) -> Callable[[], object]:
    return lambda: Path(path).write_text(text, encoding="utf-8")


def _masks_of_255() -> None:
    for path in _MASKS.iterdir():
        Image.fromarray(np.asarray(Image.open(path)) // 3 * 255).save(path)


def _grey_masks() -> None:
    for path in _MASKS.iterdir():
        Image.open(Path("mine/images") / path.name).save(path)


def _coloured_images() -> None:
    for path in Path("mine/images").iterdir():
        Image.open(path).convert("RGB").save(path)


def _volumes_over_time() -> None:
    for number in range(4):
        for part, axes in (("images", (8, 8, 2, 3)), ("masks", (8, 8, 2))):
            path = Path(f"film/{part}/p{number}.nii.gz")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_nifti(path, np.ones(axes, np.int16), (1.0,) * len(axes))


def _pickled_model() -> None:
    torch.save(unet(width=2), "whole.pt")


def _other_network() -> None:
    write_checkpoint("theirs.safetensors", torch.nn.Sequential(torch.nn.Linear(2, 3)))


def _begun() -> None:
    _status_and_words("run study.yaml --until data --quiet")


def _begun_before_a_change() -> None:
    _begun()
    content = yaml.safe_load(Path("study.yaml").read_text(encoding="utf-8"))
    content["network"]["width"] = 3
    Path("study.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


_FILM = {
    "reader": "folder",
    "root": "film",
    "options": {
        "images": "images/{subject}.nii.gz",
        "masks": "masks/{subject}.nii.gz",
        "classes": ["background", "RV", "myocardium", "LV"],
    },
}
_OWN = {"name": "mynet:build"}

MISTAKES = (
    # The study file.
    Mistake("a section misspelt", CHECK, "did you mean 'network'", {"netwrok": {"name": "unet"}}),
    Mistake("a key misspelt", CHECK, "did you mean 'train'", {"data.mine.trian": 2}),
    Mistake("no `sources`", CHECK, "paramreuse keys sources", {"sources": None}),
    Mistake("no model called `target`", CHECK, "Give that name", {"models.target": None}),
    Mistake(
        "a source that is not under `models`", CHECK, "Take one of these", {"sources": ["theirs"]}
    ),
    Mistake("a word for a number", CHECK, "number", {"models.target.learning_rate": "fast"}),
    Mistake("no epochs", CHECK, "greater than or equal to 1", {"models.target.epochs": 0}),
    Mistake("a size in words", CHECK, "size: [128, 96]", {"data.mine.size": "32x32"}),
    Mistake(
        "a tab in the study",
        CHECK,
        "spaces",
        None,
        _text("study.yaml", "name: mine\ndata:\n\tx: 1"),
    ),
    Mistake(
        "a key twice",
        CHECK,
        "Remove or rename one",
        None,
        _text("study.yaml", "name: mine\nseed: 1\nseed: 2\n"),
    ),
    Mistake("an environment variable not set", CHECK, "Set it", {"data.mine.root": "${MY_IMAGES}"}),
    Mistake("a study that is not there", "check stduy.yaml", "paramreuse init"),
    Mistake("a checkpoint for a study", "check target.safetensors", "paramreuse layers"),
    Mistake("a reader misspelt", CHECK, "did you mean 'folder'", {"data.mine.reader": "foldr"}),
    Mistake("a network misspelt", CHECK, "did you mean 'unet'", {"network.name": "unett"}),
    Mistake(
        "an option of the reader misspelt",
        CHECK,
        "did you mean 'spacing_mm'",
        {"data.mine.options.spacing": 1.0},
    ),
    Mistake(
        "a network's module that is not there",
        CHECK,
        "Run this in the folder",
        {"network": {"name": "mynett:build"}},
    ),
    Mistake(
        "a function that its module lacks",
        CHECK,
        "did you mean 'build'",
        {"network": {"name": "mynet:biuld"}},
    ),
    Mistake(
        "an option that one's own network does not take",
        CHECK,
        "did you mean 'depth'",
        {"network": {**_OWN, "options": {"deepth": 2}}},
    ),
    Mistake(
        "a loss misspelt",
        CHECK,
        "did you mean 'dice-ce'",
        {"models.ae": {"data": "mine", "loss": "dice"}},
    ),
    Mistake(
        "a control misspelt", CHECK, "Did you mean 'shuffled'", {"sweep.controls": ["shuffle"]}
    ),
    Mistake(
        "a strategy misspelt",
        CHECK,
        "plan-freeze",
        {"transfer": {"subjects": [2], "strategies": ["plan_freeze"]}},
    ),
    # The images.
    Mistake("images in another folder", CHECK, "Check", {"data.mine.root": "nime"}),
    Mistake("masks of 0 and 255", CHECK, "255:", None, _masks_of_255),
    Mistake(
        "an image without its mask",
        CHECK,
        "move the image away",
        None,
        (_MASKS / "p1_0.png").unlink,
    ),
    Mistake("images for masks", CHECK, "Name every value", None, _grey_masks),
    Mistake("more subjects than there are", CHECK, "ask for fewer", {"data.mine.validation": 9}),
    Mistake(
        "images too small for the network", CHECK, "Set another size", {"data.mine.size": [8, 8]}
    ),
    Mistake(
        "a film taken for a volume",
        CHECK,
        "fourth_axis",
        {"data.mine": _FILM | {"train": 2, "validation": 2, "size": [8, 8]}},
        _volumes_over_time,
    ),
    Mistake(
        "a pattern without the subject",
        CHECK,
        "{subject}",
        {"data.mine.options.images": "images/{name}.png"},
    ),
    Mistake(
        "pictures without the size of a pixel",
        CHECK,
        "spacing_mm",
        {"data.mine.options.spacing_mm": None},
    ),
    # Checkpoints.
    Mistake(
        "a checkpoint that is not there",
        "layers taregt.safetensors",
        "Did you mean 'target.safetensors'",
    ),
    Mistake(
        "a checkpoint of another network",
        CHECK,
        "map the names with rename",
        {"models.target.checkpoint": "theirs.safetensors"},
        _other_network,
    ),
    Mistake("a whole model, pickled", "layers whole.pt", "state_dict()", None, _pickled_model),
    Mistake(
        "a pointer of git-lfs",
        "layers big.pt",
        "git lfs pull",
        None,
        _text("big.pt", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
    ),
    # The command line.
    Mistake("`init` where there are no masks", "init mine/images -o mine.yaml", "Put masks"),
    Mistake(
        "`judge` before anything is swept",
        "judge runs/mine",
        "`paramreuse sweep runs/mine`",
        None,
        _begun,
    ),
    Mistake("`--data` without a name", f"{CHECK} --data images", "NAME=PATH"),
    Mistake("a stage that there is not", "run study.yaml --until judging", "'judge'"),
    Mistake(
        "the study changed under a run", "run study.yaml", "--out", None, _begun_before_a_change
    ),
)


@contextmanager
def newcomers_folder() -> Iterator[Path]:
    """A new folder with a study, its pictures, two checkpoints and a network, to work in."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made).resolve()
        os.chdir(folder)
        try:
            _furnish()
            yield folder
        finally:
            os.chdir(before)


def message_of(mistake: Mistake) -> tuple[int, str]:
    """Make a mistake in a new folder; return the exit status and what stderr says."""
    with newcomers_folder() as folder:
        if mistake.changes:
            _change(Path("study.yaml"), mistake.changes)
        if mistake.spoil:
            mistake.spoil()
        status, told = _status_and_words(mistake.arguments)
        return status, told.replace(f"{folder}{os.sep}", "").replace(str(folder), ".")


def page_row(mistake: Mistake, message: str) -> str:
    """Return the row of the page: what was done, and what is said."""
    told = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", message).split()).removeprefix("error: ")
    safe = told.replace("|", r"\|").replace("<", "&lt;").replace("*", r"\*").replace("[", r"\[")
    return f"| {mistake.made} | {safe.replace('_', chr(92) + '_')} |"


def _status_and_words(arguments: str) -> tuple[int, str]:
    told = io.StringIO()
    status = 0
    with redirect_stderr(told), redirect_stdout(io.StringIO()):
        try:
            main(arguments.split())
        except SystemExit as ended:
            status = int(ended.code or 0)
    return status, told.getvalue()


def _change(study: Path, changes: Mapping[str, Any]) -> None:
    content = yaml.safe_load(study.read_text(encoding="utf-8"))
    for place, value in changes.items():
        *above, key = place.split(".")
        section = content
        for name in above:
            section = section[name]
        if value is None:
            del section[key]
        else:
            section[key] = value
    study.write_text(yaml.safe_dump(content), encoding="utf-8")


def _furnish() -> None:
    for part in ("images", "masks"):
        Path("mine", part).mkdir(parents=True)
    for subject in range(4):
        labels = np.kron(np.arange(4, dtype=np.uint8).reshape(2, 2), np.ones((16, 16), np.uint8))
        Image.fromarray(labels * 60 + subject).save(f"mine/images/p{subject}_0.png")
        Image.fromarray(labels).save(f"mine/masks/p{subject}_0.png")
    for seed, name in enumerate(("target", "ae")):
        torch.manual_seed(seed)
        write_checkpoint(f"{name}.safetensors", unet(width=2))
    Path("mynet.py").write_text(
        "from paramreuse.networks import unet\n\n\n"
        "def build(in_channels=1, num_classes=4, depth=2):\n"
        "    return unet(in_channels, num_classes, width=depth)\n",
        encoding="utf-8",
    )
    models = {
        name: {"data": "mine", "checkpoint": f"{name}.safetensors"} for name in ("target", "ae")
    }
    study = {
        "name": "mine",
        "network": {"name": "unet", "width": 2},
        "data": {
            "mine": {
                "reader": "folder",
                "root": "mine",
                "train": 2,
                "validation": 2,
                "size": [32, 32],
                "options": {
                    "images": "images/{subject}_{slice}.png",
                    "masks": "masks/{subject}_{slice}.png",
                    "classes": ["background", "RV", "myocardium", "LV"],
                    "spacing_mm": 1.0,
                },
            }
        },
        "models": models,
        "sources": ["ae"],
        "sweep": {"swaps": ["single"]},
    }
    Path("study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")


def rewrite(page: Path) -> None:
    """Write the messages of today into the page; what it says of earlier ones stays."""
    lines = page.read_text(encoding="utf-8").splitlines()
    for mistake in MISTAKES:
        [at] = [n for n, line in enumerate(lines) if line.startswith(f"| {mistake.made} |")]
        earlier = re.split(r"(?<!\\)\|", lines[at])[3].strip()
        lines[at] = f"{page_row(mistake, message_of(mistake)[1])} {earlier} |"
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    rewrite(Path(sys.argv[1]))
