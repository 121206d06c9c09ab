"""What the commands print: tables and summaries on stdout, remarks on stderr."""

from collections.abc import Sequence

from paramreuse.cli.console import remark, result, show_table
from paramreuse.cli.files import FileComparisons
from paramreuse.plain_text import Row
from paramreuse.report.words import explanations
from paramreuse.sites.layers import Kind

_EXPLAINED = ("swap", "verdict")
"""Columns of a table of judgements whose words are explained below it."""


def show_comparisons(compared: FileComparisons, *, quiet: bool) -> None:
    """Print distances and BatchNorm statistics per source; lineage and gaps go to stderr."""
    for comparison, norms in zip(compared.comparisons, compared.batchnorms, strict=True):
        show_table([row.to_dict() for row in comparison.rows], title=comparison.source)
        if norms:
            show_table(norms, title=f"{comparison.source}: BatchNorm")
        if comparison.source in compared.alignments:
            rows = compared.alignments[comparison.source]
            show_table(rows, title=f"{comparison.source}: with channels aligned")
        if not quiet:
            remark(f"{comparison.source}: {comparison.lineage}: {comparison.lineage_reason}")
            for item in comparison.skipped:
                remark(f"  left out {item.key}: {item.reason}")


def show_judgements(rows: Sequence[Row]) -> None:
    """Print one table per source, with its summary on top."""
    for row in rows:
        result(f"{row['source']}: {row['summary']}")
        for note in row["notes"]:
            result(f"  {note}")
        show_table(row["sites"])
    said = " ".join([*(row["summary"] for row in rows), *_words_of(rows)])
    for line in explanations(said):
        remark(line)


def _words_of(rows: Sequence[Row]) -> list[str]:
    """Return the swaps and verdicts that a table of judgements shows."""
    cells = {str(site[name]) for row in rows for site in row["sites"] for name in _EXPLAINED}
    return sorted(cells)


def show_outcome(shown: Row) -> None:
    """Print what a run ended with: of one study, of the papers' arms, or of arms of your own."""
    for row in shown.get("sources", ()):
        result(f"{row['source']}: {row['summary']}")
        result(f"  {_reusable_layers(row['sites'])}")
    _show_claims(shown.get("claims", ()))
    if shown.get("answers"):
        show_table(shown["answers"], title="What came out")
    if shown.get("comparison"):
        show_table(shown["comparison"], title="Arms")
    if shown.get("transfer"):
        show_table(shown["transfer"], title="Transfer: mean Dice on the validation subjects")
    if shown.get("answer"):
        _show_answer(shown["answer"])
    if shown["report"]:
        result(shown["report"])
    elif "arms" in shown:
        result(f"{shown['folder']}: `paramreuse report` writes the page")


def _show_answer(answer: Row) -> None:
    """Say what to load last, where the eye is."""
    result(f"{answer['headline']}.")
    for sentence in answer["sentences"]:
        result(sentence)
    for caution in answer["cautions"]:
        result(f"Caution: {caution}.")
    if answer["command"]:
        result(f"  {answer['command']}")


def _show_claims(claims: Sequence[Row]) -> None:
    hidden = ("statement", "rule")
    for row in claims:
        result(f"{row['claim']}: {row['statement']}")
    if claims:
        rows = [{k: v for k, v in row.items() if k not in hidden} for row in claims]
        show_table(rows, title="Claims")


def _reusable_layers(sites: Sequence[Row]) -> str:
    by_kind = {
        kind: [_layer_name(row) for row in sites if row["kind"] == kind and _loadable(row)]
        for kind in Kind
    }
    listed = (f"{kind} {' '.join(layers)}" for kind, layers in by_kind.items() if layers)
    return f"reusable: {'; '.join(listed) or 'nothing'}"


def _layer_name(row: Row) -> str:
    """Return the layer's number; with its family where several families count from 1."""
    is_plain = row["swap"] == f"{row['kind']} {row['layer']}"
    return str(row["layer"] if is_plain else f"{row['family']} {row['layer']}")


def _loadable(row: Row) -> bool:
    return row["verdict"] in ("reusable", "identical")
