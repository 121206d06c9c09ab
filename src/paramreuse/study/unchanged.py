"""Whether images, checkpoints and models are still those that a run folder's results rest on."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch

from paramreuse.checkpoint import read_checkpoint
from paramreuse.checkpoint.names import cut_at_ten
from paramreuse.errors import CheckpointError, StudyError
from paramreuse.reuse.freezing import checksum
from paramreuse.study.config import Study
from paramreuse.study.images import Images
from paramreuse.study.job import Job
from paramreuse.study.store import Store, opened_store
from paramreuse.study.workbench import Workbench


def note_images(job: Job, name: str) -> None:
    """Keep the checksums of an image set as it was prepared: of the whole, and of each subject."""
    images = job.bench.images(name)
    job.store.put_fact(f"images/{name}", _images_digest(images))
    job.store.put_fact(f"subjects/{name}", _subject_digests(images))


def note_checkpoint(job: Job, name: str) -> None:
    """Keep the checksum of a checkpoint that was given."""
    job.store.put_fact(f"checkpoint/{name}", file_digest(job.bench.checkpoint(name)))


def note_model(job: Job, name: str) -> bool:
    """Keep the checksum of a model that was trained here.

    Returns:
        Whether it is another model than the one that was trained here before.
    """
    digest = file_digest(job.bench.checkpoint(name))
    known = job.store.fact(f"model/{name}")
    job.store.put_fact(f"model/{name}", digest)
    return known not in (None, digest)


def check_unchanged(bench: Workbench, before: Study) -> None:
    """Compare given checkpoints, and images with a new root, with those of earlier stages.

    Images with the same root are compared when a stage first asks for them.

    Args:
        bench: The parts of the study as it is to run now.
        before: The study as the run folder has it.

    Raises:
        StudyError: They are others.
    """
    with opened_store(bench.folder) as store:
        images = {name: store.fact(f"images/{name}") for name in bench.study.data}
        files = {name: store.fact(f"checkpoint/{name}") for name in bench.study.models}
    for name, spec in bench.study.data.items():
        moved = spec.root != before.data[name].root
        if moved and images[name] not in (None, _images_digest(bench.images(name))):
            raise StudyError(
                f"data.{name}: {spec.root!r} holds other images than {before.data[name].root!r}, "
                f"with which {str(bench.folder)!r} was started. Give another folder with --out"
            )
    for name, digest in files.items():
        path = bench.checkpoint(name)
        if digest is not None and path.is_file() and file_digest(path) != digest:
            raise StudyError(
                f"models.{name}: {str(path)!r} has changed since {str(bench.folder)!r} was "
                "started. Give another folder with --out"
            )


def watch_images(bench: Workbench, store: Store) -> None:
    """Have every image set compared with that of earlier stages when it is first read.

    Args:
        bench: Reads them.
        store: Facts of the run folder.
    """

    def compare(name: str, images: Images) -> None:
        digest = store.fact(f"images/{name}")
        if digest in (None, _images_digest(images)):
            return
        before = store.fact(f"subjects/{name}")
        raise StudyError(
            f"data.{name}: the images or labels in {bench.study.data[name].root!r} have changed "
            f"since {str(bench.folder)!r} was started{_what_changed(before, images)}. Put them "
            "back as they were, or give another folder with --out"
        )

    bench.compare_images = compare


def _what_changed(before: Mapping[str, str] | None, images: Images) -> str:
    if before is None:
        return ""
    now = _subject_digests(images)
    parts = {
        "changed": [name for name in now if name in before and now[name] != before[name]],
        "new": [name for name in now if name not in before],
        "gone": [name for name in before if name not in now],
    }
    words = [f"{what}: {cut_at_ten(names)}" for what, names in parts.items() if names]
    return f" ({'; '.join(words)})" if words else ""


def damaged_models(job: Job) -> list[str]:
    """Return the models trained here whose file is missing, cut short or cannot be read.

    Raises:
        StudyError: A file can be read and is another model than the one that was trained here.
    """
    damaged: list[str] = []
    for name, spec in job.bench.study.models.items():
        digest = job.store.fact(f"model/{name}") if spec.checkpoint is None else None
        if digest is None:
            continue
        path = job.bench.checkpoint(name)
        if not path.is_file() or not _is_readable(path):
            damaged.append(name)
        elif file_digest(path) != digest:
            raise StudyError(
                f"models.{name}: {str(path)!r} is not the model that was trained here and that "
                "the results rest on. Put that one back, or remove the file: the same command "
                "then trains it again"
            )
    return damaged


def _is_readable(path: Path) -> bool:
    try:
        checkpoint = read_checkpoint(path)
        for key in checkpoint:
            _ = checkpoint[key]
    except CheckpointError:
        return False
    return True


def _images_digest(images: Images) -> str:
    folds = [fold for fold in (images.train, images.validation) if fold is not None]
    parts = [(checksum(f.images), checksum(f.labels), f.subjects) for f in folds]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _subject_digests(images: Images) -> dict[str, str]:
    digests: dict[str, str] = {}
    for fold in (images.train, images.validation):
        for subject in dict.fromkeys(fold.subjects if fold is not None else ()):
            assert fold is not None
            own = torch.tensor([name == subject for name in fold.subjects])
            parts = checksum(fold.images[own]), checksum(fold.labels[own])
            digests[subject] = hashlib.sha256(repr(parts).encode()).hexdigest()
    return digests


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
