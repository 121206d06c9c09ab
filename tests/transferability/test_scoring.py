"""Every score of one source."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from paramreuse.errors import CheckpointError
from paramreuse.sweep.recalibration import recalibrated
from paramreuse.sweep.scores import Dice, subject_means
from paramreuse.sweep.scoring import score_subjects
from paramreuse.transferability.features import frozen_features
from paramreuse.transferability.scoring import SCORE_NAMES, load_source, score_source


def network(seed: int, num_classes: int = 2) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, num_classes, 1),
        ).eval()


def bright_squares() -> list[tuple[Tensor, Tensor, list[str]]]:
    """Class 1 is where a smooth image is bright; three subjects of two images."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(6, 1, 4, 4, generator=generator)
    images = nn.functional.interpolate(coarse, scale_factor=4, mode="bilinear")
    return [(images, (images[:, 0] > 0.3).long(), [f"p{i // 2}" for i in range(6)])]


def knowing() -> nn.Module:
    """A network whose feature 0 is the image, and which calls it 1 where it is bright."""
    model = network(0)
    with torch.no_grad():
        for layer in (model[0], model[3]):
            layer.weight[0].zero_()
            layer.weight[0, 0, 1, 1] = 1
            layer.bias[0] = 5 if layer is model[0] else 0
        model[6].weight.zero_()
        model[6].weight[1, 0] = 10
        model[6].bias.copy_(torch.tensor([6.0, 0.0]))
    return model


def test_a_source_that_knows_the_classes_scores_higher_than_its_shuffled_self() -> None:
    source = knowing()
    generator = torch.Generator().manual_seed(1)
    shuffled = {
        key: value.flatten()[torch.randperm(value.numel(), generator=generator)].view(value.shape)
        for key, value in source.state_dict().items()
    }

    good, bad = (
        score_source(load_source(network(5), weights), bright_squares())
        for weights in (source, shuffled)
    )

    assert tuple(good) == SCORE_NAMES
    for name in ("ridge", "knn", "logme", "h_score", "h_score_regularised", "cka_labels", "leep"):
        assert good[name] > bad[name], name
    assert good["ridge"] > 0.7


def test_zero_shot_is_the_dice_of_the_source_as_it_predicts() -> None:
    source, batches = load_source(network(5), knowing()), bright_squares()
    score = Dice(num_classes=2)
    _, dice = score_subjects(recalibrated(source.network, batches), batches, score)

    zero_shot = score_source(source, batches)["zero_shot"]

    assert zero_shot == pytest.approx(float(subject_means(dice, score.foreground).mean()))


def test_the_same_source_gives_the_same_numbers_and_is_left_as_it_was() -> None:
    source = load_source(network(5), knowing())
    before = deepcopy(source.network.state_dict())

    first, again = (score_source(source, bright_squares(), per_subject=50) for _ in range(2))

    assert first == pytest.approx(again, rel=0, abs=0, nan_ok=True)
    assert all(torch.equal(before[k], v) for k, v in source.network.state_dict().items())


def test_a_pilot_is_perfectly_like_itself() -> None:
    pilot, batches = network(5), bright_squares()

    itself = score_source(load_source(pilot, pilot), batches, pilot=frozen_features(pilot, batches))
    without = score_source(load_source(pilot, pilot), batches)

    assert itself["cka_pilot"] == pytest.approx(1)
    assert itself["cka_pilot_middle"] == pytest.approx(1)
    assert np.isnan(without["cka_pilot"])


def test_a_source_with_other_classes_lends_its_features_only() -> None:
    target = network(5)

    loaded = load_source(target, network(6, num_classes=3))
    scores = score_source(loaded, bright_squares())

    assert not loaded.output_fits
    assert not torch.equal(loaded.network[6].weight, target[6].weight)
    assert torch.equal(loaded.network[3].weight, network(6)[3].weight)
    assert np.isnan(scores["zero_shot"])
    assert np.isnan(scores["leep"])
    assert np.isfinite(scores["ridge"])


def test_what_a_source_lacks_is_drawn_anew_and_never_the_targets() -> None:
    target = knowing()
    partly = {"3.weight": network(6)[3].weight.detach()}

    first, again = (load_source(target, partly).network.state_dict() for _ in range(2))

    assert torch.equal(first["3.weight"], partly["3.weight"])
    for key in ("0.weight", "0.bias", "3.bias", "6.weight", "6.bias"):
        assert not torch.equal(first[key], target.state_dict()[key]), key
        assert torch.equal(first[key], again[key]), key
    assert first["1.running_var"].tolist() == [1, 1, 1, 1]


def test_what_cannot_be_computed_is_no_number() -> None:
    broken = knowing().state_dict()
    broken["3.weight"][0, 0, 0, 0] = float("nan")
    one_subject = [(images, labels, ["p"] * 6) for images, labels, _ in bright_squares()]

    not_finite = score_source(load_source(network(5), broken), bright_squares())
    alone = score_source(load_source(network(5), knowing()), one_subject)

    assert np.isnan([not_finite[name] for name in ("ridge", "logme", "h_score", "leep")]).all()
    assert np.isnan([alone[name] for name in ("ridge", "knn", "cc_fv")]).all()
    assert np.isfinite([alone[name] for name in ("logme", "leep", "zero_shot")]).all()


def test_a_source_of_which_nothing_fits_is_refused() -> None:
    with pytest.raises(CheckpointError):
        load_source(network(5), {"encoder.weight": torch.ones(3)})
