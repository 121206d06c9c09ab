"""The text of a first study, with comments that say what was found and what may be changed."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paramreuse.errors import StudyError
from paramreuse.files import write_text
from paramreuse.study.draft.checkpoints import FoundCheckpoint, find_checkpoints
from paramreuse.study.draft.images import FoundImages, find_images

_LARGEST_SIDE = 192
_OWN_FACTORY = "my_module:my_network"


@dataclass(frozen=True, slots=True)
class Draft:
    """A first study.

    Attributes:
        text: The study file.
        found: What was found, a line each.
        questions: What a person would have to be asked.
    """

    text: str
    found: tuple[str, ...]
    questions: tuple[str, ...]


def draft_study(folder: str | os.PathLike[str], out: str | os.PathLike[str]) -> Draft:
    """Write a first study for the images and checkpoints of a folder.

    Args:
        folder: The folder; nothing in it is changed.
        out: The study file; paths in it are relative to its folder.

    Returns:
        What was written.

    Raises:
        StudyError: There is no such folder, no reader reads what is in it, there are fewer than
            two subjects, or ``out`` exists or cannot be written.
        DataError: The images cannot be read.
        MissingExtraError: What reads the images is not installed.
    """
    path = Path(out)
    if path.exists():
        raise StudyError(f"cannot write {str(path)!r}: it exists. Give another file with -o")
    images = find_images(Path(folder))
    if len(images.image_set.subjects) < 2:
        raise StudyError(
            f"cannot write a study for {os.fspath(folder)!r}: {images.root} holds one subject, "
            "expected at least two, one to train on and one to validate on"
        )
    checkpoints, problems = find_checkpoints(Path(folder))
    draft = _drafted(images, checkpoints, problems, path)
    try:
        write_text(path, draft.text)
    except OSError as error:
        raise StudyError(f"cannot write {str(path)!r}: {error.strerror}") from error
    return draft


def _drafted(
    images: FoundImages,
    checkpoints: Sequence[FoundCheckpoint],
    problems: Sequence[str],
    path: Path,
) -> Draft:
    network, questions = _network(checkpoints)
    target = next((item for item in checkpoints if "target" in item.name.lower()), None)
    sources = [item for item in checkpoints if item is not target]
    if not sources:
        questions.append(
            "Which pre-trained checkpoints might lend parameters? None was found, so an "
            "auto-encoder is trained on your images as the source"
        )
    sections = [
        _header(path),
        f"name: {json.dumps(_study_name(images.root))}",
        network,
        _data(images, path),
        _models(target, sources, path),
        _rest(images),
    ]
    return Draft(
        "\n".join(sections) + "\n",
        tuple(_found(images, checkpoints)),
        (*images.questions, *questions, *(f"Is this file needed? {text}" for text in problems)),
    )


def _found(images: FoundImages, checkpoints: Sequence[FoundCheckpoint]) -> list[str]:
    subjects, classes = images.image_set.subjects, images.image_set.classes
    lines = [
        f"images: {images.root}, read by {images.reader}: {len(subjects)} subjects "
        f"({subjects[0]} to {subjects[-1]}), classes {', '.join(classes)}"
    ]
    return lines + [
        f"checkpoint {item.name}: {item.path}, "
        + (f"a {item.network['name']}" if item.network else f"with {', '.join(item.keys)}, ...")
        for item in checkpoints
    ]


def _header(path: Path) -> str:
    return (
        "# A first study, written by `paramreuse init`. Every key: `paramreuse keys`.\n"
        f"#   paramreuse check {path.name}    what it takes: time, memory, disk; trains nothing\n"
        f"#   paramreuse recommend {path.name}    what to load, what it gains, and the model\n"
        f"#   paramreuse run {path.name}      the whole method, to runs/NAME/report.html"
    )


def _study_name(root: Path) -> str:
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "-" for c in root.stem)
    return kept.strip("-_.")[:64] or "study"


def _network(checkpoints: Sequence[FoundCheckpoint]) -> tuple[str, list[str]]:
    if not checkpoints:
        return (
            "# The papers' width is 64; 24 trains on a laptop. Also unet, or your own factory.\n"
            "network: {name: pspnet, width: 24}",
            [],
        )
    known = next((item for item in checkpoints if item.network is not None), None)
    if known is not None and known.network is not None:
        others = [item.name for item in checkpoints if item.network != known.network]
        asked = [f"Are {others} wanted? They are of another network than {known.name}"]
        return (
            f"# As the tensors of {known.path.name} say.\nnetwork: {_flow(known.network)}",
            asked if others else [],
        )
    keys = ", ".join(checkpoints[0].keys)
    return (
        f"# FILL IN: the function that builds the network of {checkpoints[0].path.name}, whose "
        f"tensors are\n# {keys}, ...: module:function, called with (in_channels, num_classes).\n"
        f"network: {{name: {_OWN_FACTORY!r}}}",
        [
            f"Which function builds the network of {checkpoints[0].path.name}? Its tensors "
            f"({keys}, ...) are of none of ours. Fill it in under network"
        ],
    )


def _data(images: FoundImages, path: Path) -> str:
    rows, columns = images.example[0].image.shape[-2:]
    spacing = images.example[0].spacing_mm
    size = [_side(rows), _side(columns)]
    lines = [
        "data:",
        f"  # {', '.join(images.image_set.classes)}",
        "  images:",
        f"    reader: {images.reader}",
        f"    root: {_text(_relative(images.root, path))}",
        *_folds(images),
        f"    # Slices are {rows} x {columns} pixels of {spacing[0]:.3g} x {spacing[1]:.3g} mm; "
        "cropped or padded to",
        f"    size: {size}",
        "    # Set spacing_mm to bring all to one pixel size first.",
    ]
    if images.options:
        lines.append("    options:")
        lines += [f"      {key}: {_flow(value)}" for key, value in images.options.items()]
    return "\n".join(lines)


def _folds(images: FoundImages) -> list[str]:
    if "validation" in (images.image_set.split or {}):
        return ["    # The set's own split; train and validation would draw others."]
    pool = (images.image_set.split or {}).get("train", images.image_set.subjects)
    held_out = max(1, round(0.3 * len(pool)))
    return [
        f"    train: {len(pool) - held_out}",
        f"    validation: {held_out}    # never trained on; more of them give narrower intervals",
    ]


def _side(pixels: int) -> int:
    return min(_LARGEST_SIDE, max(32, 32 * round(pixels / 32)))


def _models(target: FoundCheckpoint | None, sources: Sequence[FoundCheckpoint], path: Path) -> str:
    lines = ["models:"]
    if target is None:
        lines.append("  target: {data: images, epochs: 30, learning_rate: 0.003}")
    else:
        lines.append(f"  target: {{data: images, checkpoint: {_at(target.path, path)}}}")
    for item in sources:
        lines.append(f"  {_text(item.name)}: {{data: images, checkpoint: {_at(item.path, path)}}}")
    if not sources:
        lines += [
            "  # The target's network, trained to reproduce the images: no labels needed.",
            "  autoencoder: {data: images, task: autoencoder, epochs: 15, learning_rate: 0.003}",
        ]
    names = [_text(item.name) for item in sources] or ["autoencoder"]
    return "\n".join([*lines, f"sources: [{', '.join(names)}]"])


def _rest(images: FoundImages) -> str:
    split = images.image_set.split or {}
    number = len(split["train"] if "validation" in split else images.image_set.subjects)
    train = number if "validation" in split else number - max(1, round(0.3 * number))
    return "\n".join(
        [
            "sweep: {swaps: [single], controls: [shuffled]}",
            "# A drop of the mean Dice up to this much counts as almost unchanged.",
            "judge: {tolerance: 0.02, accept: [reusable, identical, indifferent]}",
            "# What reuse gains with few labelled subjects, beside training from scratch.",
            f"transfer: {{subjects: [{max(1, min(8, train // 2))}], "
            "strategies: [scratch, full, plan-freeze, plan-finetune], seeds: 2, epochs: 20}",
        ]
    )


def _relative(root: Path, path: Path) -> str:
    return os.path.relpath(root.resolve(), path.resolve().parent)


def _at(checkpoint: Path, path: Path) -> str:
    return _text(_relative(checkpoint, path))


def _text(value: str) -> str:
    # JSON's texts are YAML's.
    return json.dumps(value, ensure_ascii=False)


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)
