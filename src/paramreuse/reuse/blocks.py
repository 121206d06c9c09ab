"""Blocks: the contiguous parts of a network in which a source is loaded, trained or left."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from paramreuse.sites.layers import KERNEL_FAMILIES, Kind
from paramreuse.sites.matching import Site, Unit, units_of

MIN_BLOCKS, MAX_BLOCKS = 6, 12


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring layers that are treated alike; a normalisation is with its convolution.

    Attributes:
        name: Dotted path that its layers share, or of its first and last layer.
        sites: Its sites, front to back.
    """

    name: str
    sites: tuple[Site, ...]

    @property
    def is_output(self) -> bool:
        """Whether it holds the output layer."""
        return any(site.is_output for site in self.sites)

    @property
    def num_kernels(self) -> int:
        """Number of its kernel layers."""
        return sum(s.kind is Kind.W and s.family in KERNEL_FAMILIES for s in self.sites)


def blocks_of(sites: Sequence[Site]) -> tuple[Block, ...]:
    """Cut a network into 6 to 12 blocks along its own modules; the output layer is one of its own.

    The modules of the lowest depth that gives six blocks or more; a network with more than twelve
    then has its smallest neighbours joined, one with fewer layers than six a block per layer.

    Args:
        sites: Sites of one network, front to back.
    """
    units = units_of(sites)
    depth = 1 + max((site.path.count(".") for site in sites), default=0)
    groups: list[list[Unit]] = []
    for level in range(1, depth + 1):
        groups = _grouped(units, level)
        if len(groups) >= MIN_BLOCKS:
            break
    if len(groups) < MIN_BLOCKS:
        groups = [[unit] for unit in units]
    groups = _without_lone_norms(groups)
    while len(groups) > MAX_BLOCKS:
        _join_smallest(groups)
    return tuple(_block(group) for group in groups)


def _grouped(units: Sequence[Unit], level: int) -> list[list[Unit]]:
    return [list(group) for _, group in groupby(units, lambda unit: _stem(unit, level))]


def _stem(unit: Unit, depth: int) -> tuple[object, ...]:
    first = unit.sites[0]
    return first.is_output, *first.path.split(".")[:depth]


def _without_lone_norms(groups: list[list[Unit]]) -> list[list[Unit]]:
    """Put a normalisation that stands alone to the layers behind it, else to those before."""
    kept: list[list[Unit]] = []
    for group in groups:
        joins = kept and not _has_kernel(kept[-1]) and not _is_output(group)
        if joins:
            kept[-1] += group
        else:
            kept.append(list(group))
    return kept


def _has_kernel(group: Sequence[Unit]) -> bool:
    return any(s.kind is Kind.W and s.family in KERNEL_FAMILIES for u in group for s in u.sites)


def _is_output(group: Sequence[Unit]) -> bool:
    return any(site.is_output for unit in group for site in unit.sites)


def _join_smallest(groups: list[list[Unit]]) -> None:
    """Join the two neighbours that have the fewest layers together; never the output layer."""
    pairs = [i for i in range(len(groups) - 1) if not _is_output(groups[i + 1])]
    best = min(pairs, key=lambda i: len(groups[i]) + len(groups[i + 1]))
    groups[best] += groups.pop(best + 1)


def _block(group: Sequence[Unit]) -> Block:
    sites = tuple(site for unit in group for site in unit.sites)
    paths = [unit.sites[0].path.split(".") for unit in group]
    shared = [parts[0] for parts in zip(*paths, strict=False) if len(set(parts)) == 1]
    own = sites[0].path if len(paths) == 1 else f"{sites[0].path} to {sites[-1].path}"
    name = ".".join(shared) if shared and len(paths) > 1 else own
    return Block(name, sites)
