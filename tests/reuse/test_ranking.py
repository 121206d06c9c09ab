"""Ranking: the source whose kernels can be reused in most layers comes first."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from paramreuse.errors import ModelError, ParamReuseError, SiteMismatchError
from paramreuse.reuse.ranking import RANKING_COLUMNS, rank_sources
from paramreuse.sweep.scores import Accuracy, NegativeMSE
from samples.networks import small_network

Batch = tuple[Tensor, Tensor, Sequence[str]]


def pilot() -> nn.Module:
    """Two 1x1 convolutions that double and keep; class 1 where the pixel is positive."""
    model = nn.Sequential(
        nn.Conv2d(1, 1, 1, bias=False),
        nn.Conv2d(1, 1, 1, bias=False),
        nn.Conv2d(1, 2, 1, bias=False),
    )
    with torch.no_grad():
        model[0].weight.fill_(2.0)
        model[1].weight.fill_(1.0)
        model[2].weight.copy_(torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1))
    return model.eval()


def lent(first: float, second: float) -> dict[str, Tensor]:
    return {
        "0.weight": torch.full((1, 1, 1, 1), first),
        "1.weight": torch.full((1, 1, 1, 1), second),
        "2.weight": torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1),
    }


def batches() -> list[Batch]:
    """Six subjects of four pixels; the label is the sign, so that the pilot is always right."""
    images = torch.tensor([1.0, -1.0, 2.0, -2.0]).reshape(1, 1, 2, 2).expand(6, 1, 2, 2)
    return [(images.clone(), (images[:, 0] > 0).long(), [f"p{n}" for n in range(6)])]


def test_sources_are_ranked_by_measured_swaps_and_by_distance() -> None:
    # "far" is 3 and 8 away but only a positive factor; "near" is closer and turns the sign of
    # one layer: a drop of all the Dice there.
    sources = {"near": lent(2.5, -0.5), "far": lent(5.0, 9.0), "worst": lent(-9.0, -9.0)}

    frame = rank_sources(pilot(), sources, batches()).frame()

    assert tuple(frame.columns) == RANKING_COLUMNS
    assert frame["source"].tolist() == ["far", "near", "worst"]
    assert frame["rank"].tolist() == [1, 2, 3]
    # RMSE of a kernel of one number is the difference: means of (3, 8), (0.5, 1.5), (11, 10).
    assert frame["rmse"].tolist() == [5.5, 1.0, 10.5]
    assert frame["rmse_rank"].tolist() == [2, 1, 3]
    assert frame["mean_drop"].tolist() == [0.0, 0.5, 1.0]
    # By the papers' rule; a kernel of one number stays the same when shuffled, so that ours
    # finds that anything would do.
    assert frame["paper_kernel_share"].tolist() == [1.0, 0.5, 0.0]
    assert frame["kernel_share"].tolist() == [0.0, 0.0, 0.0]


def test_the_pilot_as_its_own_source_comes_first_with_distance_zero() -> None:
    model = small_network()
    images = torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    data = [(images, torch.arange(6) % 2, [f"p{n}" for n in range(6)])]

    ranking = rank_sources(
        model, {"other": small_network(1), "same": small_network(0)}, data, Accuracy(2)
    )
    frame = ranking.frame()

    assert frame["source"].tolist() == ["same", "other"]
    assert frame.loc[0, ["kernel_share", "mean_drop", "rmse", "relative_rmse"]].tolist() == [
        *(1.0, 0.0, 0.0, 0.0)
    ]
    assert frame["lineage"].tolist()[0] == "shared"


def test_the_source_whose_features_are_like_the_pilots_comes_first() -> None:
    # "blind" keeps nothing of the image; its kernels are nearer to the pilot's all the same.
    images = torch.tensor([1.0, -1.0, 2.0, -2.0]).reshape(1, 1, 2, 2).repeat(6, 1, 1, 1)
    images += 0.1 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    data = [(images, (images[:, 0] > 0).long(), [f"p{n}" for n in range(6)])]
    sources = {"blind": lent(2.0, 0.0), "seeing": lent(-40.0, 30.0)}

    frame = rank_sources(pilot(), sources, data).frame().set_index("source")

    assert frame["rank"].to_dict() == {"seeing": 1, "blind": 2}
    assert frame["rmse_rank"].to_dict() == {"seeing": 2, "blind": 1}
    assert frame.loc["blind", "h_score"] == 0
    assert frame.loc["seeing", "h_score"] > 0.8
    assert frame.loc["seeing", "ridge"] == 1
    # The sign is turned, so that the output layer calls every pixel the other class.
    assert frame.loc["seeing", "zero_shot"] == 0


def test_a_note_warns_where_a_source_has_another_start() -> None:
    model = small_network()
    images = torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    data = [(images, torch.arange(6) % 2, [f"p{n}" for n in range(6)])]

    frame = rank_sources(
        model, {"other": small_network(1), "same": small_network(0)}, data, Accuracy(2)
    ).frame()

    notes = dict(zip(frame["source"], frame["note"], strict=True))
    assert notes["same"] == ""
    assert notes["other"].startswith("kernel_share, mean_drop and rmse measure nearness to a")


def test_a_task_without_classes_is_ranked_by_swaps_and_says_why() -> None:
    images = torch.randn(4, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    data = [(images, images, ["a", "b", "c", "d"])]

    frame = rank_sources(pilot(), {"far": lent(5.0, 9.0)}, data, NegativeMSE()).frame()

    assert math.isnan(frame["h_score"][0])
    assert "the labels are torch.float32, expected integers" in frame["note"][0]


def test_sources_are_only_ranked_where_there_are_some() -> None:
    with pytest.raises(ParamReuseError, match=r"there is no source. Give at least one by name"):
        rank_sources(pilot(), {}, batches())


def test_a_source_of_which_nothing_fits_is_named() -> None:
    sources = {"good": lent(1.0, 1.0), "strange": {"fc.weight": torch.ones(3, 3)}}

    with pytest.raises(SiteMismatchError, match="source 'strange': "):
        rank_sources(pilot(), sources, batches())


def test_a_source_without_a_kernel_that_fits_is_named() -> None:
    # Only the output layer fits, which does not count.
    sources = {"head": {"2.weight": torch.ones(2, 1, 1, 1), "9.weight": torch.ones(4)}}

    with pytest.raises(
        SiteMismatchError, match=r"source 'head': .* no kernel of it fits the pilot"
    ):
        rank_sources(pilot(), sources, batches())


def test_a_pilot_in_training_mode_is_refused() -> None:
    with pytest.raises(ModelError, match="training mode"):
        rank_sources(pilot().train(), {"a": lent(1.0, 1.0)}, batches())


def test_the_tolerance_decides_what_counts() -> None:
    sources = {"near": lent(2.5, -0.5)}
    strict = rank_sources(pilot(), sources, batches(), tolerance=0.0).frame()
    lax = rank_sources(pilot(), sources, batches(), tolerance=1.0).frame()

    assert strict["paper_kernel_share"].tolist() == [0.5]
    assert lax["paper_kernel_share"].tolist() == [1.0]
    assert math.isclose(lax["relative_rmse"][0], strict["relative_rmse"][0])
