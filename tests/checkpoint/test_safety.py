"""Files that would run code, are damaged, or are no checkpoint: refused by name."""

import contextlib
import json
import os
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from paramreuse.checkpoint import (
    read_checkpoint,
)
from paramreuse.errors import CheckpointError
from samples.networks import line
from samples.permissions import without_privileges


class Payload:
    """Pickles as a call that creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


# What is run when a file is read: nothing.


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("form", ["zip", "legacy", "bare pickle"])
def test_a_pickle_that_would_run_code_runs_nothing_and_is_named(
    form: str, protocol: int, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    state = nn.BatchNorm1d(1).state_dict()  # two dtypes, so that names are said by reference
    content = {"state_dict": state, "x": Payload(trace)}
    path = tmp_path / "evil.pt"
    if form == "bare pickle":
        path.write_bytes(pickle.dumps(Payload(trace), protocol))
    else:
        torch.save(
            content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=form == "zip"
        )

    with pytest.raises(CheckpointError, match=r"asks for '(posix|nt)\.mkdir'. Nothing of it was"):
        read_checkpoint(path)

    assert not trace.exists()
    # The payload is real: the unpickler that runs code would have left its trace.
    pickle.loads(pickle.dumps(Payload(trace)))  # noqa: S301
    assert trace.exists()


def test_names_the_process_allowed_are_refused_all_the_same_and_stay_allowed(
    tmp_path: Path,
) -> None:
    torch.save({"model": line().state_dict(), "layer": line()}, tmp_path / "m.pt")
    before = torch.serialization.get_safe_globals()

    with torch.serialization.safe_globals([nn.Linear]):
        with pytest.raises(CheckpointError, match=r"'torch\.nn\.modules\.linear\.Linear'"):
            read_checkpoint(tmp_path / "m.pt")
        assert set(torch.serialization.get_safe_globals()) == {*before, nn.Linear}
    assert set(torch.serialization.get_safe_globals()) == set(before)


def test_the_message_of_a_refusal_holds_a_script_that_makes_the_file_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": line().state_dict(), "layer": line()}, "m.pt")

    with pytest.raises(CheckpointError) as caught:
        read_checkpoint("m.pt")
    lines = [line[4:] for line in str(caught.value).splitlines() if line.startswith("    ")]
    assert len(lines) == 3
    exec("\n".join(lines))  # noqa: S102  (the user's own decision, made here by the test)

    assert read_checkpoint("m-tensors.pt")["weight"].item() == 2.0


@pytest.mark.parametrize("zipped", [True, False])
def test_scores_options_and_paths_beside_the_weights_are_passed_over(
    zipped: bool, tmp_path: Path
) -> None:
    content = {
        "model": line().state_dict(),
        "best": np.float64(0.9),
        "curve": np.arange(3.0),
        "out": Path("runs"),
    }
    torch.save(content, tmp_path / "c.pt", _use_new_zipfile_serialization=zipped)

    assert read_checkpoint(tmp_path / "c.pt")["bias"].item() == 3.0


def test_a_torchscript_archive_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("script/data.pkl", b"x")
        archive.writestr("script/constants.pkl", b"x")

    with pytest.raises(CheckpointError, match="TorchScript archive, a program"):
        read_checkpoint(tmp_path / "script.pt")


# Damaged files.

WRITERS: dict[str, Callable[[dict[str, Tensor], Path], None]] = {
    "a.safetensors": save_file,
    "a.pt": torch.save,
    "a.pth": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_truncated_or_empty_file_is_named_at_every_length(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    WRITERS[name](line().state_dict(), path)
    whole = path.read_bytes()

    for length in [0, 1, 7, 8, 9, *range(16, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=rf"cannot read .*{name}"):
            dict(read_checkpoint(path))


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_with_random_damage_reads_or_raises_our_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    WRITERS[name](line().state_dict(), path)
    whole = path.read_bytes()
    dice = random.Random(0)  # noqa: S311

    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(dice.choice([1, 2, 8])):
            damaged[dice.randrange(len(whole))] = dice.randrange(256)
        path.write_bytes(damaged)
        # Any other error would fail the test.
        with contextlib.suppress(CheckpointError):
            dict(read_checkpoint(path))


def test_one_flipped_bit_in_a_zip_file_is_found_though_torch_does_not_look(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"w": torch.arange(5.0)}, path)
    whole = bytearray(path.read_bytes())
    whole[whole.find(torch.arange(5.0).numpy().tobytes()) + 9] ^= 0x01
    path.write_bytes(whole)

    assert not torch.equal(torch.load(path)["w"], torch.arange(5.0))
    with pytest.raises(CheckpointError, match="does not have the checksum"):
        read_checkpoint(path)


def test_a_zip_file_written_without_checksums_is_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"w": torch.ones(2)}, tmp_path / "a.pt")
    finally:
        torch.serialization.set_crc32_options(True)

    assert read_checkpoint(tmp_path / "a.pt")["w"].tolist() == [1.0, 1.0]


def test_an_absurd_header_length_is_refused_before_memory_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}" + b" " * 30)

    with pytest.raises(CheckpointError, match=r"got 40 bytes with a header said to be 46\d+ bytes"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b"\x89HDF\r\n\x1a\n0000", "HDF5"),
        (b"\x00\x01\x02", "begins with"),
    ],
)
def test_a_file_that_is_no_checkpoint_says_what_it_seems_to_be(
    content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / "a.pt").write_bytes(content)

    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / "a.pt")


def test_missing_file_folder_without_index_and_other_zip_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no\.pt.*there is no such file"):
        read_checkpoint(tmp_path / "no.pt")
    with pytest.raises(CheckpointError, match=r"expected one .*index\.json.*an empty folder"):
        read_checkpoint(tmp_path)
    np.savez(tmp_path / "a.npz", x=np.ones(2))
    with pytest.raises(CheckpointError, match=r"a zip file of 'x\.npy'"):
        read_checkpoint(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "content", [{}, {"epoch": 1}, {"state_dict": {}}, [torch.ones(1)], torch.ones(1)]
)
def test_a_file_without_a_state_dict_says_what_it_holds(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pt")

    with pytest.raises(CheckpointError, match=r"cannot find a state dict in .*a\.pt.*got a"):
        read_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("shard", "message"),
    [
        ("../secret.safetensors", "plain names"),
        ("/etc/secret.safetensors", "plain names"),
        ("..\\secret.safetensors", "plain names"),
        ("model.bin", "plain names"),
        ("absent.safetensors", "is not in its folder"),
        ("other.safetensors", "does not hold 'w'"),
    ],
)
def test_an_index_may_only_name_files_beside_it_that_keep_its_promise(
    shard: str, message: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"w": torch.ones(1)}, tmp_path / "secret.safetensors")
    save_file({"v": torch.ones(1)}, folder / "other.safetensors")
    index = folder / "a.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": shard}}))

    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"w": 3}}'])
def test_a_damaged_index_is_named(text: str, tmp_path: Path) -> None:
    index = tmp_path / "a.safetensors.index.json"
    index.write_text(text)

    with pytest.raises(CheckpointError, match=r"cannot read .*index\.json"):
        read_checkpoint(index)


def test_a_small_zip_of_a_huge_part_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", pickle.dumps({}, protocol=2))
        with archive.open("bomb/data/0", "w", force_zip64=True) as part:
            for _ in range(8):
                part.write(bytes(1 << 20))
    content = bytearray(path.read_bytes())
    # 2 GiB according to the directory at the end of the file.
    content = content.replace(struct.pack("<I", 8 << 20), struct.pack("<I", 1 << 31))
    path.write_bytes(content)

    with pytest.raises(CheckpointError, match=r"bytes would become 21474836\d\d bytes"):
        read_checkpoint(path)


def test_a_compressed_copy_of_a_checkpoint_says_how_to_store_it(tmp_path: Path) -> None:
    torch.save(nn.Linear(1, 1).state_dict(), tmp_path / "a.pt")
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as whole,
        zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for info in whole.infolist():
            packed.writestr(info.filename, whole.read(info))

    with pytest.raises(CheckpointError, match="store it with zip -0"):
        read_checkpoint(tmp_path / "b.pt")


def test_few_values_that_are_repeated_until_memory_is_full_are_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1).expand(10**9), "b": torch.ones(1)}, tmp_path / "a.pt")

    with pytest.raises(CheckpointError, match="'w' is said to have 4000000000 bytes, expected at"):
        read_checkpoint(tmp_path / "a.pt")


def test_one_dict_under_many_names_is_not_walked_for_hours(tmp_path: Path) -> None:
    nested: dict[str, object] = {"w": torch.zeros(2)}
    for _ in range(4):
        nested = {f"k{index}": nested for index in range(40)}
    torch.save(nested, tmp_path / "a.pt")
    assert (tmp_path / "a.pt").stat().st_size < 4000

    with pytest.raises(CheckpointError, match="it holds more than 10000 dicts"):
        read_checkpoint(tmp_path / "a.pt")


def test_a_key_with_a_number_of_thousands_of_digits_is_read(tmp_path: Path) -> None:
    key = f"layer{'9' * 5000}.weight"
    save_file({key: torch.ones(2), "layer2.weight": torch.zeros(2)}, tmp_path / "a.safetensors")

    assert list(read_checkpoint(tmp_path / "a.safetensors")) == ["layer2.weight", key]


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    for closed in (tmp_path / "a.safetensors", tmp_path):
        with (
            without_privileges(tmp_path, closed),
            pytest.raises(CheckpointError, match=r"a\.safetensors': Permission denied"),
        ):
            read_checkpoint(tmp_path / "a.safetensors")
