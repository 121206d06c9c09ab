"""Scores of pixels: numbers worked out by hand, then other ways to the same numbers."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.covariance import LedoitWolf
from torch import Tensor

from paramreuse.errors import ScoreError
from paramreuse.transferability.cc_fv import cc_fv, class_inconsistency, feature_variety
from paramreuse.transferability.cka import label_cka, linear_cka
from paramreuse.transferability.h_score import (
    h_score,
    h_score_regularised,
    ledoit_wolf_shrinkage,
)
from paramreuse.transferability.leep import leep
from paramreuse.transferability.logme import logme

CLOSE = {"rel": 1e-9, "abs": 1e-12}


def pixels(seed: int, n: int = 40, num_features: int = 5) -> tuple[Tensor, Tensor]:
    """Three classes, whose means differ."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    noise = torch.randn(n, num_features, generator=generator, dtype=torch.float64)
    return noise + labels[:, None] * torch.linspace(0, 1, num_features).double() + 0.3, labels


def test_logme_of_one_constant_feature_is_the_evidence_of_an_unbiased_coin() -> None:
    features, labels = torch.ones(4, 1), torch.tensor([0, 1, 0, 1])

    score = logme(features, labels)

    # F F' has one value, 4, along (1, 1, 1, 1) / 2, on which y has coordinate 1; outside it has
    # length 1. With u = t / (t + 4) the misfit is 1 + u and the evidence
    # -(4 log(2 pi (1 + u) / 4) + 4 - log u) / 2, best where 4 u = 1 + u, so at u = 1 / 3.
    by_hand = -(4 * np.log(2 * np.pi / 3) + 4 + np.log(3)) / 2
    assert score == pytest.approx(by_hand / 4, rel=1e-7)


@pytest.mark.parametrize("num_features", [5, 12])
def test_logme_is_the_maximum_of_the_evidence_of_bayesian_linear_regression(
    num_features: int,
) -> None:
    features, labels = pixels(1, n=9, num_features=num_features)
    gram = (features @ features.T).numpy()

    def negative_evidence(logs: np.ndarray, wanted: np.ndarray) -> float:
        # For some classes no weight at all is best: alpha would grow without end.
        alpha, beta = np.exp(np.clip(logs, -20, 20))
        covariance = np.eye(9) / beta + gram / alpha
        misfit = wanted @ np.linalg.solve(covariance, wanted)
        return (9 * np.log(2 * np.pi) + np.linalg.slogdet(covariance)[1] + misfit) / 2

    best = []
    for label in range(3):
        wanted = (labels == label).double().numpy()
        runs = [
            minimize(negative_evidence, start, (wanted,), "Nelder-Mead", options={"xatol": 1e-8})
            for start in ([0.0, 0.0], [3.0, 3.0], [5.0, 0.0])
        ]
        best.append(-min(run.fun for run in runs))

    assert logme(features, labels) == pytest.approx(np.mean(best) / 9, abs=1e-6)


def test_logme_prefers_features_that_tell_the_classes() -> None:
    features, labels = pixels(2)
    shuffled = features[torch.randperm(40, generator=torch.Generator().manual_seed(0))]

    assert logme(features, labels) > logme(shuffled, labels)


def test_h_score_of_two_separated_points_and_of_overlapping_ones() -> None:
    apart = torch.tensor([[-1.0], [-1.0], [1.0], [1.0]])
    overlapping = torch.tensor([[-1.0], [3.0], [1.0], [5.0]])
    labels = torch.tensor([0, 0, 1, 1])

    assert h_score(apart, labels) == pytest.approx(1.0, **CLOSE)
    # Variance 5 about the mean 2; class means 1 and 3, so variance 1 between classes.
    assert h_score(overlapping, labels) == pytest.approx(1 / 5, **CLOSE)


