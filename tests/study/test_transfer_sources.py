"""Transfer: of which sources, by whose plan, and which trained models are kept."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from paramreuse.checkpoint import load_checkpoint, read_checkpoint, write_checkpoint
from paramreuse.errors import StudyError
from paramreuse.reuse.plan import Action, Plan, PlanEntry
from paramreuse.sites.matching import sites_of
from paramreuse.study.config import Study
from paramreuse.study.findings import ranking_rows
from paramreuse.study.run import open_job, run_study
from paramreuse.study.run_folder import require_outside
from paramreuse.study.store import Store
from paramreuse.study.transfer import stage as transfer_stage
from paramreuse.study.transfer.attempts import Attempt, attempts_of, kept_model
from paramreuse.study.transfer.plans import fit_plan
from paramreuse.study.transfer.stage import run_transfer
from paramreuse.study.transfer.strategy import Strategy
from paramreuse.study.transfer.table import summed_transfer
from paramreuse.study.workbench import Workbench
from samples.studies import given_content, little, seeded, study_of
from samples.transfers import EVERYTHING, Trainer

TRANSFER = {"subjects": [1], "strategies": ["scratch", "full"]}


def swept_from(folder: Path, sources: Mapping[str, Mapping[str, Tensor]], **changes: Any) -> Study:
    """A study of the target (seed 0) and of sources given by their tensors, swept."""
    content = given_content(folder, sources=list(sources), sweep={"engine": "full"}, **changes)
    for name, tensors in sources.items():
        path = write_checkpoint(folder / f"{name}.safetensors", tensors)
        content["models"][name] = {"data": "cine", "checkpoint": str(path)}
    study = study_of(content)
    run_study(study, folder / "run", until="sweep")
    return study


def told_rows(study: Study, folder: Path, **transfer: Any) -> tuple[str, list[str]]:
    """Run the stage with changes of its section; what it says, and what the table shows then."""
    assert study.transfer is not None
    section = study.transfer.model_dump(mode="json") | transfer
    changed = study_of(study.model_dump(mode="json") | {"transfer": section})
    with open_job(Workbench(changed, folder / "run")) as job:
        said = run_transfer(job)
        rows = summed_transfer(changed, job.store)
    return said, [f"{row['strategy']} {row['source']}".strip() for row in rows]


def tensors(seed: int, **options: int) -> dict[str, Tensor]:
    return dict(seeded(seed, **options).state_dict())


# Which sources.


def test_the_best_source_is_the_one_that_is_ranked_first_and_alone_is_trained(
    tmp_path: Path, trainer: Trainer
) -> None:
    # Every layer of the second source is the target's own; of the first, none is.
    sources = {"ae": tensors(1), "twin": tensors(0)}
    study = swept_from(tmp_path, sources, transfer=TRANSFER | {"sources": "best"})

    said, shown = told_rows(study, tmp_path)

    assert ranking_rows(tmp_path / "run")[0]["source"] == "twin"
    assert shown == ["scratch", "full twin"]
    assert said.startswith("2 trainings: scratch on 1 ")
    assert said.endswith(
        "; twin is the best of 2 sources: it ranks first, with 100 % of its kernel layers reusable "
        "(mean drop 0.000)"
    )
    assert torch.equal(trainer.starts[1]["0.weight"], sources["twin"]["0.weight"])


def test_other_sources_train_only_what_is_missing(tmp_path: Path, trainer: Trainer) -> None:
    sources = {"ae": tensors(1), "twin": tensors(0)}
    study = swept_from(tmp_path, sources, transfer=TRANSFER | {"sources": "best"})

    counts, tables = [], []
    for chosen in ("best", "all", ["ae"], "best"):
        tables.append(told_rows(study, tmp_path, sources=chosen)[1])
        counts.append(len(trainer.starts))

    assert counts == [2, 3, 3, 3]
    # What is no longer asked for is stored and not shown.
    assert [sorted(table) for table in tables] == [
        *(["full twin", "scratch"], ["full ae", "full twin", "scratch"]),
        *(["full ae", "scratch"], ["full twin", "scratch"]),
    ]


def test_the_best_source_cannot_be_chosen_where_none_can_be_ranked(
    tmp_path: Path, trainer: Trainer
) -> None:
    # A narrower network: of its tensors a bias fits, and no kernel.
    study = swept_from(
        tmp_path, {"odd": tensors(2, width=3)}, transfer=TRANSFER | {"sources": "best"}
    )

    with pytest.raises(
        StudyError, match=r"choose the best of \['odd'\]: no kernel .* Name sources in transfer"
    ):
        told_rows(study, tmp_path)
    assert trainer.starts == []
    # Without a source there is nothing to choose.
    assert told_rows(study, tmp_path, strategies=["scratch"])[1] == ["scratch"]


def test_as_long_as_nothing_is_swept_the_best_source_is_none(tmp_path: Path) -> None:
    study = study_of(given_content(tmp_path, transfer=TRANSFER | {"sources": "best"}))
    store = Store(tmp_path / "results.sqlite")

    assert attempts_of(study, store) == [Attempt(Strategy.SCRATCH, "", 1, 0)]
    assert attempts_of(study_of(given_content(tmp_path)), store) == []
    store.close()


# By whose plan.


def planned_by_ae(folder: Path, **transfer: Any) -> tuple[Study, dict[str, dict[str, Tensor]]]:
    """Of ``ae`` the first kernel alone is the target's, so that its plan loads that one alone."""
    sources = {
        "ae": tensors(1) | {"0.weight": tensors(0)["0.weight"]},
        "t1": tensors(2),
        "two": tensors(3, num_classes=2),
    }
    section = {"subjects": [1], "strategies": ["plan-finetune"]} | transfer
    judge = {"accept": ["identical"]}
    return swept_from(folder, sources, transfer=section, judge=judge), sources


