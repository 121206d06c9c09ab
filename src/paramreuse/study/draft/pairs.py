"""Images and masks in a plain folder: which belong together, guessed from their names."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ENDINGS = (".nii.gz", ".nii", ".png")
_MASK_WORDS = ("masks", "mask", "labels", "label", "labelsTr", "seg", "segmentation", "gt", "truth")
_IMAGE_WORDS = ("images", "image", "imagesTr", "img", "im", "scans", "scan", "0000")
_MAX_FILES = 20_000
_WORD = re.compile(r"[A-Za-z]+|\d+")
_SLICE = re.compile(r"([^_-]+)([_-])\d+")


@dataclass(frozen=True, slots=True)
class Pairs:
    """Patterns for the reader ``folder``, and what they find.

    Attributes:
        images: Pattern of the images.
        masks: Pattern of the masks.
        mask_files: The masks.
        by_slice: Whether the last number of a name was taken for that of a slice.
        alone: Files that belong to no pair.
    """

    images: str
    masks: str
    mask_files: tuple[Path, ...]
    by_slice: bool
    alone: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class _Named:
    """A file whose name is a subject's between two texts: ``images/`` ``p01`` ``_image.png``."""

    path: Path
    before: str
    subject: str
    after: str
    is_mask: bool


def guess_pairs(folder: Path) -> Pairs | None:
    """Pair the images and masks of a folder by their names.

    A mask is what has a word such as ``mask``, ``label``, ``seg`` or ``gt`` in its name or in that
    of a folder; its image has the same name without it.

    Args:
        folder: The folder.

    Returns:
        The patterns that most files fit; None where there is no pair.
    """
    named = [item for path in image_files(folder) if (item := _split(folder, path))]
    pairs = _paired(named)
    shapes = {
        subject: (image.before, image.after, mask.before, mask.after)
        for subject, (image, mask) in pairs.items()
    }
    if not shapes:
        return None
    chosen = Counter(shapes.values()).most_common(1)[0][0]
    subjects = [subject for subject, shape in shapes.items() if shape == chosen]
    separator = _slice_separator(subjects, chosen[1])
    field = f"{{subject}}{separator}{{slice:d}}" if separator else "{subject}"
    used = {item.path for subject in subjects for item in pairs[subject]}
    return Pairs(
        images=f"{chosen[0]}{field}{chosen[1]}",
        masks=f"{chosen[2]}{field}{chosen[3]}",
        mask_files=tuple(pairs[subject][1].path for subject in sorted(subjects)),
        by_slice=bool(separator),
        alone=tuple(item.path for item in named if item.path not in used),
    )


def _paired(named: Iterable[_Named]) -> dict[str, tuple[_Named, _Named]]:
    """Return the first image of each subject that has a mask, and that mask."""
    items = list(named)
    masks = {item.subject: item for item in items if item.is_mask}
    pairs: dict[str, tuple[_Named, _Named]] = {}
    for item in items:
        if not item.is_mask and item.subject in masks:
            pairs.setdefault(item.subject, (item, masks[item.subject]))
    return pairs


def image_files(folder: Path) -> Iterator[Path]:
    """List the NIfTI and PNG files of a folder, at most 20 000 and four folders deep."""
    listed = 0
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if len(parts) > 5 or any(part.startswith(".") for part in parts):
            continue
        if path.name.lower().endswith(ENDINGS) and path.is_file():
            yield path
            listed += 1
            if listed >= _MAX_FILES:
                return


def _split(folder: Path, path: Path) -> _Named | None:
    """Find the subject in a path: what is left without the words for images and masks."""
    relative = path.relative_to(folder).as_posix()
    ending = next(end for end in ENDINGS if relative.lower().endswith(end))
    body = relative[: len(relative) - len(ending)]
    above, _, stem = body.rpartition("/")
    is_mask = any(word in _MASK_WORDS for word in _words(body))
    known = [*_MASK_WORDS, *_IMAGE_WORDS]
    own = [m for m in _WORD.finditer(stem) if m.group().lower() not in map(str.lower, known)]
    if own:
        start, stop = own[0].start(), own[-1].end()
        before = f"{above}/{stem[:start]}" if above else stem[:start]
        return _Named(path, before, stem[start:stop], stem[stop:] + relative[len(body) :], is_mask)
    # The file is named after what it is, its folder after the subject: "p01/mask.png".
    outer, _, subject = above.rpartition("/")
    if not subject:
        return None
    after = f"/{stem}{relative[len(body) :]}"
    return _Named(path, f"{outer}/" if outer else "", subject, after, is_mask)


def _words(text: str) -> list[str]:
    known = {word.lower(): word for word in _MASK_WORDS}
    return [known.get(word.lower(), word) for word in re.findall(r"[A-Za-z]+", text)]


def _slice_separator(subjects: Sequence[str], after: str) -> str:
    """Return what stands between subject and number, where several pictures are of a subject."""
    matches = [_SLICE.fullmatch(subject) for subject in subjects]
    if not after.lower().endswith(".png") or not all(matches):
        return ""
    separators = {m.group(2) for m in matches if m}
    several = len({m.group(1) for m in matches if m}) < len(subjects)
    return separators.pop() if several and len(separators) == 1 else ""