def test_h_score_is_its_formula_and_blind_to_invertible_linear_maps() -> None:
    features, labels = pixels(3)
    x, y = features.numpy(), labels.numpy()
    means = np.stack([x[y == label].mean(0) for label in y])
    formula = np.trace(np.linalg.inv(np.cov(x.T, bias=True)) @ np.cov(means.T, bias=True))
    mixing = torch.randn(5, 5, generator=torch.Generator().manual_seed(1)).double()

    assert h_score(features, labels) == pytest.approx(formula, rel=1e-9)
    assert h_score(features @ mixing + 3, labels) == pytest.approx(formula, rel=1e-6)


def test_a_feature_that_repeats_another_does_not_change_the_h_score() -> None:
    features, labels = pixels(4)
    doubled = torch.cat([features, features[:, :2]], dim=1)

    assert h_score(doubled, labels) == pytest.approx(h_score(features, labels), rel=1e-6)


@pytest.mark.parametrize(("n", "num_features"), [(40, 5), (12, 30)])
def test_regularised_h_score_shrinks_as_scikit_learn_does(n: int, num_features: int) -> None:
    features, labels = pixels(5, n, num_features)
    x, y = features.numpy(), labels.numpy()
    reference = LedoitWolf().fit(x)
    means = np.stack([x[y == label].mean(0) for label in y])
    between = np.cov(means.T, bias=True)

    score = h_score_regularised(features, labels)

    shrinkage = ledoit_wolf_shrinkage(features - features.mean(0))
    assert shrinkage == pytest.approx(reference.shrinkage_, rel=1e-9)
    formula = (1 - shrinkage) * np.trace(np.linalg.inv(reference.covariance_) @ between)
    assert score == pytest.approx(formula, rel=1e-9)


def test_leep_of_a_source_that_tells_and_of_one_that_does_not() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    telling = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    silent = torch.full((4, 2), 0.5)

    assert leep(telling, labels) == pytest.approx(0.0, **CLOSE)
    assert leep(silent, labels) == pytest.approx(np.log(0.5), **CLOSE)


def test_leep_of_three_pixels_worked_out_by_hand() -> None:
    probabilities = torch.tensor([[0.8, 0.2], [0.4, 0.6], [0.3, 0.7]], dtype=torch.float64)
    labels = torch.tensor([0, 5, 5])

    # Columns add up to 1.5 and 1.5. P(0 | z) = .8 / 1.5, .2 / 1.5; P(5 | z) = .7 / 1.5, 1.3 / 1.5.
    likelihoods = [
        (0.8 * 0.8 + 0.2 * 0.2) / 1.5,
        (0.4 * 0.7 + 0.6 * 1.3) / 1.5,
        (0.3 * 0.7 + 0.7 * 1.3) / 1.5,
    ]
    assert leep(probabilities, labels) == pytest.approx(np.log(likelihoods).mean(), **CLOSE)


def test_linear_cka_of_perpendicular_and_of_half_shared_descriptions() -> None:
    a = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    b = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])

    assert linear_cka(a, b) == pytest.approx(0.0, **CLOSE)
    # |A'B|^2 = 4^2; |A'A| = 4, |B'B| = 4 sqrt(2) for two perpendicular columns of length 2.
    assert linear_cka(a, torch.cat([a, b], dim=1)) == pytest.approx(1 / np.sqrt(2), **CLOSE)


def test_linear_cka_is_the_centred_alignment_of_gram_matrices() -> None:
    a, _ = pixels(6)
    b = pixels(7, num_features=3)[0]
    centring = np.eye(40) - 1 / 40
    k, m = (centring @ (x @ x.T).numpy() @ centring for x in (a, b))
    reference = (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())

    assert linear_cka(a, b) == pytest.approx(reference, rel=1e-9)


def test_label_cka_is_one_where_features_are_the_classes() -> None:
    labels = torch.tensor([0, 2, 2, 7])

    assert label_cka(torch.tensor([[0.0], [1.0], [1.0], [5.0]]), labels) < 0.95
    hot = torch.eye(3)[[0, 1, 1, 2]]
    assert label_cka(-4 * hot, labels) == pytest.approx(1.0, **CLOSE)


