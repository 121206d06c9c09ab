"""Sites: every tensor that can be swapped, numbered front to back, with or without a model."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from paramreuse.checkpoint import write_checkpoint
from paramreuse.errors import ModelError, SiteMismatchError
from paramreuse.networks.pspnet import pspnet
from paramreuse.networks.unet import unet
from paramreuse.sites.layers import Kind, kinds_of_torch_layer
from paramreuse.sites.matching import (
    Site,
    compare_sites,
    match_sites,
    output_channels,
    sites_of,
    source_key,
    units_of,
)
from samples.networks import papers_networks, small_network

SMALL_NAMES = [
    *("W 1", "B 1", "RM 1", "RV 1", "RW 1", "RB 1"),
    *("W 2", "B 2", "RM 2", "RV 2", "RW 2", "RB 2"),
    *("linear W 1", "linear B 1"),
]


class Transformer(nn.Module):
    """Class token, position embedding, patches, one block of attention, head."""

    def __init__(self) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.position_embedding = nn.Parameter(torch.zeros(1, 5, 4))
        self.patches = nn.Conv2d(1, 4, 2, 2)
        self.norm = nn.LayerNorm(4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.class_token.expand(len(x), -1, -1), tokens), 1)
        tokens = self.norm(tokens + self.position_embedding)
        return self.head(self.attention(tokens, tokens, tokens)[0][:, 0])


def named(sites: list[Site]) -> list[str]:
    return [site.name for site in sites]


def test_a_site_knows_its_key_name_and_family() -> None:
    weight = Site(6, "down1.conv", Kind.W, "weight", (4, 2, 3, 3))
    mean = Site(17, "layer4.0.bn2", Kind.RM, "running_mean", (4,))
    bias = Site(2, "head", Kind.B, "bias", (4,), family="linear")
    whole = Site(1, "", Kind.W, "weight", (4, 2), family="linear")

    assert (weight.key, str(weight), weight.family) == ("down1.conv.weight", "W 6", "conv")
    assert (mean.key, str(mean), mean.family) == ("layer4.0.bn2.running_mean", "RM 17", "norm")
    assert (bias.name, whole.key) == ("linear B 2", "weight")


def test_sites_are_numbered_per_family_in_the_order_of_kinds() -> None:
    sites = sites_of(small_network())

    assert named(sites) == SMALL_NAMES
    assert [site.shape for site in sites[:3]] == [(2, 1, 3, 3), (2,), (2,)]
    assert [site.name for site in sites if site.is_output] == ["linear W 1", "linear B 1"]


def test_counters_and_other_whole_numbers_are_no_sites() -> None:
    assert not any("num_batches" in site.key for site in sites_of(small_network()))


def test_the_papers_pspnet_has_25_layers_and_their_numbers() -> None:
    sites = {site.name: site for site in sites_of(pspnet(width=2))}

    # method.md, section 2: 16 is the convolution that takes 256 to 512 features.
    assert sites["W 1"].path == "backbone.conv1"
    assert sites["W 8"].path == "backbone.layer2.0.downsample.0"
    assert sites["W 16"].path == "backbone.layer4.0.conv1"
    assert sites["RM 17"].path == "backbone.layer4.0.bn2"
    assert sites["B 21"].path == "pyramid.0.conv"
    assert sites["W 25"].path == "bottleneck.conv"
    assert sites["W 26"].path == "classifier"
    assert {site.name for site in sites.values() if site.is_output} == {"W 26", "B 26"}
    assert "RM 26" not in sites
    # Only the pyramid, the bottleneck and the classifier have a bias.
    assert [int(name[2:]) for name in sites if name.startswith("B ")] == list(range(21, 27))


@pytest.mark.parametrize("upsampling", ["bilinear", "transposed"])
def test_the_papers_unet_has_18_layers_besides_the_output(upsampling: str) -> None:
    sites = sites_of(unet(width=2, upsampling=upsampling))  # type: ignore[arg-type]

    for kind in Kind:
        family = "norm" if kind in {Kind.RM, Kind.RV, Kind.RW, Kind.RB} else "conv"
        layers = [s.layer for s in sites if (s.kind, s.family) == (kind, family)]
        assert layers == list(range(1, 20 if family == "conv" else 19))
    transposed = [site.name for site in sites if site.family == "conv_transpose"]
    assert len(transposed) == (8 if upsampling == "transposed" else 0)
    assert [site.path for site in sites if site.is_output] == ["head", "head"]


@pytest.mark.parametrize(
    "model",
    [*papers_networks(), small_network()],
    ids=["unet", "unet transposed", "pspnet", "pspnet with biases", "small"],
)
def test_a_state_dict_or_file_without_a_model_gives_the_same_sites(
    model: nn.Module, tmp_path: Path
) -> None:
    expected = sites_of(model)

    assert sites_of(model.state_dict()) == expected
    # safetensors itself sorts by name, which would make the pyramid the output of pspnet.
    assert sites_of(write_checkpoint(tmp_path / "model.safetensors", model)) == expected
    assert len(expected) == len({site.name for site in expected})


def test_a_file_of_others_is_numbered_by_its_names_with_2_before_10(tmp_path: Path) -> None:
    model = nn.Sequential(*(nn.Conv2d(1, 1, 1) for _ in range(12)))
    path = tmp_path / "model.safetensors"
    save_file(model.state_dict(), path)

    sites = sites_of(path)

    assert [site.path for site in sites if site.kind is Kind.W] == [str(n) for n in range(12)]
    assert {site.path for site in sites if site.is_output} == {"11"}


@pytest.mark.parametrize("model", [unet(width=2), pspnet(width=2)], ids=["unet", "pspnet"])
def test_the_papers_networks_are_registered_as_they_are_executed(model: nn.Module) -> None:
    assert sites_of(model, example_input=torch.zeros(1, 1, 32, 32)) == sites_of(model)


def test_an_example_input_numbers_layers_as_they_are_executed() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second = nn.Conv2d(1, 2, 1, bias=False)
            self.first = nn.Conv2d(1, 1, 1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x))

    model = Backwards()

    registered = sites_of(model)
    executed = sites_of(model, example_input=torch.zeros(1, 1, 2, 2))

    assert [(site.name, site.path) for site in registered] == [("W 1", "second"), ("W 2", "first")]
    assert [(site.name, site.path) for site in executed] == [("W 1", "first"), ("W 2", "second")]
    assert [site.path for site in executed if site.is_output] == ["second"]


def test_a_head_that_the_example_does_not_reach_comes_last_and_is_not_the_output() -> None:
    class WithAuxiliaryHead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Conv2d(1, 2, 1)
            self.auxiliary = nn.Conv2d(2, 2, 1)
            self.head = nn.Conv2d(2, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(x))

    sites = sites_of(WithAuxiliaryHead(), example_input=torch.zeros(1, 1, 2, 2))

    assert [site.path for site in sites if site.kind is Kind.W] == ["body", "head", "auxiliary"]
    assert {site.path for site in sites if site.is_output} == {"head"}


def test_a_transformer_has_its_tokens_embeddings_attention_and_norms() -> None:
    model = Transformer()

    for sites in (sites_of(model), sites_of(model, example_input=torch.zeros(1, 1, 4, 4))):
        assert [(site.name, site.key) for site in sites] == [
            ("other W 1", "class_token"),
            ("other W 2", "position_embedding"),
            ("W 1", "patches.weight"),
            ("B 1", "patches.bias"),
            ("RW 1", "norm.weight"),
            ("RB 1", "norm.bias"),
            ("linear W 1", "attention.in_proj_weight"),
            ("linear B 1", "attention.in_proj_bias"),
            ("linear W 2", "attention.out_proj.weight"),
            ("linear B 2", "attention.out_proj.bias"),
            ("linear W 3", "head.weight"),
            ("linear B 3", "head.bias"),
        ]
        assert {site.path for site in sites if site.is_output} == {"head"}
    assert sites_of(model.state_dict()) == sites_of(model)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_tied_tensors_are_one_site_with_two_names(device: str) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(5, 4, device=device)
            self.body = nn.Linear(4, 4, device=device)
            self.again = self.body
            self.decoder = nn.Linear(4, 5, bias=False, device=device)
            self.decoder.weight = self.embedding.weight

    sites = sites_of(Tied())

    assert [(site.name, site.key, site.aliases) for site in sites] == [
        ("embedding W 1", "embedding.weight", ("decoder.weight",)),
        ("linear W 1", "body.weight", ("again.weight",)),
        ("linear B 1", "body.bias", ("again.bias",)),
    ]


def test_a_source_that_holds_a_tied_tensor_under_its_second_name_lends_it() -> None:
    model = nn.Module()
    model.embedding = nn.Embedding(5, 4)
    model.decoder = nn.Linear(4, 5, bias=False)
    model.decoder.weight = model.embedding.weight
    source = {"decoder.weight": torch.ones(5, 4)}

    match = compare_sites(model, source)

    assert [site.key for site in match.sites] == ["embedding.weight"]
    assert source_key(match.sites[0], source) == "decoder.weight"
    assert match.skipped == ()


def test_a_model_without_memory_has_the_same_sites() -> None:
    with torch.device("meta"):
        hollow = pspnet(width=2)

    assert sites_of(hollow) == sites_of(pspnet(width=2))


def test_a_lazy_layer_is_refused() -> None:
    with pytest.raises(ModelError, match="lazy"):
        sites_of(nn.Sequential(nn.Conv2d(1, 2, 3), nn.LazyBatchNorm2d()))


def test_kinds_of_reaches_all_functions_that_list_sites() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma = nn.Parameter(torch.ones(3))

    def kinds_of(layer: nn.Module) -> Mapping[Kind, str]:
        return {Kind.RW: "gamma"} if isinstance(layer, Scale) else kinds_of_torch_layer(layer)

    model = nn.Sequential(nn.Linear(2, 3), Scale())

    for sites in (
        sites_of(model, kinds_of=kinds_of),
        match_sites(model, model, kinds_of=kinds_of),
        list(compare_sites(model, model, kinds_of=kinds_of).sites),
    ):
        assert named(sites) == ["linear W 1", "linear B 1", "RW 1"]
    assert named(sites_of(model))[-1] == "other W 1"


def test_a_model_matches_itself_at_every_site() -> None:
    model = small_network()

    match = compare_sites(model, model)

    assert list(match.sites) == sites_of(model) == match_sites(model, model.state_dict())
    # The counters of the two norms are no sites, and nothing to complain about.
    assert match.skipped == ()


def test_every_tensor_that_does_not_match_is_told_with_its_reason() -> None:
    target, source = small_network(), small_network().state_dict()
    source["7.weight"] = torch.zeros(5, 48)
    source["4.weight"] = source["4.weight"].to(torch.int64)
    del source["0.bias"]
    source["9.weight"] = torch.zeros(3)

    match = compare_sites(target, source, exclude=["1.running_var"])

    assert {skipped.key: skipped.reason for skipped in match.skipped} == {
        "0.bias": "the source has no tensor of this name",
        "1.running_var": "left out on request",
        "4.weight": "the source tensor is torch.int64, not a plain floating-point tensor",
        "7.weight": "the target has shape (2, 48), the source (5, 48)",
        "9.weight": "the target has no tensor of this name",
    }
    assert named(list(match.sites)) == [
        name for name in SMALL_NAMES if name not in {"B 1", "RV 1", "RW 2", "linear W 1"}
    ]


def test_leaving_sites_out_does_not_change_the_numbers_of_the_others() -> None:
    sites = match_sites(small_network(), small_network(), exclude=["0.weight", "1.weight"])

    assert named(sites) == [name for name in SMALL_NAMES if name not in {"W 1", "RW 1"}]


def test_an_unknown_key_to_leave_out_is_refused() -> None:
    with pytest.raises(SiteMismatchError, match=r"cannot leave out \['0.wait'\].*layer1.0.conv1"):
        match_sites(small_network(), small_network(), exclude=["0.wait"])


def test_a_source_without_a_fitting_tensor_is_refused_with_reasons_and_a_way_out() -> None:
    source = {"encoder.kernel": torch.zeros(3)}

    with pytest.raises(SiteMismatchError) as caught:
        match_sites(nn.Linear(2, 1), source)

    message = str(caught.value)
    assert "no tensor of the source fits any site" in message
    assert "weight: the source has no tensor of this name" in message
    assert "encoder.kernel: the target has no tensor of this name" in message
    assert "read_checkpoint(..., rename=...)" in message


def test_a_network_without_tensors_is_refused() -> None:
    with pytest.raises(SiteMismatchError, match="neither side holds a tensor"):
        match_sites(nn.ReLU(), {})


def test_a_unit_is_a_kernel_layer_with_the_norm_behind_it() -> None:
    units = units_of(sites_of(small_network()))

    assert [unit.name for unit in units] == ["1", "2", "linear 1"]
    assert [named(list(unit.sites)) for unit in units] == [
        SMALL_NAMES[:6],
        SMALL_NAMES[6:12],
        SMALL_NAMES[12:],
    ]


def test_a_norm_of_other_width_or_a_second_norm_is_a_unit_of_its_own() -> None:
    model = nn.Sequential(
        nn.LayerNorm(2), nn.Linear(2, 3), nn.LayerNorm(3), nn.LayerNorm(3), nn.Linear(3, 4)
    )
    wrong_width = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(4))

    assert [unit.name for unit in units_of(sites_of(model))] == [
        *("norm 1", "linear 1", "norm 3", "linear 2")
    ]
    assert [unit.name for unit in units_of(sites_of(wrong_width))] == ["linear 1", "norm 1"]


def test_a_norm_joins_a_transposed_convolution_by_its_second_dimension() -> None:
    model = nn.Sequential(nn.ConvTranspose2d(2, 3, 2, bias=False), nn.BatchNorm2d(3))

    (unit,) = units_of(sites_of(model))

    assert unit.name == "conv_transpose 1"
    assert output_channels(unit.sites[0]) == 3


def test_units_of_the_papers_networks_are_their_layers() -> None:
    numbers = [str(number) for number in range(1, 27)]

    assert [unit.name for unit in units_of(sites_of(pspnet(width=2)))] == numbers
    assert [unit.name for unit in units_of(sites_of(unet(width=2)))] == numbers[:19]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from(["conv", "norm", "prelu", "conv_transpose", "relu"]), max_size=6),
    st.booleans(),
)
def test_names_and_keys_are_unique_and_every_float_is_a_site(words: list[str], bias: bool) -> None:
    makers = {
        "conv": lambda: nn.Conv2d(2, 2, 1, bias=bias),
        "conv_transpose": lambda: nn.ConvTranspose2d(2, 2, 1, bias=bias),
        "norm": lambda: nn.BatchNorm2d(2),
        "prelu": nn.PReLU,
        "relu": nn.ReLU,
    }
    model = nn.Sequential(*(makers[word]() for word in words))

    for sites in (sites_of(model), sites_of(model.state_dict())):
        keys = [site.key for site in sites]
        assert len(set(named(sites))) == len(sites)
        floats = [key for key, t in model.state_dict().items() if t.is_floating_point()]
        assert sorted(keys) == sorted(floats)
        for unit in units_of(sites):
            assert len({site.key for site in unit.sites}) == len(unit.sites)


def test_a_layer_used_through_a_function_keeps_its_place() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(2, 2)
            self.head = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(F.linear(x, self.body.weight, self.body.bias), self.head.weight)

    sites = sites_of(Functional(), example_input=torch.zeros(1, 2))

    assert [site.path for site in sites] == ["body", "body", "head", "head"]
    assert [site.path for site in sites if site.is_output] == ["head", "head"]