def test_a_plan_of_one_source_loads_its_sites_from_every_source(
    tmp_path: Path, trainer: Trainer
) -> None:
    study, sources = planned_by_ae(tmp_path)

    own, _ = told_rows(study, tmp_path)
    assert own.startswith("1 trainings: plan-finetune from ae on 1 ")
    assert own.endswith("; 2 left out: the plan is empty")
    said, shown = told_rows(study, tmp_path, plan_from="ae")

    assert shown == [f"plan-finetune {name}" for name in sources]
    assert said.endswith("; every plan is that of ae")
    # The training from ae was there, since its plan is the same; the others follow it.
    assert len(trainer.starts) == 3
    for start, name in zip(trainer.starts, sources, strict=True):
        assert torch.equal(start["0.weight"], sources[name]["0.weight"])
        for key in ("3.weight", "1.running_mean", "4.bias"):
            assert not torch.equal(start[key], sources[name][key])


def test_another_owner_of_the_plan_trains_only_what_follows_it(
    tmp_path: Path, trainer: Trainer
) -> None:
    strategies = ["scratch", "full", "statistics", "plan-finetune", "random-plan"]
    study, _ = planned_by_ae(tmp_path, strategies=strategies, sources=["t1"])
    told_rows(study, tmp_path)
    # The plan of t1 itself is empty.
    assert len(trainer.starts) == 3

    told_rows(study, tmp_path, plan_from="ae")
    assert len(trainer.starts) == 5
    _, shown = told_rows(study, tmp_path)
    assert (shown, len(trainer.starts)) == (["scratch", "full t1", "statistics t1"], 5)


def test_what_a_source_cannot_give_of_the_plan_is_left_and_told(
    tmp_path: Path, trainer: Trainer
) -> None:
    study, sources = planned_by_ae(tmp_path, plan_from="ae", sources=["two"])
    everything = study.model_dump(mode="json") | {"judge": {"accept": EVERYTHING}}

    said, shown = told_rows(study_of(everything), tmp_path)

    assert shown == ["plan-finetune two"]
    assert said.endswith(
        "; every plan is that of ae; two cannot give 2 of its 14 sites, such as 6.weight: the "
        "target has shape (4, 2, 1, 1), the source (2, 2, 1, 1)"
    )
    (start,) = trainer.starts
    assert torch.equal(start["3.weight"], sources["two"]["3.weight"])
    assert start["6.weight"].shape == (4, 2, 1, 1)


def test_a_source_that_can_give_nothing_of_the_plan_is_left_out(
    tmp_path: Path, trainer: Trainer
) -> None:
    sources = {
        "ae": tensors(1) | {"0.weight": tensors(0)["0.weight"]},
        "odd": tensors(2, width=3),
    }
    transfer = {"subjects": [1], "strategies": ["plan-freeze"], "plan_from": "ae"}
    study = swept_from(tmp_path, sources, transfer=transfer, judge={"accept": ["identical"]})

    said, shown = told_rows(study, tmp_path)

    assert shown == ["plan-freeze ae"]
    assert said.startswith("1 trainings: ")
    assert said.endswith("; 1 left out: odd can give no site of the plan")
    assert len(trainer.starts) == 1


def test_a_plan_is_fitted_to_a_source_by_leaving_what_it_lacks() -> None:
    target, source = little(), tensors(1, num_classes=2)
    del source["0.bias"]
    sites = sites_of(target)
    actions = [Action.LEAVE if site.key == "3.weight" else Action.FREEZE for site in sites]
    plan = Plan(tuple(PlanEntry(*pair, "mine") for pair in zip(sites, actions, strict=True)), "ae")

    fitted, skipped = fit_plan(plan, target, source)

    assert [item.key for item in skipped] == ["0.bias", "6.weight", "6.bias"]
    assert skipped[0].reason == "the source has no tensor of this name"
    changed = {
        new.site.key: (new.action, new.reason)
        for old, new in zip(plan.entries, fitted.entries, strict=True)
        if old != new
    }
    assert changed == {item.key: (Action.LEAVE, item.reason) for item in skipped}
    assert fit_plan(plan, target, tensors(1)) == (plan, ())


