"""Swaps: which sites are filled together, and with what."""

import pytest
import torch
from torch import Tensor, nn

from paramreuse.errors import ModelError, SiteMismatchError
from paramreuse.networks.pspnet import pspnet
from paramreuse.networks.unet import unet
from paramreuse.sites.layers import Kind
from paramreuse.sites.matching import Site, sites_of
from paramreuse.sites.swaps import (
    Replacements,
    Swap,
    is_identical,
    kernel_sites,
    make_swaps,
    reinitialised,
    replacements_for,
    seed_of,
    shuffled,
)
from samples.networks import FrozenBatchNorm2d, small_network

SMALL = small_network()
SITES = sites_of(SMALL)
BY_NAME = {site.name: site for site in SITES}


def names(model: nn.Module, choice: str) -> list[str]:
    return [swap.name for swap in make_swaps(sites_of(model), choice)]


def names_in(swap: Swap) -> list[str]:
    return [site.name for site in swap.sites]


def test_single_swaps_are_the_sites_in_their_order_and_by_their_names() -> None:
    swaps = make_swaps(SITES)

    assert [swap.name for swap in swaps] == [site.name for site in SITES]
    assert [swap.sites for swap in swaps] == [(site,) for site in SITES]
    assert [swap.anchor for swap in swaps] == SITES


def test_pairs_are_a_bias_with_the_mean_behind_it_both_statistics_and_both_affine_tensors() -> None:
    swaps = make_swaps(SITES, "pair")

    assert [(swap.name, swap.kind, names_in(swap)) for swap in swaps] == [
        ("B+RM 1", "B+RM", ["B 1", "RM 1"]),
        ("RM+RV 1", "RM+RV", ["RM 1", "RV 1"]),
        ("RW+RB 1", "RW+RB", ["RW 1", "RB 1"]),
        ("B+RM 2", "B+RM", ["B 2", "RM 2"]),
        ("RM+RV 2", "RM+RV", ["RM 2", "RV 2"]),
        ("RW+RB 2", "RW+RB", ["RW 2", "RB 2"]),
    ]


def test_a_convolution_without_bias_has_no_pair_with_the_mean() -> None:
    assert names(small_network(bias=False), "pair") == [
        *("RM+RV 1", "RW+RB 1", "RM+RV 2", "RW+RB 2")
    ]


def test_layer_swaps_are_a_convolution_with_its_norm() -> None:
    swaps = make_swaps(SITES, "layer")

    assert [swap.name for swap in swaps] == ["layer 1", "layer 2", "layer linear 1"]
    assert names_in(swaps[1]) == ["W 2", "B 2", "RM 2", "RV 2", "RW 2", "RB 2"]
    assert swaps[1].kind == "W+B+RM+RV+RW+RB"


def test_prefixes_grow_and_suffixes_shrink_by_one_layer() -> None:
    prefixes, suffixes = make_swaps(SITES, "prefix"), make_swaps(SITES, "suffix")

    assert [(s.name, len(s.sites)) for s in prefixes] == [
        ("prefix 1", 6),
        ("prefix 2", 12),
        ("prefix linear 1", 14),
    ]
    assert [(s.name, len(s.sites)) for s in suffixes] == [
        ("suffix 1", 14),
        ("suffix 2", 8),
        ("suffix linear 1", 2),
    ]
    # A prefix and the suffix behind it are the whole network.
    assert prefixes[0].keys | suffixes[1].keys == {site.key for site in SITES}
    assert not prefixes[0].keys & suffixes[1].keys
    assert [s.anchor.name for s in suffixes] == ["W 1", "W 2", "linear W 1"]


def test_swaps_of_the_papers_pspnet_have_the_papers_numbers() -> None:
    model = pspnet(width=2)

    assert names(model, "layer") == [f"layer {n}" for n in range(1, 27)]
    assert names(model, "prefix")[16] == "prefix 17"
    pairs = names(model, "pair")
    assert [name for name in pairs if name.startswith("B+RM")] == [
        f"B+RM {n}" for n in range(21, 26)
    ]
    assert len([name for name in pairs if name.startswith("RM+RV")]) == 25


