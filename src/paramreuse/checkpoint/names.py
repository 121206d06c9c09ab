"""Names of tensors: wrappers taken off, the caller's renaming, the prefix where two sides meet."""

import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from paramreuse.errors import CheckpointError

# Attribute names that torch's own wrappers give to what they wrap; no layer is called like this.
_WRAPPER_PARTS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
# DataParallel, DistributedDataParallel and AveragedModel; certain only where every key has it.
_WRAPPER_PREFIX = "module."
# What torch.optim.swa_utils.AveragedModel counts beside the averaged tensors.
AVERAGING_COUNTER = "n_averaged"
_REGEX_MARK = "re:"
# Of two copies that fit equally well, the one that is not a moving average is taken.
AVERAGE_WORDS = frozenset({"ema", "swa", "averaged", "average", "shadow", "teacher", "momentum"})


def cut_at_ten(names: Iterable[object]) -> str:
    """Write names sorted, quoted and cut at ten, for a message."""
    ordered = sorted(str(name) for name in names)
    text = ", ".join(repr(name) for name in ordered[:10])
    return text if len(ordered) <= 10 else f"{text} and {len(ordered) - 10} more"


def holds_average(name: str) -> bool:
    """Tell whether a name speaks of averaged weights, e.g. ``"state_dict_ema"``."""
    return not AVERAGE_WORDS.isdisjoint(re.split(r"[^a-z]+", name.lower()))


@dataclass(frozen=True, slots=True)
class StrippedKeys:
    """Keys with the marks of torch's wrappers taken off.

    Attributes:
        names: Key as found, to key without wrappers; in the order of the file.
        prefix: What was taken off, e.g. ``"module._orig_mod."``; ``""`` where nothing was.
    """

    names: Mapping[str, str]
    prefix: str


def strip_wrappers(keys: Sequence[str]) -> StrippedKeys:
    """Take off what DataParallel, DDP, AveragedModel, torch.compile and FSDP put before the keys.

    Only certain marks go: ``_orig_mod`` and FSDP's parts wherever they stand, ``module.`` where
    all keys have it (``n_averaged`` aside). Anything else, as ``model.`` or ``backbone.``, may be
    the network's own name and is left to ``match_keys``.

    Args:
        keys: State-dict keys of one side.
    """
    names = {key: key for key in keys}
    prefix = ""
    while taken := _common_wrapper(list(names.values())):
        names = {key: name.removeprefix(taken) for key, name in names.items()}
        prefix += taken
    inner = {key: _without_parts(name) for key, name in names.items()}
    if inner != names and len(set(inner.values())) == len(inner):
        parts = {part for name in names.values() for part in name.split(".")} & _WRAPPER_PARTS
        return StrippedKeys(inner, prefix + "".join(f"{part}." for part in sorted(parts)))
    return StrippedKeys(names, prefix)


def _common_wrapper(names: Sequence[str]) -> str:
    """Name the wrapper prefix that all names share, or ``""``."""
    wrapped = [name for name in names if name != AVERAGING_COUNTER]
    for prefix in (_WRAPPER_PREFIX, *(f"{part}." for part in sorted(_WRAPPER_PARTS))):
        if wrapped and all(len(name) > len(prefix) and name.startswith(prefix) for name in wrapped):
            return prefix
    return ""


def _without_parts(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPER_PARTS)


def rename_keys(keys: Sequence[str], rename: Mapping[str, str] | None) -> dict[str, str]:
    r"""Apply the caller's renaming to keys.

    Args:
        keys: Keys to rename.
        rename: Prefix to prefix, ``{"encoder.": "backbone."}`` (an empty one to put it before
            every key), or a regular expression marked
            ``re:``, ``{r"re:^block(\d+)\.": r"stage\1."}``. Rules apply in their order, each to
            what the one before left.

    Returns:
        Every key, in order, to its new name.

    Raises:
        CheckpointError: A rule changes nothing, is not a regular expression, or brings two keys to
            one name.
    """
    names = {key: key for key in keys}
    for old, new in (rename or {}).items():
        renamed = {key: _apply_rule(name, old, new) for key, name in names.items()}
        if renamed == names and old != new:
            raise CheckpointError(
                f"cannot rename with {{{old!r}: {new!r}}}: none of {len(names)} keys fits, e.g. "
                f"{cut_at_ten(list(names.values())[:3])}. Write a prefix of these keys, or a "
                "regular expression after 're:'."
            )
        names = renamed
    _refuse_twins(names)
    return names


def _apply_rule(name: str, old: str, new: str) -> str:
    if not old.startswith(_REGEX_MARK):
        return new + name[len(old) :] if name.startswith(old) else name
    try:
        return re.sub(old.removeprefix(_REGEX_MARK), new, name)
    except (re.error, IndexError) as error:
        raise CheckpointError(
            f"cannot rename with {{{old!r}: {new!r}}}: not a regular expression and its "
            f"replacement ({error})."
        ) from error


