"""The candidates: ways to start from a source and to train on, each written as a plan."""

from collections.abc import Sequence
from dataclasses import dataclass

from paramreuse.reuse.plan import Plan
from paramreuse.reuse.starts import full_plan, head_plan, recalibrating
from paramreuse.sites.matching import Site

SCRATCH = "scratch"
FULL = "full"
HEAD = "head"
AS_IS = "as-is"
ENSEMBLE = "ensemble"
MIXES = {"mix-0.75": 0.75}
"""Candidates that ``full`` gives by forward passes alone, with their place between source and
trained. Halfway back was tried and lost: docs/results/gain.md."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to start and to train.

    Attributes:
        name: What it is called in tables, e.g. ``"full"``.
        source: Name of the source; ``""`` for training from scratch.
        plan: What is loaded and how it is trained; None for training from scratch.
        trained: Whether it is trained at all; what is not is loaded as it is.
    """

    name: str
    source: str = ""
    plan: Plan | None = None
    trained: bool = True


def scratch() -> Candidate:
    """Return the training from scratch."""
    return Candidate(SCRATCH)


def as_is(sites: Sequence[Site], source: str) -> Candidate:
    """Return the source without any training, its running statistics recomputed."""
    return Candidate(AS_IS, source, recalibrating(full_plan(sites, source=source)), trained=False)


def full(sites: Sequence[Site], source: str) -> Candidate:
    """Return the training from everything that a source can give."""
    return Candidate(FULL, source, full_plan(sites, source=source))


def head(sites: Sequence[Site], source: str) -> Candidate:
    """Return the training of the output layer alone, on everything a source can give."""
    return Candidate(HEAD, source, head_plan(sites, source=source))
