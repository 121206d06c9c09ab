"""Reading without running, loading without lying, writing without half a file."""

import contextlib
import hashlib
import json
import os
import pickle
import random
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from paramreuse.checkpoint import (
    Checkpoint,
    load_checkpoint,
    match_keys,
    read_checkpoint,
    write_checkpoint,
)
from paramreuse.errors import CheckpointError


def pair(weight: float = 2.0, bias: float = 3.0) -> nn.Linear:
    layer = nn.Linear(1, 1)
    with torch.no_grad():
        layer.weight.fill_(weight)
        layer.bias.fill_(bias)
    return layer


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
    torch.save({"model": pair().state_dict(), "layer": pair()}, tmp_path / "m.pt")
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
    torch.save({"state_dict": pair().state_dict(), "layer": pair()}, "m.pt")

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
        "model": pair().state_dict(),
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
    WRITERS[name](pair().state_dict(), path)
    whole = path.read_bytes()

    for length in [0, 1, 7, 8, 9, *range(16, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=rf"cannot read .*{name}"):
            dict(read_checkpoint(path))


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_with_random_damage_reads_or_raises_our_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    WRITERS[name](pair().state_dict(), path)
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
        ("absent.safetensors", "not beside it"),
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


# A checkpoint as a mapping.


def test_a_checkpoint_says_form_and_checksum_and_refuses_other_keys(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "a.safetensors", pair(), {"task": "demo"})
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
    WRITERS[name](pair().state_dict(), tmp_path / name)
    checkpoint = read_checkpoint(tmp_path / name)

    checkpoint["weight"].fill_(9.0)

    assert checkpoint["weight"].item() == 2.0
    assert read_checkpoint(tmp_path / name)["weight"].item() == 2.0


def test_a_checkpoint_travels_to_another_process(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_checkpoint(tmp_path / "a.safetensors", pair()))
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


# Names.


def test_match_keys_finds_the_prefix_both_ways() -> None:
    long, short = ["backbone.conv1.weight", "backbone.bn1.bias"], ["conv1.weight", "bn1.bias"]

    down, up = match_keys(long, short), match_keys(short, long)

    assert (down.removed, down.added) == ("backbone.", "")
    assert down.pairs == dict(zip(short, long, strict=True))
    assert (up.removed, up.added) == ("", "backbone.")
    assert up.pairs == dict(zip(long, short, strict=True))
    across = match_keys(long, [f"net.encoder.{key}" for key in short])
    assert (across.removed, across.added) == ("backbone.", "net.encoder.")


def test_match_keys_leaves_names_that_agree_as_they_are() -> None:
    match = match_keys(["a.weight", "a.bias", "b.a.weight"], ["a.weight", "a.bias"])

    assert match.pairs == {"a.weight": "a.weight", "a.bias": "a.bias"}
    assert str(match) == "keys as they are"


def test_match_keys_does_not_pair_by_chance() -> None:
    source = ["features.0.conv.weight", *(f"features.{i}.a" for i in range(1, 10))]
    target = ["stem.0.conv.weight", *(f"layer{i}.b" for i in range(1, 10))]

    assert match_keys(source, target).pairs == {}


def test_match_keys_takes_the_trained_copy_before_the_average_and_says_so() -> None:
    source = ["ema_model.a.w", "ema_model.b.w", "student.a.w", "student.b.w"]

    match = match_keys(source, ["a.w", "b.w"])

    assert match.pairs == {"a.w": "student.a.w", "b.w": "student.b.w"}
    assert match.also == ("ema_model.",)
    assert "would fit as well" in str(match)


def test_match_keys_keeps_the_name_of_a_key_without_the_prefix() -> None:
    match = match_keys(["net.a.w", "net.b.w", "head.w"], ["a.w", "b.w", "head.w"])

    assert match.pairs == {"a.w": "net.a.w", "b.w": "net.b.w", "head.w": "head.w"}


def test_match_keys_does_not_choose_between_two_places_that_fit_equally_well() -> None:
    places = ["net1.a.w", "net1.b.w", "net2.a.w", "net2.b.w"]

    for match in (match_keys(places, ["a.w", "b.w"]), match_keys(["a.w", "b.w"], places)):
        assert match.pairs == {}
        assert match.also == ("net1.", "net2.")


def test_the_empty_prefix_puts_one_on_where_two_places_fit() -> None:
    model = nn.ModuleDict({"net1": pair(), "net2": pair()})

    report = load_checkpoint(model, pair(5.0).state_dict(), rename={"": "net2."})

    assert report.loaded == ("net2.weight", "net2.bias")
    assert (model["net1"].weight.item(), model["net2"].weight.item()) == (2.0, 5.0)


# The report.


def test_every_tensor_of_both_sides_is_in_one_row_with_its_reason() -> None:
    model = nn.ModuleDict({"same": pair(), "conv": nn.Conv2d(2, 4, 3), "own": pair()})
    source = {
        "net.same.weight": torch.tensor([[10.0]]),
        "net.same.bias": torch.tensor([20.0], dtype=torch.float16),
        "net.conv.weight": torch.zeros(4, 1, 3, 3),
        "net.conv.bias": torch.zeros(4),
        "net.extra": torch.zeros(5),
        "epoch": 3,
    }

    report = load_checkpoint(model, source)  # type: ignore[arg-type]

    frame = report.frame().astype(object).where(lambda table: table.notna(), None)
    columns = "key source_key status target_shape source_shape dtype reason"
    assert list(frame.columns) == columns.split()
    assert [tuple(row) for row in frame.drop(columns="reason").values] == [
        ("same.weight", "net.same.weight", "renamed", (1, 1), (1, 1), "float32"),
        ("same.bias", "net.same.bias", "dtype", (1,), (1,), "float16 -> float32"),
        ("conv.weight", "net.conv.weight", "shape", (4, 2, 3, 3), (4, 1, 3, 3), "float32"),
        ("conv.bias", "net.conv.bias", "renamed", (4,), (4,), "float32"),
        ("own.weight", None, "missing", (1, 1), None, "float32"),
        ("own.bias", None, "missing", (1,), None, "float32"),
        ("net.extra", "net.extra", "unexpected", None, (5,), "float32"),
    ]
    assert report.counts() == {
        "loaded": 0, "renamed": 2, "dtype": 1, "shape": 1, "missing": 2, "unexpected": 1
    }  # fmt: skip
    assert report.ignored == {"epoch": "int"}
    assert report.rows[2].reason == (
        "the model has (4, 2, 3, 3), the checkpoint (4, 1, 3, 3); not loaded"
    )
    assert report.summary() == (
        "loaded 3 of 6 tensors; prefix 'net.' removed from the source's keys; 2 under another "
        "name; 1 converted; 1 shape; 2 missing; 1 unexpected; ignored entries: 1"
    )
    assert model["same"].bias.item() == 20.0
    assert model["own"].weight.item() == 2.0


def test_nan_and_infinity_are_counted_per_tensor_also_those_that_rounding_makes() -> None:
    model = pair().half()
    source = {
        "weight": torch.tensor([[70000.0]]),  # above 65504, the largest float16
        "bias": torch.tensor([float("nan")], dtype=torch.float16),
    }

    report = load_checkpoint(model, source)

    assert report.non_finite == {"weight": 1, "bias": 1}
    assert report.rows[0].reason.endswith(
        "1 of 1 values are NaN or infinite, 1 of them only since the conversion"
    )
    assert "tensors with NaN or infinite values: 2" in report.summary()


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ({f"old.{i}.kernel": torch.ones(1) for i in range(12)}, "all 12 source keys begin with 'o"),
        ({"weight": torch.ones(2, 2), "bias": torch.ones(2)}, "2 names agree and no shape does"),
        ({"kernel": torch.ones(1)}, "another architecture: the checkpoint has 'kernel', the model"),
        ({}, "the checkpoint has no tensors"),
        (
            {f"net{i}.{key}": torch.ones(1, 1) for i in (1, 2) for key in ("weight", "bias")},
            "fit equally well with the prefixes 'net1.', 'net2.'",
        ),
    ],
)
def test_loading_nothing_is_an_error_that_names_the_likely_cause(
    source: dict[str, Tensor], cause: str
) -> None:
    with pytest.raises(CheckpointError, match=rf"no tensor fits the model; .*{cause}"):
        load_checkpoint(pair(), source)


