"""The words of the method, each explained in a line: for the page and for the terminal."""

import re
from collections.abc import Iterator, Mapping

WORDS: Mapping[str, str] = {
    "site": "one tensor at one place of the network, e.g. the weights of one layer",
    "swap": "the source's values are put into the trained target at one or several sites, and the "
    "target is scored again without training",
    "drop": "score of the untouched target minus score after a swap",
    "kernel layer": "a convolution or linear layer, judged by its weights (W); the output layer "
    "does not count",
    "control": "the same swap with values that were never learned, shuffled or drawn afresh",
    "tolerance": "the largest drop that still counts as almost unchanged",
    "reusable": "the source's values cost nothing there, and those of the control do",
    "identical": "target and source hold the same values there",
    "indifferent": "the source's values cost nothing there, and neither do those of the control: "
    "anything would do",
    "not reusable": "the source's values cost more than the tolerance there",
    "undecided": "the interval contains the tolerance, so the subjects are too few to tell",
    "too few subjects": "an interval takes 8 subjects or more",
    "not finite": "the source holds numbers there that are not finite, or leads to them",
    "settled": "the whole interval lies on one side of the tolerance",
    "lineage": "whether target and source were trained from the same initial weights",
    "relative RMSE": "root mean square difference of two tensors over their size: 0 is the same, "
    "1 unrelated",
    "W": "weights of a convolution or linear layer",
    "B": "bias of a convolution or linear layer",
    "RM": "running mean of a normalisation layer",
    "RV": "running variance of a normalisation layer",
    "RW": "weight (scale) of a normalisation layer",
    "RB": "bias (shift) of a normalisation layer",
}
"""What each word means, the short names of kinds last."""

_KINDS = frozenset({"W", "B", "RM", "RV", "RW", "RB"})


def explanations(text: str, known: set[str] | None = None) -> Iterator[str]:
    """Yield what the words in a text mean, e.g. ``"RM: running mean of a normalisation layer"``.

    Args:
        text: What is about to be read.
        known: Words that need no explanation any more; those explained now are added.
    """
    told = set() if known is None else known
    for word, meaning in WORDS.items():
        if word not in told and _is_in(word, text):
            told.add(word)
            yield f"{word}: {meaning}"


def _is_in(word: str, text: str) -> bool:
    # A kind is followed by the number of a layer or ends a phrase: "RM 17", "of W".
    ending = r"(?= \d|[;,.]|$)" if word in _KINDS else r"s?\b"
    before = r"(?<!not )" if word == "reusable" else ""
    return re.search(rf"{before}\b{word}{ending}", text) is not None
