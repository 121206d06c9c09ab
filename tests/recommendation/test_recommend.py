"""``pr.recommend``: what it returns, what it leaves alone, what it refuses."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import paramreuse as pr
from paramreuse.errors import ModelError, ParamReuseError, ScoreError, StudyError
from paramreuse.recommendation.labelled import held_out_folds
from paramreuse.recommendation.ledger import Ledger
from paramreuse.training import initial_model
from samples.disks import disk_network, disks

STEPS = 24


def trained_source(subjects: int = 12) -> nn.Module:
    return pr.train_steps(initial_model(disk_network, 5), disks(subjects, seed=9), None, 150, 0)


@pytest.fixture(scope="module")
def source() -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in trained_source().state_dict().items()}


def shuffled(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    return {
        key: value.flatten()[torch.randperm(value.numel(), generator=rng)].view(value.shape)
        for key, value in weights.items()
    }


def recommended(sources: dict[str, Any], number: int = 4, **options: Any) -> pr.Recommendation:
    options = {"steps": STEPS} | options
    return pr.recommend(disk_network, sources, disks(number), **options)


@pytest.fixture(scope="module")
def result(source: dict[str, torch.Tensor]) -> pr.Recommendation:
    return recommended({"noise": shuffled(source), "disks": source})


def test_a_source_of_the_same_task_is_preferred_to_its_shuffled_copy(
    result: pr.Recommendation,
) -> None:
    assert result.source == "disks"
    assert [row.name for row in result.sources] == ["disks", "noise"]
    assert result.sources[0].likeness > result.sources[1].likeness
    assert result.gain[1] < result.gain[0] < result.gain[2]
    assert result.plan is not None
    assert "disks" in result.reason


def test_the_model_is_trained_and_predicts_new_subjects(result: pr.Recommendation) -> None:
    new = disks(3, seed=77)
    inputs, labels = (torch.cat([batch[k] for batch in new]) for k in (0, 1))

    predicted = result.model(inputs).argmax(1)

    assert not result.model.training
    overlap = 2 * float((predicted * labels).sum()) / float(predicted.sum() + labels.sum())
    assert overlap > 0.7


def test_the_table_has_the_agreed_columns_and_the_best_first(result: pr.Recommendation) -> None:
    frame = result.frame()

    columns = ["candidate", "source", "score", "low", "high", "difference", "units"]
    assert list(frame.columns) == columns
    assert frame.score.is_monotonic_decreasing
    assert {"scratch", "full", "head"} <= set(frame.candidate)
    assert frame[frame.candidate == "full"].difference.max() == 0


def test_what_was_spent_is_what_was_trained(result: pr.Recommendation) -> None:
    # Four folds of a third: scratch, everything of both sources, the head of the best. Then one.
    assert result.spent == pytest.approx(4 * (4 / 3) + 1)


def test_json_holds_the_agreed_keys(result: pr.Recommendation) -> None:
    content = result.as_json()

    keys = {"source", "candidate", "reason", "spent", "gain", "gain_over_full"}
    assert keys | {"candidates", "sources"} == set(content)


def test_a_notebook_shows_the_sentence_and_the_table(result: pr.Recommendation) -> None:
    html = result._repr_html_()

    assert "Start from" in html
    assert html.count("<tr>") == 1 + len(result.rows)


def test_the_same_call_gives_the_same_and_leaves_everything_as_it_was(
    source: dict[str, torch.Tensor],
) -> None:
    before = {key: value.clone() for key, value in source.items()}
    state = torch.get_rng_state()

    first, second = (recommended({"disks": source}) for _ in range(2))

    assert first.frame().equals(second.frame())
    for one, other in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert all(torch.equal(source[key], before[key]) for key in source)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_shuffled_source_alone_is_not_recommended(source: dict[str, torch.Tensor]) -> None:
    # With more steps than a training needs, so that loading and scratch end alike.
    result = recommended({"noise": shuffled(source)}, steps=150)

    assert (result.source, result.candidate, result.plan) == ("", "scratch", None)
    assert result.gain[0] == 0
    assert "Train from scratch" in result.reason


def test_an_interrupted_run_goes_on_where_it_was(
    tmp_path: Path, source: dict[str, torch.Tensor]
) -> None:
    class StoppedError(Exception):
        pass

    calls: list[int] = []

    def train(model: nn.Module, labelled: Any, plan: Any, steps: int, seed: int) -> nn.Module:
        calls.append(seed)
        if len(calls) == 6:
            raise StoppedError
        return pr.train_steps(model, labelled, plan, steps, seed)

    with pytest.raises(StoppedError):
        recommended({"disks": source}, train=train, folder=tmp_path)
    first = len(calls) - 1
    resumed = recommended({"disks": source}, train=train, folder=tmp_path)
    whole = recommended({"disks": source}, train=pr.train_steps)

    assert len(calls) == 6 + 13 - first  # three candidates in four folds, then the final training
    assert resumed.frame().equals(whole.frame())


def test_a_folder_of_other_images_is_refused(
    tmp_path: Path, source: dict[str, torch.Tensor]
) -> None:
    recommended({"disks": source}, folder=tmp_path)

    with pytest.raises(StudyError, match="it is of other images, sources, networks or settings"):
        recommended({"disks": source}, number=3, folder=tmp_path)


def test_a_folder_of_an_older_version_is_refused(
    source: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    Ledger(tmp_path, "of that time").close()
    with sqlite3.connect(tmp_path / "recommend.sqlite") as store:
        store.execute("UPDATE entries SET value = ? WHERE name = 'head'", ['{"format": 1}'])

    with pytest.raises(StudyError, match="older version of paramreuse; use another folder"):
        recommended({"disks": source}, folder=tmp_path)


def test_two_labelled_subjects_give_an_ensemble_that_says_so(
    source: dict[str, torch.Tensor],
) -> None:
    result = recommended({"disks": source}, number=2)

    assert result.candidate == "ensemble"
    # Everything and its mixture are one training, so they are not two members.
    assert len(result.model.members) in (2, 3)
    names = result.reason[result.reason.index("(") + 1 : result.reason.index(")")]
    assert not {"full disks", "mix-0.75 disks"} <= set(names.split(", "))
    assert "2 labelled subjects are too few to choose" in result.reason
    probabilities = result.model(disks(1)[0][0]).exp().sum(1)
    torch.testing.assert_close(probabilities, torch.ones_like(probabilities))


def test_a_source_whose_training_diverges_is_scored_zero_and_told(
    source: dict[str, torch.Tensor],
) -> None:
    def train(model: nn.Module, labelled: Any, plan: Any, steps: int, seed: int) -> nn.Module:
        if plan is not None and plan.source == "broken":
            raise ModelError("training diverged: the loss is nan")
        return pr.train_steps(model, labelled, plan, steps, seed)

    result = recommended({"disks": source, "broken": source}, train=train)

    assert result.source == "disks"
    assert "diverged" in result.problems["full broken"]


def test_a_source_that_is_not_finite_is_scored_zero_and_told(
    source: dict[str, torch.Tensor],
) -> None:
    broken = source | {"0.weight": torch.full_like(source["0.weight"], float("nan"))}

    result = recommended({"disks": source, "broken": broken})

    assert result.source == "disks"
    assert "NaN" in result.problems["as-is broken"]


def test_subjects_without_a_foreground_class_are_refused(source: dict[str, torch.Tensor]) -> None:
    empty = [(inputs, torch.zeros_like(labels), ids) for inputs, labels, ids in disks(4)]

    with pytest.raises(ScoreError, match="of 4 labelled subjects 0 can be scored"):
        pr.recommend(disk_network, {"disks": source}, empty, steps=STEPS)


def test_a_fold_without_foreground_is_trained_and_not_audited(
    source: dict[str, torch.Tensor],
) -> None:
    batches = disks(8)
    left_out = held_out_folds([owner for b in batches for owner in dict.fromkeys(b[2])], seed=0)[0]
    emptied = [
        (
            inputs,
            torch.where(torch.tensor([o in left_out for o in owners])[:, None, None], 0, labels),
            owners,
        )
        for inputs, labels, owners in batches
    ]

    found = pr.recommend(disk_network, {"disks": source}, emptied, steps=12)

    assert found.source == "disks"


def test_a_source_with_another_output_layer_is_loaded_without_its_head(
    source: dict[str, torch.Tensor],
) -> None:
    other = {k: v for k, v in source.items() if not k.startswith("6.")}
    other |= {"6.weight": torch.zeros(5, 6, 1, 1), "6.bias": torch.zeros(5)}

    result = recommended({"five classes": other}, steps=90)

    assert result.plan is not None
    assert all(site.path != "6" for site in result.plan.loaded)


def test_sources_of_which_none_fits_end_in_scratch(source: dict[str, torch.Tensor]) -> None:
    result = recommended({"stranger": {"somewhere.weight": torch.zeros(3, 3)}})

    assert result.source == ""
    assert "no source fits" in result.reason
    assert result.sources[0].rank == 0
    assert "no tensor of the source fits" in result.sources[0].reason


@pytest.mark.parametrize(
    ("number", "options", "message"),
    [
        (1, {}, "cannot choose with one labelled subject"),
        (4, {"budget": 2.0}, "within a budget of 2 trainings: .* take 5. Raise budget="),
        (4, {"steps": 0}, "cannot train for 0 steps: expected at least 1"),
        (4, {"budget": float("nan")}, "within a budget of nan"),
    ],
)
def test_bad_input_is_refused(
    source: dict[str, torch.Tensor], number: int, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ParamReuseError, match=message):
        recommended({"disks": source}, number=number, **options)


def test_no_source_at_all_is_refused() -> None:
    with pytest.raises(ParamReuseError, match="there is no source"):
        recommended({})
