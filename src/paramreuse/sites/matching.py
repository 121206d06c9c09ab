"""Sites: which tensors of a target a source can lend, numbered front to back.

A *kind* is the role of a tensor in its layer, a *layer* a number within a family of layers, a
*site* one kind of one layer (arXiv 2008.03411, section "Parameter reuse and RMSE").
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor, nn

from paramreuse.checkpoint.tied import further_names, named_tensors
from paramreuse.errors import SiteMismatchError
from paramreuse.sites.layers import (
    KERNEL_FAMILIES,
    Kind,
    KindsOf,
    LayerTensors,
    execution_order,
    key_of,
    kinds_of_torch_layer,
    layers_of_module,
    layers_of_tensors,
)
from paramreuse.sites.lending import (
    Lent,
    Weights,
    dtype_in,
    is_swappable,
    lend,
    shape_in,
    tensors_of,
)

_NORM_KINDS = frozenset({Kind.RM, Kind.RV, Kind.RW, Kind.RB})


@dataclass(frozen=True, slots=True)
class Site:
    """One tensor of the target model that a source tensor may replace.

    Attributes:
        layer: Number from front to back within the layer's family, from 1.
        path: Dotted path of the layer in the target, e.g. ``"down1.norm"``.
        kind: Role of the tensor in that layer.
        attribute: Name of the tensor in that layer, e.g. ``"running_mean"``.
        shape: Shape of the tensor. ``(C,)`` for RM, RV, RW, RB and B;
            ``(C_out, C_in, k, k)`` for the W of a 2-D convolution.
        family: ``conv``, ``conv_transpose``, ``linear``, ``norm``, ``embedding`` or ``other``.
            Left out, it is ``norm`` for RM, RV, RW and RB, and ``conv`` else.
        is_output: Whether the layer is the output layer (the last convolution or linear layer),
            which is swept but not counted, as in the papers.
        aliases: Further keys of the same tensor, where the model ties tensors.
    """

    layer: int
    path: str
    kind: Kind
    attribute: str
    shape: tuple[int, ...]
    family: str = ""
    is_output: bool = False
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.family:
            object.__setattr__(self, "family", "norm" if self.kind in _NORM_KINDS else "conv")

    @property
    def key(self) -> str:
        """Key in the target's state dict, e.g. ``"down1.norm.running_mean"``."""
        return key_of(self.path, self.attribute)

    @property
    def name(self) -> str:
        """What a single swap of the site is called: ``W 6``, ``RM 17``, ``linear B 2``."""
        short = f"{self.kind} {self.layer}"
        return short if self.family in ("conv", "norm") else f"{self.family} {short}"

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class SkippedTensor:
    """A tensor of target or source that cannot be swapped.

    Attributes:
        key: Its key, in the target's state dict if it is there, otherwise in the source's.
        reason: Why not, with both shapes where shapes differ.
    """

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class SiteMatch:
    """What of a source fits a target.

    Attributes:
        sites: Sites whose tensor both sides have in the same shape, front to back.
        skipped: Every other tensor of either side, with the reason.
    """

    sites: tuple[Site, ...]
    skipped: tuple[SkippedTensor, ...]


@dataclass(frozen=True, slots=True)
class Unit:
    """A kernel layer together with the normalisation that follows it.

    Attributes:
        sites: Sites of the layers of the unit, front to back; the first one gives the unit its
            number and family.
    """

    sites: tuple[Site, ...]

    @property
    def name(self) -> str:
        """Number of the unit within its family: ``6``, ``linear 2``, ``norm 1``."""
        head = self.sites[0]
        return str(head.layer) if head.family == "conv" else f"{head.family} {head.layer}"


def source_key(site: Site, source: Container[str]) -> str | None:
    """Return the key under which ``source`` holds the tensor of ``site``, if it does."""
    return next((key for key in (site.key, *site.aliases) if key in source), None)


