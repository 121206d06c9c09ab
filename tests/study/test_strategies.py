"""Strategies by blocks and depth in the transfer: what each loads, and how it is trained."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paramreuse.errors import StudyError
from paramreuse.report.start_words import instruction
from paramreuse.report.starts import Interval, Start
from paramreuse.reuse.freezing import frozen_keys
from paramreuse.study.records import TransferScore
from paramreuse.study.run import open_job, run_study
from paramreuse.study.transfer import training
from paramreuse.study.transfer.starts import PLANS, Lender, start_model
from paramreuse.study.transfer.strategy import Strategy
from paramreuse.study.workbench import Workbench
from samples.studies import given_content, seeded, study_of
from samples.transfers import Trainer


def test_every_strategy_has_words_for_the_reader() -> None:
    starts = [Start(strategy.value, "t1", Interval(0.5)) for strategy in Strategy]

    # "Start with NAME from SOURCE" is for what has no words.
    assert [start.strategy for start in starts if instruction(start).startswith("Start with")] == []


def loaded_kernels(strategy: Strategy) -> tuple[nn.Module, list[str]]:
    """A fresh model started by a strategy, and which of its kernels are the source's."""
    model, source = seeded(0), seeded(1).state_dict()
    start_model(model, strategy, Lender(source, None, 5))
    state = model.state_dict()
    kernels = ("0.weight", "3.weight", "6.weight")
    return model, [key for key in kernels if torch.equal(state[key], source[key])]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        # Three kernels in three blocks: half is as near to one as to two, and two are taken.
        (Strategy.PREFIX, ["0.weight", "3.weight"]),
        (Strategy.PREFIX_QUARTER, ["0.weight"]),
        (Strategy.PREFIX_THREE_QUARTERS, ["0.weight", "3.weight"]),
        (Strategy.SUFFIX, ["6.weight"]),
        (Strategy.BODY, ["0.weight", "3.weight"]),
        (Strategy.HEAD, ["0.weight", "3.weight", "6.weight"]),
        (Strategy.NORMS, ["0.weight", "3.weight", "6.weight"]),
        (Strategy.RECALIBRATED, ["0.weight", "3.weight", "6.weight"]),
        (Strategy.MIXED, ["0.weight", "3.weight", "6.weight"]),
        (Strategy.GENTLE, ["0.weight", "3.weight", "6.weight"]),
        (Strategy.LPFT, ["0.weight", "3.weight", "6.weight"]),
    ],
)
def test_a_strategy_loads_its_part_of_the_network(strategy: Strategy, expected: list[str]) -> None:
    assert loaded_kernels(strategy)[1] == expected


def test_head_freezes_the_body_and_norms_the_kernels() -> None:
    head = frozen_keys(loaded_kernels(Strategy.HEAD)[0])
    norms = frozen_keys(loaded_kernels(Strategy.NORMS)[0])

    assert "6.weight" not in head
    assert {"0.weight", "1.weight", "3.weight"} <= set(head)
    assert {"0.weight", "3.weight"} <= set(norms)
    assert not {"1.weight", "4.bias", "6.weight"} & set(norms)


def test_what_needs_steps_is_what_training_by_epochs_cannot_do() -> None:
    sites = loaded_kernels(Strategy.FULL)[0]
    source = seeded(1).state_dict()
    for strategy, plan_of in PLANS.items():
        if strategy.follows_plan or strategy.measures:
            continue
        from paramreuse.sites.matching import match_sites

        plan = plan_of(match_sites(sites, source), Lender(source, None, 5))
        rated = any(entry.rate != 1.0 for entry in plan.entries)
        asked = rated or bool(plan.recipe.anchor or plan.recipe.head_first)
        assert strategy.needs_steps is asked, strategy


