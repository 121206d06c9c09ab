"""Checkpoints in object stores: one in memory, and a local server that speaks S3."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from paramreuse.checkpoint.storage import list_stored, read_stored
from paramreuse.errors import CheckpointError, MissingExtraError, SiteMismatchError
from paramreuse.nearest.search import nearest_sources

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")


def tensors(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a.weight": (6, 4, 3, 3), "b.weight": (5, 6), "b.bias": (5,), "none": (0, 3)}
    return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}


def content(folder: Path, seed: int) -> bytes:
    save_file(tensors(seed), folder / "draft.safetensors", {"name": "draft"})
    return (folder / "draft.safetensors").read_bytes()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[str]:
    """Two sources, one of them below, and what is none, at an address in memory."""
    storage = fsspec.filesystem("memory")
    files = {
        "one.safetensors": content(tmp_path, 1),
        "below/two.safetensors": content(tmp_path, 2),
        "cut.safetensors": content(tmp_path, 3)[:300],
        "long.safetensors": (10**9).to_bytes(8, "little") + b"{",
        "other.pt": b"PK",
        "notes.txt": b"nothing",
    }
    for name, held in files.items():
        storage.pipe(f"/hub/{name}", held)
    yield "memory://hub"
    storage.rm("/hub", recursive=True)


def test_a_stored_file_reads_as_the_same_file_on_a_disk(store: str, tmp_path: Path) -> None:
    checkpoint = read_stored(f"{store}/one.safetensors")

    assert list(checkpoint) == ["a.weight", "b.bias", "b.weight", "none"]
    for key, tensor in tensors(1).items():
        assert torch.equal(checkpoint[key], tensor)
        assert checkpoint.shape_of(key) == tuple(tensor.shape)
        assert checkpoint.dtype_of(key) == torch.float32
    assert checkpoint.metadata == {"name": "draft"}


def test_a_store_is_ranked_like_a_folder(store: str, tmp_path: Path) -> None:
    found = nearest_sources(tensors(2), [store], index=tmp_path / "sketches")

    assert [Path(near.source).name for near in found.sources] == [
        *("two.safetensors", "one.safetensors")
    ]
    assert found.sources[0].distance == 0
    reasons = {item.source.rpartition("/")[2]: item.reason for item in found.left_out}
    assert reasons.keys() == {"cut.safetensors", "long.safetensors", "other.pt"}
    assert "expected a whole safetensors file, got 300 bytes" in reasons["cut.safetensors"]
    assert "the length of its header" in reasons["long.safetensors"]
    assert "only safetensors files are taken" in reasons["other.pt"]
    again = nearest_sources(tensors(1), [store], index=tmp_path / "sketches")
    assert (again.sketched, again.unchanged) == (0, 4)


def test_a_store_that_is_not_there_or_unknown_is_refused(store: str) -> None:
    with pytest.raises(CheckpointError, match="there is nothing of this name"):
        nearest_sources(tensors(0), ["memory://nowhere"])
    for address in ("bogus://bucket", "http://host/a", "file:///a::http://host/b"):
        with pytest.raises(CheckpointError, match=r"expected .*s3://, gs://, hf://"):
            nearest_sources(tensors(0), [address])


def test_a_store_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)

    with pytest.raises(MissingExtraError, match=r"pip install 'paramreuse\[stores\]'"):
        nearest_sources(tensors(0), ["s3://bucket/folder"])


def named(header: object, num_bytes: int = 0) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(num_bytes)


@pytest.mark.parametrize(
    "header",
    [
        b'{"__metadata__": null}',
        b'{"__metadata__": ["a"]}',
        b'{"__metadata__": {"paramreuse.order": 3}}',
        b'{"a": {"dtype": "F32", "shape": [1e999], "data_offsets": [0, 0]}}',
        b'{"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 1e999]}}',
        b'{"a": {"dtype": "F32", "shape": [0, 1180591620717411303424], "data_offsets": [0, 0]}}',
        b'{"a": {"dtype": ["F32"], "shape": [0], "data_offsets": [0, 0]}}',
    ],
)
def test_a_header_that_no_file_has_is_named_and_does_not_end_the_pass(
    store: str, header: bytes
) -> None:
    storage = fsspec.filesystem("memory")
    storage.pipe("/hub/odd.safetensors", len(header).to_bytes(8, "little") + header)

    found = nearest_sources(tensors(2), [store])

    reasons = {item.source: item.reason for item in found.left_out}
    odd = "memory:///hub/odd.safetensors"
    assert f"cannot read {odd!r}" in reasons[odd]
    assert len(found.sources) == 2


def test_a_passing_failure_of_a_store_is_not_remembered(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise TimeoutError("503, slow down")

    with monkeypatch.context() as failing:
        failing.setattr(type(fsspec.filesystem("memory")), "cat_file", fail)
        with pytest.raises(SiteMismatchError):
            nearest_sources(tensors(2), [store], index=tmp_path / "sketches")
    found = nearest_sources(tensors(2), [store], index=tmp_path / "sketches")

    assert (found.sketched, len(found.sources)) == (4, 2)


def test_a_newer_format_is_read_again_after_an_update(store: str, tmp_path: Path) -> None:
    newer = named({"__metadata__": {"paramreuse.format": "99"}})
    fsspec.filesystem("memory").pipe("/hub/newer.safetensors", newer)
    nearest_sources(tensors(2), [store], index=tmp_path / "sketches")

    again = nearest_sources(tensors(2), [store], index=tmp_path / "sketches")

    assert (again.sketched, again.unchanged) == (1, 4)


def test_a_listing_without_checksum_or_time_has_no_stamp(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paramreuse.checkpoint.storage._STAMPS", ("ETag",))

    assert {file.stamp for file in list_stored(store)} == {""}
    nearest_sources(tensors(2), [store], index=tmp_path / "sketches")
    again = nearest_sources(tensors(2), [store], index=tmp_path / "sketches")
    assert (again.sketched, again.unchanged) == (4, 0)


def test_shards_in_a_store_are_left_out_with_the_reason(store: str, tmp_path: Path) -> None:
    name = "model-00001-of-00002.safetensors"
    fsspec.filesystem("memory").pipe(f"/hub/{name}", content(tmp_path, 2))

    found = nearest_sources(tensors(2), [store])

    assert len(found.sources) == 2
    reasons = {item.source: item.reason for item in found.left_out}
    assert "one of several files" in reasons[f"memory:///hub/{name}"]


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a local server that answers like S3."""
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    pytest.importorskip("moto.server", reason="moto[server] is not installed")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    variables = {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    try:
        _wait_for(port)
        yield address
    finally:
        server.terminate()
        server.wait(10)


def _wait_for(port: int) -> None:
    for _ in range(600):
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    pytest.fail("the local server does not answer")


@pytest.mark.slow
def test_a_bucket_is_ranked_and_one_without_rights_is_refused(s3: str, tmp_path: Path) -> None:
    storage = fsspec.filesystem("s3", skip_instance_cache=True)
    storage.mkdir("hub")
    for seed in (1, 2):
        storage.pipe(f"hub/sources/{seed}.safetensors", content(tmp_path, seed))

    found = nearest_sources(
        tensors(2), ["s3://hub/sources"], index=tmp_path / "sketches", workers=2
    )
    assert [near.source for near in found.sources] == [
        *("s3://hub/sources/2.safetensors", "s3://hub/sources/1.safetensors")
    ]
    storage.pipe("hub/sources/1.safetensors", content(tmp_path, 7))
    fsspec.filesystem("s3").invalidate_cache()
    again = nearest_sources(tensors(2), ["s3://hub/sources"], index=tmp_path / "sketches")
    assert (again.sketched, again.unchanged) == (1, 1)

    with pytest.raises(CheckpointError, match="there is nothing of this name"):
        nearest_sources(tensors(2), ["s3://nowhere/sources"])
    fsspec.filesystem("s3").invalidate_cache()
    server = HTTPConnection(s3.removeprefix("http://"))
    # From now on it asks for rights, which nobody was given.
    server.request("POST", "/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"})
    assert server.getresponse().status == 200
    with pytest.raises(CheckpointError, match="the store answers PermissionError") as refused:
        nearest_sources(tensors(2), ["s3://hub/sources"])
    assert "Check that you are signed in" in str(refused.value)
