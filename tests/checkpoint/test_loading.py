"""Loading: which key belongs to which, and one row for every tensor of both sides."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from paramreuse.checkpoint import (
    load_checkpoint,
    match_keys,
    read_checkpoint,
    write_checkpoint,
)
from paramreuse.errors import CheckpointError
from samples.networks import line

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
    model = nn.ModuleDict({"net1": line(), "net2": line()})

    report = load_checkpoint(model, line(5.0).state_dict(), rename={"": "net2."})

    assert report.loaded == ("net2.weight", "net2.bias")
    assert (model["net1"].weight.item(), model["net2"].weight.item()) == (2.0, 5.0)


# The report.


def test_every_tensor_of_both_sides_is_in_one_row_with_its_reason() -> None:
    model = nn.ModuleDict({"same": line(), "conv": nn.Conv2d(2, 4, 3), "own": line()})
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
    model = line().half()
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
        load_checkpoint(line(), source)


def test_strict_refuses_what_is_left_and_changes_nothing() -> None:
    model = line()

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
    model = line()

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
    checkpoint = read_checkpoint(write_checkpoint(tmp_path / "a.safetensors", line(5.0, 6.0)))
    model = line()
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
        load_checkpoint(model(), line().state_dict())


def test_loading_keeps_gradients_flags_and_the_tensors_themselves() -> None:
    model = line().requires_grad_(False)
    before = model.weight

    load_checkpoint(model, line(5.0, 6.0).state_dict())

    assert model.weight is before
    assert not model.weight.requires_grad
    assert (model.weight.item(), model.bias.item()) == (5.0, 6.0)