def _refuse_twins(names: Mapping[str, str]) -> None:
    twins = [name for name, count in Counter(names.values()).items() if count > 1]
    if twins:
        both = cut_at_ten(key for key, name in names.items() if name == twins[0])
        raise CheckpointError(
            f"cannot rename: {both} would all be called {twins[0]!r}. Make the rule narrower."
        )


@dataclass(frozen=True, slots=True)
class KeyMatch:
    """Which source key belongs to which target key.

    Attributes:
        pairs: Target key to source key, in the order of the target.
        removed: Prefix taken off the source's keys, e.g. ``"backbone."``.
        added: Prefix put before them instead.
        also: Other prefixes that fit equally well, e.g. ``("ema_model.",)``.
    """

    pairs: Mapping[str, str]
    removed: str
    added: str
    also: tuple[str, ...] = ()

    def __str__(self) -> str:
        also = f"; {cut_at_ten(self.also)} would fit as well" if self.also else ""
        if not self.removed and not self.added:
            return f"keys as they are{also}"
        if self.removed and self.added:
            return f"prefix {self.removed!r} of the source read as {self.added!r}{also}"
        if self.removed:
            return f"prefix {self.removed!r} removed from the source's keys{also}"
        return f"prefix {self.added!r} added to the source's keys{also}"


def match_keys(source_keys: Iterable[str], target_keys: Iterable[str]) -> KeyMatch:
    """Find the change of prefix that brings most source keys onto target keys.

    Works both ways (``backbone.conv1.weight`` onto ``conv1.weight`` and back) and from one prefix
    to another. The keys as they are win a tie, and of two copies the one that is not a moving
    average; where several changes fit equally well, as for ``net1.`` and ``net2.``, none is made.
    A changed prefix must place at least half of the keys of the smaller side: less is chance,
    since ``0.weight`` is found in every network.

    Args:
        source_keys: Keys of the checkpoint.
        target_keys: Keys of the model.

    Examples:
        >>> match = match_keys(["backbone.conv1.weight", "head.bias"], ["conv1.weight"])
        >>> dict(match.pairs), match.removed
        ({'conv1.weight': 'backbone.conv1.weight'}, 'backbone.')
    """
    source, target = strip_wrappers(list(source_keys)), strip_wrappers(list(target_keys))
    ours = {name: key for key, name in target.names.items()}
    theirs = {name: key for key, name in source.names.items()}
    ties = _best_changes(theirs.keys(), ours.keys())
    trained = [change for change in ties if not holds_average(change[0])] or ties
    removed, added = trained[0] if len(trained) == 1 else ("", "")
    placed = _placed(theirs, ours, removed, added)
    pairs = {key: theirs[placed[name]] for name, key in ours.items() if name in placed}
    also = tuple(_named(change) for change in ties if change != (removed, added))
    return KeyMatch(pairs, source.prefix + removed, target.prefix + added, also)


def _best_changes(source: Set[str], target: Set[str]) -> list[tuple[str, str]]:
    """Return the changes of prefix that place most keys, where they place enough."""
    votes = _prefix_votes(source, target)
    enough = max(len(source & target) + 1, (min(len(source), len(target)) + 1) // 2)
    best = max(votes.values(), default=0)
    return sorted(change for change, count in votes.items() if count == best >= enough)


def _placed(
    source: Iterable[str], target: Container[str], removed: str, added: str
) -> dict[str, str]:
    """Return, for each place in the target that a change of prefix fills, the source's name."""
    names = {name: added + name[len(removed) :] for name in source if name.startswith(removed)}
    placed = {new: name for name, new in names.items() if new in target}
    # A key that lacks the prefix keeps its name, where that place is still free.
    used = set(placed.values())
    rest = (name for name in source if name in target and name not in used)
    return {name: name for name in rest if name not in placed} | placed


def _named(change: tuple[str, str]) -> str:
    removed, added = change
    return f"{removed} read as {added}" if removed and added else removed or added


def _prefix_votes(source: Iterable[str], target: Iterable[str]) -> Counter[tuple[str, str]]:
    """Count, for each change of prefix, how many source keys it brings onto a target key."""
    ends: dict[str, list[str]] = {}
    for key in target:
        for prefix, rest in _splits(key):
            ends.setdefault(rest, []).append(prefix)
    votes: Counter[tuple[str, str]] = Counter()
    for key in source:
        for removed, rest in _splits(key):
            for added in ends.get(rest, ()):
                if _is_worth_a_vote(removed, added, rest):
                    votes[removed, added] += 1
    return votes


def _is_worth_a_vote(removed: str, added: str, rest: str) -> bool:
    """Leave out no change, changes a shorter one contains, and those of a bare ``weight``."""
    if not removed or not added:
        return removed != added
    return "." in rest and removed.split(".")[-2] != added.split(".")[-2]


def _splits(key: str) -> list[tuple[str, str]]:
    """Cut a key at every dot: ``a.b`` to ``("", "a.b")`` and ``("a.", "b")``."""
    parts = key.split(".")
    cuts = [sum(len(part) + 1 for part in parts[:i]) for i in range(len(parts))]
    return [(key[:cut], key[cut:]) for cut in cuts]