def sites_of(
    target: Weights,
    *,
    example_input: Tensor | None = None,
    kinds_of: KindsOf = kinds_of_torch_layer,
) -> list[Site]:
    """List every site of a network, front to back.

    Args:
        target: Model, state dict or checkpoint path. Without a model the layers are inferred from
            keys and shapes.
        example_input: One batch for the network. With it layers are numbered in the order in which
            they are executed, without it in the order in which they were registered. A layer that
            the example does not reach (a head used in training only) is not the output layer.
        kinds_of: Role of each tensor of a layer; wrap the default to teach it a layer of yours.

    Returns:
        Sites, the layers front to back and their kinds in the order W B RM RV RW RB. Layers that
        the example does not reach come last.

    Raises:
        ModelError: A parameter is lazy, so it has no shape yet.
    """
    if not isinstance(target, nn.Module):
        shapes = _shapes(tensors_of(target))
        return _number(list(layers_of_tensors(shapes)), shapes, {})
    layers = list(layers_of_module(target, kinds_of))
    ranks: dict[str, int] = {}
    if example_input is not None:
        ranks = execution_order(target, example_input)
        layers.sort(key=lambda layer: ranks.get(layer.path, len(ranks)))
    return _number(layers, _shapes(tensors_of(target)), further_names(named_tensors(target)), ranks)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: shape_in(tensors, key) for key in tensors if is_swappable(dtype_in(tensors, key))}


def _number(
    layers: Sequence[LayerTensors],
    shapes: Mapping[str, tuple[int, ...]],
    aliases: Mapping[str, tuple[str, ...]],
    ranks: Mapping[str, int] = MappingProxyType({}),
) -> list[Site]:
    tied = {key for further in aliases.values() for key in further}
    kept = [
        (layer, kinds)
        for layer in layers
        if (kinds := [(k, a) for k, a in layer.kinds if _counts(layer.path, a, shapes, tied)])
    ]
    output = _output_layer([layer for layer, _ in kept], ranks)
    numbers: dict[str, int] = {}
    sites: list[Site] = []
    for layer, kinds in kept:
        number = numbers[layer.family] = numbers.get(layer.family, 0) + 1
        for kind, attribute in kinds:
            key = key_of(layer.path, attribute)
            sites.append(
                Site(
                    layer=number,
                    path=layer.path,
                    kind=kind,
                    attribute=attribute,
                    shape=shapes[key],
                    family=layer.family,
                    is_output=layer is output,
                    aliases=aliases.get(key, ()),
                )
            )
    return sites


def _output_layer(layers: Sequence[LayerTensors], ranks: Mapping[str, int]) -> LayerTensors | None:
    """Return the last layer with a kernel, of those that the example reached if it reached any."""
    kernels = [layer for layer in layers if layer.family in KERNEL_FAMILIES]
    reached = [layer for layer in kernels if layer.path in ranks]
    return next(reversed(reached or kernels), None)


def _counts(
    path: str, attribute: str, shapes: Mapping[str, tuple[int, ...]], tied: set[str]
) -> bool:
    key = key_of(path, attribute)
    return key in shapes and key not in tied


def compare_sites(
    target: Weights,
    source: Weights,
    *,
    exclude: Iterable[str] = (),
    example_input: Tensor | None = None,
    kinds_of: KindsOf = kinds_of_torch_layer,
) -> SiteMatch:
    """Tell which sites of a target a source can fill, and why not the others.

    Args:
        target: Model, state dict or checkpoint path.
        source: Model, state dict or checkpoint path.
        exclude: Keys of the target to leave out.
        example_input: As for ``sites_of``.
        kinds_of: As for ``sites_of``.

    Raises:
        SiteMismatchError: A key to exclude is not a site of the target.
    """
    sites = sites_of(target, example_input=example_input, kinds_of=kinds_of)
    excluded = _checked_exclusions(exclude, sites)
    lent = lend(target, source)
    matched: list[Site] = []
    skipped: list[SkippedTensor] = []
    for site in sites:
        reason = "left out on request" if site.key in excluded else _misfit(site, lent)
        if reason is None:
            matched.append(site)
        else:
            skipped.append(SkippedTensor(site.key, reason))
    skipped += [SkippedTensor(key, "the target has no tensor of this name") for key in lent.unused]
    return SiteMatch(tuple(matched), tuple(skipped))


