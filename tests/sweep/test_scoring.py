"""The score of a model as it is."""

import numpy as np
import pytest
import torch
from torch import nn

from paramreuse.errors import ModelError, ScoreError
from paramreuse.sweep.scores import Accuracy, Dice
from paramreuse.sweep.scoring import score_subjects
from samples.networks import small_batches, small_network


class Sign(nn.Module):
    """Class 1 where the pixel is positive; one parameter, for its device."""

    def __init__(self) -> None:
        super().__init__()
        self.zero = nn.Parameter(torch.zeros(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([-images, images], dim=1) + self.zero


def scores_by_subject(
    pixels: list[list[float]], labels: list[list[int]], subjects: list[str]
) -> np.ndarray:
    """Scores of subjects whose slices come in batches of one."""
    batches = [
        (torch.tensor(row)[None, None, None], torch.tensor(label)[None, None], [subject])
        for row, label, subject in zip(pixels, labels, subjects, strict=True)
    ]
    return score_subjects(Sign().eval(), batches, Dice(num_classes=2))[1]


def test_slices_of_a_subject_are_added_up_before_they_are_divided() -> None:
    # b comes between the two slices of a. Class 1 of a: 2 * (1 + 0) / (1 + 2 + 1 + 0) = 0.5;
    # the mean of the slices' Dice of 2/3 and 0 were 0.333.
    scores = scores_by_subject(
        [[1.0, -1.0], [1.0, 1.0], [1.0, -1.0]], [[1, 1], [1, 1], [0, 0]], ["a", "b", "a"]
    )

    np.testing.assert_allclose(scores[:, 1], [0.5, 1.0])


def test_a_class_that_a_subject_lacks_does_not_count_for_it() -> None:
    scores = scores_by_subject([[1.0, -1.0], [1.0, 1.0]], [[0, 0], [1, 1]], ["a", "b"])

    assert np.isnan(scores[0, 1])
    assert scores[1, 1] == 1.0


def test_subjects_come_in_order_of_appearance() -> None:
    subjects, scores = score_subjects(small_network(), small_batches(), Accuracy(num_classes=2))

    assert subjects == ("p0", "p1", "p2")
    assert len(scores) == 3


def test_a_model_in_training_mode_is_refused_and_left_so() -> None:
    model = small_network().train()

    with pytest.raises(ModelError, match=r"training mode.*model.eval\(\)"):
        score_subjects(model, small_batches(), Accuracy(num_classes=2))
    assert model.training


def test_outputs_that_are_no_number_are_refused_with_the_subjects() -> None:
    model = small_network()
    with torch.no_grad():
        model[0].bias.fill_(float("nan"))

    with pytest.raises(ScoreError, match=r"Sequential: .* NaN for subjects \['p0', 'p1', 'p2'\]"):
        score_subjects(model, small_batches(), Accuracy(num_classes=2))


def test_the_model_and_the_random_state_are_left_as_they_were() -> None:
    model = small_network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()

    score_subjects(model, small_batches(), Accuracy(num_classes=2))

    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
