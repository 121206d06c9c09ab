"""The fast engine: per batch the target runs once, per swap only what depends on the swap."""

from paramreuse.partial.engine import PartialEngine, partial_engine

__all__ = ["PartialEngine", "partial_engine"]