def test_blocks_are_what_the_author_put_into_one_module() -> None:
    swaps = make_swaps(sites_of(pspnet(width=2)), "block")

    assert [swap.name for swap in swaps] == [
        "block backbone",
        *(f"block backbone.layer{stage}.{n}" for stage in (1, 2, 3, 4) for n in (0, 1)),
        *(f"block pyramid.{n}" for n in range(4)),
        *("block bottleneck", "block classifier"),
    ]
    downsampling = next(swap for swap in swaps if swap.name == "block backbone.layer2.0")
    # The down-sampling branch, layer 8, belongs to the block that holds it.
    assert {site.layer for site in downsampling.sites} == {6, 7, 8}
    assert names(unet(width=2), "block") == [
        *(f"block down{n}" for n in range(1, 6)),
        *(f"block up{n}.convs" for n in range(1, 5)),
        "block head",
    ]


@pytest.mark.parametrize("choice", ["layer", "block"])
@pytest.mark.parametrize("model", [unet(width=2, upsampling="transposed"), pspnet(width=2), SMALL])
def test_layers_and_blocks_hold_every_site_once(model: nn.Module, choice: str) -> None:
    sites = sites_of(model)

    swapped = [site.key for swap in make_swaps(sites, choice) for site in swap.sites]

    assert sorted(swapped) == sorted(site.key for site in sites)


def test_a_parameter_of_the_network_itself_is_a_block_by_its_name() -> None:
    model = nn.Module()
    model.class_token = nn.Parameter(torch.zeros(3))
    model.block = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))

    assert names(model, "block") == ["block class_token", "block block"]


def test_sites_sets_and_names_may_be_mixed() -> None:
    first, second = BY_NAME["W 1"], BY_NAME["RM 2"]
    own = Swap("mine", (first, second), first)

    swaps = make_swaps(SITES, [first, (first, second), own, "pair", second])

    assert [swap.name for swap in swaps] == [
        *("W 1", "W 1+RM 2", "mine"),
        *names(SMALL, "pair"),
        "RM 2",
    ]
    assert swaps[1].sites == (first, second)


def test_a_swap_that_is_asked_for_twice_is_made_once() -> None:
    assert len(make_swaps(SITES, ["single", "single", BY_NAME["W 1"]])) == len(SITES)


def test_a_site_is_known_by_its_key_and_gets_the_number_it_has_there() -> None:
    # As counted by someone else, with other numbers and without the family.
    stranger = Site(9, "7", Kind.W, "weight", (2, 48))

    (swap,) = make_swaps(SITES, stranger)

    assert (swap.name, swap.sites) == ("linear W 1", (BY_NAME["linear W 1"],))


def test_two_swaps_of_one_name_are_refused() -> None:
    swaps = [Swap("mine", (site,), site) for site in SITES[:2]]

    with pytest.raises(SiteMismatchError, match="two swaps of different sites are called 'mine'"):
        make_swaps(SITES, swaps)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("tripple", r"unknown set of swaps 'tripple': expected one of \['single', 'pair'"),
        ([], "the list of swaps is empty"),
        ([[]], "cannot swap an empty set of sites"),
        (Site(1, "9", Kind.W, "weight", (1,)), r"cannot swap \['9.weight'\]: not among the sites"),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(choice: object, message: str) -> None:
    with pytest.raises(SiteMismatchError, match=message):
        make_swaps(SITES, choice)  # type: ignore[arg-type]


def test_kernels_that_decide_are_weights_of_all_but_the_output() -> None:
    model = unet(width=2, upsampling="transposed")

    kernels = kernel_sites(sites_of(model))

    assert len(kernels) == 18 + 4
    assert {site.kind for site in kernels} == {Kind.W}
    assert "head" not in {site.path for site in kernels}


