"""The rewind sweeps that trainings of the transfer measured, as they are stored and told."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from paramreuse.recommendation.audit import BlockAudit, audit_named
from paramreuse.study.store import Store
from paramreuse.study.transfer.attempts import Attempt
from paramreuse.study.transfer.strategy import Strategy


def rewind_fact(attempt: Attempt) -> str:
    """Name the fact that holds what a training of the strategy ``rewind`` measured first."""
    return f"rewind/{attempt.name.removesuffix('-twice')}"


def stored_audits(
    store: Store, attempts: Sequence[Attempt]
) -> dict[tuple[str, int], tuple[BlockAudit, ...]]:
    """Return what putting blocks back cost, by source and number of subjects, over repetitions.

    Args:
        store: The facts.
        attempts: What the study asks for now.
    """
    drops: dict[tuple[str, int], list[np.ndarray]] = {}
    names: dict[tuple[str, int], Sequence[str]] = {}
    for attempt in attempts:
        fact = store.fact(rewind_fact(attempt)) if attempt.strategy is Strategy.REWIND else None
        if fact is not None:
            key = attempt.source, attempt.num_subjects
            drops.setdefault(key, []).append(np.array(fact["drops"], dtype=float))
            names[key] = fact["blocks"]
    return {
        key: audit_named(names[key], np.concatenate(repeated, axis=2))
        for key, repeated in drops.items()
    }


def rewind_rows(store: Store, attempts: Sequence[Attempt]) -> list[dict[str, Any]]:
    """Return one row per source, number of subjects and block.

    Args:
        store: The facts.
        attempts: What the study asks for now.

    Returns:
        Rows with ``source num_subjects``, and those of ``BlockAudit.to_dict``.
    """
    return [
        {"source": source, "num_subjects": number} | audit.to_dict()
        for (source, number), audits in stored_audits(store, attempts).items()
        for audit in audits
    ]
