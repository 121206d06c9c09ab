"""A source's tensors under the target's names, whatever the source is."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from paramreuse.errors import ModelError
from paramreuse.sites.lending import dtype_in, is_swappable, lend, shape_in, tensors_of

VALUES = {"weight": torch.tensor([[1.0, 2.0]]), "bias": torch.tensor([3.0])}


def linear() -> nn.Linear:
    layer = nn.Linear(2, 1)
    layer.load_state_dict(VALUES)
    return layer


def test_a_model_a_state_dict_and_a_file_give_the_same_tensors(tmp_path: Path) -> None:
    path = tmp_path / "linear.safetensors"
    save_file(VALUES, path)

    for weights in (linear(), linear().state_dict(), path, str(path)):
        tensors = tensors_of(weights)

        assert sorted(tensors) == ["bias", "weight"]
        assert all(torch.equal(tensors[key], VALUES[key]) for key in VALUES)
        assert shape_in(tensors, "weight") == (1, 2)
        assert dtype_in(tensors, "weight") == torch.float32


def test_the_tensors_of_a_model_are_its_own_without_gradient() -> None:
    layer = linear()

    tensors = tensors_of(layer)

    assert tensors["weight"].data_ptr() == layer.weight.data_ptr()
    assert not tensors["weight"].requires_grad
    assert layer.weight.requires_grad


def test_what_a_model_keeps_besides_tensors_is_no_tensor() -> None:
    class Versioned(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"version": 3}

        def set_extra_state(self, state: object) -> None:
            """Nothing to restore."""

    assert list(tensors_of(Versioned(2, 1))) == ["weight", "bias"]


def test_something_else_is_refused_with_what_it_is() -> None:
    with pytest.raises(ModelError, match=r"from a int: expected a model, a state dict"):
        tensors_of(3)  # type: ignore[arg-type]


def test_a_whole_checkpoint_dict_is_refused_with_the_way_out() -> None:
    checkpoint = {"state_dict": VALUES, "epoch": 3}

    with pytest.raises(ModelError, match=r"'state_dict' holds a dict.*checkpoint\['state_dict'\]"):
        tensors_of(checkpoint)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float64, True),
        (torch.float32, True),
        (torch.float16, True),
        (torch.bfloat16, True),
        (torch.float8_e4m3fn, False),
        (torch.int64, False),
        (torch.bool, False),
        (torch.complex64, False),
    ],
)
def test_only_plain_floating_point_is_swapped(dtype: torch.dtype, expected: bool) -> None:
    assert is_swappable(dtype) is expected


def test_lent_tensors_have_the_targets_names() -> None:
    source = {"module.weight": VALUES["weight"], "module.bias": VALUES["bias"]}

    lent = lend(linear(), source)

    assert list(lent) == ["weight", "bias"]
    assert len(lent) == 2
    assert "weight" in lent
    assert "module.weight" not in lent
    assert lent["weight"] is source["module.weight"]
    assert (lent.shape_of("weight"), lent.dtype_of("bias")) == ((1, 2), torch.float32)
    assert lent.unused == ()
    assert lent.naming == "prefix 'module.' removed from the source's keys"


def test_a_prefix_that_only_the_target_has_is_added() -> None:
    target = nn.Sequential()
    target.add_module("backbone", nn.Sequential(linear(), linear()))
    source = nn.Sequential(linear(), linear())

    lent = lend(target, source)

    assert list(lent) == [f"backbone.{i}.{name}" for i in (0, 1) for name in ("weight", "bias")]
    assert lent.naming == "prefix 'backbone.' added to the source's keys"


def test_keys_that_no_one_asks_for_are_told() -> None:
    lent = lend(linear(), {**VALUES, "extra": torch.zeros(1)})

    assert lent.unused == ("extra",)


def test_what_is_lent_is_not_lent_again() -> None:
    lent = lend(linear(), VALUES)

    assert lend(linear(), lent) is lent


def test_a_tensor_is_read_only_when_asked_for() -> None:
    class Counting(dict[str, Tensor]):
        reads = 0

        def __getitem__(self, key: str) -> Tensor:
            self.reads += 1
            return super().__getitem__(key)

    source = Counting(VALUES)
    lent = lend(linear(), source)
    assert source.reads == 0

    assert float(lent["bias"]) == 3.0
    assert source.reads == 1
