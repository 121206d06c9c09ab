"""Align sources with a target, all named on the command line, before comparing them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from paramreuse.alignment.matching import align_models
from paramreuse.checkpoint import load_checkpoint
from paramreuse.sites.lending import Weights, tensors_of
from paramreuse.sites.matching import sites_of
from paramreuse.study.named import NETWORKS, load_named

Row = dict[str, Any]

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
