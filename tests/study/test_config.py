"""study.yaml: what it may say, and what is said of what it may not."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from paramreuse.errors import StudyError
from paramreuse.study.config import TransferSpec, dump_study
from paramreuse.study.study_file import check_study, demo_study, parse_roots, read_study
from samples.studies import PHANTOM, study_of, trained_content, write_study


def test_what_is_left_out_takes_the_defaults_of_the_method() -> None:
    study = study_of(trained_content())

    assert (study.judge.tolerance, study.judge.confidence) == (0.02, 0.95)
    assert (study.sweep.swaps, study.sweep.controls) == (["single"], ["shuffled"])
    assert study.models["target"].init == "shared"
    assert study.transfer is None


def test_a_study_written_out_is_the_same_study() -> None:
    study = study_of(trained_content(transfer={"subjects": [1]}, judge={"tolerance": 0.1}))

    assert check_study(yaml.safe_load(dump_study(study)), where="again") == study


def test_the_studies_that_ship_can_be_read() -> None:
    files = sorted((Path(__file__).parents[2] / "studies").glob("*.yaml"))
    # Those with profiles or arms are read one profile or arm at a time, elsewhere.
    plain = [
        path for path in files if not {"profiles", "arms"} & set(yaml.safe_load(path.read_text()))
    ]

    assert {"acdc", "self-transfer"} <= {read_study(path).name for path in plain}
    assert demo_study().sources


def model(**changes: Any) -> dict[str, Any]:
    return trained_content()["models"] | changes


AE = {"data": "cine", "task": "autoencoder"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sorces": ["ae"]}, "unknown key 'sorces' in 'study.yaml': did you mean 'sources'?"),
        (
            {"data": {"cine": PHANTOM | {"raeder": "acdc"}}},
            "unknown key 'data.cine.raeder' in 'study.yaml': did you mean 'reader'?",
        ),
        ({"armz": {}}, "unknown key 'armz' in 'study.yaml': did you mean 'arms'?"),
        ({"sweep": {"xyz": 1}}, r"unknown key 'sweep.xyz'.*: known keys: \['batch_size', "),
        (
            {"data": {"cine": PHANTOM | {"train": -1}}},
            "'data.cine.train' in 'study.yaml' is -1: expected greater than or equal to 0",
        ),
        ({"judge": {"tolerance": -0.1}}, "'judge.tolerance' in .* is -0.1: expected greater than"),
        ({"judge": {"tolerance": float("nan")}}, "'judge.tolerance' .* is nan: expected .*finite"),
        ({"judge": {"confidence": 1.0}}, "'judge.confidence' .* is 1.0: expected less than 1"),
        ({"seed": "0"}, "'seed' in 'study.yaml' is '0': expected integer"),
        ({"sweep": {"swaps": ["solo"]}}, "'sweep.swaps.0' in .* is 'solo': expected 'single'"),
        ({"sweep": {"swaps": []}}, r"'sweep.swaps' in .* is \[\]: expected .*at least 1 item"),
        (
            {"sweep": {"swaps": ["single", "single"]}},
            "'study.yaml': sweep.swaps: expected each once, got 'single' more than once",
        ),
        ({"sources": []}, r"'sources' in 'study.yaml' is \[\]: expected .*at least 1 item"),
        ({"sources": ["ae", "ae"]}, "sources: expected each once, got 'ae' more than once"),
        (
            {"transfer": {"strategies": ["full", "full"]}},
            "transfer.strategies: expected each once, got 'full' more than once",
        ),
        (
            {"transfer": {"sources": "bset"}},
            "transfer.sources: expected 'all', 'best' or a list of names, got 'bset'",
        ),
        ({"transfer": {"sources": []}}, r"sources: expected 'all', .* a list of names, got \[\]$"),
        ({"transfer": {"sources": [1]}}, r"sources: expected 'all', .* list of names, got \[1\]$"),
        (
            {"transfer": {"sources": ["ae", "ae"]}},
            "transfer.sources: expected each once, got 'ae' more than once$",
        ),
        (
            {"transfer": {"sources": ["ae", "x"]}},
            r"transfer.sources: 'x' is not under sources: got \['ae'\]",
        ),
        (
            {"transfer": {"plan_from": "target"}},
            r"transfer.plan_from: 'target' is not under sources: got \['ae'\]",
        ),
        (
            {
                "sweep": {"swaps": ["layer"]},
                "transfer": {"sources": "best", "strategies": ["scratch", "full"]},
            },
            "transfer.sources: 'best' needs the ranking, .* Add single to sweep.swaps",
        ),
        ({"transfer": {"keep_seeds": -1}}, "'transfer.keep_seeds' in .* is -1: expected greater"),
        (
            {"data": {"cine": PHANTOM | {"labels": {"LV": "LV"}}}},
            "data.cine.labels: the target is trained on this set, .* Leave labels out there",
        ),
        (
            {"data": {"cine": PHANTOM, "far": PHANTOM | {"labels": ["LV"]}}},
            r"'data.far.labels' in 'study.yaml' is \['LV'\]: expected dictionary",
        ),
        (
            {"data": {"cine": PHANTOM, "far": PHANTOM | {"labels": {"LV": 3}}}},
            "'data.far.labels.LV' in 'study.yaml' is 3: expected string",
        ),
        ({"transfer": {"subjects": [0]}}, "'transfer.subjects.0' in .* is 0: expected greater"),
        ({"transfer": {"subjects": []}}, "'transfer.subjects' in .*at least 1 item"),
        (
            {"sources": ["target"]},
            r"sources: 'target' is not under models, the target aside: got \['ae'\]",
        ),
        ({"sources": ["x"]}, r"sources: 'x' is not under models.*: got \['ae'\]"),
        (
            {"sweep": {"controls": ["x"]}},
            r"controls: 'x' is not .*got \['ae', 'reinit', 'shuffled'",
        ),
        ({"models": {"ae": AE}}, r"models: expected one called 'target', got \['ae'\]"),
        ({"models": model(target=AE)}, "models.target.task: expected 'segmentation', whose Dice"),
        ({"models": model(ae=AE | {"data": "t1"})}, r"models.ae.data: 't1' is not under data"),
        ({"models": model(source=AE)}, "models.source: a sweep has a 'source' of its own"),
        (
            {"data": {"cine": PHANTOM | {"train": 0}}},
            "models.target: it is to be trained on data.cine, which has train: 0. Give it training",
        ),
        (
            {"sweep": {"swaps": ["layer"]}, "transfer": {"strategies": ["scratch", "plan-freeze"]}},
            "'plan-freeze' needs a plan, and a plan single swaps. Add single to sweep.swaps",
        ),
        ({"name": "a/b"}, "'name' in 'study.yaml' is 'a/b': expected String should match"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        study_of(trained_content(**changes))


def test_a_missing_part_is_named() -> None:
    content = trained_content()
    del content["data"]

    with pytest.raises(StudyError, match=r"'study.yaml' has no 'data', which is needed"):
        study_of(content)


def test_a_transfer_of_a_set_that_is_only_validated_on_is_refused() -> None:
    models = {name: {"data": "cine", "checkpoint": "x.pt"} for name in ("target", "ae")}
    content = trained_content(data={"cine": PHANTOM | {"train": 0}}, models=models)

    assert study_of(content).transfer is None
    with pytest.raises(StudyError, match=r"transfer: it trains on data.cine, which has train: 0"):
        study_of(content | {"transfer": {}})


def test_a_number_may_be_written_with_an_exponent() -> None:
    # To YAML 1.1 and so to PyYAML, 1e-3 without a point is a text.
    content = yaml.safe_load("{learning_rate: 1e-3, data: cine}")
    assert content["learning_rate"] == "1e-3"

    study = study_of(trained_content(models=model(target=content)))

    assert study.models["target"].learning_rate == 0.001
    with pytest.raises(StudyError, match=r"'models.target.learning_rate' in .* is 'e': expected"):
        study_of(trained_content(models=model(target=content | {"learning_rate": "e"})))


def test_every_strategy_has_a_word_in_the_docstring() -> None:
    strategies = ("scratch", "full", "plan-freeze", "plan-finetune", "random-plan", "statistics")

    assert TransferSpec(strategies=list(strategies)).strategies == list(strategies)
    assert all(f"``{name}``" in (TransferSpec.__doc__ or "") for name in strategies)


def test_sources_of_the_transfer_are_all_the_best_or_named() -> None:
    def sources(**transfer: Any) -> Any:
        spec = study_of(trained_content(transfer=transfer)).transfer
        assert spec is not None
        return spec.sources, spec.plan_from, spec.keep_seeds

    assert sources() == ("all", None, 0)
    assert sources(sources="best", keep_seeds=2) == ("best", None, 2)
    assert sources(sources=["ae"], plan_from="ae") == (["ae"], "ae", 0)


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("STORE", "/store")
    network = {"name": "pspnet", "weights": "../resnet.pth", "options": {"weights": "IMAGENET"}}
    data = {
        "cine": PHANTOM | {"root": "images"},
        "far": PHANTOM | {"root": "${STORE}/far"},
        "home": PHANTOM | {"root": "~/home"},
    }
    models = model(ae={"data": "cine", "checkpoint": "ae.pt"})
    content = trained_content(network=network, data=data, models=models)

    study = read_study(write_study(tmp_path / "study.yaml", content), roots={"home": "/given"})

    assert study.data["cine"].root == str(tmp_path / "images")
    assert study.data["far"].root == "/store/far"
    assert study.data["home"].root == "/given"
    assert study.network.weights == str(tmp_path.parent / "resnet.pth")
    assert study.models["ae"].checkpoint == str(tmp_path / "ae.pt")
    # Not a path: the options of a network or reader are its own.
    assert study.network.options == {"weights": "IMAGENET"}
    again = read_study(tmp_path / "study.yaml")
    assert again.data["home"].root == "/home/me/home"


def test_a_missing_environment_variable_is_named_with_both_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOT_THERE", raising=False)
    content = trained_content(data={"cine": PHANTOM | {"root": "${NOT_THERE}/cine"}})
    path = write_study(tmp_path / "study.yaml", content)

    with pytest.raises(StudyError, match=r"uses \$\{NOT_THERE\}, but there is .*--data NAME=PATH"):
        read_study(path)
    assert read_study(path, roots={"cine": "x"}).data["cine"].root == str(Path("x").absolute())


def test_a_root_for_an_unknown_set_is_refused(tmp_path: Path) -> None:
    path = write_study(tmp_path / "study.yaml", trained_content())

    with pytest.raises(StudyError, match=r"root of 'acdc' with --data: .*one of \['cine'\]"):
        read_study(path, roots={"acdc": "x"})


@pytest.mark.parametrize("given", ["acdc", "=x", "acdc="])
def test_a_root_needs_a_name_and_a_path(given: str) -> None:
    with pytest.raises(StudyError, match=f"--data '{given}': expected NAME=PATH"):
        parse_roots([given])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: [", r"cannot read the study .*study.yaml': it is not YAML: "),
        (b"- name", "expected keys such as name, data"),
        (b"", "expected keys such as name, data"),
        (b"name: \xff", "it is not UTF-8 text"),
        (b"name: a\nname: b\n", "study.yaml': 'name' stands twice, again in line 2. Remove"),
        (b"models:\n  ae: {data: x}\n  ae: {data: y}\n", "'ae' stands twice, again in line 3"),
        (b"data: &a [*a]", "line 1 repeats a part that contains it"),
        (
            b"name: !!python/object/apply:os.getcwd []",
            "not YAML: line 1: could not determine a constr",
        ),
    ],
)
def test_a_file_that_is_no_study_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(content)

    with pytest.raises(StudyError, match=message):
        read_study(path)


def test_a_study_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        StudyError, match=r"cannot read the study '.*none.yaml': there is no such file"
    ):
        read_study(tmp_path / "none.yaml")


def test_a_file_with_arms_is_not_one_study(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(trained_content(arms={"a": {}})))

    with pytest.raises(StudyError, match="holds several studies, its arms"):
        read_study(path)


def test_weights_for_the_backbone_leave_no_model_a_start_of_its_own() -> None:
    network = {"name": "pspnet", "weights": "resnet18.safetensors"}
    content = trained_content(network=network, models=model(ae=AE | {"init": "independent"}))

    with pytest.raises(StudyError, match=r"models\.ae\.init: 'independent' cannot be: network\.w"):
        check_study(content, where="study.yaml")
