"""Frozen features: where they are taken, what they hold, and that nothing is left behind."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from paramreuse.errors import ModelError, ScoreError
from paramreuse.networks import pspnet, unet
from paramreuse.sweep.recalibration import recalibrated
from paramreuse.transferability.features import (
    FrozenFeatures,
    features_as_is,
    fitted_to,
    frozen_features,
    sample_pixels,
)
from samples.networks import small_batches, small_network


def doubling_network() -> nn.Module:
    """Doubles, adds one, sums in squares of 2 x 2; then the output layer."""
    model = nn.Sequential(
        nn.Conv2d(1, 1, 1), nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(1, 2, 1)), nn.Conv2d(2, 2, 1)
    )
    with torch.no_grad():
        model[0].weight.fill_(2)
        model[0].bias.fill_(1)
        model[1][1].weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
        model[1][1].bias.zero_()
    return model.eval()


def test_features_are_what_enters_the_output_layer_and_leaves_the_middle_block() -> None:
    image = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]])

    taken = features_as_is(doubling_network(), [(image, torch.ones(1, 2, 2).long(), ["p"])])

    assert taken["output"].path == "2"
    assert taken["output"].values.tolist() == [[[[9.0]], [[-9.0]]]]  # mean of 3, 7, 11, 15
    assert taken["middle"].path == "0"
    assert taken["middle"].values.tolist() == [[[[3.0, 7.0], [11.0, 15.0]]]]
    assert taken["middle"].owners == ("p",)


def test_each_position_has_the_label_at_its_centre() -> None:
    labels = torch.arange(36).view(1, 6, 6)
    model = nn.Sequential(nn.AvgPool2d(3), nn.Conv2d(1, 1, 1))

    taken = features_as_is(model, [(torch.zeros(1, 1, 6, 6), labels, ["p"])])

    # Centres of the squares of 3 x 3: rows and columns 1 and 4.
    assert taken["output"].labels.tolist() == [[[7, 10], [25, 28]]]


@pytest.mark.parametrize(
    ("network", "output", "middle"),
    [
        # 13 of 26 kernel layers lie before the end of the first block of the third stage.
        (pspnet(width=4), "classifier", "backbone.layer3.0"),
        (unet(width=2), "head", "down5"),
    ],
)
def test_the_middle_is_the_block_that_ends_half_way(
    network: nn.Module, output: str, middle: str
) -> None:
    batch = (torch.randn(2, 1, 32, 32), torch.zeros(2, 32, 32).long(), ["a", "b"])

    taken = features_as_is(network, [batch])

    assert {depth: each.path for depth, each in taken.items()} == {
        "output": output,
        "middle": middle,
    }


def test_running_statistics_are_fitted_to_the_images_first() -> None:
    network, batches = small_network(), small_batches()
    fitted = recalibrated(network, batches)

    taken = frozen_features(network, batches)["output"]

    inputs = torch.cat([fitted[:7](images) for images, _, _ in batches])
    torch.testing.assert_close(taken.values, inputs.detach())
    assert not torch.allclose(features_as_is(network, batches)["output"].values, taken.values)
    assert taken.labels.tolist() == [0, 1, 0, 1, 0, 1] * 2


def test_a_last_batch_of_one_image_joins_the_one_before() -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(1), nn.Conv2d(1, 2, 1)).eval()
    images = torch.tensor([0.0, 3.0, 6.0]).view(3, 1, 1, 1)
    labels = torch.zeros(3, 1, 1).long()
    cut = [(images[:2], labels[:2], ["a", "a"]), (images[2:], labels[2:], ["b"])]

    taken = fitted_to(network, cut)

    # Variance with n - 1: (9 + 0 + 9) / 2.
    assert taken[1].running_mean.tolist() == [3.0]
    assert taken[1].running_var.tolist() == [9.0]


def test_the_callers_network_is_left_as_it_was() -> None:
    network = small_network().train()
    before = deepcopy(network.state_dict())
    state = torch.get_rng_state()

    frozen_features(network, small_batches())

    assert network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    assert torch.equal(state, torch.get_rng_state())


def test_one_label_for_an_image_is_that_of_every_position() -> None:
    taken = features_as_is(small_network(), small_batches(1))

    assert taken["middle"].path == "0"
    assert taken["middle"].labels.shape == (6, 4, 4)
    assert taken["middle"].labels[:, 3, 2].tolist() == [0, 1, 0, 1, 0, 1]


def test_large_maps_are_thinned() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 2, 1))
    images = torch.arange(64.0).view(1, 1, 1, 64)
    with torch.no_grad():
        network[0].weight.fill_(1)
        network[0].bias.zero_()

    taken = features_as_is(network, [(images, images[0].long(), ["p"])])["output"]

    assert taken.values.shape == (1, 1, 1, 32)
    assert torch.equal(taken.values.flatten().long(), taken.labels.flatten())


def test_what_has_no_features_is_said() -> None:
    image, labels = torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2).long()
    larger = (torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4).long(), ["q"])
    flat = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))

    with pytest.raises(ModelError, match="no convolution or linear layer"):
        features_as_is(nn.ReLU(), [(image, labels, ["p"])])
    with pytest.raises(ModelError, match=r"what enters '1' has shape \(1, 4\), the labels"):
        features_as_is(flat, [(image, labels, ["p"])])
    with pytest.raises(ScoreError, match=r"labels are torch\.float32, expected integers"):
        features_as_is(doubling_network(), [(image, labels.float(), ["p"])])
    with pytest.raises(ScoreError, match=r"expected one\. Resample or crop"):
        features_as_is(doubling_network(), [(image, labels, ["p"]), larger])


def features_of(labels: Tensor, owners: tuple[str, ...]) -> FrozenFeatures:
    """Two features per position: its number, and that less one."""
    places = torch.arange(labels.numel(), dtype=torch.float32).view(labels.shape)
    return FrozenFeatures("x", torch.stack([places, places - 1], dim=1), labels, owners)


def test_pixels_are_drawn_per_subject_with_their_own_labels() -> None:
    labels = torch.arange(32).view(2, 4, 4) % 5 - 1

    drawn = sample_pixels(features_of(labels, ("a", "b")), 6, seed=0)

    assert drawn.owners == ("a",) * 6 + ("b",) * 6
    places = drawn.values[:, 0].long()
    assert torch.equal(drawn.labels, labels.flatten()[places])
    assert torch.equal(drawn.values[:, 1], drawn.values[:, 0] - 1)
    assert int(drawn.labels.min()) >= 0
    assert len(set(places.tolist())) == 12
    assert (places[:6] < 16).all()
    assert (places[6:] >= 16).all()


def test_the_same_seed_draws_the_same_pixels_and_few_are_all_taken() -> None:
    features = features_of(torch.zeros(1, 4, 4).long(), ("a",))
    first, again, other = (sample_pixels(features, 5, seed=seed).values for seed in (1, 1, 2))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(sample_pixels(features, 99, seed=0).labels) == 16


def test_a_balanced_draw_takes_as_many_of_each_class_as_there_are() -> None:
    labels = torch.tensor([[0] * 12 + [1] * 2 + [2] * 6])

    drawn = sample_pixels(features_of(labels, ("a",)), 10, seed=0, balanced=True)

    assert np.bincount(drawn.labels.numpy()).tolist() == [4, 2, 4]


def test_whole_images_are_drawn_as_pixels_are() -> None:
    features = features_as_is(small_network(), small_batches(1))["output"]

    drawn = sample_pixels(features, 1, seed=0)

    assert drawn.owners == ("p0", "p1", "p2")
    assert drawn.values.shape == (3, 48)


def test_a_draw_without_any_label_is_refused() -> None:
    with pytest.raises(ScoreError, match="no pixel has a label of 0 or above"):
        sample_pixels(features_of(-torch.ones(1, 4).long(), ("a",)), 3, seed=0)