def test_shuffled_keeps_values_shape_and_dtype_and_nothing_of_the_order() -> None:
    tensor = torch.arange(60).view(3, 4, 5).half()

    mixed = shuffled(tensor, seed=1)

    assert mixed.shape == tensor.shape
    assert mixed.dtype == tensor.dtype
    assert not torch.equal(mixed, tensor)
    assert torch.equal(mixed.flatten().sort().values, tensor.flatten())
    assert torch.equal(mixed, shuffled(tensor, seed=1))
    assert not torch.equal(mixed, shuffled(tensor, seed=2))


def test_a_seed_depends_on_every_word_and_on_their_borders() -> None:
    seeds = {seed_of(0, "a", "bc"), seed_of(0, "ab", "c"), seed_of(1, "a", "bc"), seed_of(0, "abc")}

    assert len(seeds) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(
    ("layer", "attribute"),
    [
        (nn.Conv2d(2, 3, 3), "weight"),
        (nn.Conv2d(2, 3, 3), "bias"),
        (nn.Linear(4, 2), "weight"),
        (nn.ConvTranspose2d(2, 3, 3), "weight"),
        (nn.Embedding(4, 3), "weight"),
    ],
    ids=str,
)
def test_a_kernel_is_reinitialised_as_its_layer_draws_it(layer: nn.Module, attribute: str) -> None:
    drawn = reinitialised(layer, attribute, seed=5)

    with torch.random.fork_rng():
        torch.manual_seed(5)
        layer.reset_parameters()
    assert torch.equal(drawn, getattr(layer, attribute))


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm2d(3),
        nn.InstanceNorm2d(3, affine=True, track_running_stats=True),
        FrozenBatchNorm2d(3),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_norm_is_reinitialised_to_doing_nothing(layer: nn.Module) -> None:
    starts = {"running_mean": 0.0, "running_var": 1.0, "weight": 1.0, "bias": 0.0}
    with torch.no_grad():
        for attribute in starts:
            getattr(layer, attribute).uniform_(2, 3)

    for attribute, start in starts.items():
        # A variance drawn around its own mean could be negative, and every output NaN.
        assert reinitialised(layer, attribute, seed=0).tolist() == [start] * 3
        assert bool((getattr(layer, attribute) > 1.5).all())


def test_attention_is_reinitialised_as_it_draws_itself() -> None:
    layer = nn.MultiheadAttention(4, 2)
    with torch.no_grad():
        layer.in_proj_bias.fill_(7.0)

    assert reinitialised(layer, "in_proj_bias", seed=0).tolist() == [0.0] * 12
    # Xavier: within sqrt(6 / (4 + 12)).
    drawn = reinitialised(layer, "in_proj_weight", seed=0)
    assert float(drawn.abs().max()) <= (6 / 16) ** 0.5
    assert not torch.equal(drawn, layer.in_proj_weight)


def test_a_bare_parameter_is_reinitialised_around_its_own_mean_and_deviation() -> None:
    model = nn.Module()
    model.token = nn.Parameter(torch.randn(10000, generator=torch.Generator().manual_seed(0)) + 3)

    drawn = reinitialised(model, "token", seed=1)

    # Means of 10000 values of deviation 1 are off by some 0.01.
    assert float(drawn.mean()) == pytest.approx(3, abs=0.05)
    assert float(drawn.std()) == pytest.approx(1, abs=0.05)
    assert abs(float(torch.corrcoef(torch.stack([drawn, model.token.detach()]))[0, 1])) < 0.05


def test_drawing_moves_neither_the_layer_nor_the_global_random_state() -> None:
    layer = nn.Conv2d(1, 2, 3)
    weight, state = layer.weight.clone(), torch.get_rng_state()

    reinitialised(layer, "weight", seed=1)
    shuffled(layer.weight, seed=1)

    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(layer.weight, weight)


def replacements(*controls: object, seed: int = 0) -> Replacements:
    source = small_network(1).state_dict()
    return replacements_for(SMALL, source, controls, seed=seed)  # type: ignore[arg-type]


def test_the_source_comes_first_and_gives_its_own_tensors() -> None:
    made = replacements("reinit", "shuffled", seed=3)
    site = BY_NAME["W 1"]

    assert made.names == ("source", "reinit", "shuffled")
    assert torch.equal(made.tensor(site, "source"), made.source["0.weight"])
    mixed = made.tensor(site, "shuffled")
    assert torch.equal(mixed.flatten().sort().values, made.source["0.weight"].flatten().sort()[0])