@pytest.mark.parametrize(
    ("transfer", "message"),
    [
        ({"strategies": ["gentle"]}, "'gentle' is trained by steps, .* Set steps, and leave train"),
        ({"strategies": ["lpft"], "steps": 5, "train": "a:b"}, "'lpft' is trained by steps"),
        ({"strategies": ["full"], "steps": 5, "epochs": 2}, "steps: they stand instead of epochs"),
        ({"strategies": ["recommended"], "subjects": [1, 4]}, "'recommended' holds out subjects"),
        ({"strategies": ["rewind"], "steps": 5, "subjects": [1]}, "'rewind' holds out subjects"),
        ({"strategies": ["auto-rgn"]}, "'auto-rgn' is trained by steps"),
    ],
)
def test_strategies_that_cannot_be_are_refused(transfer: dict[str, Any], message: str) -> None:
    data = {"cine": {"reader": "phantom"}}
    models = {"target": {"data": "cine"}, "ae": {"data": "cine", "task": "autoencoder"}}

    with pytest.raises(StudyError, match=message):
        study_of(
            {"name": "s", "data": data, "models": models, "sources": ["ae"], "transfer": transfer}
        )


def trained_with(folder: Path, strategies: list[str], **transfer: Any) -> dict[str, list[float]]:
    """Run the transfer of a study of given checkpoints; the scores by strategy."""
    section = {"subjects": [2], "strategies": strategies, **transfer}
    content = given_content(folder, sweep={"engine": "full"}, transfer=section)
    run_study(study_of(content), folder / "run", until="transfer")
    with open_job(Workbench(study_of(content), folder / "run")) as job:
        scores: dict[str, list[float]] = {}
        for row in job.store.read(TransferScore):
            scores.setdefault(row.strategy, []).append(row.score)
    return scores


@pytest.mark.slow
def test_steps_train_every_strategy_and_leave_a_frozen_body(tmp_path: Path) -> None:
    strategies = ["scratch", "full", "gentle", "lpft", "head", "mixed", "prefix", "statistics"]
    scores = trained_with(tmp_path, strategies, steps=3, keep_seeds=1)

    assert list(scores) == strategies
    from paramreuse.checkpoint import read_checkpoint

    kept = tmp_path / "run" / "models" / "transfer" / "head-ae-2-0.safetensors"
    head, source = read_checkpoint(kept), read_checkpoint(tmp_path / "ae.safetensors")
    assert torch.equal(head["0.weight"], source["0.weight"])
    assert not torch.equal(head["6.weight"], source["6.weight"])


def test_mixed_lies_a_quarter_of_the_way_back_to_the_source(
    tmp_path: Path, trainer: Trainer
) -> None:
    trained_with(tmp_path, ["full", "mixed"], keep_seeds=1)
    from paramreuse.checkpoint import read_checkpoint

    models = tmp_path / "run" / "models" / "transfer"
    full, mix = (read_checkpoint(models / f"{n}-ae-2-0.safetensors") for n in ("full", "mixed"))
    source = read_checkpoint(tmp_path / "ae.safetensors")

    # The trainer adds 1 to the last bias: a quarter of that is taken back.
    torch.testing.assert_close(full["6.bias"], source["6.bias"] + 1)
    torch.testing.assert_close(mix["6.bias"], source["6.bias"] + 0.75)


@dataclass
class Chosen:
    """What ``recommend`` returns, as far as the transfer uses it."""

    model: nn.Module
    reason: str = "because"


def test_recommended_sees_the_drawn_subjects_and_every_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[list[str], set[str], int | None]] = []

    def recommend(
        factory: Any, sources: dict[str, dict[str, Tensor]], labelled: Any, **options: Any
    ) -> Chosen:
        subjects = {subject for _, _, owners in labelled for subject in owners}
        seen.append((list(sources), subjects, options["steps"]))
        return Chosen(seeded(3))

    monkeypatch.setattr(training, "recommend", recommend)

    scores = trained_with(tmp_path, ["recommended"], steps=7)

    ((sources, subjects, steps),) = seen
    assert (sources, len(subjects), steps) == (["ae"], 2, 7)
    assert list(scores) == ["recommended"]
