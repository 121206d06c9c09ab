"""Heads on frozen features, each subject held out in turn."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from paramreuse.errors import ScoreError
from paramreuse.transferability.heads import held_out_neighbours, held_out_ridge


def pixels_of_subjects(seed: int = 0) -> tuple[Tensor, Tensor, list[str]]:
    """Four features of three classes, 50 pixels of each of three subjects."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(150) % 3
    noise = torch.randn(150, 4, generator=generator, dtype=torch.float64)
    scale = torch.tensor([1.0, 5.0, 0.2, 1.0]).double()
    return scale * (noise + labels[:, None]) + 7, labels, ["a"] * 50 + ["b"] * 50 + ["c"] * 50


def dice(wanted: np.ndarray, predicted: np.ndarray) -> float:
    """The Dice of a class is its F1 score."""
    return float(f1_score(wanted, predicted, labels=[1, 2], average="macro"))


def held_out_dice(predict) -> dict[str, float]:
    features, labels, owners = pixels_of_subjects()
    x, y, of = features.numpy(), labels.numpy(), np.array(owners)
    by_subject = {}
    for subject in "abc":
        seen = of != subject
        scaler = StandardScaler().fit(x[seen])
        predicted = predict(scaler.transform(x[seen]), y[seen], scaler.transform(x[~seen]))
        by_subject[subject] = dice(y[~seen], predicted)
    return by_subject


def test_ridge_on_one_feature_worked_out_by_hand() -> None:
    # Fitted on b: mean 0, variance 1, slope of class 1 upwards, so class 1 is told above 0.
    features = torch.tensor([[-3.0], [0.5], [2.0], [-1.0], [1.0]])
    labels = torch.tensor([0, 0, 1, 0, 1])
    owners = ["a", "a", "a", "b", "b"]

    dice_of = held_out_ridge(features, labels, owners, 2)

    # In a, 0.5 and 2 are called 1, and only 2 is: Dice 2 * 1 / (2 + 1). Fitted on a: the mean is
    # -1 / 6 and the prediction at x is 1 / 3 + slope (x + 1 / 6), below 1 / 2 at -1, above at 1.
    assert dice_of == {"a": pytest.approx(2 / 3), "b": pytest.approx(1.0)}


@pytest.mark.parametrize("penalty", [1e-3, 1.0])
def test_ridge_agrees_with_scikit_learn(penalty: float) -> None:
    def predict(seen, wanted, asked):
        return (
            Ridge(alpha=penalty * len(seen)).fit(seen, np.eye(3)[wanted]).predict(asked).argmax(1)
        )

    dice_of = held_out_ridge(*pixels_of_subjects(), 3, penalty=penalty)

    assert dice_of == pytest.approx(held_out_dice(predict), abs=1e-12)
    assert max(dice_of.values()) < 1


@pytest.mark.parametrize("neighbours", [1, 5])
def test_neighbours_agree_with_scikit_learn(neighbours: int) -> None:
    def predict(seen, wanted, asked):
        return KNeighborsClassifier(neighbours).fit(seen, wanted).predict(asked)

    dice_of = held_out_neighbours(*pixels_of_subjects(), 3, neighbours=neighbours)

    assert dice_of == pytest.approx(held_out_dice(predict), abs=1e-12)


def test_neighbours_worked_out_by_hand() -> None:
    features = torch.tensor([[0.0], [10.0], [1.0], [9.0], [8.0]])
    labels = torch.tensor([0, 1, 0, 1, 0])
    owners = ["a", "a", "b", "b", "b"]

    # b's 1 is next to 0 (class 0), its 9 and 8 next to 10 (class 1): 8 wrongly.
    assert held_out_neighbours(features, labels, owners, 2, neighbours=1) == {
        "a": 1.0,
        "b": pytest.approx(2 / 3),
    }


@pytest.mark.parametrize("head", [held_out_ridge, held_out_neighbours])
def test_maps_give_what_their_rows_give(head) -> None:
    features, labels, owners = pixels_of_subjects()
    maps = features.reshape(6, 5, 5, 4).movedim(-1, 1)

    dice_of = head(maps, labels.reshape(6, 5, 5), owners[::25], 3)

    assert dice_of == head(features, labels, owners, 3)


@pytest.mark.parametrize("head", [held_out_ridge, held_out_neighbours])
def test_a_pixel_without_label_is_neither_fitted_nor_scored(head) -> None:
    features, labels, owners = pixels_of_subjects()
    wild = torch.cat([features, 1e3 * torch.ones(1, 4).double()])
    ignored = torch.cat([labels, torch.tensor([-1])])

    assert head(wild, ignored, [*owners, "a"], 3) == head(features, labels, owners, 3)


@pytest.mark.parametrize("head", [held_out_ridge, held_out_neighbours])
def test_a_subject_without_foreground_has_no_dice(head) -> None:
    features, labels, owners = pixels_of_subjects()
    labels[:50] = 0

    dice_of = head(features, labels, owners, 3)

    assert np.isnan(dice_of["a"])
    assert np.isfinite(dice_of["b"])


@pytest.mark.parametrize("head", [held_out_ridge, held_out_neighbours])
def test_features_that_are_not_finite_give_no_number_and_constant_ones_do(head) -> None:
    features, labels, owners = pixels_of_subjects()

    constant = torch.cat([features, torch.ones(150, 1).double()], dim=1)
    assert head(constant, labels, owners, 3) == head(features, labels, owners, 3)
    features[4, 2] = float("nan")
    assert all(np.isnan(score) for score in head(features, labels, owners, 3).values())


@pytest.mark.parametrize("head", [held_out_ridge, held_out_neighbours])
def test_what_cannot_be_held_out_is_said(head) -> None:
    features, labels, owners = pixels_of_subjects()

    with pytest.raises(ScoreError, match=r"expected two or more, got \['a'\]"):
        head(features, labels, ["a"] * 150, 3)
    with pytest.raises(ScoreError, match="150 rows and 3 owners"):
        head(features, labels, ["a", "b", "c"], 3)
    with pytest.raises(ScoreError, match="a label is 2, expected less than num_classes=2"):
        head(features, labels, owners, 2)
    with pytest.raises(ScoreError, match=r"expected \(N, D, ...\) and \(N, ...\)"):
        head(features, labels[:, None], owners, 3)
