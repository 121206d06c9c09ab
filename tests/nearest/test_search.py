"""The checkpoints nearest to a pilot, among files of every kind."""

import json
import os
import sqlite3
import weakref
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from paramreuse.checkpoint.reading import Checkpoint
from paramreuse.compare.distance import compare_models
from paramreuse.errors import CheckpointError, SiteMismatchError
from paramreuse.nearest.index import opened_index
from paramreuse.nearest.listing import list_sources
from paramreuse.nearest.search import nearest_sources
from paramreuse.nearest.sketching import sketch_sources

SHAPES = {
    "first.weight": (8, 3, 3, 3),
    "norm.weight": (8,),
    "second.weight": (16, 8, 3, 3),
    "head.weight": (4, 16, 1, 1),
}


def tensors(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.randn(shape, generator=generator) for key, shape in SHAPES.items()}


def near(start: Mapping[str, Tensor], noise: float, seed: int) -> dict[str, Tensor]:
    moves = tensors(seed)
    return {key: tensor + noise * moves[key] for key, tensor in start.items()}


@pytest.fixture
def pilot() -> dict[str, Tensor]:
    return tensors(0)


@pytest.fixture
def hub(tmp_path: Path, pilot: dict[str, Tensor]) -> Path:
    """Twelve strangers, and three relatives in a folder below."""
    folder = tmp_path / "hub"
    (folder / "below").mkdir(parents=True)
    for seed in range(1, 13):
        save_file(tensors(seed), folder / f"stranger{seed}.safetensors")
    for number, noise in enumerate((0.1, 0.3, 0.6)):
        save_file(
            near(pilot, noise, 50 + number), folder / "below" / f"relative{number}.safetensors"
        )
    return folder


def names(found: object) -> list[str]:
    return [Path(near.source).stem for near in found.sources]  # type: ignore[attr-defined]


@pytest.mark.parametrize("workers", [1, 3])
def test_relatives_come_first_in_order_of_their_noise_with_exact_distances(
    hub: Path, pilot: dict[str, Tensor], workers: int
) -> None:
    found = nearest_sources(pilot, [str(hub)], top=4, workers=workers)

    assert names(found)[:3] == ["relative0", "relative1", "relative2"]
    assert (found.sketched, found.unchanged, found.left_out, found.kernels) == (15, 0, (), 2)
    for row in found.sources:
        kernels = [
            held
            for held in compare_models(pilot, row.source).rows
            if held.site.key in ("first.weight", "second.weight")
        ]
        assert row.distance == pytest.approx(sum(held.relative_rmse for held in kernels) / 2)
        assert row.rmse == pytest.approx(sum(held.rmse for held in kernels) / 2)
        assert row.estimate == pytest.approx(row.distance, rel=0.5)
    assert found.sources[0].lineage == "shared"


def test_a_kernel_that_a_source_lacks_counts_as_an_unrelated_one(
    tmp_path: Path, pilot: dict[str, Tensor]
) -> None:
    half = {key: tensor for key, tensor in pilot.items() if key != "second.weight"}
    save_file(half, tmp_path / "half.safetensors")

    found = nearest_sources(pilot, [str(tmp_path)])

    # The first kernel is the pilot's own, 0; the second is missing, 1.
    assert [(near.distance, near.kernels) for near in found.sources] == [(0.5, 1)]
    assert found.rows()[0]["kernels"] == "1 of 2"


def test_names_with_a_wrapper_and_other_formats_fit(
    tmp_path: Path, pilot: dict[str, Tensor]
) -> None:
    torch.save({"state_dict": {f"module.{k}": t for k, t in pilot.items()}}, tmp_path / "a.pt")
    save_file({f"backbone.{k}": t for k, t in pilot.items()}, tmp_path / "b.safetensors")

    found = nearest_sources(pilot, [str(tmp_path)])

    assert [near.distance for near in found.sources] == [0, 0]


