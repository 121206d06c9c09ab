"""A finished sweep in the store, and back: another tolerance needs no new forward pass."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from paramreuse.sites.draws import draw_name
from paramreuse.sites.layers import Kind
from paramreuse.sites.matching import Site, SkippedTensor
from paramreuse.sites.swaps import Swap
from paramreuse.study.records import StoredSweep, SweepScore
from paramreuse.study.store import Array, Store
from paramreuse.sweep.outcomes import Sweep
from paramreuse.sweep.trials import TrialName, combine_draws, several_draws

_BASELINE = ("", "baseline")
_JOINT = "plan of "


def recalibrated_name(source: str) -> str:
    """Name of the sweep of a source with the BatchNorm statistics recomputed."""
    return f"recalibrated {source}"


def joint_name(source: str) -> str:
    """Name of the sweep of all that the plan for a source loads, swapped in at once."""
    return f"{_JOINT}{source}"


def is_joint(name: str) -> bool:
    """Tell whether a stored sweep is one of a whole plan."""
    return name.startswith(_JOINT)


def write_sweep(store: Store, name: str, sweep: Sweep) -> None:
    """Keep a sweep: its swaps, and every subject's score.

    Args:
        store: Where.
        name: Name of the sweep, that of its source.
        sweep: What was measured.
    """
    sites = {site.key: site for swap in sweep.swaps for site in swap.sites}
    content = {
        "sites": [asdict(site) for site in sites.values()],
        "swaps": [
            {
                "name": swap.name,
                "anchor": swap.anchor.key,
                "sites": [site.key for site in swap.sites],
            }
            for swap in sweep.swaps
        ],
        "replacements": sweep.replacements,
        "classes": sweep.classes,
        "foreground": sweep.foreground,
        "subjects": [str(subject) for subject in sweep.subjects],
        "identical": sorted(sweep.identical),
        "not_finite": sorted(sweep.not_finite),
        "skipped": [asdict(item) for item in sweep.skipped],
        "seed": sweep.seed,
        "notes": sweep.notes,
        "alike": sorted(sweep.alike),
        "lineage": sweep.lineage,
        "constant": sweep.constant,
        "draws": [[*name, len(draws)] for name, draws in sweep.draws.items()],
    }
    with store.together():
        store.remove(SweepScore, sweep=name)
        store.write([StoredSweep(name, json.dumps(content))])
        store.write(_scores(name, sweep))
        store.sweep_log(name).clear()


def _scores(name: str, sweep: Sweep) -> Iterator[SweepScore]:
    subjects = [str(subject) for subject in sweep.subjects]
    tables = {_BASELINE: sweep.baseline, **sweep.scores, **_draws(sweep)}
    for trial, scores in tables.items():
        for subject, of_subject in zip(subjects, scores, strict=True):
            for label, score in zip(sweep.classes, of_subject, strict=True):
                yield SweepScore(name, *trial, subject, label, float(score))


def _draws(sweep: Sweep) -> dict[TrialName, Array]:
    """Return the scores of each draw by its name; the first takes the place of the mean."""
    return {
        (swap, draw_name(control, index)): scores
        for (swap, control), draws in sweep.draws.items()
        for index, scores in enumerate(draws)
    }


def _groups(content: dict[str, Any]) -> dict[TrialName, list[TrialName]]:
    """Return the names of the draws of each control that was drawn several times."""
    return {
        (swap, control): [(swap, draw_name(control, index)) for index in range(number)]
        for swap, control, number in content.get("draws", ())
    }


def read_sweep(store: Store, name: str) -> Sweep | None:
    """Return a stored sweep, None if there is none of this name."""
    stored = store.read(StoredSweep, sweep=name)
    if not stored:
        return None
    content = json.loads(stored[0].content)
    sites = {site.key: site for site in map(_site, content["sites"])}
    tables = _tables(store, name, content)
    groups = _groups(content)
    draws = several_draws(tables, groups)
    means = combine_draws(tables, groups)
    for names in groups.values():
        for trial in names:
            del tables[trial]
    return Sweep(
        swaps=tuple(
            Swap(swap["name"], tuple(sites[key] for key in swap["sites"]), sites[swap["anchor"]])
            for swap in content["swaps"]
        ),
        replacements=tuple(content["replacements"]),
        classes=tuple(content["classes"]),
        foreground=tuple(content["foreground"]),
        subjects=tuple(content["subjects"]),
        baseline=tables.pop(_BASELINE),
        scores={**tables, **means},
        identical=frozenset((swap, replacement) for swap, replacement in content["identical"]),
        skipped=tuple(SkippedTensor(**item) for item in content["skipped"]),
        seed=content["seed"],
        notes=tuple(content["notes"]),
        # Sweeps stored by earlier versions lack these facts.
        not_finite=frozenset((swap, other) for swap, other in content.get("not_finite", ())),
        alike=frozenset((swap, control) for swap, control in content.get("alike", ())),
        lineage=content.get("lineage", ""),
        constant=content.get("constant"),
        draws=draws,
    )


def _site(stored: dict[str, Any]) -> Site:
    kind, shape = Kind(stored["kind"]), tuple(stored["shape"])
    return Site(**stored | {"kind": kind, "shape": shape, "aliases": tuple(stored["aliases"])})


def _tables(store: Store, name: str, content: Mapping[str, Any]) -> dict[tuple[str, str], Array]:
    subjects = {subject: row for row, subject in enumerate(content["subjects"])}
    classes = {label: column for column, label in enumerate(content["classes"])}
    tables: dict[tuple[str, str], Array] = {}
    for row in store.read(SweepScore, sweep=name):
        trial = (row.swap, row.replacement)
        if trial not in tables:
            tables[trial] = np.full((len(subjects), len(classes)), np.nan)
        tables[trial][subjects[row.subject], classes[row.label]] = row.score
    return tables
