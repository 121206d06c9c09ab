"""Plans by blocks and depth."""

import pytest
from torch import nn

from paramreuse.errors import PlanError
from paramreuse.networks import pspnet, unet
from paramreuse.reuse.blocks import MAX_BLOCKS, blocks_of
from paramreuse.reuse.plan import Action, PlanEntry
from paramreuse.reuse.recipe import Recipe
from paramreuse.reuse.starts import (
    body_plan,
    full_plan,
    gentle_plan,
    head_plan,
    mixed,
    norms_plan,
    prefix_plan,
    slowed_plan,
    suffix_plan,
)
from paramreuse.sites.matching import Site, sites_of

UNET = sites_of(unet(width=1))
PSPNET = sites_of(pspnet(width=1))


def loaded_layers(plan: object) -> set[int]:
    return {s.layer for s in plan.loaded if s.kind == "W"}  # type: ignore[attr-defined]


def test_a_unet_is_cut_at_its_own_stages() -> None:
    blocks = blocks_of(UNET)

    # Five double convolutions down, four up, the output: layers 1-18 of the papers in pairs.
    assert [block.num_kernels for block in blocks] == [2] * 9 + [1]
    assert [block.is_output for block in blocks] == [False] * 9 + [True]
    assert blocks[0].name == "down1"


def test_pspnet_is_cut_at_the_stages_of_its_backbone() -> None:
    blocks = blocks_of(PSPNET)

    assert [b.num_kernels for b in blocks[:5]] == [1, 4, 5, 5, 5]
    assert sum(b.num_kernels for b in blocks) == 26
    assert blocks[-1].is_output


@pytest.mark.parametrize("sites", [UNET, PSPNET], ids=["unet", "pspnet"])
def test_blocks_hold_every_site_once_and_normalisations_with_their_convolution(
    sites: list[Site],
) -> None:
    blocks = blocks_of(sites)

    assert [site for block in blocks for site in block.sites] == list(sites)
    for block in blocks:
        assert block.sites[0].family != "norm"


def test_a_deep_flat_network_has_at_most_twelve_blocks() -> None:
    layers = [nn.Conv2d(2, 2, 1) for _ in range(40)]
    blocks = blocks_of(sites_of(nn.Sequential(*layers)))

    assert len(blocks) == MAX_BLOCKS
    assert [len(block.sites) for block in blocks][-1] == 2  # the output layer alone


def test_a_network_of_two_layers_has_two_blocks() -> None:
    blocks = blocks_of(sites_of(nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1))))

    assert [block.is_output for block in blocks] == [False, True]


def test_a_prefix_is_the_front_blocks_with_the_nearest_share_of_layers() -> None:
    # Blocks end after 2, 4, ..., 18, 19 of 19 kernels; 9.5 is nearest to 10, 14.25 to 14.
    assert loaded_layers(prefix_plan(blocks_of(UNET), 1 / 2)) == set(range(1, 11))
    assert loaded_layers(prefix_plan(blocks_of(UNET), 3 / 4)) == set(range(1, 15))


def test_a_suffix_is_what_the_prefix_leaves() -> None:
    front, rear = (plan(blocks_of(UNET), 1 / 2) for plan in (prefix_plan, suffix_plan))

    assert set(front.loaded) | set(rear.loaded) == set(UNET)
    assert not set(front.loaded) & set(rear.loaded)


def test_full_body_and_head_differ_in_the_output_layer_and_in_what_is_frozen() -> None:
    full, body, head = full_plan(UNET), body_plan(UNET), head_plan(UNET)

    assert set(full.loaded) == set(UNET)
    assert {s.path for s in set(UNET) - set(body.loaded)} == {"head"}
    frozen = {e.site for e in head.entries if e.action is Action.FREEZE}
    assert frozen == set(body.loaded)
    assert not full.recipe.recalibrate
    assert body.recipe.recalibrate
    assert not head.recipe.recalibrate


def test_gentle_slows_and_anchors_the_body_alone() -> None:
    plan = gentle_plan(UNET)

    assert {e.rate for e in plan.entries if not e.site.is_output} == {0.3}
    assert {e.rate for e in plan.entries if e.site.is_output} == {1.0}
    assert plan.recipe.anchor == 0.01


def test_slowing_goes_by_the_power_of_the_distance() -> None:
    blocks = blocks_of(UNET)
    rates = [e.rate for e in slowed_plan(blocks, front=True).entries]

    assert rates[-1] == 1.0
    assert rates[0] == pytest.approx(0.7**9)


def test_norms_only_trains_normalisations_and_the_output_layer() -> None:
    trained = {e.site for e in norms_plan(UNET).entries if e.action is Action.TRAIN}

    assert trained == {s for s in UNET if s.family == "norm" or s.is_output}


def test_mixing_changes_the_recipe_alone() -> None:
    plan = full_plan(UNET)

    assert mixed(plan, 0.5).recipe == Recipe(recalibrate=True, mix=0.5)
    assert mixed(plan, 0.5).entries == plan.entries


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mix": 0.0}, "mix=0.0: expected a share above 0"),
        ({"head_first": 1.0}, "head_first=1.0: expected a share from 0 to below 1"),
        ({"anchor": float("nan")}, "anchor=nan: expected a number from 0"),
    ],
)
def test_a_recipe_out_of_range_is_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Recipe(**wrong)


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(PlanError, match="To hold the tensor still use the action 'freeze'"):
        PlanEntry(UNET[0], Action.TRAIN, rate=0.0)