def _checked_exclusions(exclude: Iterable[str], sites: Sequence[Site]) -> set[str]:
    excluded = set(exclude)
    unknown = sorted(excluded - {site.key for site in sites})
    if unknown:
        raise SiteMismatchError(
            f"cannot leave out {unknown[:10]}: the target has no site with such a key. "
            "Keys look like 'layer1.0.conv1.weight'; `paramreuse layers` lists them"
        )
    return excluded


def _misfit(site: Site, lent: Lent) -> str | None:
    key = source_key(site, lent)
    if key is None:
        return "the source has no tensor of this name"
    if not is_swappable(lent.dtype_of(key)):
        return f"the source tensor is {lent.dtype_of(key)}, not a plain floating-point tensor"
    if lent.shape_of(key) != site.shape:
        return f"the target has shape {site.shape}, the source {lent.shape_of(key)}"
    return None


def match_sites(
    target: Weights,
    source: Weights,
    *,
    exclude: Iterable[str] = (),
    example_input: Tensor | None = None,
    kinds_of: KindsOf = kinds_of_torch_layer,
) -> list[Site]:
    """List the sites of a target that a source can fill, front to back.

    Args:
        target: Model, state dict or checkpoint path.
        source: Model, state dict or checkpoint path.
        exclude: Keys of the target to leave out.
        example_input: As for ``sites_of``.
        kinds_of: As for ``sites_of``.

    Returns:
        Matching sites; ``compare_sites`` says what does not match, and why.

    Raises:
        SiteMismatchError: No tensor of the source fits any site of the target.

    Examples:
        >>> from torch import nn
        >>> [str(site) for site in match_sites(nn.Linear(2, 1), nn.Linear(2, 1))]
        ['linear W 1', 'linear B 1']
    """
    match = compare_sites(
        target, source, exclude=exclude, example_input=example_input, kinds_of=kinds_of
    )
    require_sites(match)
    return list(match.sites)


def require_sites(match: SiteMatch) -> None:
    """Raise if nothing of a source fits a target.

    Raises:
        SiteMismatchError: ``match`` has no site; the message shows the first reasons.
    """
    if match.sites:
        return
    reasons = "; ".join(f"{s.key}: {s.reason}" for s in match.skipped[:4])
    raise SiteMismatchError(
        "no tensor of the source fits any site of the target. First of "
        f"{len(match.skipped)} reasons: {reasons or 'neither side holds a tensor'}. If the two "
        "are the same network under other names, map the keys with read_checkpoint(..., rename=...)"
    )


def units_of(sites: Sequence[Site]) -> list[Unit]:
    """Group sites into kernel layers with the normalisation that follows each.

    A normalisation layer joins the kernel layer in front of it when it has as many channels as
    that returns; any other layer is a unit of its own.

    Args:
        sites: Sites of one network, front to back.
    """
    groups: list[list[Site]] = []
    for site in sites:
        if groups and _joins(groups[-1], site):
            groups[-1].append(site)
        else:
            groups.append([site])
    return [Unit(tuple(group)) for group in groups]


def _joins(group: Sequence[Site], site: Site) -> bool:
    if (group[-1].path, group[-1].family) == (site.path, site.family):
        return group[-1].layer == site.layer
    head = group[0]
    return (
        site.family == "norm"
        and head.family in KERNEL_FAMILIES
        and all(other.family != "norm" for other in group)
        and site.shape == (output_channels(head),)
    )


def output_channels(site: Site) -> int:
    """Return the number of channels that the layer of a kernel or norm site returns."""
    transposed = site.family == "conv_transpose" and site.kind is Kind.W
    return site.shape[1] if transposed else site.shape[0]
