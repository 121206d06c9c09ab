"""The README: what it shows runs."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from paramreuse.cli import app
from samples.documents import blocks, commands

README = Path(__file__).parent.parent / "README.md"


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks(README, "python"))
def test_every_block_of_python_runs(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    exec(compile(block, str(README), "exec"), {"__name__": "readme"})  # noqa: S102 - our own file


def test_the_readme_shows_python_and_commands() -> None:
    assert blocks(README, "python")
    assert commands(README)


@pytest.mark.parametrize("line", commands(README))
def test_every_command_can_be_parsed(line: str) -> None:
    _, name, *arguments = shlex.split(line)
    group = typer.main.get_command(app)
    command = group.commands[name]  # type: ignore[attr-defined]

    # Raises for an option that does not exist, and for a missing argument.
    command.make_context(name, arguments)


def test_every_target_of_make_exists() -> None:
    wanted = set(re.findall(r"^make (\w+)", "\n".join(blocks(README, "sh")), re.MULTILINE))
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")

    assert wanted
    assert wanted <= set(re.findall(r"^(\w+):", makefile, re.MULTILINE))


def test_every_study_that_is_named_ships() -> None:
    named = re.findall(r"studies/[\w-]+\.yaml", README.read_text(encoding="utf-8"))

    assert named
    assert [name for name in named if not (README.parent / name).exists()] == []
