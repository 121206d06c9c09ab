"""Patterns of file names: ``"images/{subject}_{slice}.png"`` and what a name says by them.

A name in braces takes one character or more, none of them a slash; ``{slice:d}`` takes digits
alone.
"""

import glob
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from paramreuse.errors import DataError

_FIELD = re.compile(r"\{(\w+(?::d)?)\}")


class Pattern:
    """Paths inside a folder, with names in braces, one of which is ``{subject}``.

    Args:
        text: The pattern.

    Raises:
        DataError: It has no ``{subject}``, leads out of the folder, or has a ``*``, a ``?`` or a
            single brace.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts = _FIELD.split(text)  # text, name, text, name, ..., text
        _check(text, self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """The names in braces, in their order."""
        return tuple(part.removesuffix(":d") for part in self._parts[1::2])

    def files(self, folder: Path) -> Iterator[Path]:
        """Find the files of a folder that fit."""
        anything = "".join(
            "*" if index % 2 else glob.escape(part) for index, part in enumerate(self._parts)
        )
        for path in folder.glob(anything):
            if self.fits(path.relative_to(folder).as_posix()) and path.is_file():
                yield path

    def fits(self, path: str) -> bool:
        """Tell whether a path inside the folder fits."""
        return re.fullmatch(self._expression("+?"), path) is not None

    def names_in(self, path: str) -> dict[str, str]:
        """Return what stands for each name in a path that fits, the first as short as can be."""
        match = re.fullmatch(self._expression("+?"), path)
        assert match is not None, "the path fits"
        return match.groupdict()

    def filled(self, names: Mapping[str, str]) -> str:
        """Return the path in which these stand for the names."""
        return "".join(
            names[part.removesuffix(":d")] if index % 2 else part
            for index, part in enumerate(self._parts)
        )

    def check_single(self, path: str) -> None:
        """Refuse a path in which it is not clear where the subject ends.

        Raises:
            DataError: The subject can be read in more than one way.
        """
        longest = re.fullmatch(self._expression("+"), path)
        assert longest is not None, "the path fits"
        readings = [self.names_in(path), longest.groupdict()]
        # Where any name up to the subject can take more or less, the shortest and the longest
        # reading of the first such name differ.
        ordered = list(dict.fromkeys(self.names))
        first = ordered[: ordered.index("subject") + 1]
        if all(readings[0][name] == readings[1][name] for name in first):
            return
        digits = self.text
        for name in ordered[ordered.index("subject") + 1 :]:
            digits = digits.replace(f"{{{name}}}", f"{{{name}:d}}")
        raise DataError(
            f"cannot tell the subject of {path!r} by the pattern {self.text!r}: it may be read as "
            f"{readings[0]} or as {readings[1]}. Say more in the pattern: write out what all names "
            f"share, or say {digits!r}, in which {{name:d}} takes digits alone"
        )

    def _expression(self, times: str) -> str:
        seen: set[str] = set()
        expression = ""
        for index, part in enumerate(self._parts):
            name, _, kind = part.partition(":")
            if index % 2 == 0:
                expression += re.escape(part)
            elif name in seen:
                expression += f"(?P={name})"
            else:
                expression += f"(?P<{name}>{'[0-9]' if kind else '[^/]'}{times})"
                seen.add(name)
        return expression


def natural_order(text: str) -> list[tuple[bool, int, str]]:
    """Return a key that sorts numbers in a text as numbers: 2 before 10."""
    return [
        (word.isdecimal(), int(word) if word.isdecimal() else 0, word)
        for word in re.split(r"(\d+)", text)
        if word
    ]


def _check(text: str, names: tuple[str, ...]) -> None:
    problem = ""
    if "subject" not in names:
        problem = "it has no {subject}"
    elif text.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", text):
        problem = "it leads out of the folder"
    elif re.search(r"[*?{}]", _FIELD.sub("", text)):
        problem = "it has a *, a ? or a single brace"
    if problem:
        raise DataError(
            f"cannot read a folder by the pattern {text!r}: {problem}; expected a path inside it "
            f"with names in braces, such as 'images/{{subject}}_{{slice}}.png'"
        )
