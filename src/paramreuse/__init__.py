"""Which parameters of this pre-trained network can I reuse for my task, and what do I gain?"""

from paramreuse._version import __version__

__all__ = ["__version__"]
