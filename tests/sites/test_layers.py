"""Which tensors a layer holds, by its class and by the names and shapes of a state dict."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from paramreuse.errors import ModelError
from paramreuse.sites.layers import (
    Kind,
    LayerTensors,
    execution_order,
    kinds_of_torch_layer,
    layers_of_module,
    layers_of_tensors,
)
from samples.networks import FrozenBatchNorm2d, small_network

W, B = (Kind.W, "weight"), (Kind.B, "bias")
RM, RV = (Kind.RM, "running_mean"), (Kind.RV, "running_var")
RW, RB = (Kind.RW, "weight"), (Kind.RB, "bias")


def held_by(layer: nn.Module) -> tuple[str, tuple[tuple[Kind, str], ...]]:
    """Family and kinds of a layer that is a network by itself."""
    (layer_of,) = layers_of_module(layer, kinds_of_torch_layer)
    return layer_of.family, layer_of.kinds


@pytest.mark.parametrize(
    ("layer", "family", "kinds"),
    [
        (nn.Conv1d(2, 3, 3), "conv", (W, B)),
        (nn.Conv2d(2, 3, 3, bias=False), "conv", (W,)),
        (nn.Conv3d(2, 3, 3), "conv", (W, B)),
        (nn.ConvTranspose1d(2, 3, 3), "conv_transpose", (W, B)),
        (nn.ConvTranspose2d(2, 3, 3), "conv_transpose", (W, B)),
        (nn.ConvTranspose3d(2, 3, 3, bias=False), "conv_transpose", (W,)),
        (nn.Linear(2, 3), "linear", (W, B)),
        (nn.Bilinear(2, 3, 4), "linear", (W, B)),
        (nn.Embedding(5, 3), "embedding", (W,)),
        (nn.EmbeddingBag(5, 3), "embedding", (W,)),
        (nn.BatchNorm1d(3), "norm", (RM, RV, RW, RB)),
        (nn.BatchNorm2d(3), "norm", (RM, RV, RW, RB)),
        (nn.BatchNorm3d(3), "norm", (RM, RV, RW, RB)),
        (nn.BatchNorm2d(3, affine=False), "norm", (RM, RV)),
        (nn.BatchNorm2d(3, track_running_stats=False), "norm", (RW, RB)),
        (nn.SyncBatchNorm(3), "norm", (RM, RV, RW, RB)),
        (FrozenBatchNorm2d(3), "norm", (RM, RV, RW, RB)),
        (nn.InstanceNorm2d(3, affine=True, track_running_stats=True), "norm", (RM, RV, RW, RB)),
        (nn.InstanceNorm3d(3, track_running_stats=True), "norm", (RM, RV)),
        (nn.GroupNorm(1, 3), "norm", (RW, RB)),
        (nn.LayerNorm(3), "norm", (RW, RB)),
        (nn.LayerNorm((3, 4)), "norm", (RW, RB)),
        (nn.RMSNorm(3), "norm", (RW,)),
        (nn.PReLU(3), "other", (W,)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_a_layer_of_torch_has_the_kinds_of_its_class(
    layer: nn.Module, family: str, kinds: tuple[tuple[Kind, str], ...]
) -> None:
    assert held_by(layer) == (family, kinds)


@pytest.mark.parametrize("layer", [nn.ReLU(), nn.Dropout(), nn.Identity(), nn.InstanceNorm2d(3)])
def test_a_layer_without_tensors_is_no_layer(layer: nn.Module) -> None:
    assert list(layers_of_module(layer, kinds_of_torch_layer)) == []


def test_a_norm_of_an_unknown_class_is_told_by_its_name() -> None:
    class LayerNorm2d(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))
            self.bias = nn.Parameter(torch.zeros(3))

    assert held_by(LayerNorm2d()) == ("norm", (RW, RB))


def test_a_layer_of_an_unknown_class_is_told_by_the_dimensions_of_its_weight() -> None:
    class Standardised(nn.Module):
        def __init__(self, *shape: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(shape))

    assert held_by(Standardised(3, 2)) == ("linear", (W,))
    assert held_by(Standardised(3, 2, 1, 1)) == ("conv", (W,))


def test_attention_has_its_in_projection_whole_and_its_out_projection_as_a_layer() -> None:
    layers = list(layers_of_module(nn.MultiheadAttention(4, 2), kinds_of_torch_layer))

    assert layers == [
        LayerTensors("", "linear", ((Kind.W, "in_proj_weight"), (Kind.B, "in_proj_bias"))),
        LayerTensors("out_proj", "linear", (W, B)),
    ]


def test_attention_with_other_sizes_has_its_in_projection_split() -> None:
    attention = nn.MultiheadAttention(4, 2, kdim=3, vdim=5, add_bias_kv=True)

    layers = list(layers_of_module(attention, kinds_of_torch_layer))

    assert [(layer.family, *layer.kinds) for layer in layers] == [
        ("linear", (Kind.B, "in_proj_bias")),
        ("linear", (Kind.W, "q_proj_weight")),
        ("linear", (Kind.W, "k_proj_weight")),
        ("linear", (Kind.W, "v_proj_weight")),
        ("other", (Kind.B, "bias_k")),
        ("other", (Kind.B, "bias_v")),
        ("linear", W, B),
    ]


def test_bare_parameters_are_layers_of_their_own_and_buffers_are_not() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.class_token = nn.Parameter(torch.zeros(1, 1, 4))
            self.position_embedding = nn.Parameter(torch.zeros(1, 9, 4))
            self.gate_bias = nn.Parameter(torch.zeros(4))
            self.register_buffer("scale", torch.ones(4))

    layers = list(layers_of_module(Tokens(), kinds_of_torch_layer))

    assert layers == [
        LayerTensors("", "other", ((Kind.W, "class_token"),)),
        LayerTensors("", "other", ((Kind.W, "position_embedding"),)),
        LayerTensors("", "other", ((Kind.B, "gate_bias"),)),
    ]


def test_a_function_of_the_caller_teaches_a_layer_and_may_name_what_a_layer_lacks() -> None:
    class Affine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma = nn.Parameter(torch.ones(3))
            self.beta = nn.Parameter(torch.zeros(3))

    def kinds_of(layer: nn.Module) -> Mapping[Kind, str]:
        if isinstance(layer, Affine):
            return {Kind.RB: "beta", Kind.RW: "gamma", Kind.RM: "mu"}
        return kinds_of_torch_layer(layer)

    layers = list(layers_of_module(nn.Sequential(Affine(), nn.Linear(3, 1)), kinds_of))

    # The kinds come in their own order; there is no "mu", so no RM.
    assert layers == [
        LayerTensors("0", "norm", ((Kind.RW, "gamma"), (Kind.RB, "beta"))),
        LayerTensors("1", "linear", (W, B)),
    ]


def test_a_lazy_layer_is_refused_by_name() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.LazyLinear(3))

    with pytest.raises(ModelError, match=r"sites of 1: 'weight' has no shape yet .* Run the model"):
        list(layers_of_module(model, kinds_of_torch_layer))


@pytest.mark.parametrize(
    ("shapes_of", "family", "kinds"),
    [
        ({"weight": (3, 2, 5), "bias": (3,)}, "conv", (W, B)),
        ({"weight": (3, 2, 5, 5)}, "conv", (W,)),
        ({"weight": (3, 2), "bias": (3,)}, "linear", (W, B)),
        ({"weight": (2, 3, 2, 2), "bias": (3,)}, "conv_transpose", (W, B)),
        ({"weight": (3,), "bias": (3,)}, "norm", (RW, RB)),
        ({"weight": (3,)}, "norm", (RW,)),
        ({"running_mean": (3,), "running_var": (3,)}, "norm", (RM, RV)),
        ({"weight": (1,)}, "other", (W,)),
    ],
)
def test_a_layer_of_a_state_dict_is_told_by_names_and_shapes(
    shapes_of: dict[str, tuple[int, ...]], family: str, kinds: tuple[tuple[Kind, str], ...]
) -> None:
    shapes = {f"net.a.{name}": shape for name, shape in shapes_of.items()}

    assert list(layers_of_tensors(shapes)) == [LayerTensors("net.a", family, kinds)]


@pytest.mark.parametrize(
    ("key", "shape", "family"),
    [
        ("token_embedding.weight", (9, 4), "embedding"),
        ("wte.weight", (9, 4), "embedding"),
        ("upconv1.weight", (4, 4, 2, 2), "conv_transpose"),
        ("decoder.transp.weight", (4, 4, 2, 2), "conv_transpose"),
        ("block.prelu.weight", (4,), "other"),
        ("block.act1.weight", (4,), "other"),
        ("block.norm.weight", (4,), "norm"),
        ("cls_token", (1, 1, 4), "other"),
    ],
)
def test_a_path_in_a_state_dict_helps_where_shapes_do_not_tell(
    key: str, shape: tuple[int, ...], family: str
) -> None:
    (layer,) = layers_of_tensors({key: shape})

    assert layer.family == family


def test_execution_order_is_that_of_the_forward_pass_and_leaves_the_model_alone() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second = nn.Conv2d(1, 1, 1)
            self.first = nn.Conv2d(1, 1, 1)
            self.unused = nn.Conv2d(1, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.first(self.second(self.first(x)))

    model = Backwards().train()

    ranks = execution_order(model, torch.zeros(1, 1, 2, 2))

    # The first module ran twice; its first run counts.
    assert sorted(ranks, key=ranks.__getitem__) == ["", "first", "second"]
    assert model.training
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_execution_order_moves_neither_running_statistics_nor_the_random_state() -> None:
    class Noise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.randn_like(x)

    model = nn.Sequential(Noise(), small_network().train())
    before = {key: t.clone() for key, t in model.state_dict().items()}
    images, state = torch.randn(2, 1, 4, 4), torch.get_rng_state()

    execution_order(model, images)

    assert all(torch.equal(before[key], t) for key, t in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_out_projection_of_attention_counts_where_the_attention_ran() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.attention(x, x, x)[0])

    ranks = execution_order(Block(), torch.zeros(1, 3, 4))

    # It is used without being called; counted as never reached it would pass for the output layer.
    assert ranks["attention"] == ranks["attention.out_proj"] < ranks["head"]
