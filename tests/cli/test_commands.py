"""The command line: exit status, results on stdout, talk on stderr, JSON in the agreed shapes."""

import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from paramreuse import __version__
from paramreuse.checkpoint import read_checkpoint, write_checkpoint
from paramreuse.cli import app, main
from paramreuse.cli.console import show_json
from paramreuse.cli.showing import show_outcome
from paramreuse.networks import unet
from paramreuse.reuse.plan_file import read_plan
from paramreuse.study import stages
from paramreuse.study.run import run_study
from samples.permissions import without_privileges
from samples.studies import PHANTOM, checkpoint, given_content, seeded, study_of, write_study

COMMANDS = sorted(c.callback.__name__ for c in app.registered_commands if c.callback)
SITE_COLUMNS = ["site", "family", "layer", "kind", "key", "shape", "output"]


@pytest.fixture(scope="module")
def swept_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of two sources, one of which is the target, swept and not trained."""
    folder = tmp_path_factory.mktemp("study")
    content = given_content(folder)
    content["models"]["same"] = content["models"]["target"]
    content["sources"] = ["ae", "same"]
    write_study(folder / "study.yaml", content)
    return run_study(study_of(content), folder / "run", until="sweep")


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; its exit status, stdout and stderr."""

    def status_and_streams(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return status_and_streams


# Help and wrong usage.


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"])

    assert shown.exit_code == 0
    assert f"Example: paramreuse {name}" in " ".join(shown.output.split())


def test_the_commands_are_those_that_are_agreed() -> None:
    assert (
        sorted(
            [
                "demo",
                "run",
                "layers",
                "compare",
                "keys",
                "init",
                "check",
                "sweep",
                "judge",
                "plan",
                "train",
                "rank",
                "recommend",
                "report",
            ]
        )
        == COMMANDS
    )


def options_of(name: str) -> set[str]:
    group = typer.main.get_command(app)
    return {o for p in group.commands[name].params for o in p.opts}  # type: ignore[attr-defined]


def test_examples_in_the_help_use_options_that_exist() -> None:
    for command in app.registered_commands:
        assert command.callback is not None
        text = " ".join((command.callback.__doc__ or "").split())
        example = text.partition("Example: paramreuse ")[2]
        used = {word for word in example.split() if word.startswith("-")}
        assert used <= options_of(example.split()[0]), example


def test_the_version_is_told(run: Run) -> None:
    assert run("--version") == (0, f"paramreuse {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweeep"], "No such command 'sweeep'"),
        (["run"], "Missing argument"),
        (["run", "x.yaml", "--bogus"], "No such option"),
        (["run", "nowhere.yaml"], "cannot read the study 'nowhere.yaml': there is no such"),
        (["run", "x.yaml", "--data", "acdc"], "--data 'acdc': expected NAME=PATH"),
        (["judge", "nowhere"], "'nowhere' is not a run folder: expected study.yaml and results"),
        (["rank", "nowhere"], "'nowhere' is not a run folder"),
        (["report", "nowhere"], "'nowhere' is not a run folder"),
        (["plan", "nowhere"], "'nowhere' is not a run folder"),
        (["sweep", "nowhere"], "'nowhere' is not a run folder"),
        (["train", "nowhere", "-o", "x.pt"], "'nowhere' is not a run folder"),
        (["layers", "nowhere.pt"], "cannot read 'nowhere.pt': there is no such file"),
        (["layers", "nowhere:net"], "cannot load the network 'nowhere:net': no module 'nowhere'"),
        (["layers", "json:net"], "module 'json' has no 'net'"),
        (["compare", "unet", "nowhere.pt"], "cannot read 'nowhere.pt': there is no such file"),
        (["sweep", "new", "--source", "a.pt"], "cannot sweep: --source needs --target"),
        (["sweep", "new", "--target", "a.pt"], "cannot sweep: --target needs at least one --sour"),
        (
            ["sweep", "new", "--target", "a.pt", "--source", "b.pt"],
            "cannot sweep by hand: the reader 'acdc' needs images. Name their folder with --root",
        ),
        (
            shlex.split("sweep new --target t --source x/a.pt --source y/a.pt --reader phantom"),
            "sources need different names other than 'target': got ['a', 'a']. Name them with",
        ),
        (["train", "x", "-o", "x.pt", "--subjects", "0"], "--subjects"),
        (["train", "x", "-o", "x.pt", "--epochs", "-1"], "--epochs"),
    ],
)
def test_wrong_input_ends_with_2_and_one_message(
    run: Run, arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    status, out, err = run(*arguments)

    assert (status, out) == (2, "")
    assert message in " ".join(err.split())
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["judge", "rank", "report", "plan"])
def test_a_folder_that_may_not_be_read_ends_with_2_and_one_message(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(SystemExit):  # all modules are loaded while they may be
        main([command, str(tmp_path / "run")])
    capsys.readouterr()
    with without_privileges(tmp_path, tmp_path / "run"), pytest.raises(SystemExit) as caught:
        main([command, str(tmp_path / "run")])

    assert caught.value.code == 2
    assert re.search(r"^error: .*run.*: Permission denied", capsys.readouterr().err)


def test_no_command_shows_the_help_and_ends_with_2(run: Run) -> None:
    status, out, err = run()

    assert status == 2
    assert "demo" in out + err


# What needs neither data nor a run folder.


def test_layers_lists_every_site_of_a_checkpoint(run: Run, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "net.safetensors", 0)

    status, out, _ = run("layers", path, "--json")

    rows = json.loads(out)
    assert status == 0
    assert [row["site"] for row in rows][:3] == ["W 1", "B 1", "RM 1"]
    assert list(rows[0]) == SITE_COLUMNS
    assert rows[0] | {"key": "0.weight", "shape": "2x1x3x3", "family": "conv"} == rows[0]
    assert [row["site"] for row in rows if row["output"]] == ["W 3", "B 3"]
    table = run("layers", path)[1].splitlines()
    assert table[0].split() == SITE_COLUMNS
    assert len(table) == 1 + len(rows)


def test_layers_numbers_the_networks_of_the_papers(run: Run) -> None:
    rows = json.loads(run("layers", "pspnet", "--json")[1])
    kernels = [row for row in rows if row["kind"] == "W" and not row["output"]]

    assert [row["layer"] for row in kernels] == list(range(1, 26))


def test_layers_takes_a_factory_of_your_own(run: Run) -> None:
    assert len(json.loads(run("layers", "samples.studies:little", "--json")[1])) == 14


def test_compare_writes_json_in_the_agreed_shape(run: Run, tmp_path: Path) -> None:
    target = checkpoint(tmp_path / "target.safetensors", 0)
    tensors = seeded(0).state_dict() | {"0.weight": torch.zeros(2, 3, 3, 3), "x": torch.ones(1)}
    other = write_checkpoint(tmp_path / "other.safetensors", tensors)

    status, out, err = run("compare", target, other, target, "--json")

    written = json.loads(out)
    assert (status, err) == (0, "")
    assert written["target"] == str(target)
    changed, same = written["sources"]
    assert (changed["name"], same["name"]) == (str(other), str(target))
    assert {"name", "lineage", "identical_share", "rows", "skipped"} <= changed.keys()
    assert same["lineage"] == "shared"
    assert same["identical_share"] == 1.0
    columns = ["layer", "path", "kind", "key", "elements", "rmse", "relative_rmse", "cosine"]
    assert list(same["rows"][0]) == columns
    assert {row["rmse"] for row in same["rows"]} == {0.0}
    skipped = {item["key"]: item["reason"] for item in changed["skipped"]}
    assert "(2, 1, 3, 3)" in skipped["0.weight"]
    assert (
        same["batchnorm"][0] | {"mrm": 0.0, "mrv": 1.0, "mrw": 1.0, "mrb": 0.0}
        == (same["batchnorm"][0])
    )


def test_compare_shows_tables_on_stdout_and_lineage_on_stderr(run: Run, tmp_path: Path) -> None:
    target = checkpoint(tmp_path / "target.safetensors", 0)
    other = checkpoint(tmp_path / "other.safetensors", 1)
    csv = tmp_path / "distances.csv"

    _, out, err = run("compare", target, other, "--exclude", "0.bias", "--csv", csv)

    assert "relative_rmse" in out
    assert "mrw_median" in out
    assert "0.bias" not in out
    assert re.search(r"other.safetensors: \w+: ", err)
    assert "left out 0.bias: " in err
    assert csv.read_text().startswith("layer,path,kind,key,elements,rmse,relative_rmse,cosine,sour")
    assert run("compare", target, other, "--quiet")[2] == ""


def test_compare_names_the_file_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    target = checkpoint(tmp_path / "target.safetensors", 0)

    status, _, err = run("compare", target, target, "--csv", tmp_path / "no" / "x.csv")

    assert status == 2
    assert re.search(r"cannot write '.*no/x.csv': No such file or directory", err)


def test_json_has_null_where_there_is_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    show_json({"a": [float("nan"), float("inf"), 1.5], "b": (None, "NaN")})

    assert json.loads(capsys.readouterr().out) == {"a": [None, None, 1.5], "b": [None, "NaN"]}


# What works on a run folder.


def test_judge_writes_json_in_the_agreed_shape(run: Run, swept_folder: Path) -> None:
    status, out, err = run("judge", swept_folder, "--json")

    judged = json.loads(out)
    assert (status, err) == (0, "")
    assert [row["source"] for row in judged] == ["ae", "same"]
    agreed = {"source", "tolerance", "confidence", "reusable_network", "kernel_share", "sites"}
    assert agreed <= judged[0].keys()
    assert (judged[0]["tolerance"], judged[0]["confidence"]) == (0.02, 0.95)
    assert list(judged[0]["sites"][0]) == [
        *("swap", "family", "layer", "path", "kind", "drop", "drop_low", "drop_high"),
        *("control_drop", "paper", "verdict"),
    ]
    assert len(judged[0]["sites"]) == 14
    same = judged[1]
    assert (same["reusable_network"], same["kernel_share"]) == (True, 1.0)
    assert {site["verdict"] for site in same["sites"]} == {"identical"}
    assert {site["drop"] for site in same["sites"]} == {0.0}


def test_judge_takes_another_tolerance_without_a_forward_pass(
    run: Run, swept_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "sweep_sites", None)

    (judged, _) = json.loads(run("judge", swept_folder, "--tolerance", 1, "--json")[1])
    assert judged["tolerance"] == 1.0
    assert {site["paper"] for site in judged["sites"]} == {"reusable"}
    (other, _) = json.loads(run("judge", swept_folder, "--confidence", 0.5, "--json")[1])
    assert other["confidence"] == 0.5
    (again, _) = json.loads(run("judge", swept_folder, "--json")[1])
    assert again["tolerance"] == 0.02
    table = run("judge", swept_folder)[1]
    assert table.startswith("ae: ")
    assert "control_drop" in table


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--tolerance", "-0.1", "tolerance is -0.1: expected a number of at least 0"),
        ("--tolerance", "nan", "tolerance is nan: expected a number"),
        ("--confidence", "1.5", "confidence is 1.5: expected"),
    ],
)
def test_judge_refuses_numbers_that_mean_nothing(
    run: Run, swept_folder: Path, option: str, value: str, message: str
) -> None:
    status, out, err = run("judge", swept_folder, f"{option}={value}")

    assert (status, out) == (2, "")
    assert message in err