def test_an_index_saves_reading_and_notices_what_changed(
    hub: Path, pilot: dict[str, Tensor], tmp_path: Path
) -> None:
    index = tmp_path / "sketches"
    first = nearest_sources(pilot, [str(hub)], index=index)
    again = nearest_sources(pilot, [str(hub)], index=index)
    assert (again.sketched, again.unchanged) == (0, 15)
    assert again.sources == first.sources

    changed = hub / "stranger3.safetensors"
    before = changed.stat()
    save_file(near(pilot, 0.01, 99), changed)
    # Of the same size and time: only what is in it tells.
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    (hub / "stranger4.safetensors").unlink()
    save_file(tensors(77), hub / "new.safetensors")
    third = nearest_sources(pilot, [str(hub)], index=index, top=20)

    assert (third.sketched, third.unchanged) == (2, 13)
    assert names(third)[0] == "stranger3"
    assert "stranger4" not in names(third)
    assert "new" in names(third)


def test_an_interrupted_pass_goes_on_where_it_was(
    hub: Path, pilot: dict[str, Tensor], tmp_path: Path
) -> None:
    index = tmp_path / "sketches"

    def interrupt(done: int, total: int | None) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nearest_sources(pilot, [str(hub)], index=index, progress=interrupt)

    found = nearest_sources(pilot, [str(hub)], index=index)
    assert (found.sketched, found.unchanged) == (9, 6)


def test_what_does_not_fit_is_named_and_left_out(hub: Path, pilot: dict[str, Tensor]) -> None:
    (hub / "cut.safetensors").write_bytes((hub / "stranger1.safetensors").read_bytes()[:500])
    (hub / "empty.pt").write_bytes(b"")
    (hub / "page.ckpt").write_text("<html>not found</html>")
    (hub / "notes.txt").write_text("no checkpoint")
    save_file({"other.weight": torch.randn(5, 5)}, hub / "other.safetensors")
    save_file({"first.weight": torch.randn(3)}, hub / "flat.safetensors")
    bad = near(pilot, 0.1, 9)
    bad["first.weight"][0, 0, 0, 0] = torch.inf
    save_file(bad, hub / "infinite.safetensors")
    (hub / "loop").symlink_to(hub, target_is_directory=True)

    found = nearest_sources(pilot, [str(hub)], top=30)

    reasons = {Path(item.source).name: item.reason for item in found.left_out}
    assert reasons.keys() == {
        *("cut.safetensors", "empty.pt", "page.ckpt", "other.safetensors", "flat.safetensors"),
        *("infinite.safetensors", "loop"),
    }
    assert "empty (0 bytes)" in reasons["empty.pt"]
    assert "a web page" in reasons["page.ckpt"]
    assert "no kernel fits the pilot, e.g. 'first.weight'" in reasons["other.safetensors"]
    assert "holds no kernel" in reasons["flat.safetensors"]
    assert "not finite" in reasons["infinite.safetensors"]
    assert "loop of links" in reasons["loop"]
    assert len(found.sources) == 15


def test_shards_are_one_source(tmp_path: Path, pilot: dict[str, Tensor]) -> None:
    parts = {"a.safetensors": ["first.weight", "norm.weight"], "b.safetensors": ["second.weight"]}
    for name, keys in parts.items():
        save_file({key: pilot[key] for key in keys}, tmp_path / name)
    where = {key: name for name, keys in parts.items() for key in keys}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": where}))

    found = nearest_sources(pilot, [str(tmp_path)])

    assert [(near.source, near.distance) for near in found.sources] == [(str(index), 0.0)]


def test_places_without_a_checkpoint_are_refused(tmp_path: Path, pilot: dict[str, Tensor]) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint in"):
        nearest_sources(pilot, [str(tmp_path)])
    with pytest.raises(CheckpointError, match="there is no file or folder"):
        nearest_sources(pilot, [str(tmp_path / "none")])
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(SiteMismatchError, match=r"none of 1 sources .*bad.safetensors"):
        nearest_sources(pilot, [str(tmp_path)])


