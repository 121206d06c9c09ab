"""Channel alignment: known permutations come back, functions stay, what is unclear stays put."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paramreuse.alignment import operations as channel_ops
from paramreuse.alignment import trace as channel_trace
from paramreuse.alignment.aligning import Alignment, align_models
from paramreuse.alignment.channels import ChannelGroup
from paramreuse.alignment.trace import channel_groups
from paramreuse.errors import ModelError, SiteMismatchError
from paramreuse.networks import pspnet, unet


class Net(nn.Module):
    """Layers by name and a function that runs them."""

    def __init__(
        self, run: Callable[["Net", Tensor], Tensor], layers: Mapping[str, nn.Module]
    ) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self._run = run

    def forward(self, x: Tensor) -> Tensor:
        return self._run(self, x)


def filled(net: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, tensor in net.state_dict().items():
            if tensor.is_floating_point():
                values = torch.randn(tensor.shape, generator=generator)
                fan_in = tensor[0].numel() if tensor.ndim > 1 else 4
                tensor.copy_(values / fan_in**0.5)
                if key.endswith("running_var"):
                    tensor.abs_().add_(0.1)
    return net.eval()


def conv(inputs: int, outputs: int, **options: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


def plain() -> nn.Module:
    return nn.Sequential(conv(2, 6), nn.BatchNorm2d(6), nn.ReLU(), conv(6, 5), conv(5, 2))


def residual() -> nn.Module:
    layers = {
        "stem": conv(2, 6),
        "one": conv(6, 4),
        "norm": nn.BatchNorm2d(4),
        "two": conv(4, 6),
        "head": nn.Conv2d(6, 2, 1),
    }
    return Net(_run_residual, layers)


def _run_residual(n: Net, x: Tensor) -> Tensor:
    x = F.relu(n.stem(x))
    return n.head(F.relu(x + n.two(F.relu(n.norm(n.one(x))))))


def long_connection() -> nn.Module:
    layers = {
        "down": conv(2, 4),
        "deep": conv(4, 6),
        "up": nn.ConvTranspose2d(6, 3, 2, stride=2),
        "join": conv(7, 4),
        "head": nn.Conv2d(4, 2, 1),
    }
    return Net(_run_long, layers)


def _run_long(n: Net, x: Tensor) -> Tensor:
    skip = F.relu(n.down(x))
    up = n.up(F.relu(n.deep(F.max_pool2d(skip, 2))))
    return n.head(F.relu(n.join(torch.cat((skip, up), dim=1))))


def pooled_classifier() -> nn.Module:
    pool = nn.AdaptiveAvgPool2d(2)
    return nn.Sequential(
        conv(2, 6), nn.ReLU(), pool, nn.Flatten(), nn.Linear(24, 5), nn.ReLU(), nn.Linear(5, 3)
    )


def depthwise() -> nn.Module:
    return nn.Sequential(
        conv(2, 6), conv(6, 6, groups=6), nn.BatchNorm2d(6), nn.Hardswish(), nn.Conv2d(6, 2, 1)
    )


def in_two_groups() -> nn.Module:
    return nn.Sequential(conv(2, 6), conv(6, 8, groups=2), nn.GroupNorm(2, 8), conv(8, 2))


def normalised_by_halves() -> nn.Module:
    return nn.Sequential(conv(2, 8), nn.GroupNorm(2, 8), nn.ReLU(), conv(8, 2))


def deep() -> nn.Module:
    return nn.Sequential(
        conv(2, 24), nn.ReLU(), conv(24, 24), nn.ReLU(), conv(24, 24), nn.ReLU(), conv(24, 2)
    )


def shuffled_pixels() -> nn.Module:
    return nn.Sequential(conv(2, 12), nn.ReLU(), nn.PixelShuffle(2), conv(3, 2))


def squeezed() -> nn.Module:
    return Net(_run_squeezed, {"stem": conv(2, 6), "gate": nn.Linear(6, 6), "head": conv(6, 2)})


def _run_squeezed(n: Net, x: Tensor) -> Tensor:
    x = F.silu(n.stem(x))
    return n.head(x * torch.sigmoid(n.gate(x.mean(dim=(2, 3))))[:, :, None, None])


def self_fed() -> nn.Module:
    return Net(
        lambda n, x: n.head(F.relu(n.stem(x) + n.again(F.relu(n.again(n.stem(x)))))),
        {"stem": conv(2, 6), "again": conv(6, 6), "head": conv(6, 2)},
    )


def half_scaled() -> nn.Module:
    def run(n: Net, x: Tensor) -> Tensor:
        one, two = n.stem(x).chunk(2, dim=1)
        return n.head(torch.cat((one, 2 * two), dim=1))

    return Net(run, {"stem": conv(2, 8), "head": conv(8, 2)})


def added_around() -> nn.Module:
    """Short connections without parameters: 4 features become 9, then the middle 5."""

    def run(n: Net, x: Tensor) -> Tensor:
        x = F.relu(n.stem(x))
        x = F.relu(n.wide(x) + F.pad(x, (0, 0, 0, 0, 2, 3)))
        return n.head(F.relu(n.narrow(x) + F.pad(x, (0, 0, 0, 0, -1, -3))))

    layers = {"stem": conv(2, 4), "wide": conv(4, 9), "narrow": conv(9, 5), "head": conv(5, 2)}
    return Net(run, layers)


NETS = [
    *(plain, residual, long_connection, pooled_classifier, depthwise, in_two_groups),
    *(shuffled_pixels, squeezed, self_fed, half_scaled, normalised_by_halves, deep, added_around),
]
EXAMPLE = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(5))


def live(groups: list[ChannelGroup]) -> dict[str, int]:
    return {group.name: group.size for group in groups if not group.frozen}


def permuted_copy(net: nn.Module, groups: list[ChannelGroup]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    permutations = {
        name: torch.randperm(size, generator=generator) for name, size in live(groups).items()
    }
    return Alignment(tuple(groups), permutations, (), tuple(net.state_dict()), {}).apply(net)


# --- worked by hand ---


def test_two_exchanged_channels_come_back() -> None:
    target = nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 1))
    with torch.no_grad():
        target[0].weight.copy_(torch.tensor([[1.0], [2.0]]))
        target[0].bias.copy_(torch.tensor([3.0, 4.0]))
        target[1].weight.copy_(torch.tensor([[5.0, 6.0]]))
    source = {
        "0.weight": torch.tensor([[2.0], [1.0]]),
        "0.bias": torch.tensor([4.0, 3.0]),
        "1.weight": torch.tensor([[6.0, 5.0]]),
        "1.bias": target[1].bias.detach(),
    }

    alignment = align_models(target, source, torch.zeros(1, 1))

    assert {k: p.tolist() for k, p in alignment.permutations.items()} == {"0": [1, 0]}
    assert all(
        torch.equal(t, target.state_dict()[key]) for key, t in alignment.apply(source).items()
    )


def test_groups_of_a_residual_network_couple_what_is_added() -> None:
    groups = channel_groups(residual(), EXAMPLE)

    assert live(groups) == {"stem": 6, "one": 4}
    stem = next(group for group in groups if group.name == "stem")
    assert {(slot.key, slot.dim) for slot in stem.slots} == {
        *(("stem.weight", 0), ("stem.bias", 0), ("one.weight", 1)),
        *(("two.weight", 0), ("two.bias", 0), ("head.weight", 1)),
    }


def test_a_long_connection_puts_two_groups_side_by_side() -> None:
    groups = channel_groups(long_connection(), EXAMPLE)

    assert live(groups) == {"down": 4, "deep": 6, "up": 3, "join": 4}
    places = {
        group.name: slot.positions.ravel().tolist()
        for group in groups
        for slot in group.slots
        if (slot.key, slot.dim) == ("join.weight", 1)
    }
    assert places == {"down": [0, 1, 2, 3], "up": [4, 5, 6]}


def test_flattening_gives_each_channel_its_places() -> None:
    groups = channel_groups(pooled_classifier(), EXAMPLE)

    places = [
        slot.positions.tolist()
        for group in groups
        for slot in group.slots
        if (group.name, slot.key, slot.dim) == ("0", "4.weight", 1)
    ]
    assert places == [[[4 * c, 4 * c + 1, 4 * c + 2, 4 * c + 3] for c in range(6)]]


def test_channels_change_places_within_their_half_only() -> None:
    assert live(channel_groups(half_scaled(), EXAMPLE)) == {"stem": 4, "stem 2": 4}
    assert list(live(channel_groups(in_two_groups(), EXAMPLE)).values()) == [3, 3, 4, 4]
    assert live(channel_groups(normalised_by_halves(), EXAMPLE)) == {"0": 4, "0 2": 4}


def test_channels_that_are_filled_up_with_zeros_can_change_places() -> None:
    # Of the 9: two zeros in front, the 4 of the stem, three zeros behind. Cut to 1 to 5: a zero of
    # those in front, and the 4.
    groups = channel_groups(filled(added_around(), 0), EXAMPLE)

    places = {
        group.name: slot.positions.ravel().tolist()
        for group in groups
        for slot in group.slots
        if (slot.key, slot.dim) == ("wide.weight", 0)
    }
    assert places == {"stem": [2, 3, 4, 5], "wide": [0, 6, 7, 8]}


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_channels_that_are_filled_up_with_others_stay_in_place(mode: str) -> None:
    def run(n: Net, x: Tensor) -> Tensor:
        tokens = n.stem(x).flatten(2).transpose(1, 2)
        return n.head(F.pad(tokens, (1, 1), mode=mode))

    net = Net(run, {"stem": conv(2, 4), "head": nn.Linear(6, 3)})

    (stem,) = (group for group in channel_groups(filled(net, 0), EXAMPLE) if group.name == "stem")

    assert stem.frozen == "padding tells channels apart"


# --- invariants, for every shape of network ---


@pytest.mark.parametrize("build", NETS)
def test_a_permuted_copy_computes_the_same_and_comes_back_exactly(
    build: Callable[[], nn.Module],
) -> None:
    target = filled(build(), 0)
    groups = channel_groups(target, EXAMPLE)
    source = permuted_copy(target, groups)
    twin = build().eval()
    twin.load_state_dict(source)
    torch.testing.assert_close(twin(EXAMPLE), target(EXAMPLE), rtol=1e-5, atol=1e-5)

    alignment = align_models(target, source, EXAMPLE)

    assert len(live(groups)) >= 1
    assert max(row.before.rmse for row in alignment.rows) > 0.1
    assert max(row.after.rmse for row in alignment.rows) < 1e-6


@pytest.mark.parametrize("build", NETS)
def test_an_aligned_independent_model_is_nearer_and_computes_what_it_did(
    build: Callable[[], nn.Module],
) -> None:
    target, source = filled(build(), 0), filled(build(), 1)

    alignment = align_models(target, source, EXAMPLE)

    twin = build().eval()
    twin.load_state_dict(alignment.apply(source))
    torch.testing.assert_close(twin(EXAMPLE), source(EXAMPLE), rtol=1e-5, atol=1e-5)
    before = sum(row.before.squares_difference for row in alignment.rows)
    after = sum(row.after.squares_difference for row in alignment.rows)
    assert 0.2 * before < after < before


def test_a_permuted_copy_of_a_deep_network_comes_back_exactly() -> None:
    # Descent from the source as it is ends at an RMSE of 0.69 here: the first sweep has to go
    # layer by layer from the input.
    layers = [nn.Sequential(nn.ReLU(), nn.Linear(64, 64)) for _ in range(6)]
    target = filled(nn.Sequential(nn.Linear(2, 64), *layers, nn.Linear(64, 1)), 1)
    example = torch.zeros(1, 2)

    alignment = align_models(
        target, permuted_copy(target, channel_groups(target, example)), example
    )

    assert max(row.after.rmse for row in alignment.rows) < 1e-6


def test_an_aligned_source_cannot_be_aligned_further() -> None:
    target, source = filled(deep(), 0), filled(deep(), 1)

    once = align_models(target, source, EXAMPLE)
    twice = align_models(target, once.apply(source), EXAMPLE)

    for row, again in zip(once.rows, twice.rows, strict=True):
        assert again.after.rmse == pytest.approx(row.after.rmse, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("build", [unet, pspnet])
def test_the_networks_of_the_papers_are_aligned_at_every_hidden_layer(
    build: Callable[..., nn.Module],
) -> None:
    target = filled(build(width=4), 0)
    example = torch.zeros(1, 1, 32, 32)
    groups = channel_groups(target, example)

    alignment = align_models(target, permuted_copy(target, groups), example)

    # UNet: 18 layers. PSPNet: 25, of which the residual sums couple 2 + 3 + 3 + 3 to 4.
    assert len(alignment.permutations) == {unet: 18, pspnet: 17}[build]
    assert list(alignment.frozen.values()) == ["the network's output"]
    assert max(row.after.rmse for row in alignment.rows) < 1e-6


# --- what is not understood ---


def summed_up(seed: int = 0) -> nn.Module:
    layers = {"stem": conv(2, 4), "next": conv(4, 5), "head": conv(5, 2)}
    return filled(Net(lambda n, x: n.head(n.next(torch.cumsum(n.stem(x), dim=1))), layers), seed)


def test_channels_of_an_unknown_operation_stay_in_place_and_are_listed() -> None:
    alignment = align_models(summed_up(0), summed_up(1), EXAMPLE)

    assert "cumsum" in alignment.frozen["stem"]
    assert list(alignment.permutations) == ["next"]


def test_a_cut_through_the_places_of_a_channel_keeps_channels_in_place() -> None:
    net = Net(
        lambda n, x: n.head(torch.flatten(F.adaptive_avg_pool2d(n.stem(x), 2), 1)[:, 2:22]),
        {"stem": conv(2, 6), "head": nn.Linear(20, 3)},
    )

    (stem,) = (group for group in channel_groups(filled(net, 0), EXAMPLE) if group.name == "stem")

    assert "cuts through channels" in stem.frozen


def test_a_group_that_the_trace_gets_wrong_is_found_by_permuting_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(channel_ops._RULES, "cumsum", lambda call: call.dims(0))  # a wrong rule

    groups = {group.name: group.frozen for group in channel_groups(summed_up(), EXAMPLE)}

    assert "changed the output" in groups["stem"]
    assert groups["next"] == ""


def test_a_source_of_another_width_is_left_in_place_there() -> None:
    target = filled(plain(), 0)
    source = dict(filled(plain(), 1).state_dict())
    source["3.weight"], source["3.bias"] = torch.zeros(7, 6, 3, 3), torch.zeros(7)
    source["4.weight"] = torch.zeros(2, 7, 3, 3)

    alignment = align_models(target, source, EXAMPLE)

    assert "(7, 6, 3, 3)" in alignment.frozen["3"]
    assert list(alignment.permutations) == ["0"]


def test_a_network_that_cannot_run_is_refused() -> None:
    with pytest.raises(ModelError, match="cannot follow the channels"):
        channel_groups(plain(), torch.zeros(1, 3, 8, 8))


def test_tensors_of_another_network_are_refused() -> None:
    net = filled(plain(), 0)
    alignment = align_models(net, net, EXAMPLE)
    other = {**net.state_dict(), "1.weight": torch.zeros(4)}

    with pytest.raises(SiteMismatchError, match=r"'1\.weight'.*6 positions"):
        alignment.apply(other)


# --- surroundings ---


def test_a_network_that_cannot_be_run_on_fake_tensors_is_exported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = live(channel_groups(residual(), EXAMPLE))

    def refuse(*_arguments: object) -> None:
        raise RuntimeError("refused")

    monkeypatch.setattr(channel_trace, "make_fx", refuse)

    assert live(channel_groups(residual(), EXAMPLE)) == expected


def test_tied_tensors_are_permuted_under_all_their_names() -> None:
    net = filled(nn.Sequential(conv(2, 2), conv(2, 4), conv(4, 2)), 0)
    net.twin = net[1]

    aligned = align_models(net, net, EXAMPLE)
    swapped = replace(aligned, permutations={"1": torch.tensor([3, 2, 1, 0])}).apply(net)

    assert torch.equal(swapped["twin.weight"], swapped["1.weight"])
    assert torch.equal(swapped["1.weight"], net[1].weight.detach().flip(0))


def test_a_model_and_itself_stay_in_place() -> None:
    net = filled(residual(), 0)

    alignment = align_models(net, net, EXAMPLE)

    assert all(torch.equal(p, torch.arange(len(p))) for p in alignment.permutations.values())
    frame = alignment.frame()
    assert list(frame.columns[-4:]) == [
        *("rmse_before", "rmse_after", "relative_rmse_before", "relative_rmse_after")
    ]
    assert (frame[["rmse_before", "rmse_after"]] == 0).all(axis=None)


def test_models_and_random_state_are_left_as_they_were() -> None:
    target, source = filled(plain(), 0).train(), filled(plain(), 1).train()
    before = [{k: t.clone() for k, t in net.state_dict().items()} for net in (target, source)]
    random_state = torch.get_rng_state()

    align_models(target, source, EXAMPLE)

    for net, tensors in zip((target, source), before, strict=True):
        assert net.training
        assert all(torch.equal(t, tensors[key]) for key, t in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_the_same_seed_gives_the_same_permutations() -> None:
    target, source = filled(residual(), 0), filled(residual(), 1)

    one, two = (align_models(target, source, EXAMPLE, seed=4).permutations for _ in range(2))

    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow
def test_two_independent_trainings_come_nearer_but_not_together() -> None:
    target, source = trained_network(0), trained_network(1)

    rows = align_models(target, source, EXAMPLE).rows

    kernels = [row for row in rows if row.site.kind == "W" and not row.site.is_output]
    before = sum(row.before.relative_rmse for row in kernels) / len(kernels)
    after = sum(row.after.relative_rmse for row in kernels) / len(kernels)
    assert before > 0.9
    assert 0.3 < after < before - 0.05


def trained_network(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            *(conv(2, 16), nn.BatchNorm2d(16), nn.ReLU()),
            *(conv(16, 16), nn.BatchNorm2d(16), nn.ReLU(), conv(16, 2)),
        )
        images = torch.randn(32, 2, 8, 8, generator=torch.Generator().manual_seed(7))
        wanted = F.avg_pool2d(images, 3, 1, 1)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        for _ in range(60):
            optimizer.zero_grad()
            F.mse_loss(net(images), wanted).backward()
            optimizer.step()
    return net.eval()
