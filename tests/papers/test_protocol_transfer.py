"""What is gathered of an arm with everything: biases, recalibration, transfer, kept models."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from paramreuse.checkpoint import read_checkpoint
from paramreuse.compare.distance import rmse
from paramreuse.papers.evidence import Arm
from paramreuse.papers.figures.drawing import redraw
from paramreuse.papers.gathering import gather
from paramreuse.papers.protocol import report_arms
from paramreuse.study.arms import Arms, read_study_or_arms, run_arms
from paramreuse.study.records import StoredSweep
from paramreuse.study.store import Store
from samples.studies import PHANTOM

pytestmark = pytest.mark.slow

ARM = "pspnet-shared"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a tiny PSPNet with two sources, frozen and trained along."""
    made = tmp_path_factory.mktemp("everything")
    content: dict[str, Any] = {
        "name": "all",
        "network": {"name": "pspnet", "width": 2},
        "data": {
            "A": PHANTOM,
            "B": PHANTOM | {"options": PHANTOM["options"] | {"domain": "t1"}},
        },
        "models": {
            "target": {"data": "A", "epochs": 1},
            "A2": {"data": "A", "task": "autoencoder", "epochs": 1},
            "B2": {"data": "B", "task": "autoencoder", "epochs": 1},
        },
        "sources": ["A2", "B2"],
        "sweep": {"engine": "full", "recalibrate": True},
        "judge": {"tolerance": 0.2, "accept": ["reusable", "indifferent", "undecided"]},
        "transfer": {
            "subjects": [1, 2],
            "strategies": ["scratch", "plan-finetune"],
            "seeds": 2,
            "epochs": 1,
            "plan_from": "A2",
            "keep_seeds": 1,
        },
        "arms": {ARM: {}},
    }
    path = made / "all.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    arms = read_study_or_arms(path)
    assert isinstance(arms, Arms)
    return run_arms(arms, made / "out", report_arms)


@pytest.fixture(scope="module")
def arm(folder: Path) -> Arm:
    return gather(folder / "arms", [ARM], name="all", profile="").arms[0]


def test_every_score_of_the_transfer_is_gathered(folder: Path, arm: Arm) -> None:
    table = pd.read_csv(folder / "arms" / ARM / "tables" / "transfer.csv", keep_default_na=False)
    frame = pd.DataFrame([vars_of(score) for score in arm.transfer])

    names = ["source", "strategy", "num_subjects", "seed"]
    means = frame.groupby([*names, "label"])["score"].mean().unstack()

    assert len(means) == len(table) == 12
    for row in table.to_dict("records"):
        scores = means.loc[tuple(row[name] for name in names)]
        assert scores["background"] == pytest.approx(float(row["background"]), abs=1e-12)
        assert scores["LV"] == pytest.approx(float(row["LV"]), abs=1e-12)


def vars_of(score: Any) -> dict[str, Any]:
    return {name: getattr(score, name) for name in score.__dataclass_fields__}


def test_the_recalibrated_sweep_is_that_of_the_same_source(folder: Path, arm: Arm) -> None:
    for source in ("A2", "B2"):
        path = folder / "arms" / ARM / "tables" / f"recalibrated-{source}.csv"
        table = pd.read_csv(path).query("`class` == 'background'").set_index("swap")["drop"]
        sweep = arm.recalibrated[source]
        drops = [sweep.drops(swap)[:, 0].mean() for swap in table.index]
        assert drops == pytest.approx(table.tolist(), abs=1e-12)
    assert (arm.network, arm.bias, arm.start) == ("pspnet", False, "shared")


def test_a_recalibrated_sweep_that_is_not_there_is_no_other(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "arms", tmp_path / "arms")
    store = Store(tmp_path / "arms" / ARM / "results.sqlite")
    store.remove(StoredSweep, sweep="recalibrated B2")
    store.close()

    gathered = gather(tmp_path / "arms", [ARM], name="all", profile="").arms[0]

    assert list(gathered.recalibrated) == ["A2"]


def test_kept_models_are_compared_with_the_ideal_one(folder: Path, arm: Arm) -> None:
    models = folder / "arms" / ARM / "models" / "transfer"
    ideal, other = (
        read_checkpoint(models / f"{name}-0.safetensors")
        for name in ("plan-finetune-B2-2", "scratch-1")
    )
    key = "backbone.layer1.0.conv1.weight"

    names = {(d.first, d.second) for d in arm.distances if "-" in d.first}
    distances = [d for d in arm.distances if (d.second, d.kind, d.layer) == ("scratch-1", "W", 2)]

    assert names == {
        ("plan-finetune-B2-2", f"{model}-{number}")
        for model in ("scratch", "plan-finetune-A2", "plan-finetune-B2")
        for number in (1, 2)
        if (model, number) != ("plan-finetune-B2", 2)
    }
    assert [d.rmse for d in distances] == [pytest.approx(rmse(ideal[key], other[key]), rel=1e-12)]


def test_figure_13_is_there_and_can_be_drawn_again(folder: Path) -> None:
    table = pd.read_csv(folder / "figures" / "figure-13.csv")

    assert list(dict.fromkeys(table["label"])) == ["n1", "nf1", "n2"]
    assert len(redraw(folder / "figures" / "figure-13.csv").axes) == 6