def test_an_index_that_is_none_is_refused_and_left_alone(
    hub: Path, pilot: dict[str, Tensor], tmp_path: Path
) -> None:
    text = tmp_path / "text"
    text.write_text("a file of mine, longer than the header of a database" * 10)
    with pytest.raises(CheckpointError, match="file is not a database"):
        nearest_sources(pilot, [str(hub)], index=text)
    other = tmp_path / "other"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (name TEXT)")
    with pytest.raises(CheckpointError, match="got another database"):
        nearest_sources(pilot, [str(hub)], index=other)
    with pytest.raises(CheckpointError, match="unable to open"):
        nearest_sources(pilot, [str(hub)], index=tmp_path / "no" / "such" / "folder")

    assert text.read_text().startswith("a file of mine")


def test_sources_that_diverged_do_not_push_out_the_nearest(
    hub: Path, pilot: dict[str, Tensor]
) -> None:
    for number in range(8):
        diverged = {key: 1e19 * tensor for key, tensor in tensors(200 + number).items()}
        save_file(diverged, hub / f"diverged{number}.safetensors")

    found = nearest_sources(pilot, [str(hub)], top=1)

    assert names(found) == ["relative0"]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE layouts SET tensors = '{'",
        "UPDATE layouts SET tensors = '[[1]]'",
        "UPDATE layouts SET tensors = replace(tensors, 'float32', 'load')",
        "UPDATE layouts SET tensors = replace(tensors, '[8', '[-8')",
        "UPDATE sources SET squares = NULL",
        "UPDATE sources SET squares = 'text'",
        "UPDATE sources SET buckets = zeroblob(256)",
    ],
)
def test_a_damaged_index_is_refused_with_the_way_out(
    hub: Path, pilot: dict[str, Tensor], tmp_path: Path, damage: str
) -> None:
    index = tmp_path / "sketches"
    nearest_sources(pilot, [str(hub)], index=index)
    connection = sqlite3.connect(index)
    connection.execute(damage)
    connection.commit()
    connection.close()

    with pytest.raises(CheckpointError, match=r"sketches.* is damaged.* Delete it"):
        nearest_sources(pilot, [str(hub)], index=index)


def test_two_processes_share_an_index(tmp_path: Path) -> None:
    with opened_index(tmp_path / "sketches") as one, opened_index(tmp_path / "sketches") as other:
        for number in range(3):
            for index in (one, other):
                index.want(f"{number} {id(index)}")
                index.write_problem(f"{number} {id(index)}", "stamp", "problem")
            one.commit()
            other.commit()
        assert (len(list(one.problems())), len(list(other.problems()))) == (3, 3)


def test_an_index_that_another_process_holds_is_said_to_be_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paramreuse.nearest.index._BUSY_SECONDS", 0.05)
    with opened_index(tmp_path / "sketches"):
        pass
    holder = sqlite3.connect(tmp_path / "sketches", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    with (
        pytest.raises(CheckpointError, match="another process is using it"),
        opened_index(tmp_path / "sketches") as index,
    ):
        index.write_problem("a", "stamp", "problem")
    holder.close()


def test_no_worker_holds_more_than_one_tensor(
    hub: Path, pilot: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: set[int] = set()
    most = 0
    plain = Checkpoint.view

    def view(self: Checkpoint, key: str) -> Tensor:
        nonlocal most
        tensor = plain(self, key)
        alive.add(id(tensor))
        weakref.finalize(tensor, alive.discard, id(tensor))
        most = max(most, len(alive))
        return tensor

    monkeypatch.setattr(Checkpoint, "view", view)
    with opened_index(None) as index:
        sketch_sources(index, list_sources([str(hub)]))

    assert most == 1
