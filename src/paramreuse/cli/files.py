"""What the commands make of files named by hand: their sites, their distances, their alignment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paramreuse.alignment.aligning import align_models
from paramreuse.checkpoint import load_checkpoint
from paramreuse.checkpoint.hub import is_hub_address
from paramreuse.compare.batchnorm import compare_batchnorms
from paramreuse.compare.distance import Comparison, compare_models
from paramreuse.errors import StudyError
from paramreuse.files import require_own_kind, write_text
from paramreuse.plain_text import Row, csv_text
from paramreuse.sites.lending import Weights, tensors_of
from paramreuse.sites.matching import sites_of
from paramreuse.study.named import NETWORKS, load_named


def named_weights(name: str) -> Weights:
    """Return the tensors of a model named on the command line.

    Args:
        name: Path of a checkpoint or ``hf://ORG/NAME``, ``unet``, ``pspnet``, or
            ``package.module:factory``.

    Raises:
        CheckpointError: There is no such file, or it cannot be read.
        StudyError: There is no such module or factory.
    """
    is_file = is_hub_address(name) or Path(name).exists()
    if name in NETWORKS or (":" in name and not is_file):
        return load_named(name, NETWORKS, "network")()  # type: ignore[no-any-return]
    return tensors_of(name)


def site_rows(name: str) -> list[Row]:
    """List the sites of a named model."""
    return [
        {
            "site": site.name,
            "family": site.family,
            "layer": site.layer,
            "kind": str(site.kind),
            "key": site.key,
            "shape": "x".join(map(str, site.shape)),
            "output": site.is_output,
        }
        for site in sites_of(named_weights(name))
    ]


@dataclass(frozen=True, slots=True)
class FileComparisons:
    """A target compared with several sources.

    Attributes:
        target: Name of the target.
        comparisons: One per source.
        batchnorms: Rows of ``compare_batchnorms`` per source.
        alignments: Rows of ``Alignment.frame`` by source, where alignment was asked for.
    """

    target: str
    comparisons: tuple[Comparison, ...]
    batchnorms: tuple[list[Row], ...]
    alignments: dict[str, list[Row]] = field(default_factory=dict)

    def to_dict(self) -> Row:
        """Return what ``compare --json`` writes."""
        pairs = zip(self.comparisons, self.batchnorms, strict=True)
        return {
            "target": self.target,
            "sources": [
                comparison.to_dict() | {"batchnorm": norms} | self._aligned(comparison.source)
                for comparison, norms in pairs
            ],
        }

    def _aligned(self, source: str) -> Row:
        return {"alignment": self.alignments[source]} if source in self.alignments else {}


def compare_files(
    target: str,
    sources: Sequence[str],
    *,
    exclude: Sequence[str],
    csv: Path | None,
    align: tuple[str, Sequence[int]] | None = None,
) -> FileComparisons:
    """Compare a target with sources, all named on the command line.

    Args:
        target: Checkpoint, or network.
        sources: Checkpoints, or networks.
        exclude: Keys of the target to leave out.
        csv: File to write the distances to.
        align: Network to trace and shape of its input, to compare after alignment as well.

    Raises:
        CheckpointError: A file cannot be read.
        SiteMismatchError: Nothing of a source fits the target.
        StudyError: The CSV file cannot be written.
    """
    ours = named_weights(target)
    comparisons: list[Comparison] = []
    norms: list[list[Row]] = []
    for source in sources:
        theirs = named_weights(source)
        comparisons.append(compare_models(ours, theirs, exclude=exclude, names=(target, source)))
        norms.append(compare_batchnorms(ours, theirs).frame().to_dict("records"))
    if csv is not None:
        _write_distances(csv, comparisons)
    aligned: dict[str, list[Row]] = {}
    if align is not None:
        named = {source: named_weights(source) for source in sources}
        aligned = align_named(ours, named, network=align[0], shape=align[1])
    return FileComparisons(target, tuple(comparisons), tuple(norms), aligned)


def _write_distances(path: Path, comparisons: Sequence[Comparison]) -> None:
    import pandas as pd

    frames = [comparison.frame().assign(source=comparison.source) for comparison in comparisons]
    try:
        require_own_kind(path, lambda start: start.startswith(b"layer,path,"), "such a table")
        write_text(path, csv_text(pd.concat(frames, ignore_index=True)))
    except OSError as error:
        raise StudyError(f"cannot write {str(path)!r}: {error.strerror}") from error


UNTOLD: Mapping[str, str] = {
    "unet": "aligned as a UNet without short connections, which its tensors do not tell; for a "
    "residual one name a factory that builds it (--align package.module:factory)"
}
"""What the tensors of a network leave open, and how it was taken."""


def align_named(
    target: Weights, sources: Mapping[str, Weights], *, network: str, shape: Sequence[int]
) -> dict[str, list[Row]]:
    """Bring the channels of each source into the order that fits the target best.

    Args:
        target: Tensors of the target.
        sources: Tensors of the sources, by name.
        network: ``unet``, ``pspnet`` or ``package.module:factory``: what is traced. Width, biases,
            upsampling and long connections of ``unet`` are told from the target's tensors. Short
            connections are not in them: a residual UNet needs a factory that builds one.
        shape: Channels, rows and columns of an input of it.

    Returns:
        Rows of ``Alignment.frame()`` by name of the source.

    Raises:
        StudyError: There is no such network.
        CheckpointError: The target's tensors are not those of the network.
        ModelError: The network cannot be traced.
    """
    model = target if isinstance(target, nn.Module) else _loaded(tensors_of(target), network)
    example = torch.zeros(2, *shape)
    return {
        name: align_models(model.eval(), source, example).frame().to_dict("records")
        for name, source in sources.items()
    }


def _loaded(tensors: Mapping[str, Tensor], network: str) -> nn.Module:
    build = load_named(network, NETWORKS, "network")
    model: nn.Module = build(**(_options(tensors, network) if network in NETWORKS else {}))
    load_checkpoint(model, tensors, strict=True)
    return model


def _options(tensors: Mapping[str, Tensor], network: str) -> dict[str, Any]:
    """Tell the options of one of the package's networks from the shapes of its tensors."""
    sites = sites_of(tensors)
    kernels = [site for site in sites if site.family == "conv" and site.kind == "W"]
    output = next((site for site in kernels if site.is_output), kernels[-1])
    options: dict[str, Any] = {
        "width": kernels[0].shape[0],
        "in_channels": kernels[0].shape[1],
        "num_classes": output.shape[0],
        "bias": any(site.name == "B 1" for site in sites),
    }
    if network == "unet":
        transposed = any(site.family == "conv_transpose" for site in sites)
        options["upsampling"] = "transposed" if transposed else "bilinear"
        # The 11th convolution sees what comes up, and beside it the long connection if there is.
        coming_up = (8 if transposed else 16) * kernels[0].shape[0]
        options["long_skips"] = len(kernels) < 11 or kernels[10].shape[1] > coming_up
    return options
