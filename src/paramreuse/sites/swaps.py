"""Swaps: sets of sites to fill from a source, and controls without learned information.

A swap that costs nothing proves little (Zhang, Bengio and Singer, JMLR 2022, arXiv 1902.01996), so
each can be repeated with a random re-initialisation of the layer or with the source's own values
in random order.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from paramreuse.errors import ModelError, SiteMismatchError
from paramreuse.sites.copies import private_copy
from paramreuse.sites.layers import KERNEL_FAMILIES, Kind, kinds_of_torch_layer
from paramreuse.sites.lending import Weights, lend
from paramreuse.sites.matching import Site, Unit, source_key, units_of

SOURCE = "source"
"""Replacement by the source's own tensor; every other replacement is a control."""


_NORM_STARTS = {Kind.RM: 0.0, Kind.RV: 1.0, Kind.RW: 1.0, Kind.RB: 0.0}


@dataclass(frozen=True, slots=True)
class Swap:
    """A set of sites that are filled together.

    Attributes:
        name: ``W 6`` for one site, otherwise the set: ``B+RM 6``, ``layer 6``, ``prefix 6``.
        sites: The sites, front to back.
        anchor: Site that gives the swap its place in a table: layer, family and path.
    """

    name: str
    sites: tuple[Site, ...]
    anchor: Site

    @property
    def is_single(self) -> bool:
        """Whether this is the single swap of a site, called after it: the papers' sweep."""
        return len(self.sites) == 1 and self.name == self.sites[0].name

    @property
    def is_kernel(self) -> bool:
        """Whether this is the single swap of a kernel that decides: not the output layer's."""
        return self.is_single and bool(kernel_sites(self.sites))

    @property
    def kind(self) -> str:
        """Kinds of the swap's sites, e.g. ``"W"`` or ``"B+RM"``."""
        present = {site.kind for site in self.sites}
        return "+".join(kind for kind in Kind if kind in present)

    @property
    def keys(self) -> frozenset[str]:
        """Keys of all sites in the target's state dict."""
        return frozenset(site.key for site in self.sites)


Controls: TypeAlias = "str | nn.Module | Sequence[str | Weights] | Mapping[str, Weights]"
"""Names of controls, models as further controls, or models by names of your own."""

SHUFFLED = "shuffled"
"""The control that puts in the source's own values in random order."""

RANDOM_CONTROLS = (SHUFFLED, "reinit")
"""Controls that need no further model."""

SwapChoice: TypeAlias = str | Swap | Site | Sequence["str | Swap | Site | Sequence[Site]"]
"""A name as in ``SWAP_SETS``, a swap, a site, or a sequence of these and of site sets."""


def single_swaps(sites: Sequence[Site]) -> list[Swap]:
    """Swap one site at a time: the papers' sweep."""
    return [Swap(site.name, (site,), site) for site in sites]


def pair_swaps(sites: Sequence[Site]) -> list[Swap]:
    """Swap what belongs together: B+RM of a unit, RM+RV and RW+RB of a normalisation layer.

    A convolution's bias and the running mean behind it absorb each other, so swapping either alone
    breaks the pair.
    """
    swaps: list[Swap] = []
    for unit in units_of(sites):
        by_kind = {site.kind: site for site in unit.sites}
        for first, second in ((Kind.B, Kind.RM), (Kind.RM, Kind.RV), (Kind.RW, Kind.RB)):
            if first in by_kind and second in by_kind:
                pair = (by_kind[first], by_kind[second])
                swaps.append(Swap(f"{first}+{second} {pair[1].layer}", pair, pair[1]))
    return swaps


def layer_swaps(sites: Sequence[Site]) -> list[Swap]:
    """Swap whole layers: a convolution together with the normalisation behind it."""
    return [Swap(f"layer {unit.name}", unit.sites, unit.sites[0]) for unit in units_of(sites)]


def block_swaps(sites: Sequence[Site]) -> list[Swap]:
    """Swap all layers that the network's author put into one module, e.g. ``layer2.0``.

    A module that is a direct child of another block (a down-sampling branch) belongs to it.
    """
    parents = {_parent(site.path) for site in sites}
    grouped: dict[str, list[Site]] = {}
    for site in sites:
        block = _parent(site.path)
        if _parent(block) in parents and "." in block:
            block = _parent(block)
        grouped.setdefault(block or site.path or site.attribute, []).append(site)
    return [Swap(f"block {path}", tuple(members), members[0]) for path, members in grouped.items()]


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def prefix_swaps(sites: Sequence[Site]) -> list[Swap]:
    """Swap everything from the front up to and including a layer, for each layer."""
    units = units_of(sites)
    return [_span("prefix", unit, units[: index + 1]) for index, unit in enumerate(units)]


def suffix_swaps(sites: Sequence[Site]) -> list[Swap]:
    """Swap everything from a layer on to the end, for each layer."""
    units = units_of(sites)
    return [_span("suffix", unit, units[index:]) for index, unit in enumerate(units)]


