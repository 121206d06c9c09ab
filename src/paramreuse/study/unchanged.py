"""Whether files are still those that a run folder was made of."""

import hashlib
from pathlib import Path

from paramreuse.errors import StudyError
from paramreuse.reuse.freezing import checksum
from paramreuse.study.config import Study
from paramreuse.study.images import Images
from paramreuse.study.job import Job
from paramreuse.study.store import opened_store
from paramreuse.study.workbench import Workbench


def note_images(job: Job, name: str) -> None:
    """Keep the checksum of an image set as it was prepared."""
    job.store.put_fact(f"images/{name}", _images_digest(job.bench.images(name)))


def note_checkpoint(job: Job, name: str) -> None:
    """Keep the checksum of a checkpoint that was given."""
    job.store.put_fact(f"checkpoint/{name}", _file_digest(job.bench.checkpoint(name)))


def check_unchanged(bench: Workbench, held: Study) -> None:
    """Compare given checkpoints, and images with a new root, with those of earlier stages.

    Args:
        bench: The parts of the study as it is to run now.
        held: The study as the run folder has it.

    Raises:
        StudyError: They are others.
    """
    with opened_store(bench.folder) as store:
        images = {name: store.fact(f"images/{name}") for name in bench.study.data}
        files = {name: store.fact(f"checkpoint/{name}") for name in bench.study.models}
    for name, spec in bench.study.data.items():
        moved = spec.root != held.data[name].root
        if moved and images[name] not in (None, _images_digest(bench.images(name))):
            raise StudyError(
                f"data.{name}: {spec.root!r} holds other images than {held.data[name].root!r}, "
                f"with which {str(bench.folder)!r} was begun. Give another folder with --out"
            )
    for name, digest in files.items():
        path = bench.checkpoint(name)
        if digest is not None and path.is_file() and _file_digest(path) != digest:
            raise StudyError(
                f"models.{name}: {str(path)!r} has changed since {str(bench.folder)!r} was begun. "
                "Give another folder with --out"
            )


def _images_digest(images: Images) -> str:
    folds = [fold for fold in (images.train, images.validation) if fold is not None]
    parts = [(checksum(f.images), checksum(f.labels), f.subjects) for f in folds]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
