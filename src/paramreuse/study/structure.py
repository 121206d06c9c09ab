"""The target's layers and how they are connected, kept so that no report has to run the network."""

from dataclasses import asdict, dataclass
from typing import Any

from paramreuse.errors import ParamReuseError
from paramreuse.report.connections import layer_edges
from paramreuse.sites.layers import Kind
from paramreuse.sites.matching import Site, sites_of
from paramreuse.study.config import TARGET
from paramreuse.study.job import Job

_FACT = "structure"


@dataclass(frozen=True, slots=True)
class Structure:
    """What the target's network looks like.

    Attributes:
        sites: Its sites, front to back.
        edges: Connections between layers as pairs of paths; None where they cannot be told.
        reason: Why they cannot.
    """

    sites: tuple[Site, ...] = ()
    edges: tuple[tuple[str, str], ...] | None = None
    reason: str = ""


def keep_structure(job: Job) -> None:
    """Look at the target's network once, and keep what it looks like."""
    structure = _looked_at(job)
    rows = [asdict(site) | {"kind": site.kind.value} for site in structure.sites]
    kept = {"sites": rows, "edges": structure.edges, "reason": structure.reason}
    job.store.put_fact(_FACT, kept)


def structure_of(job: Job) -> Structure:
    """Return what the target's network looks like.

    In a run folder of a version that did not keep it, the network is looked at again.
    """
    kept = job.store.fact(_FACT)
    if kept is None:
        try:
            return _looked_at(job)
        except ParamReuseError as error:
            return Structure(reason=str(error))
    return Structure(
        tuple(_site(row) for row in kept["sites"]),
        None if kept["edges"] is None else tuple((a, b) for a, b in kept["edges"]),
        kept["reason"],
    )


def _site(row: dict[str, Any]) -> Site:
    shape, aliases = tuple(row["shape"]), tuple(row["aliases"])
    return Site(**(row | {"kind": Kind(row["kind"]), "shape": shape, "aliases": aliases}))


def _looked_at(job: Job) -> Structure:
    target = job.bench.model(TARGET)
    images = job.bench.images(job.bench.target.data).validation.images
    example = images[:2].to(job.bench.torch_device)
    sites = tuple(sites_of(target, example_input=example))
    try:
        return Structure(sites, tuple(layer_edges(target, example)))
    except ParamReuseError as error:
        return Structure(sites, reason=str(error))