def _span(word: str, unit: Unit, units: Iterable[Unit]) -> Swap:
    sites = tuple(site for other in units for site in other.sites)
    return Swap(f"{word} {unit.name}", sites, unit.sites[0])


SWAP_SETS: Mapping[str, Callable[[Sequence[Site]], list[Swap]]] = {
    "single": single_swaps,
    "pair": pair_swaps,
    "layer": layer_swaps,
    "block": block_swaps,
    "prefix": prefix_swaps,
    "suffix": suffix_swaps,
}


def make_swaps(sites: Sequence[Site], choice: SwapChoice = "single") -> list[Swap]:
    """Turn a choice of swaps into swaps with names of their own.

    Args:
        sites: Sites that may be swapped, front to back.
        choice: ``"single"``, ``"pair"``, ``"layer"``, ``"block"``, ``"prefix"`` or ``"suffix"``; a
            swap; a site; or a sequence of these and of sets of sites. Sites are known by their
            key and get the numbers that they have in ``sites``.

    Raises:
        SiteMismatchError: A name is unknown, a set is empty, or a site is not among ``sites``.
    """
    entries = [choice] if isinstance(choice, str | Swap | Site) else list(choice)
    known = {site.key: site for site in sites}
    swaps: dict[str, Swap] = {}
    for entry in entries:
        for swap in _expand(known, entry):
            if swaps.setdefault(swap.name, swap).keys != swap.keys:
                raise SiteMismatchError(f"two swaps of different sites are called {swap.name!r}")
    if not swaps:
        raise SiteMismatchError("cannot sweep: the list of swaps is empty. Use swaps='single'")
    return list(swaps.values())


def _expand(known: Mapping[str, Site], entry: str | Swap | Site | Sequence[Site]) -> list[Swap]:
    if isinstance(entry, Swap):
        (anchor,) = _known_sites(known, [entry.anchor])
        return [Swap(entry.name, _known_sites(known, entry.sites), anchor)]
    if isinstance(entry, Site):
        return single_swaps(_known_sites(known, [entry]))
    if not isinstance(entry, str):
        sites = _known_sites(known, entry)
        return [Swap("+".join(site.name for site in sites), sites, sites[0])]
    if entry not in SWAP_SETS:
        raise SiteMismatchError(
            f"unknown set of swaps {entry!r}: expected one of {list(SWAP_SETS)}, or sets of sites"
        )
    return SWAP_SETS[entry](list(known.values()))


def _known_sites(known: Mapping[str, Site], wanted: Iterable[Site]) -> tuple[Site, ...]:
    """Find sites by key, since their numbers differ where layers were counted in another order."""
    sites = tuple(wanted)
    strangers = [site.key for site in sites if site.key not in known]
    if strangers or not sites:
        raise SiteMismatchError(
            f"cannot swap {strangers[:10]}: not among the sites that target and source share. "
            "match_sites(target, source) lists those"
            if strangers
            else "cannot swap an empty set of sites"
        )
    return tuple(known[site.key] for site in sites)


