"""The two networks of the papers, their layers registered and executed in the papers' numbering."""

from paramreuse.networks.pspnet import pspnet
from paramreuse.networks.unet import unet

__all__ = ["pspnet", "unet"]
