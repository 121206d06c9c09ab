"""The two networks of the papers, their layers registered and executed in the papers' numbering.

In: numbers of channels and classes, options of the architecture.
Out: a UNet or a PSPNet.
"""

from paramreuse.networks.pspnet import pspnet
from paramreuse.networks.unet import unet

__all__ = ["pspnet", "unet"]