def seed_of(seed: int, *words: str) -> int:
    """Derive a seed from words, so that no result depends on the order of the work."""
    digest = hashlib.blake2b("\0".join([str(seed), *words]).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def shuffled(tensor: Tensor, *, seed: int) -> Tensor:
    """Return the values of ``tensor`` in random order, same shape and dtype.

    Args:
        tensor: Any tensor.
        seed: Seed of the order; the global random state is neither read nor moved.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(tensor.numel(), generator=generator).to(tensor.device)
    return tensor.flatten()[order].view(tensor.shape)


def reinitialised(layer: nn.Module, attribute: str, *, seed: int) -> Tensor:
    """Return a fresh value for one tensor of a layer, drawn as the layer itself draws it.

    Args:
        layer: Layer that holds the tensor; left as it is.
        attribute: Name of the tensor, e.g. ``"weight"``.
        seed: Seed of the draw; the global random state is the same afterwards.

    Returns:
        Tensor of the attribute's shape, on the CPU. A layer that cannot draw again (it has no
        ``reset_parameters``) gets 0 or 1 for what a normalisation holds, as PyTorch's layers
        start, and else normally distributed values with the mean and deviation of its own.
    """
    own: Tensor = getattr(layer, attribute)
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would seed the generators of all devices as well.
        torch.default_generator.manual_seed(seed)
        names = ("reset_parameters", "_reset_parameters")
        reset = next((name for name in names if callable(getattr(layer, name, None))), None)
        if reset is not None:
            twin = private_copy(layer).cpu()
            getattr(twin, reset)()
            return getattr(twin, attribute).detach()  # type: ignore[no-any-return]
        kind = {name: kind for kind, name in kinds_of_torch_layer(layer).items()}.get(attribute)
        if kind in _NORM_STARTS:
            return torch.full(own.shape, _NORM_STARTS[kind])
        values = own.detach().cpu().float()
        spread = values.std() if values.numel() > 1 else values.abs().mean()
        return torch.randn(own.shape) * spread + values.mean()


@dataclass(frozen=True, slots=True, eq=False)
class Replacements:
    """Where the tensors of a swap come from, by name of the replacement.

    Attributes:
        target: The network whose layers are re-initialised and whose dtypes are kept.
        source: Tensors of the source.
        controls: Names of the controls, in order: ``shuffled``, ``reinit``, or one of ``models``.
        models: Tensors of further models, by name of the control.
        seed: Seed of every control.
    """

    target: nn.Module
    source: Mapping[str, Tensor]
    controls: tuple[str, ...]
    models: Mapping[str, Mapping[str, Tensor]]
    seed: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """All replacements, the source first."""
        return (SOURCE, *self.controls)

    def tensor(self, site: Site, replacement: str, draw: int = 0) -> Tensor:
        """Return what ``replacement`` puts at ``site``, in the target's dtype, on its device.

        Args:
            site: Where it is put.
            replacement: One of ``names``.
            draw: Which draw of a shuffled control, from 0.

        Raises:
            SiteMismatchError: A control model has no tensor for the site, or of another shape.
        """
        layer = self.target.get_submodule(site.path)
        original: Tensor = getattr(layer, site.attribute)
        drawn = self._drawn(site, replacement, draw, layer)
        if drawn.shape != original.shape:
            raise SiteMismatchError(
                f"cannot put the {replacement} tensor at {site}: the target has shape "
                f"{site.shape}, the {replacement} {tuple(drawn.shape)}. Leave the site out with "
                f"exclude=[{site.key!r}]"
            )
        return drawn.detach().to(device=original.device, dtype=original.dtype)

    def tensors(self, swap: Swap, replacement: str, draw: int = 0) -> dict[str, Tensor]:
        """Return what ``replacement`` puts at each site of a swap, by key."""
        return {site.key: self.tensor(site, replacement, draw) for site in swap.sites}

    def _drawn(self, site: Site, replacement: str, draw: int, layer: nn.Module) -> Tensor:
        if replacement == "reinit":
            seed = seed_of(self.seed, "reinit", site.key)
            return reinitialised(layer, site.attribute, seed=seed)
        lender = self.models.get(replacement, self.source)
        key = source_key(site, lender)
        if key is None:
            raise SiteMismatchError(
                f"cannot put the {replacement} tensor at {site}: there is none of name "
                f"{site.key!r}. Leave the site out with exclude=[{site.key!r}]"
            )
        if replacement != SHUFFLED:
            return lender[key]
        # The first draw is that of versions that made a single one.
        words = (SHUFFLED, site.key, *([str(draw)] if draw else []))
        return shuffled(lender[key].detach(), seed=seed_of(self.seed, *words))


def replacements_for(
    target: nn.Module,
    source: Mapping[str, Tensor],
    controls: Controls,
    *,
    seed: int = 0,
) -> Replacements:
    """Name the controls of a sweep.

    Args:
        target: The network to be swapped into.
        source: Tensors of the source.
        controls: ``"shuffled"``, ``"reinit"``, models or state dicts (named ``model``, ``model 2``,
            ...), or a mapping from names of your own to models.
        seed: Seed of the random controls.

    Raises:
        ModelError: A name is not that of a control, or stands twice.
    """
    names: list[str] = []
    models: dict[str, Mapping[str, Tensor]] = {}
    if isinstance(controls, str | nn.Module):
        controls = (controls,)
    given = controls.items() if isinstance(controls, Mapping) else ((None, c) for c in controls)
    for label, control in given:
        if isinstance(control, str) and label in (None, control):
            names.append(_random_control(control))
        else:
            name = label or ("model" if not models else f"model {len(models) + 1}")
            models[name] = lend(target, control)
            names.append(name)
    if len(set(names)) != len(names) or SOURCE in names or models.keys() & set(RANDOM_CONTROLS):
        raise ModelError(
            f"controls need different names, models none of {[SOURCE, *RANDOM_CONTROLS]}: got "
            f"{names!r}"
        )
    return Replacements(target, source, tuple(names), models, seed)


def _random_control(name: str) -> str:
    if name not in RANDOM_CONTROLS:
        raise ModelError(f"unknown control {name!r}: expected 'shuffled', 'reinit' or a model")
    return name


def same_tensors(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Tell whether two replacements put in the same values at every site."""
    return first.keys() == second.keys() and all(
        torch.equal(tensor, second[key]) for key, tensor in first.items()
    )


def is_identical(swap: Swap, tensors: Mapping[str, Tensor], target: nn.Module) -> bool:
    """Tell whether a swap would put in exactly what the target already holds."""
    for site in swap.sites:
        own = getattr(target.get_submodule(site.path), site.attribute)
        if not torch.equal(own.detach(), tensors[site.key]):
            return False
    return True


def kernel_sites(sites: Iterable[Site]) -> list[Site]:
    """Return the kernels that decide whether a network is reusable: W of all but the output."""
    return [
        site
        for site in sites
        if site.kind is Kind.W and site.family in KERNEL_FAMILIES and not site.is_output
    ]