def test_class_inconsistency_of_shifted_points_is_the_shift() -> None:
    a = np.array([[0.0, 0.0], [1.0, 0.0], [5.0, 5.0]])
    rng = np.random.default_rng(0)

    # Every point moves by (3, 4), whatever the order; the second class is seen once.
    assert class_inconsistency([[a, a[::-1] + np.array([3, 4])], [a]], rng) == pytest.approx(
        5.0, **CLOSE
    )
    assert class_inconsistency([[a, a], [a, a + np.array([0, 2])]], rng) == pytest.approx(
        2.0, **CLOSE
    )
    assert np.isnan(class_inconsistency([[a]], rng))


def test_class_inconsistency_in_one_dimension_is_that_of_sorted_values() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(30, 1)), rng.normal(1, 2, size=(30, 1))
    reference = np.sqrt(np.mean((np.sort(a[:, 0]) - np.sort(b[:, 0])) ** 2))

    assert class_inconsistency([[a, b]], rng) == pytest.approx(reference, rel=1e-9)


def test_feature_variety_of_two_opposite_and_of_three_directions() -> None:
    assert feature_variety(np.array([[2.0, 0], [-7, 0]])) == pytest.approx(2.0, **CLOSE)
    # Distances 2, sqrt(2) and sqrt(2); lengths do not matter, a row of zeros has no direction.
    corners = np.array([[1.0, 0], [-3, 0], [0, 2], [0, 0]])
    assert feature_variety(corners) == pytest.approx(3 / (0.5 + np.sqrt(2)), **CLOSE)


def test_cc_fv_is_the_log_of_variety_over_inconsistency_and_blind_to_scale() -> None:
    values = torch.tensor([[1.0, 0], [0, 1], [0, 1], [-1, 0]], dtype=torch.float64)
    labels, owners = torch.tensor([1, 0, 1, 0]), ["a", "a", "b", "b"]

    score = cc_fv(values, labels, owners)

    # Foreground (1, 0) and (0, 1), sqrt(2) apart; root mean square 1 / sqrt(2), so 2 apart after
    # division. Of the six pairs four are sqrt(2) apart, one 2, and one not at all, taken as 1e-6.
    inverse = np.mean([1 / np.sqrt(2), 1 / np.sqrt(2), 1 / 2, 1e6, 1 / np.sqrt(2), 1 / np.sqrt(2)])
    assert score == pytest.approx(np.log(1 / inverse / 2), rel=1e-9)
    assert cc_fv(100 * values, labels, owners) == pytest.approx(score, rel=1e-9)


def test_cc_fv_prefers_classes_that_look_alike_in_both_subjects() -> None:
    features, labels = pixels(8, n=120)
    owners = ["a"] * 60 + ["b"] * 60
    moved = features.clone()
    moved[60:] += 2

    assert cc_fv(features, labels, owners) > cc_fv(moved, labels, owners)
    assert cc_fv(features, labels, owners, seed=1) == cc_fv(features, labels, owners, seed=1)


@pytest.mark.parametrize("score", [logme, h_score, h_score_regularised, leep, label_cka])
def test_a_value_that_is_not_finite_gives_no_number(score) -> None:
    features, labels = pixels(9)
    features[3, 1] = float("inf")

    assert np.isnan(score(features, labels))


@pytest.mark.parametrize("score", [logme, h_score, h_score_regularised, leep, label_cka])
def test_rows_and_labels_that_do_not_fit_are_refused(score) -> None:
    with pytest.raises(ScoreError, match=r"shape \(3, 2\).*\(4,\): expected \(n, D\) and \(n,\)"):
        score(torch.ones(3, 2), torch.zeros(4, dtype=torch.long))