def test_a_random_control_depends_on_the_seed_and_the_site_and_on_no_order() -> None:
    forwards, backwards = replacements("reinit", "shuffled"), replacements("shuffled", "reinit")

    def draw(made: Replacements, sites: list[Site], name: str) -> dict[str, Tensor]:
        return {site.key: made.tensor(site, name) for site in sites}

    for name in ("reinit", "shuffled"):
        one, two = draw(forwards, SITES, name), draw(backwards, SITES[::-1], name)
        assert all(torch.equal(one[key], two[key]) for key in one)
    # Two tensors of one shape are not mixed in the same way.
    twins = nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9))
    source = dict.fromkeys(["0.weight", "1.weight"], torch.arange(81.0).view(9, 9))
    made = replacements_for(twins, source, ("shuffled",))
    first, _, second, _ = sites_of(twins)
    assert not torch.equal(made.tensor(first, "shuffled"), made.tensor(second, "shuffled"))
    other_seed = replacements("reinit", seed=1).tensor(BY_NAME["W 2"], "reinit")
    assert not torch.equal(other_seed, forwards.tensor(BY_NAME["W 2"], "reinit"))


def test_a_replacement_takes_the_targets_dtype() -> None:
    source = {key: t.double() for key, t in small_network(1).state_dict().items()}

    tensors = replacements_for(SMALL, source, ("reinit",)).tensors(
        make_swaps(SITES, "layer")[0], "source"
    )

    assert {t.dtype for t in tensors.values()} == {torch.float32}
    assert sorted(tensors) == sorted(site.key for site in SITES[:6])


def test_further_models_are_controls_by_number_or_name() -> None:
    model, state = small_network(2), small_network(3).state_dict()

    assert replacements(model, "shuffled", state).names == (
        *("source", "model", "shuffled", "model 2"),
    )
    named = replacements_for(SMALL, state, {"imagenet": model})
    assert named.names == ("source", "imagenet")
    assert torch.equal(named.tensor(BY_NAME["W 1"], "imagenet"), model[0].weight)


def test_a_single_control_need_not_be_in_a_list() -> None:
    # A string and nn.Sequential are both sequences, of letters and of layers.
    assert replacements_for(SMALL, {}, "shuffled").names == ("source", "shuffled")
    assert replacements_for(SMALL, {}, small_network(2)).names == ("source", "model")


@pytest.mark.parametrize(
    ("controls", "message"),
    [
        (("zero",), "unknown control 'zero': expected 'shuffled', 'reinit' or a model"),
        (("reinit", "reinit"), r"different names.*\['reinit', 'reinit'\]"),
        ({"source": small_network(2)}, "models none of"),
        ({"shuffled": small_network(2)}, "models none of"),
    ],
)
def test_controls_without_a_name_of_their_own_are_refused(controls: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        replacements_for(SMALL, {}, controls)  # type: ignore[arg-type]


def test_a_control_model_that_does_not_fit_is_told_by_site() -> None:
    other = small_network(2).state_dict()
    other["7.weight"] = torch.zeros(5, 48)
    del other["7.bias"]
    made = replacements(other)

    with pytest.raises(SiteMismatchError, match=r"model tensor at linear W 1.*\(5, 48\).*7.weight"):
        made.tensor(BY_NAME["linear W 1"], "model")
    with pytest.raises(SiteMismatchError, match=r"at linear B 1: there is none of name '7.bias'"):
        made.tensor(BY_NAME["linear B 1"], "model")


def test_identical_means_every_tensor_bit_for_bit() -> None:
    swap = make_swaps(SITES, "layer")[0]
    tensors = {site.key: SMALL.state_dict()[site.key].clone() for site in swap.sites}

    assert is_identical(swap, tensors, SMALL)
    tensors["1.running_var"][1] += 1e-6
    assert not is_identical(swap, tensors, SMALL)
