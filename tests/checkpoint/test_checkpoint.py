"""A checkpoint as a mapping of tensors, and how it is written."""

import hashlib
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from paramreuse.checkpoint import (
    Checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from paramreuse.errors import CheckpointError
from samples.networks import line

WRITERS: dict[str, Callable[[dict[str, Tensor], Path], None]] = {
    "a.safetensors": save_file,
    "a.pt": torch.save,
    "a.pth": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
}


# A checkpoint as a mapping.


def test_a_checkpoint_says_form_and_checksum_and_refuses_other_keys(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "a.safetensors", line(), {"task": "demo"})
    checkpoint = read_checkpoint(path, dtype=torch.float16)

    assert isinstance(checkpoint, Mapping)
    assert checkpoint.shape_of("weight") == (1, 1)
    assert checkpoint["weight"].dtype is checkpoint.dtype_of("weight") is torch.float16
    assert checkpoint.metadata == {"task": "demo"}
    assert checkpoint.checksum == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "absent" not in checkpoint
    with pytest.raises(KeyError):
        checkpoint["absent"]


@pytest.mark.parametrize("name", WRITERS)
def test_a_changed_tensor_changes_neither_file_nor_checkpoint(name: str, tmp_path: Path) -> None:
    WRITERS[name](line().state_dict(), tmp_path / name)
    checkpoint = read_checkpoint(tmp_path / name)

    checkpoint["weight"].fill_(9.0)

    assert checkpoint["weight"].item() == 2.0
    assert read_checkpoint(tmp_path / name)["weight"].item() == 2.0


def test_a_checkpoint_travels_to_another_process(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_checkpoint(tmp_path / "a.safetensors", line()))
    dict(checkpoint)

    copy = pickle.loads(pickle.dumps(checkpoint))  # noqa: S301

    assert copy["bias"].item() == 3.0


def test_iterating_a_large_file_holds_one_tensor_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paramreuse.checkpoint.safetensors_file._MAPPED_BYTES", 8 * 2**20)

    def resident_mib() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

    if not Path("/proc/self/statm").exists():
        pytest.skip("memory is read from /proc, which this system lacks")
    path = tmp_path / "large.safetensors"
    save_file({f"k{i:02}": torch.zeros(2**20) for i in range(40)}, path)  # 40 x 4 MiB
    checkpoint = read_checkpoint(path)
    checkpoint["k00"].sum()
    before = peak = resident_mib()

    for tensor in checkpoint.values():
        assert tensor.sum() == 0
        peak = max(peak, resident_mib())

    # 8 MiB of the file stay mapped here, and a tensor has 4; the whole file has 160.
    assert peak - before < 80


def test_prefix_keeps_one_part_and_counts_the_rest(tmp_path: Path) -> None:
    state = {"module.enc.w": torch.ones(1), "module.dec.w": torch.ones(1)}
    torch.save(state, tmp_path / "a.pt")

    checkpoint = read_checkpoint(tmp_path / "a.pt", prefix="enc.")

    assert list(checkpoint) == ["w"]
    assert checkpoint.prefix == "module.enc."
    assert checkpoint.ignored == {"module.dec.w": "not below 'enc.'"}
    with pytest.raises(CheckpointError, match=r"prefix 'x\.'.*none of 2"):
        read_checkpoint(tmp_path / "a.pt", prefix="x.")


def test_rename_takes_prefixes_and_regular_expressions_in_order(tmp_path: Path) -> None:
    state = {"encoder.block1.gamma": torch.ones(1), "block2.gamma": torch.ones(1)}
    torch.save(state, tmp_path / "a.pt")
    rules = {"encoder.": "", r"re:^block(\d+)\.": r"stage\1.", r"re:gamma$": "weight"}

    checkpoint = read_checkpoint(tmp_path / "a.pt", rename=rules)

    assert list(checkpoint) == ["stage1.weight", "stage2.weight"]
    assert checkpoint.file_keys["stage1.weight"] == "encoder.block1.gamma"


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"enc.": "x."}, "none of 2 keys fits"),
        ({"re:(": "x"}, "not a regular expression"),
        ({"re:a": r"\3"}, "not a regular expression"),
        ({"re:^[ab]": "c"}, "'a.w', 'b.w' would all be called 'c.w'"),
    ],
)
def test_a_rule_that_changes_nothing_or_too_much_is_refused(
    rule: dict[str, str], message: str, tmp_path: Path
) -> None:
    torch.save({"a.w": torch.ones(1), "b.w": torch.ones(1)}, tmp_path / "a.pt")

    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / "a.pt", rename=rule)


# Writing.


def test_what_is_written_is_what_safetensors_reads(tmp_path: Path) -> None:
    state = {"a": torch.arange(6.0).reshape(2, 3).T, "n": torch.tensor(4)}

    write_checkpoint(tmp_path / "sub" / "a.safetensors", state)

    read = load_file(tmp_path / "sub" / "a.safetensors")
    assert torch.equal(read["a"], state["a"])
    assert read["n"].item() == 4


def test_the_same_tensors_and_metadata_give_the_same_bytes(tmp_path: Path) -> None:
    text = {f"key {i}": "ü" * i for i in range(8)}
    files = [tmp_path / f"{i}.safetensors" for i in range(4)]

    for file in files:
        write_checkpoint(file, line(), text)

    assert len({file.read_bytes() for file in files}) == 1
    assert read_checkpoint(files[0]).metadata == text


def test_a_write_that_fails_leaves_the_old_file_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_checkpoint(tmp_path / "a.safetensors", line())

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("paramreuse.checkpoint.writing.save_file", full)
    with pytest.raises(CheckpointError, match="no space left"):
        write_checkpoint(path, line(9.0))

    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]
    assert read_checkpoint(path)["weight"].item() == 2.0


def test_a_write_stopped_before_the_file_is_put_in_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_checkpoint(tmp_path / "a.safetensors", line())

    def stopped(*_: object) -> None:
        raise PermissionError("not allowed")

    monkeypatch.setattr("paramreuse.checkpoint.writing.os.replace", stopped)
    with pytest.raises(CheckpointError, match="not allowed"):
        write_checkpoint(path, line(9.0))

    assert read_checkpoint(path)["weight"].item() == 2.0


@pytest.mark.parametrize(
    ("weights", "metadata", "message"),
    [
        ({}, None, "it was given no tensor"),
        ({"a": 3}, None, "'a' as a int"),
        ({"a": torch.ones(1, device="meta")}, None, "on meta"),
        ({"a": torch.ones(1)}, {"epoch": 3}, "metadata must be text"),
    ],
)
def test_what_cannot_be_written_is_refused(
    weights: dict[str, Tensor], metadata: dict[str, str] | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=message):
        write_checkpoint(tmp_path / "a.safetensors", weights, metadata)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_shown_in_one_line(tmp_path: Path) -> None:
    ones = torch.ones(1)
    torch.save({"model": {"module.w": ones}, "ema": {"w": ones}}, tmp_path / "a.pt")

    checkpoint = read_checkpoint(tmp_path / "a.pt")

    assert isinstance(checkpoint, Checkpoint)
    assert checkpoint.summary() == (
        "a.pt: 1 tensors, torch zip; from 'model'; prefix 'module.' taken off; not taken: 'ema'"
    )
