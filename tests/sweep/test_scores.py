"""Scores: sums per sample, subject and class; divided once, at the end."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, jaccard_score, mean_squared_error, recall_score
from torch import Tensor

from paramreuse.errors import ScoreError
from paramreuse.sweep.scores import Accuracy, Dice, IoU, NegativeMSE, Score, subject_means


def outputs_for(predicted: list[list[int]], num_classes: int) -> Tensor:
    """Logits ``(N, K, M)`` whose largest channel is the prediction."""
    return torch.nn.functional.one_hot(torch.tensor(predicted), num_classes).movedim(-1, 1).float()


def scored(score: Score, predicted: list[list[int]], labels: list[list[int]]) -> np.ndarray:
    """Score of all samples as those of one subject, shape ``(K,)``."""
    outputs = outputs_for(predicted, len(score.classes))
    return score.score(score.statistics(outputs, torch.tensor(labels)).sum(0).numpy())


def test_dice_counted_by_hand() -> None:
    # Class 1: predicted at 0 1 2, labelled at 1 2 3 4: 2 * 2 / (3 + 4).
    dice = scored(Dice(2), [[1, 1, 1, 0, 0]], [[0, 1, 1, 1, 1]])

    assert dice.tolist() == [0.0, 4 / 7]


def test_iou_counted_by_hand() -> None:
    # Class 1: 2 in both, 5 in either.
    assert scored(IoU(2), [[1, 1, 1, 0, 0]], [[0, 1, 1, 1, 1]]).tolist() == [0.0, 2 / 5]


def test_accuracy_counted_by_hand() -> None:
    # 2 of the 4 pixels of class 1 are right, 0 of the 1 of class 0.
    assert scored(Accuracy(2), [[1, 1, 1, 0, 0]], [[0, 1, 1, 1, 1]]).tolist() == [0.0, 0.5]


def test_negative_mse_counted_by_hand() -> None:
    score = NegativeMSE()
    outputs = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    labels = torch.tensor([[0.0, 0.0]])

    statistics = score.statistics(outputs, labels)

    # The one label stands for both channels: (1 + 4 + 9 + 16) / 4.
    assert statistics.tolist() == [[[30.0, 4.0]]]
    assert score.score(statistics.numpy()).tolist() == [[-7.5]]


def test_statistics_are_sums_in_float64_of_one_row_per_sample_and_class() -> None:
    statistics = Dice(3).statistics(torch.zeros(2, 3, 4, 5), torch.ones(2, 4, 5).long())

    assert statistics.dtype == torch.float64
    # All 20 pixels predicted as class 0, labelled as class 1.
    assert statistics.tolist() == [[[0, 20, 0], [0, 0, 20], [0, 0, 0]]] * 2


@pytest.mark.parametrize(
    ("score", "reference"),
    [(Dice(4), f1_score), (IoU(4), jaccard_score), (Accuracy(4), recall_score)],
    ids=["Dice", "IoU", "Accuracy"],
)
def test_scores_agree_with_scikit_learn(score: Score, reference: object) -> None:
    rng = np.random.default_rng(0)
    predicted, labels = rng.integers(0, 4, (2, 3, 50))

    ours = scored(score, predicted.tolist(), labels.tolist())

    theirs = reference(labels.ravel(), predicted.ravel(), average=None)  # type: ignore[operator]
    np.testing.assert_allclose(ours, theirs, rtol=1e-14)


def test_negative_mse_agrees_with_scikit_learn() -> None:
    outputs, labels = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    score = NegativeMSE()

    ours = score.score(score.statistics(outputs, labels).sum(0).numpy())

    theirs = mean_squared_error(labels.double().ravel(), outputs.double().ravel())
    assert ours[0] == pytest.approx(-theirs, rel=1e-14)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 5), st.integers(1, 6), st.integers(0, 6), st.integers(0, 2**31))
def test_statistics_add_up_over_any_cut_into_batches(
    num_classes: int, num_samples: int, cut: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(num_samples, num_classes, 3, 3, generator=generator)
    labels = torch.randint(-1, num_classes, (num_samples, 3, 3), generator=generator)
    for score in (Dice(num_classes), IoU(num_classes), Accuracy(num_classes)):
        whole = score.statistics(outputs, labels)
        parts = [score.statistics(outputs[:cut], labels[:cut])] if cut else []
        if cut < num_samples:
            parts.append(score.statistics(outputs[cut:], labels[cut:]))

        assert torch.equal(torch.cat(parts), whole)
        scores = score.score(whole.numpy())
        counts = np.array(
            [[bool((labels[n] == k).any()) for k in range(num_classes)] for n in range(num_samples)]
        )
        # A class counts exactly where the labels contain it.
        assert np.array_equal(np.isfinite(scores), counts)
        assert (scores[counts] >= 0).all()
        assert (scores[counts] <= 1).all()


def test_a_class_that_only_the_prediction_contains_does_not_count() -> None:
    # Before and after a swap the same classes count, so that drops stay paired.
    assert np.isnan(scored(Dice(3), [[2, 2, 1]], [[1, 1, 1]])).tolist() == [True, False, True]


def test_a_class_that_is_missed_counts_with_zero() -> None:
    assert scored(Dice(3), [[0, 0, 0]], [[1, 1, 2]])[1:].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("score", [Dice(2), IoU(2), Accuracy(2)])
def test_ignored_pixels_change_nothing(score: Score) -> None:
    plain = scored(score, [[1, 0, 1]], [[1, 1, 0]])
    ignored = scored(score, [[1, 0, 1, 1, 0, 1]], [[1, 1, 0, -1, -1, -100]])

    assert plain.tolist() == ignored.tolist()


def test_one_logit_means_two_classes() -> None:
    logit = torch.tensor([[[-1.0, 0.0, 0.5, 2.0]]])
    labels = torch.tensor([[0, 0, 0, 1]])
    two = torch.cat((torch.zeros_like(logit), logit), 1)

    for score in (Dice(2), IoU(2), Accuracy(2)):
        assert torch.equal(score.statistics(logit, labels), score.statistics(two, labels))
    # A logit of 0 is no more than even: class 0.
    assert Dice(2).statistics(logit, labels)[0, 1].tolist() == [1.0, 2.0, 1.0]


def test_classification_has_one_label_per_sample() -> None:
    score = Accuracy(3)
    logits = torch.eye(3)

    statistics = score.statistics(logits, torch.tensor([0, 1, 0]))

    # Sample 2 is called 2 and is 0: one of two right for class 0, one of one for class 1.
    np.testing.assert_equal(score.score(statistics.sum(0).numpy()), [0.5, 1.0, np.nan])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64, torch.bool])
def test_labels_may_be_of_any_whole_type(dtype: torch.dtype) -> None:
    labels = torch.tensor([[0, 1, 1]]).to(dtype)

    statistics = Dice(2).statistics(outputs_for([[0, 1, 0]], 2), labels)

    assert statistics.tolist() == [[[1.0, 2.0, 1.0], [1.0, 1.0, 2.0]]]


def test_regression_may_have_one_number_per_sample() -> None:
    statistics = NegativeMSE().statistics(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))

    assert statistics.tolist() == [[[0.0, 1.0]], [[4.0, 1.0]]]


def test_half_precision_outputs_are_squared_in_float64() -> None:
    outputs = torch.full((1, 1, 2, 2), 300.0, dtype=torch.float16)

    # 300 squared is infinite in float16.
    assert NegativeMSE().statistics(outputs, torch.zeros(1, 2, 2)).tolist() == [[[360000.0, 4.0]]]


def test_a_subject_is_pooled_before_dividing() -> None:
    score = Dice(2)
    # Sample 1 has 1 pixel, wholly missed; sample 2 has 3, all found: 6 / 7, not the mean of 0, 1.
    assert scored(score, [[0, 0, 0], [1, 1, 1]], [[1, 0, 0], [1, 1, 1]])[1] == 6 / 7


def test_the_mean_of_a_subject_is_over_the_foreground_that_counts() -> None:
    scores = np.array([[0.1, 0.5, 0.7], [0.1, np.nan, 0.7], [0.1, np.nan, np.nan]])

    np.testing.assert_array_equal(subject_means(scores, (False, True, True)), [0.6, 0.7, np.nan])


def test_background_is_foreground_for_accuracy_only() -> None:
    assert Dice(3).foreground == IoU(3).foreground == (False, True, True)
    assert Accuracy(3).foreground == (True, True, True)
    assert NegativeMSE().foreground == (True,)


def test_classes_are_called_by_number_or_by_name() -> None:
    assert Dice(3).classes == ("0", "1", "2")
    assert Dice(num_classes=2, names=["background", "LV"]).classes == ("background", "LV")


@pytest.mark.parametrize("score", [Dice, IoU, Accuracy])
@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"], ["a", "a"], ["a", "mean"]], ids="+".join)
def test_names_that_do_not_fit_are_refused(score: type[Dice], names: list[str]) -> None:
    with pytest.raises(ScoreError, match=r"cannot name 2 classes .* none of them 'mean'"):
        score(2, names)


def test_a_single_class_is_refused_with_the_way_out() -> None:
    with pytest.raises(ScoreError, match=r"at least 2, background included.*use num_classes=2"):
        Dice(1)


@pytest.mark.parametrize(
    ("outputs", "labels"),
    [
        ((2, 3, 4, 4), (2, 4, 4)),
        ((2, 4, 4, 4), (2, 4, 5)),
        ((2, 4, 4, 4), (2, 1, 4, 4)),
        ((2, 4, 4, 4), (3, 4, 4)),
        ((2, 1, 4, 4), (2, 4, 4)),
        ((2,), (2,)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(outputs: tuple[int], labels: tuple[int]) -> None:
    for score in (Dice(4), IoU(4), Accuracy(4)):
        with pytest.raises(ScoreError, match=r"expected outputs \(N, 4, \.\.\.\)"):
            score.statistics(torch.zeros(outputs), torch.zeros(labels).long())


@pytest.mark.parametrize(
    ("outputs", "labels"),
    [((2, 4, 3, 3), (2, 3, 3, 3)), ((2, 1, 3, 3), (2, 4, 4)), ((2, 1, 3), (3, 1, 3)), ((2,), (3,))],
)
def test_images_that_do_not_fit_are_refused(outputs: tuple[int], labels: tuple[int]) -> None:
    with pytest.raises(ScoreError, match="expected the same shape, or labels without channels"):
        NegativeMSE().statistics(torch.zeros(outputs), torch.zeros(labels))


def test_a_label_beyond_the_classes_is_refused() -> None:
    with pytest.raises(ScoreError, match="a label is 4, expected less than the number of classes"):
        scored(Dice(3), [[0, 1]], [[0, 4]])


def test_labels_that_are_no_whole_numbers_are_refused() -> None:
    with pytest.raises(ScoreError, match=r"labels are torch.float32.*labels.long\(\)"):
        Dice(2).statistics(torch.zeros(1, 2, 3), torch.zeros(1, 3))