def test_a_run_that_is_not_swept_yet_says_how_to_sweep(run: Run, tmp_path: Path) -> None:
    folder = run_study(study_of(given_content(tmp_path)), tmp_path / "run", until="data")

    for command in ("judge", "rank", "plan"):
        status, out, err = run(command, folder)
        assert (status, out) == (2, "")
        assert f"no source has been swept yet. `paramreuse sweep {folder}` does it" in err
    status, out, _ = run("sweep", folder, "--json")
    assert status == 0
    assert {row["source"] for row in json.loads(out)} == {"ae"}


def test_a_sweep_that_stopped_when_decided_is_judged_as_it_was(run: Run, tmp_path: Path) -> None:
    content = given_content(tmp_path) | {"sweep": {"stop": "decided"}}
    folder = run_study(study_of(content), tmp_path / "run", until="sweep")

    assert run("judge", folder, "--tolerance", "0.02")[0] == 0
    status, _, err = run("judge", folder, "--tolerance", "0.1")
    assert status == 2
    assert "stopped where the verdict at 0.02 and 0.95 was decided. Run the study without" in err


def test_sweep_tells_the_mean_of_every_swap_and_replacement(run: Run, swept_folder: Path) -> None:
    status, out, err = run("sweep", swept_folder, "--json")

    rows = json.loads(out)
    assert status == 0
    assert "(finished before)" in err
    assert len(rows) == 2 * 14 * 2
    assert {row["class"] for row in rows} == {"mean"}
    assert list(rows[0])[:3] == ["source", "swap", "family"]


