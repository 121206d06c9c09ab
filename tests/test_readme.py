"""The README: what it shows runs."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from paramreuse.cli import app

README = Path(__file__).parent.parent / "README.md"


def blocks(language: str) -> list[str]:
    text = README.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks("python"))
def test_every_block_of_python_runs(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    exec(compile(block, str(README), "exec"), {"__name__": "readme"})  # noqa: S102 - our own file


def test_the_readme_shows_python_and_commands() -> None:
    assert blocks("python")
    assert commands()


def commands() -> list[str]:
    lines = [
        line.partition(" #")[0].strip() for block in blocks("sh") for line in block.split("\n")
    ]
    return [line for line in lines if line.startswith("paramreuse ")]


@pytest.mark.parametrize("line", commands())
def test_every_command_can_be_parsed(line: str) -> None:
    _, name, *arguments = shlex.split(line)
    group = typer.main.get_command(app)
    command = group.commands[name]  # type: ignore[attr-defined]

    # Raises for an option that does not exist, and for a missing argument.
    command.make_context(name, arguments)


def test_every_target_of_make_exists() -> None:
    wanted = set(re.findall(r"^make (\w+)", "\n".join(blocks("sh")), re.MULTILINE))
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")

    assert wanted
    assert wanted <= set(re.findall(r"^(\w+):", makefile, re.MULTILINE))


def test_every_study_that_is_named_ships() -> None:
    named = re.findall(r"studies/[\w-]+\.yaml", README.read_text(encoding="utf-8"))

    assert named
    assert [name for name in named if not (README.parent / name).exists()] == []
