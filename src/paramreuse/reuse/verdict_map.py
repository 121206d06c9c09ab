"""A verdict as a notebook shows it: the sentence, and the map of kinds and layers."""

from collections.abc import Iterable

from paramreuse.notebook import html_map, html_sentence
from paramreuse.sites.swaps import Swap

GLYPHS = {
    "reusable": "✓",
    "identical": "=",
    "indifferent": "○",
    "undecided": "?",
    "too few subjects": "…",
    "not reusable": "✕",
    "not finite": "!",
}
"""One sign per verdict, so that colour is never the only cue."""


def html_verdict(summary: str, judged: Iterable[tuple[Swap, str]]) -> str:
    """Return the sentence and, of single swaps, the map.

    Args:
        summary: The sentence.
        judged: Each swap with the word of its verdict.
    """
    words = {(swap.kind, _layer_of(swap)): word for swap, word in judged if swap.is_single}
    return html_sentence(summary) + (html_map(words, GLYPHS) if words else "")


def _layer_of(swap: Swap) -> str:
    """Return the layer's number, with its family where that is not what its kind is counted in."""
    is_plain = swap.name == f"{swap.anchor.kind} {swap.anchor.layer}"
    return str(swap.anchor.layer) if is_plain else f"{swap.anchor.family} {swap.anchor.layer}"