def test_sweep_of_checkpoints_named_by_hand(run: Run, tmp_path: Path) -> None:
    for name, seed in (("t", 0), ("s", 1)):
        checkpoint(tmp_path / f"{name}.safetensors", seed)

    arguments = (
        *("sweep", tmp_path / "run", "--target", tmp_path / "t.safetensors"),
        *("--source", tmp_path / "s.safetensors", "--source", f"b={tmp_path / 't.safetensors'}"),
        *("--network", "samples.studies:little", "--reader", "samples.studies:read_few"),
        *("--root", tmp_path, "--validation", 2, "--size", 16, 16),
        *("--swaps", "single", "--swaps", "layer", "--control", "reinit", "--json", "--quiet"),
    )
    status, out, err = run(*arguments)

    rows = json.loads(out)
    assert (status, err) == (0, "")
    assert {row["source"] for row in rows} == {"s", "b"}
    assert {row["replacement"] for row in rows} == {"source", "reinit"}
    assert {row["subjects"] for row in rows} == {2}
    assert {row["swap"] for row in rows} > {"W 1", "RB 2", "layer 1"}
    assert run(*arguments)[1] == out
    assert [row["source"] for row in json.loads(run("judge", tmp_path / "run", "--json")[1])] == [
        *("s", "b")
    ]