# Which trained models are kept.


def kept_files(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / "run" / "models" / "transfer").glob("*"))


def test_the_models_of_the_first_repetitions_are_kept_as_they_were_trained(
    tmp_path: Path, trainer: Trainer
) -> None:
    transfer = {"subjects": [1], "strategies": ["scratch", "plan-freeze"], "seeds": 3}
    sources = {"ae": tensors(1) | {"0.weight": tensors(0)["0.weight"]}}
    study = swept_from(tmp_path, sources, transfer=transfer, judge={"accept": ["identical"]})

    told_rows(study, tmp_path, keep_seeds=2)

    assert len(trainer.starts) == 6
    assert kept_files(tmp_path) == [
        *("plan-freeze-ae-1-0", "plan-freeze-ae-1-1", "scratch-1-0", "scratch-1-1"),
    ]
    path = kept_model(tmp_path / "run", Attempt(Strategy.PLAN_FREEZE, "ae", 1, 1))
    kept, start = read_checkpoint(path), trainer.starts[4]
    # The training moved the bias of the output by 1, and nothing else.
    assert torch.equal(kept["6.bias"], start["6.bias"] + 1)
    assert all(torch.equal(kept[key], start[key]) for key in start if key != "6.bias")
    load_checkpoint(little(), kept, strict=True)


def test_more_kept_repetitions_train_only_those_whose_file_is_missing(
    tmp_path: Path, trainer: Trainer
) -> None:
    study = swept_from(tmp_path, {"ae": tensors(1)}, transfer=TRANSFER | {"seeds": 3})

    counts, said = [], set()
    for number in (0, 1, 1, 3, 0):
        said.add(told_rows(study, tmp_path, keep_seeds=number)[0])
        counts.append(len(trainer.starts))

    # Six trainings; then two once more for their files, then the other four.
    assert counts == [6, 8, 8, 12, 12]
    assert len(said) == 1
    assert len(kept_files(tmp_path)) == 6
    kept_model(tmp_path / "run", Attempt(Strategy.FULL, "ae", 1, 2)).unlink()
    told_rows(study, tmp_path, keep_seeds=3)
    assert len(trainer.starts) == 13


def test_a_run_killed_between_model_and_scores_trains_anew(
    tmp_path: Path, trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = swept_from(
        tmp_path, {"ae": tensors(1)}, transfer=TRANSFER | {"strategies": ["scratch"]}
    )

    def killed(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(transfer_stage, "file_digest", killed)
        with pytest.raises(KeyboardInterrupt):
            told_rows(study, tmp_path, keep_seeds=1)
    assert kept_files(tmp_path) == ["scratch-1-0"]
    assert len(trainer.starts) == 1

    assert told_rows(study, tmp_path, keep_seeds=1)[1] == ["scratch"]
    assert len(trainer.starts) == 2


def test_a_run_killed_while_the_model_is_written_has_no_scores_either(
    tmp_path: Path, trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = swept_from(
        tmp_path, {"ae": tensors(1)}, transfer=TRANSFER | {"strategies": ["scratch"]}
    )

    def killed(*_: object) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(transfer_stage, "write_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            told_rows(study, tmp_path, keep_seeds=1)

    # Had the scores been stored first, a study without keep_seeds would take them for finished.
    told_rows(study, tmp_path)
    assert len(trainer.starts) == 2
    assert kept_files(tmp_path) == []


def test_a_kept_model_goes_with_the_recipe_it_was_trained_by(
    tmp_path: Path, trainer: Trainer
) -> None:
    study, _ = planned_by_ae(tmp_path, sources=["t1"], plan_from="ae", keep_seeds=1)
    told_rows(study, tmp_path)
    assert kept_files(tmp_path) == ["plan-finetune-t1-1-0"]

    # By its own plan t1 lends nothing: the file would be of a training that is not in the table.
    told_rows(study, tmp_path, plan_from=None)
    assert kept_files(tmp_path) == []
    told_rows(study, tmp_path, epochs=1)
    assert kept_files(tmp_path) == ["plan-finetune-t1-1-0"]
    before = len(trainer.starts)
    told_rows(study, tmp_path, epochs=2, keep_seeds=0)
    # Trained by another recipe and not kept: the old file must not stand for it.
    assert len(trainer.starts) == before + 1
    assert kept_files(tmp_path) == []


def test_nothing_is_written_over_a_kept_model(tmp_path: Path) -> None:
    path = kept_model(tmp_path / "run", Attempt(Strategy.FULL, "ae", 1, 0))

    assert path == tmp_path / "run" / "models" / "transfer" / "full-ae-1-0.safetensors"
    with pytest.raises(StudyError, match="the study's results rest on that file"):
        require_outside(path, tmp_path / "run")
