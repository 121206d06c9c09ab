"""A sweep stored and read again, also one of an earlier version."""

import json
from pathlib import Path

from paramreuse.study.records import StoredSweep
from paramreuse.study.store import Store
from paramreuse.study.stored_sweep import read_sweep, write_sweep
from samples.sweeps import kernel, made_up_sweep

DROPS = {kernel(1): {"source": [0.1, 0.2], "shuffled": [0.3, 0.4]}}


def test_a_sweep_without_the_facts_of_later_versions_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path / "results.sqlite")
    write_sweep(store, "ae", made_up_sweep(DROPS))
    (stored,) = store.read(StoredSweep)
    content = json.loads(stored.content)
    for name in ("not_finite", "alike", "lineage", "constant"):
        del content[name]
    store.write([StoredSweep("ae", json.dumps(content))])

    sweep = read_sweep(store, "ae")
    store.close()

    assert sweep is not None
    assert sweep.not_finite == frozenset()
    assert (sweep.lineage, sweep.constant) == ("", None)
    assert sweep.drops("W 1")[:, -1].round(9).tolist() == [0.1, 0.2]