def test_plan_writes_a_file_that_reads_back(run: Run, swept_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"

    status, out, err = run(
        "plan", swept_folder, "--source", "same", "-o", path, "--tolerance", 0.05
    )

    assert (status, out) == (0, f"{path}\n")
    assert err == "12 of 12 sites reused (100.0 %), output layer aside\n"
    plan = read_plan(path)
    assert (plan.source, plan.tolerance, plan.confidence) == ("same", 0.05, 0.95)
    assert len(plan.loaded) == 14


def test_plan_asks_for_the_source_and_knows_which_there_are(
    run: Run, swept_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "plan.yaml"

    assert "which source? Say one of ['ae', 'same'] with --source" in run("plan", swept_folder)[2]
    status, _, err = run("plan", swept_folder, "--source", "t1", "-o", path)
    assert status == 2
    assert "unknown source 't1': expected one of ['ae', 'same']" in err
    status, _, err = run(
        "plan", swept_folder, "--source", "ae", "-o", tmp_path / "no" / "plan.yaml"
    )
    assert status == 2
    assert re.search(r"cannot write the plan '.*no/plan.yaml': No such file", err)
    assert list(tmp_path.iterdir()) == []


def test_rank_puts_the_target_itself_first(run: Run, swept_folder: Path) -> None:
    rows = json.loads(run("rank", swept_folder, "--json")[1])

    assert [row["source"] for row in rows] == ["same", "ae"]
    assert list(rows[0])[:9] == [
        *("rank", "source", "lineage", "kernel_share", "paper_kernel_share"),
        *("mean_drop", "rmse", "relative_rmse", "rmse_rank"),
    ]
    assert (
        rows[0].items()
        >= {
            **{"rank": 1, "source": "same", "lineage": "shared", "kernel_share": 1.0},
            **{"paper_kernel_share": 1.0, "mean_drop": 0.0, "rmse": 0.0, "relative_rmse": 0.0},
            **{"rmse_rank": 1, "note": ""},
        }.items()
    )
    assert 0 <= rows[0]["h_score"] <= 3
    assert rows[0]["cka_pilot"] == pytest.approx(1.0)


@pytest.mark.slow
def test_report_writes_the_page_of_what_there_is(run: Run, swept_folder: Path) -> None:
    status, out, _ = run("report", swept_folder)

    assert (status, out) == (0, f"{swept_folder / 'report.html'}\n")
    assert "the study asks for no transfer training" in (swept_folder / "report.html").read_text()
    assert (swept_folder / "tables" / "ranking.csv").exists()


@pytest.mark.slow
def test_train_freezes_what_the_plan_loads(run: Run, swept_folder: Path, tmp_path: Path) -> None:
    plan, out = tmp_path / "plan.yaml", tmp_path / "model.safetensors"
    run("plan", swept_folder, "--source", "same", "-o", plan)
    # The output layer has to be trained, or nothing were left to train.
    lines = [
        line.replace("action: load", "action: leave") if "output: true" in line else line
        for line in plan.read_text().splitlines()
    ]
    plan.write_text("\n".join(lines))

    status, told, err = run(
        "train", swept_folder, "--plan", plan, "--mode", "freeze", "-o", out, "--epochs", 2
    )

    assert (status, told) == (0, f"{out}\n")
    assert re.search(r"12 loaded, 12 frozen, 2 left; best validation Dice 0\.\d{3} in epoch", err)
    trained, source = (
        read_checkpoint(out),
        read_checkpoint(swept_folder.parent / "target.safetensors"),
    )
    for key in read_plan(plan).loaded:
        assert torch.equal(trained[key.key], source[key.key]), key
    assert not torch.equal(trained["6.weight"], source["6.weight"])


@pytest.mark.slow
def test_train_by_strategy_loads_and_trains_what_it_names(
    run: Run, swept_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model.safetensors"

    status, told, err = run(
        *("train", swept_folder, "--strategy", "head", "--source", "same", "-o", out),
        *("--epochs", 1),
    )

    assert (status, told) == (0, f"{out}\n")
    assert "loaded" in err
    trained = read_checkpoint(out)
    source = read_checkpoint(swept_folder.parent / "target.safetensors")
    same = {key for key, values in source.items() if torch.equal(trained[key], values)}
    assert set(source) - same == {"6.weight", "6.bias"}


@pytest.mark.slow
def test_train_from_scratch_depends_on_the_seed_alone(
    run: Run, swept_folder: Path, tmp_path: Path
) -> None:
    def weights(name: str, *more: object) -> bytes:
        out = tmp_path / f"{name}.safetensors"
        assert run("train", swept_folder, "-o", out, "--epochs", 1, "--subjects", 1, *more)[0] == 0
        return out.read_bytes()

    assert weights("one") == weights("two") != weights("three", "--seed", 1)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--subjects", "3"], "cannot train on 3 subjects: the training fold has 2 with labels"),
        (["--mode", "melt"], "unknown mode 'melt': expected 'freeze' or 'finetune'"),
        (["--source", "ae"], "cannot load from a source without a plan: give one with --plan"),
        (["--strategy", "ful"], "unknown strategy 'ful': expected one of ['scratch', 'full'"),
        (["--strategy", "full"], "unknown source ''"),
        (["--strategy", "full", "--source", "gone"], "unknown source 'gone': expected one of"),
        (["--strategy", "full", "--plan", "p.yaml"], "give a plan or a strategy, not both"),
        (["--strategy", "scratch", "--source", "ae"], "'scratch' loads nothing: leave --source"),
        (["--strategy", "lpft", "--source", "ae"], "cannot train by 'lpft' by epochs, which"),
        (["--steps", "3", "--epochs", "2"], "give steps or epochs, not both"),
        (["--strategy", "recommended"], "cannot train by 'recommended': `paramreuse recommend`"),
        (["--plan", "nowhere.yaml"], "cannot read the plan 'nowhere.yaml': No such file"),
        (["-o", "."], "cannot write '.': it is a folder, expected a file to write"),
        (["-o", "m.pt"], "cannot write 'm.pt': weights are written as *.safetensors"),
        (["--mode", "freeze"], "cannot freeze without a plan: give one with --plan"),
        (["-o", "no/x.safetensors"], "cannot write 'no/x.safetensors': there is no folder 'no'"),
        (["--device", "quantum"], "device 'quantum': expected"),
    ],
)
def test_train_refuses_before_it_trains(
    run: Run,
    swept_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)

    status, out, err = run("train", swept_folder, "-o", "x.safetensors", "--epochs", 1, *more)

    assert (status, out) == (2, "")
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_train_refuses_a_plan_for_a_source_that_the_study_lacks(
    run: Run, swept_folder: Path, tmp_path: Path
) -> None:
    plan, out = tmp_path / "plan.yaml", tmp_path / "model.safetensors"
    run("plan", swept_folder, "--source", "same", "-o", plan)
    plan.write_text(plan.read_text().replace("source: same", "source: t1"))

    status, _, err = run("train", swept_folder, "--plan", plan, "-o", out)

    assert status == 2
    assert "unknown source 't1': expected one of ['ae', 'same'], with --source" in err
    assert not out.exists()


def test_train_needs_training_subjects(run: Run, tmp_path: Path) -> None:
    content: dict[str, Any] = given_content(tmp_path, data={"cine": PHANTOM | {"train": 0}})
    folder = run_study(study_of(content), tmp_path / "run", until="data")

    status, _, err = run("train", folder, "-o", tmp_path / "x.safetensors")

    assert status == 2
    assert "cannot train: the study sets no training subjects aside (train: 0)" in err


def test_run_writes_json_and_refuses_a_logger_that_there_is_not(run: Run, tmp_path: Path) -> None:
    path = write_study(tmp_path / "study.yaml", given_content(tmp_path))
    folder = tmp_path / "run"

    status, out, err = run("run", path, "--out", folder, "--logger", "neptune")
    assert (status, out, folder.exists()) == (2, "", False)
    assert "unknown logger 'neptune': expected one of ['csv'," in err

    status, out, err = run("run", path, "--out", folder, "--until", "judge", "--json", "--quiet")
    ended = json.loads(out)
    assert (status, err) == (0, "")
    assert list(ended) == ["folder", "sources", "transfer", "answer", "report"]
    assert [row["source"] for row in ended["sources"]] == ["ae"]
    assert (ended["transfer"], ended["report"]) == ([], None)


def test_plan_says_nothing_where_quiet_is_wanted(
    run: Run, swept_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "plan.yaml"

    told = run("plan", swept_folder, "--source", "same", "-o", path, "--quiet")

    assert told == (0, f"{path}\n", "")


def test_a_network_of_ones_own_is_found_in_the_current_folder(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "from torch import nn\ndef build():\n    return nn.Conv2d(1, 2, 3)\n"
    (tmp_path / "net_of_ones_own.py").write_text(code)
    command = ("layers", "net_of_ones_own:build", "--json")

    status, _, err = run(*command)
    assert status == 2
    assert "Run this in the folder that holds it" in err

    monkeypatch.chdir(tmp_path)
    paths = list(sys.path)
    assert [site["site"] for site in json.loads(run(*command)[1])] == ["W 1", "B 1"]
    assert sys.path == paths


def test_what_is_reusable_is_listed_by_kind_and_family(capsys: pytest.CaptureFixture[str]) -> None:
    columns = ("swap", "family", "layer", "kind", "verdict")
    rows = [
        ("W 2", "conv", 2, "W", "reusable"),
        ("W 3", "conv", 3, "W", "not reusable"),
        ("conv_transpose W 2", "conv_transpose", 2, "W", "reusable"),
        ("RM 4", "norm", 4, "RM", "identical"),
    ]
    sites = [dict(zip(columns, row, strict=True)) for row in rows]
    source = {"source": "ae", "summary": "fine", "sites": sites}

    show_outcome({"sources": [source], "transfer": [], "report": None})

    assert capsys.readouterr().out == "ae: fine\n  reusable: W 2 conv_transpose 2; RM 4\n"


def test_compare_aligns_a_permuted_copy_back_onto_the_target(run: Run, tmp_path: Path) -> None:
    """A permuted copy is another file and the same network: its RMSE after alignment is 0."""
    torch.manual_seed(0)
    state = unet(width=2, num_classes=3, upsampling="transposed").state_dict()
    swapped = torch.tensor([1, 0])
    first, second = [key for key, t in state.items() if t.ndim == 4][:2]
    layer = first.rpartition(".")[0]
    follower = layer.replace("conv1", "norm1")
    permuted = dict(state) | {second: state[second][:, swapped]}
    for key in (f"{layer}.weight", f"{layer}.bias"):
        permuted[key] = state[key][swapped]
    for name in ("weight", "bias", "running_mean", "running_var"):
        permuted[f"{follower}.{name}"] = state[f"{follower}.{name}"][swapped]
    files = [tmp_path / "target.safetensors", tmp_path / "source.safetensors"]
    for file, tensors in zip(files, (state, permuted), strict=True):
        write_checkpoint(file, tensors)

    status, out, said = run("compare", *files, "--align", "unet", "--input", 1, 32, 32, "--json")

    assert "without short connections, which its tensors do not tell" in said

    rows = json.loads(out)["sources"][0]["alignment"]
    assert status == 0
    assert max(row["rmse_before"] for row in rows) > 0.01
    assert max(row["rmse_after"] for row in rows) < 1e-6
