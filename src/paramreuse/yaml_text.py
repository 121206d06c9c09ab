"""YAML that somebody wrote, read into plain values: bounded, and nothing in it is run.

What YAML can do to its reader is refused before any value is built: parts that are repeated until
memory is full ("billion laughs"), brackets nested until the stack is full, files without an end.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from paramreuse.errors import ParamReuseError

MOST_BYTES = 8 << 20
MOST_VALUES = 200_000
"""Keys and values, repeated parts counted as often as they stand. A plan of 5 000 tensors has
fewer."""
MOST_LEVELS = 40

# In C where PyYAML has it, which is ten times as fast.
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    """PyYAML's safe loader, with a message for each number that cannot be read.

    A date stays the text that it is in the file: no key here takes one, while names do.
    """


def _construct_number(loader: Any, node: yaml.Node) -> Any:
    build = {
        "tag:yaml.org,2002:int": loader.construct_yaml_int,
        "tag:yaml.org,2002:float": loader.construct_yaml_float,
    }[node.tag]
    try:
        return build(node)
    except (ValueError, OverflowError, IndexError) as error:
        raise yaml.constructor.ConstructorError(
            None, None, "expected a number that a computer can hold", node.start_mark
        ) from error


def _construct_date(loader: Any, node: yaml.Node) -> Any:
    return loader.construct_scalar(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_number)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_number)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _construct_date)


def read_yaml(
    path: Path, what: str, error: type[ParamReuseError], *, most_values: int = MOST_VALUES
) -> Any:
    """Read a YAML file.

    Args:
        path: The file.
        what: What it is, for messages: ``"the study"``.
        error: What to raise.
        most_values: How many keys and values it may hold.

    Returns:
        Mappings, lists, texts, numbers, true, false and None.

    Raises:
        ParamReuseError: As ``error``: the file cannot be opened, is not UTF-8 or not YAML, is too
            large, or has a key twice. The message names the file, and the line where there is one.
    """
    name = f"cannot read {what} {str(path)!r}"
    try:
        with path.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else problem
        raise error(f"{name}: {reason}") from problem
    if len(content) > MOST_BYTES:
        raise error(f"{name}: it is larger than {MOST_BYTES >> 20} MiB, expected a text of keys")
    try:
        return parse_yaml(content.decode("utf-8-sig"), name, error, most_values=most_values)
    except UnicodeDecodeError as problem:
        line = content[: problem.start].count(b"\n") + 1
        raise error(
            f"{name}, line {line}: it is not UTF-8 text. Save it in the encoding UTF-8"
        ) from problem


def parse_yaml(
    text: str, name: str, error: type[ParamReuseError], *, most_values: int = MOST_VALUES
) -> Any:
    """Turn YAML text into plain values.

    Args:
        text: The text.
        name: How the message begins: ``"cannot read the study 'a.yaml'"``.
        error: What to raise.
        most_values: How many keys and values it may hold.

    Raises:
        ParamReuseError: As ``error``: it is not YAML, is too large once repeated parts are written
            out, or has a key twice.
    """
    try:
        _check_extent(text, most_values)
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            _refuse_twins(root)
            return None if root is None else loader.construct_document(root)
        finally:
            loader.dispose()
    except _RefusedError as problem:
        raise error(f"{name}: {problem}") from None
    except yaml.YAMLError as problem:
        cure = ". Indent with spaces, not with tabs" if "\n\t" in text else ""
        raise error(f"{name}: it is not YAML: {_first_words(problem)}{cure}") from problem


class _RefusedError(ValueError):
    """What is wrong with a text that is YAML."""


def _check_extent(text: str, most_values: int) -> None:
    """Count values as if every repeated part were written out, before one of them is built."""
    counts: dict[str, int] = {}
    for anchor, count, line in _extents(yaml.parse(text, Loader=_Loader), counts):
        if anchor is not None:
            counts[anchor] = count
        if count > most_values:
            raise _RefusedError(
                f"up to line {line} it holds more than {most_values} values, parts that are "
                "repeated with * counted each time. Write a shorter file"
            )


def _extents(
    events: Iterator[yaml.Event], counts: dict[str, int]
) -> Iterator[tuple[str | None, int, int]]:
    """Yield, as each part of the text ends, its anchor, how many values are in it, and its line."""
    open_parts: list[tuple[str | None, int]] = [(None, 0)]
    for event in events:
        line = event.start_mark.line + 1 if event.start_mark else 0
        anchor, count = getattr(event, "anchor", None), 1
        if isinstance(event, yaml.CollectionStartEvent):
            open_parts.append((anchor, 1))
            if len(open_parts) > MOST_LEVELS:
                raise _RefusedError(
                    f"line {line} is nested more than {MOST_LEVELS} levels deep. Write it flatter"
                )
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, count = open_parts.pop()
        elif isinstance(event, yaml.AliasEvent):
            # A part that is not finished contains itself.
            if event.anchor in (name for name, _ in open_parts):
                raise _RefusedError(f"line {line} repeats a part that contains it. Write it out")
            anchor, count = None, counts.get(event.anchor or "", 1)
        elif not isinstance(event, yaml.ScalarEvent):
            continue
        above, sum_above = open_parts.pop()
        open_parts.append((above, sum_above + count))
        yield anchor, count, line
        yield None, sum_above + count, line


def _refuse_twins(root: yaml.Node | None) -> None:
    """Refuse a key that stands twice, of which YAML would silently drop the first."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            _check_keys(node)
            waiting += [value for _, value in node.value]


def _check_keys(node: yaml.MappingNode) -> None:
    names: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        if key.value in names:
            raise _RefusedError(
                f"{key.value!r} stands twice, again in line {key.start_mark.line + 1}. Remove or "
                "rename one"
            )
        names.add(key.value)


def _first_words(problem: yaml.YAMLError) -> str:
    mark = getattr(problem, "problem_mark", None)
    where = f"line {mark.line + 1}: " if mark is not None else ""
    return where + str(getattr(problem, "problem", None) or problem).split("\n")[0][:200]