def test_strict_refuses_what_is_left_and_changes_nothing() -> None:
    model = pair()

    with pytest.raises(CheckpointError, match=r"1 tensors are left: 'bias \(missing\)'"):
        load_checkpoint(model, {"weight": torch.ones(1, 1)}, strict=True)

    assert model.weight.item() == 2.0


def quantised() -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch will drop quantised tensors; files keep them
        return torch.quantize_per_tensor(torch.ones(1), 1.0, 0, torch.qint8)


@pytest.mark.parametrize(
    ("bias", "message"),
    [
        (lambda: torch.ones(1, dtype=torch.complex64), "no conversion"),
        (quantised, "quantised"),
        (lambda: torch.ones(1).to_sparse(), "sparse_coo"),
    ],
)
def test_a_tensor_that_cannot_be_converted_stops_everything(
    bias: Callable[[], Tensor], message: str
) -> None:
    model = pair()

    with pytest.raises(CheckpointError, match=f"cannot load 'bias'.*{message}"):
        load_checkpoint(model, {"weight": torch.ones(1, 1), "bias": bias()})

    assert (model.weight.item(), model.bias.item()) == (2.0, 3.0)


def test_a_count_survives_as_float_only_where_it_is_whole() -> None:
    norm = nn.BatchNorm1d(1)
    load_checkpoint(norm, {"num_batches_tracked": torch.tensor(41.0)})
    assert norm.num_batches_tracked.item() == 41

    with pytest.raises(CheckpointError, match="do not survive the conversion"):
        load_checkpoint(norm, {"num_batches_tracked": torch.tensor(0.5)})


