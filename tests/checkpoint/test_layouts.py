"""Every common way to nest, prefix, store and round a state dict gives the same tensors."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import Tensor, nn

from paramreuse.checkpoint import load_checkpoint, read_checkpoint, write_checkpoint
from paramreuse.errors import CheckpointError

State = dict[str, Tensor]

NESTINGS: dict[str, Callable[[State], object]] = {
    "top": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "optimizer": optimiser_state()},
    "model_state/ema": lambda state: {
        "model_state": {"ema": state},
        "opt_state": optimiser_state(),
    },
    "model": lambda state: {"model": state, "ema": wrong(state), "best": torch.tensor(0.5)},
}
PREFIXES = ["", "module.", "_orig_mod.", "module._orig_mod.", "model.", "net.", "module.backbone."]
FORMATS: dict[str, Callable[[object, Path], None]] = {
    "zip": torch.save,
    "legacy": lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
}
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


def conv_norm_linear() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(3, 2))
    net[1].num_batches_tracked.fill_(7)
    return net


def optimiser_state() -> object:
    """Write out what torch.optim.Adam.state_dict() holds; making one takes a second."""
    moments = {"step": torch.tensor(1.0), "exp_avg": torch.ones(2), "exp_avg_sq": torch.ones(2)}
    return {"state": {0: moments}, "param_groups": [{"lr": 0.001, "params": [0]}]}


def wrong(state: State) -> State:
    return {key: torch.zeros_like(tensor) for key, tensor in state.items()}


def stored(prefix: str, dtype: torch.dtype) -> State:
    state = conv_norm_linear().state_dict()
    return {prefix + k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}


def check_same_tensors(path: Path, dtype: torch.dtype) -> None:
    """Load into an empty net; half precision may round once, the wider ones not at all."""
    net = conv_norm_linear()
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.zero_()

    report = load_checkpoint(net, path)

    assert len(report.loaded) == len(report.rows) == 9
    assert report.counts()["dtype"] == (0 if dtype is torch.float32 else 8)
    for key, tensor in conv_norm_linear().state_dict().items():
        rounded = tensor.to(dtype).to(tensor.dtype) if tensor.is_floating_point() else tensor
        assert torch.equal(net.state_dict()[key], rounded), key


@pytest.mark.parametrize(
    ("nesting", "prefix", "file_format", "dtype"),
    # 4 nestings x 7 prefixes, each with a format and a dtype: every pair of values meets.
    [
        (nesting, prefix, list(FORMATS)[(i + j) % 2], DTYPES[(i + j // 2) % 4])
        for (i, nesting), (j, prefix) in itertools.product(enumerate(NESTINGS), enumerate(PREFIXES))
    ],
)
def test_torch_files_of_every_layout_give_the_same_tensors(
    nesting: str, prefix: str, file_format: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.ckpt"
    FORMATS[file_format](NESTINGS[nesting](stored(prefix, dtype)), path)

    checkpoint = read_checkpoint(path)

    assert checkpoint.nesting == ("" if nesting == "top" else nesting)
    assert checkpoint.format == f"torch {file_format}"
    # What wraps for certain is taken off; "model." may be the network's own name.
    certain = {"module.backbone.": "module.", "model.": "", "net.": ""}.get(prefix, prefix)
    assert checkpoint.prefix == certain
    check_same_tensors(path, dtype)


@pytest.mark.parametrize(("prefix", "dtype"), list(zip(PREFIXES, DTYPES * 2, strict=False)))
def test_safetensors_of_every_layout_give_the_same_tensors(
    prefix: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    save_file(stored(prefix, dtype), tmp_path / "weights.safetensors")

    check_same_tensors(tmp_path / "weights.safetensors", dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("given", ["index", "folder"])
def test_shards_give_the_same_tensors(given: str, dtype: torch.dtype, tmp_path: Path) -> None:
    index = write_shards(tmp_path, stored("module.", dtype))

    check_same_tensors(index if given == "index" else tmp_path, dtype)


def write_shards(folder: Path, state: State) -> Path:
    """Write every second tensor into each of two files."""
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    weight_map = {key: names[i % 2] for i, key in enumerate(state)}
    for name in names:
        save_file({k: v for k, v in state.items() if weight_map[k] == name}, folder / name)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index


def test_a_model_with_longer_names_than_the_checkpoint_is_found_too() -> None:
    wrapped = nn.ModuleDict({"backbone": conv_norm_linear()})
    head = nn.ModuleDict({"backbone": conv_norm_linear(), "head": nn.Linear(2, 2)})

    for model in (wrapped, head):
        report = load_checkpoint(model, stored("", torch.float32))
        assert report.matching == "prefix 'backbone.' added to the source's keys"
        assert report.counts()["renamed"] == 9


def test_average_of_ddp_of_a_compiled_model_loads_and_its_counter_is_set_aside(
    tmp_path: Path,
) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(conv_norm_linear())
    state = {f"module.{key}": value for key, value in averaged.state_dict().items()}
    torch.save(state, tmp_path / "swa.pt")

    checkpoint = read_checkpoint(tmp_path / "swa.pt")

    assert list(checkpoint) == list(conv_norm_linear().state_dict())
    assert checkpoint.ignored == {"module.n_averaged": "counter of AveragedModel"}
    assert checkpoint.prefix == "module.module."


def test_a_compiled_part_inside_a_model_is_read_by_its_own_name(tmp_path: Path) -> None:
    torch.save({"enc._orig_mod.weight": torch.ones(1), "head.bias": torch.ones(1)}, tmp_path / "a")

    assert list(read_checkpoint(tmp_path / "a")) == ["enc.weight", "head.bias"]


@pytest.mark.slow  # torch.compile imports for a second
def test_a_real_compiled_model_takes_a_plain_state_dict() -> None:
    compiled = torch.compile(conv_norm_linear())

    report = load_checkpoint(compiled, stored("module.", torch.float32))

    assert len(report.loaded) == 9


def test_entry_chooses_the_average_and_the_rest_is_named(tmp_path: Path) -> None:
    ones, twos = {"w": torch.ones(1)}, {"w": torch.full((1,), 2.0)}
    for name in ("ema", "state_dict_ema", "model_ema"):
        torch.save({"state_dict": ones, name: {"module": twos}, "epoch": 1}, tmp_path / "c.pt")

        assert read_checkpoint(tmp_path / "c.pt")["w"].item() == 1.0
        average = read_checkpoint(tmp_path / "c.pt", entry="ema")
        assert average["w"].item() == 2.0
        assert average.nesting == f"{name}/module"
        assert average.entries == ("state_dict",)
        assert "not taken: 'state_dict'" in average.summary()


def test_state_dicts_without_a_usual_name_are_not_guessed_between(tmp_path: Path) -> None:
    one = {"w": torch.ones(1)}
    torch.save({"encoder": one, "decoder": one}, tmp_path / "c.pt")

    with pytest.raises(CheckpointError, match=r"found 'decoder', 'encoder'. Choose one with entry"):
        read_checkpoint(tmp_path / "c.pt")
    assert read_checkpoint(tmp_path / "c.pt", entry="decoder").nesting == "decoder"
    with pytest.raises(CheckpointError, match=r"entry 'ema' .*'decoder', 'encoder'"):
        read_checkpoint(tmp_path / "c.pt", entry="ema")


def test_of_two_unusual_names_the_average_comes_last(tmp_path: Path) -> None:
    torch.save({"unet_ema": {"w": torch.ones(1)}, "unet": {"w": torch.zeros(1)}}, tmp_path / "c.pt")

    assert read_checkpoint(tmp_path / "c.pt").nesting == "unet"


def test_optimisers_are_passed_over_whatever_they_are_called(tmp_path: Path) -> None:
    adam = {"state": {"w": {"exp_avg": torch.ones(1)}}, "param_groups": []}
    torch.save({"adam": adam, "model": {"w": torch.ones(1)}}, tmp_path / "c.pt")

    assert read_checkpoint(tmp_path / "c.pt").entries == ()


def test_a_lightning_checkpoint_with_its_callbacks_gives_the_network(tmp_path: Path) -> None:
    state = stored("net.", torch.float32)
    content = {
        "epoch": 1,
        "state_dict": state | {"loss.weight": torch.ones(4), "net._extra_state": 5},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.9)}},
        "optimizer_states": [optimiser_state()],
        "hyper_parameters": {"width": 64},
    }
    torch.save(content, tmp_path / "last.ckpt")

    checkpoint = read_checkpoint(tmp_path / "last.ckpt")
    net = conv_norm_linear()
    report = load_checkpoint(net, checkpoint)

    assert checkpoint.entries == ()
    assert checkpoint.ignored == {"net._extra_state": "int"}
    assert report.counts() == {
        "loaded": 0, "renamed": 9, "dtype": 0, "shape": 0, "missing": 0, "unexpected": 1
    }  # fmt: skip


def test_tied_tensors_are_written_once_and_read_under_both_names(tmp_path: Path) -> None:
    net = nn.ModuleDict({"a": nn.Linear(50, 50, bias=False), "b": nn.Linear(50, 50, bias=False)})
    net["b"].weight = net["a"].weight
    path = write_checkpoint(tmp_path / "tied.safetensors", net)
    save_model(net, str(tmp_path / "theirs.safetensors"))

    for file in (path, tmp_path / "theirs.safetensors"):
        assert file.stat().st_size < 1.5 * 50 * 50 * 4
        checkpoint = read_checkpoint(file)
        assert torch.equal(checkpoint["b.weight"], net["a"].weight)
        assert checkpoint.aliases == {"b.weight": "a.weight"}
        assert len(load_checkpoint(net, file).loaded) == 2


def test_a_header_as_long_as_a_pickle_begins_is_read_as_safetensors(tmp_path: Path) -> None:
    # The first byte is the length of the header, and 128 of them look like the start of a pickle.
    starts = set()
    for length in range(1, 40):
        path = write_checkpoint(tmp_path / "net.safetensors", {"x" * length: torch.ones(2)})
        starts.add(path.read_bytes()[:1])
        assert read_checkpoint(path).format == "safetensors"

    assert b"\x80" in starts
