"""The four forms of the UNet: {plain, residual} x {long connections, none}."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paramreuse.alignment.aligning import Alignment, align_models
from paramreuse.alignment.trace import channel_groups
from paramreuse.cli.files import align_named
from paramreuse.engine.partial import PartialEngine
from paramreuse.engine.plain import FullEngine
from paramreuse.networks import unet
from paramreuse.sites.matching import compare_sites, sites_of

FORMS = [
    {"residual": residual, "long_skips": long_skips}
    for residual, long_skips in itertools.product((False, True), (True, False))
]
UPSAMPLINGS = ("bilinear", "transposed")


def drawn_unet(seed: int = 0, **options: Any) -> nn.Module:
    """A UNet of width 2 in evaluation mode, every tensor off its start."""
    generator = torch.Generator().manual_seed(seed)
    model = unet(**{"width": 2, **options})
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                values = 0.5 * torch.randn(tensor.shape, generator=generator)
                tensor.copy_(values.abs() + 0.5 if "var" in key else values + 0.1)
    return model.eval()


def residual_unet() -> nn.Module:
    """What a user writes to have a residual UNet aligned on the command line."""
    return unet(width=4, residual=True)


def odd_sized_images(size: tuple[int, int] = (17, 19), channels: int = 1) -> Tensor:
    return torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(2))


def assert_alike(one: Tensor, other: Tensor, where: str = "") -> None:
    """Sums of float64 in another order differ by rounding, in parts of the largest value."""
    assert one.dtype == other.dtype == torch.float64
    assert float((one - other).abs().max()) <= 1e-12 * float(other.abs().max()), where


def silenced(model: nn.Module) -> nn.Module:
    """The model with zeros in all 18 convolutions: only what is added gets through."""
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d) and name != "head":
                module.weight.zero_()
                module.bias.zero_()
    return model.eval()


# --- what the four have in common ---


@pytest.mark.parametrize("form", FORMS)
def test_parameters_are_as_many_as_counted_by_hand(form: dict[str, bool]) -> None:
    # Products of the features that a convolution takes in and puts out, width 8. Down:
    # 8 + 64 + 128 + 256 + 512 + 1024 + 2048 + 4096 + 8192 + 16384 = 32712; up, with the long
    # connections: 192*64 + 64*64 + 96*32 + 32*32 + 48*16 + 16*16 + 24*8 + 8*8 = 21760, without:
    # 128*64 + 64*64 + 64*32 + 32*32 + 32*16 + 16*16 + 16*8 + 8*8 = 16320.
    products = 32712 + (21760 if form["long_skips"] else 16320)
    # 736 features in all, each with a bias, RW and RB. The output layer has 8 x 4 + 4.
    by_hand = 9 * products + 3 * 736 + 36

    counted = sum(p.numel() for p in unet(width=8, **form).parameters())

    assert counted == by_hand == (492492 if form["long_skips"] else 443532)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_all_four_have_the_same_18_layers_under_the_same_numbers_and_names(
    form: dict[str, bool], upsampling: str
) -> None:
    sites = sites_of(unet(width=2, upsampling=upsampling, **form))  # type: ignore[arg-type]
    papers = sites_of(unet(width=2, upsampling=upsampling))  # type: ignore[arg-type]
    kernels = [site for site in sites if site.family == "conv" and site.kind == "W"]

    assert [(s.family, s.name, s.path) for s in sites] == [
        (s.family, s.name, s.path) for s in papers
    ]
    assert [site.layer for site in kernels if not site.is_output] == list(range(1, 19))
    assert [s.layer for s in sites if s.family == "norm" and s.kind == "RM"] == list(range(1, 19))
    down = [2, 2, 4, 4, 8, 8, 16, 16, 32, 32]
    assert [site.shape[0] for site in kernels] == [*down, 16, 16, 8, 8, 4, 4, 2, 2, 4]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_layers_run_in_the_order_of_their_numbers(form: dict[str, bool], upsampling: str) -> None:
    model = drawn_unet(upsampling=upsampling, **form)

    assert [s.key for s in sites_of(model, example_input=odd_sized_images())] == [
        s.key for s in sites_of(model)
    ]


@pytest.mark.parametrize(("upsampling", "coming_up"), [("bilinear", 16), ("transposed", 8)])
def test_without_long_connections_four_kernels_take_in_fewer_features(
    upsampling: str, coming_up: int
) -> None:
    taken_in = [
        [site.shape[1] for site in sites_of(model) if site.family == "conv" and site.kind == "W"]
        for model in (
            unet(width=1, upsampling=upsampling, long_skips=long_skips)  # type: ignore[arg-type]
            for long_skips in (True, False)
        )
    ]

    levels = {11: 8, 13: 4, 15: 2, 17: 1}  # features of the level, at width 1
    fewer = {
        number: (with_skips, without)
        for number, (with_skips, without) in enumerate(zip(*taken_in, strict=True), start=1)
        if with_skips != without
    }
    factor = coming_up // 8
    assert fewer == {n: (f * factor + f, f * factor) for n, f in levels.items()}


def test_residual_and_plain_start_from_the_same_random_numbers() -> None:
    for long_skips in (True, False):
        states = []
        for residual in (True, False):
            torch.manual_seed(3)
            states.append(unet(width=2, residual=residual, long_skips=long_skips).state_dict())

        assert list(states[0]) == list(states[1])
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_the_output_has_the_size_of_the_input(form: dict[str, bool], upsampling: str) -> None:
    model = unet(2, 3, width=2, upsampling=upsampling, **form).train()  # type: ignore[arg-type]

    outputs = model(odd_sized_images((33, 47), channels=2))
    outputs.square().sum().backward()

    assert outputs.shape == (2, 3, 33, 47)
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


# --- short connections ---


def test_a_short_connection_fills_up_with_zeros_and_keeps_the_first_features() -> None:
    model = silenced(unet(width=2, residual=True))
    x = torch.tensor([3.0, -1.0]).reshape(1, 2, 1, 1)

    # Convolutions and norms give 0, so relu(0 + x): 2 features become 4 on the way down.
    assert model.down2(x).flatten().tolist() == [3.0, 0.0, 0.0, 0.0]
    # The last level up takes in 2 features of the long connection and 4 upsampled ones.
    together = torch.tensor([5.0, -6.0, 7.0, 8.0, 9.0, 10.0]).reshape(1, 6, 1, 1)
    assert model.up4.convs(together).flatten().tolist() == [5.0, 0.0]


def test_what_is_kept_on_the_way_up_is_the_long_connection_where_there_is_one() -> None:
    image = odd_sized_images()
    model = silenced(unet(width=2, residual=True))
    # Level 1 is relu(image, 0), and comes past the levels below unblurred.
    first = F.relu(torch.cat((image, torch.zeros_like(image)), dim=1))

    torch.testing.assert_close(model(image), model.head(first), rtol=0, atol=0)

    model = silenced(unet(width=2, residual=True, long_skips=False))
    assert not torch.allclose(model(image), model.head(first))
    flat = torch.full((1, 1, 17, 19), 2.5)  # pooling and upsampling leave one value alone
    expected = 2.5 * model.head.weight[:, 0, 0, 0] + model.head.bias
    torch.testing.assert_close(model(flat)[0, :, 8, 9], expected)

    plain = silenced(unet(width=2))
    assert torch.equal(plain(image), plain.head(torch.zeros(2, 2, 17, 19)))


def test_a_residual_block_adds_its_input_between_the_second_norm_and_relu() -> None:
    block = drawn_unet(residual=True).down3
    x = odd_sized_images(channels=4)

    y = F.relu(block.norm1(block.conv1(x)))
    y = block.norm2(block.conv2(y)) + torch.cat((x, torch.zeros_like(x)), dim=1)

    torch.testing.assert_close(block(x), F.relu(y), rtol=0, atol=0)


# --- long connections ---


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_without_long_connections_everything_passes_the_deepest_level(
    residual: bool, upsampling: str
) -> None:
    model = drawn_unet(residual=residual, upsampling=upsampling, long_skips=False)
    other = drawn_unet(residual=residual, upsampling=upsampling, long_skips=True)
    for net in (model, other):
        net.down5.register_forward_hook(lambda _module, _inputs, y: torch.zeros_like(y))

    one, another = odd_sized_images()[:1], odd_sized_images()[1:]

    assert torch.equal(model(one), model(another))
    assert not torch.equal(other(one), other(another))


# --- what the method does with them ---


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_the_partial_engine_gives_what_full_passes_give(
    form: dict[str, bool], upsampling: str
) -> None:
    target, source = (drawn_unet(seed, upsampling=upsampling, **form).double() for seed in (0, 1))
    sites = sites_of(target)
    variants = [{site.key: source.state_dict()[site.key]} for site in sites]
    inputs = odd_sized_images().double()
    engine, full = PartialEngine(target, inputs), FullEngine(target)

    with torch.no_grad():
        assert_alike(engine.baseline(inputs), full.baseline(inputs))
        fast, wanted = list(engine.swapped(variants)), list(full.swapped(variants))

    assert engine.notes == ()
    assert len(fast) == 110 + (8 if upsampling == "transposed" else 0)
    for site, one, other in zip(sites, fast, wanted, strict=True):
        assert_alike(one, other, site.name)


def test_every_tensor_of_a_plain_network_fits_a_residual_one() -> None:
    for long_skips in (True, False):
        plain, residual = (drawn_unet(residual=r, long_skips=long_skips) for r in (False, True))
        match = compare_sites(residual, plain)

        assert (len(match.sites), match.skipped) == (110, ())


@pytest.mark.parametrize("residual", [False, True])
def test_four_kernels_do_not_fit_where_the_long_connections_differ(residual: bool) -> None:
    target, source = (
        drawn_unet(residual=residual),
        drawn_unet(residual=not residual, long_skips=False),
    )
    match = compare_sites(target, source)

    # Width 2: 32 features come up beside 16 of the long connection, and so on.
    assert {(skipped.key, skipped.reason) for skipped in match.skipped} == {
        (
            f"up{level}.convs.conv1.weight",
            f"the target has shape ({f}, {3 * f}, 3, 3), the source ({f}, {2 * f}, 3, 3)",
        )
        for level, f in enumerate((16, 8, 4, 2), start=1)
    }
    assert len(match.sites) == 106


# --- alignment ---


def permuted(model: nn.Module, example: Tensor) -> dict[str, Tensor]:
    """The same network with the channels of every group in another order."""
    groups = channel_groups(model, example)
    permutations = {
        group.name: torch.arange(group.size).roll(1) for group in groups if not group.frozen
    }
    return Alignment(tuple(groups), permutations, (), tuple(model.state_dict()), {}).apply(model)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_a_permuted_copy_computes_the_same_and_is_aligned_back(
    form: dict[str, bool], upsampling: str
) -> None:
    target, twin = (drawn_unet(n, width=4, upsampling=upsampling, **form).double() for n in (0, 1))
    source = permuted(target, odd_sized_images().double())
    twin.load_state_dict(source)
    with torch.no_grad():
        assert_alike(twin(odd_sized_images().double()), target(odd_sized_images().double()))

    alignment = align_models(target, source, odd_sized_images().double())

    assert max(row.before.rmse for row in alignment.rows) > 0.1
    assert max(row.after.rmse for row in alignment.rows) < 1e-6
    assert alignment.frozen == {"head": "the network's output"}


def test_short_connections_couple_the_layers_that_share_features() -> None:
    sizes = {
        name: {g.name: g.size for g in channel_groups(model, odd_sized_images()) if not g.frozen}
        for name, model in (
            ("plain", drawn_unet(width=4)),
            ("residual", drawn_unet(width=4, residual=True)),
        )
    }

    assert len(sizes["plain"]) == 18
    # The first convolution of each block is on its own. Of the sums, feature 1 is the image's,
    # and stays; what each level adds can be exchanged: 3, 4, 8, 16 and 32 features.
    inner = {f"down{n}.conv1": 2 ** (n + 1) for n in range(1, 6)}
    inner |= {f"up{n}.convs.conv1": 2 ** (6 - n) for n in range(1, 5)}
    added = {f"down{n}.conv2": size for n, size in enumerate((3, 4, 8, 16, 32), start=1)}
    assert sizes["residual"] == inner | added


def test_networks_of_other_long_connections_are_aligned_where_they_agree() -> None:
    target, source = drawn_unet(width=4), drawn_unet(1, width=4, long_skips=False)

    alignment = align_models(target, source, odd_sized_images())

    assert "up1.convs.conv1.weight" in alignment.frozen["down5.conv2"]
    assert "(32, 64, 3, 3), so other channels" in alignment.frozen["down5.conv2"]
    assert "down5.conv1" in alignment.permutations


@pytest.mark.parametrize("long_skips", [True, False])
@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_files_tell_long_connections_and_upsampling(long_skips: bool, upsampling: str) -> None:
    target = drawn_unet(width=4, upsampling=upsampling, long_skips=long_skips, bias=False)
    source = permuted(target, odd_sized_images())

    rows = align_named(target.state_dict(), {"ae": source}, network="unet", shape=(1, 17, 19))

    assert max(row["rmse_before"] for row in rows["ae"]) > 0.1
    assert max(row["rmse_after"] for row in rows["ae"]) < 1e-6


def test_files_do_not_tell_short_connections_a_factory_does() -> None:
    target, source = (drawn_unet(seed, width=4, residual=True) for seed in (0, 1))
    names = ("unet", f"{__name__}:residual_unet")

    plain, residual = (
        align_named(target.state_dict(), {"s": source}, network=name, shape=(1, 17, 19))["s"]
        for name in names
    )

    # Taken for a plain UNet, features change places that the sums tie together: nearer than any
    # order is that computes the same.
    def kernels(rows: list[dict[str, Any]]) -> float:
        return sum(row["rmse_after"] for row in rows if row["kind"] == "W")

    assert kernels(plain) < kernels(residual)
    rows = align_models(target, source, odd_sized_images()).frame().to_dict("records")
    assert residual == rows