def test_a_source_that_fails_half_way_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_checkpoint(tmp_path / "a.safetensors", pair(5.0, 6.0)))
    model = pair()
    whole = checkpoint._source.read

    def failing(key: str) -> Tensor:
        if key == "bias":
            raise CheckpointError("the disk is gone")
        return whole(key)

    checkpoint._source.read = failing  # type: ignore[method-assign]
    with pytest.raises(CheckpointError, match="the disk is gone"):
        load_checkpoint(model, checkpoint)

    assert (model.weight.item(), model.bias.item()) == (2.0, 3.0)


def test_a_model_that_does_not_keep_what_was_written_is_found_out_and_restored() -> None:
    model = nn.Module()
    shared = torch.tensor([1.0, 2.0, 3.0])
    model.register_buffer("a", shared[:2])
    model.register_buffer("b", shared[1:])

    with pytest.raises(CheckpointError, match="cannot load 'a': after writing"):
        load_checkpoint(model, {"a": torch.tensor([7.0, 8.0]), "b": torch.tensor([9.0, 9.0])})

    assert shared.tolist() == [1.0, 2.0, 3.0]


def test_a_tied_tensor_given_under_one_name_counts_as_loaded_under_both() -> None:
    model = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)})
    model["b"].weight = model["a"].weight

    report = load_checkpoint(model, {"b.weight": torch.ones(2, 2)})

    assert report.loaded == ("a.weight", "b.weight")
    assert report.rows[0].reason == "shares its tensor with 'b.weight', which was loaded"


class Copying(nn.Linear):
    """Hands out copies, as modules with a state-dict hook may."""

    def state_dict(self, *args: object, **options: object) -> dict[str, Tensor]:  # type: ignore[override]
        return {key: value.clone() for key, value in super().state_dict().items()}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: nn.LazyLinear(2), "lazy layer"),
        (lambda: nn.Linear(1, 1, device="meta"), "meta device"),
        (lambda: Copying(1, 1), "hands out copies"),
    ],
)
def test_a_model_without_tensors_of_its_own_to_write_to_is_refused(
    model: Callable[[], nn.Module], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(model(), pair().state_dict())


def test_loading_keeps_gradients_flags_and_the_tensors_themselves() -> None:
    model = pair().requires_grad_(False)
    before = model.weight

    load_checkpoint(model, pair(5.0, 6.0).state_dict())

    assert model.weight is before
    assert not model.weight.requires_grad
    assert (model.weight.item(), model.bias.item()) == (5.0, 6.0)


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
        write_checkpoint(file, pair(), text)

    assert len({file.read_bytes() for file in files}) == 1
    assert read_checkpoint(files[0]).metadata == text


def test_a_write_that_fails_leaves_the_old_file_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_checkpoint(tmp_path / "a.safetensors", pair())

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("paramreuse.checkpoint.writing.save_file", full)
    with pytest.raises(CheckpointError, match="no space left"):
        write_checkpoint(path, pair(9.0))

    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]
    assert read_checkpoint(path)["weight"].item() == 2.0


def test_a_write_stopped_before_the_file_is_put_in_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_checkpoint(tmp_path / "a.safetensors", pair())

    def stopped(*_: object) -> None:
        raise PermissionError("not allowed")

    monkeypatch.setattr("paramreuse.checkpoint.writing.os.replace", stopped)
    with pytest.raises(CheckpointError, match="not allowed"):
        write_checkpoint(path, pair(9.0))

    assert read_checkpoint(path)["weight"].item() == 2.0


@pytest.mark.parametrize(
    ("weights", "metadata", "message"),
    [
        ({}, None, "no tensor to write"),
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
