"""What a person at a terminal sees, and what a file gets that is written instead."""

import io
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from rich.console import Console

from paramreuse.cli import console
from paramreuse.cli.console import Terminal

Streams = tuple[io.StringIO, io.StringIO]
Attach = Callable[..., Streams]


@pytest.fixture
def attach(monkeypatch: pytest.MonkeyPatch) -> Attach:
    """Replace stdout and stderr; both are terminals or neither is."""

    def attached(*, terminal: bool, **environment: str) -> Streams:
        out, err = io.StringIO(), io.StringIO()
        settings = {"force_terminal": terminal, "highlight": False, "width": 80}
        env = {"TERM": "xterm-256color", "COLORTERM": "truecolor"} | environment
        for name, file in (("_results", out), ("_remarks", err)):
            monkeypatch.setattr(console, name, Console(file=file, _environ=env, **settings))
        return out, err

    return attached


def test_a_table_is_drawn_on_a_terminal_and_plain_elsewhere(attach: Attach) -> None:
    rows = [{"site": "W 1", "drop": 0.5}, {"site": "RM 10", "drop": float("nan")}]

    out, _ = attach(terminal=True)
    console.show_table(rows)
    assert "┃ site  ┃ drop  ┃" in out.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "")

    out, _ = attach(terminal=False)
    console.show_table(rows)
    assert out.getvalue() == "site   drop\nW 1    0.500\nRM 10  -\n"


def test_an_error_is_one_block_without_colour_where_none_is_wanted(attach: Attach) -> None:
    _, err = attach(terminal=True)
    console.complain("cannot read [x]\nexpected y")
    assert err.getvalue().startswith("\x1b[1;31merror:\x1b[0m cannot read [x]\nexpected y\n")

    _, err = attach(terminal=True, NO_COLOR="1")
    console.complain("cannot read [x]")
    assert "31m" not in err.getvalue()
    assert err.getvalue().endswith("cannot read [x]\n")


def test_progress_shows_count_and_time_left_and_leaves_nothing(attach: Attach) -> None:
    _, err = attach(terminal=True)

    with Terminal().progress("sweep") as step:
        step(2, 10)

    assert "\x1b[2K" in err.getvalue()  # the line is wiped


def test_bars_may_be_nested(attach: Attach) -> None:
    _, err = attach(terminal=True)
    talk = Terminal()

    with talk.progress("transfer") as outer:
        outer(1, 3)
        for name in ("scratch", "full"):
            with talk.progress(name) as inner:
                inner(2, 5)
                assert talk._bars is not None
                assert [task.description for task in talk._bars.tasks] == ["transfer", name]
                assert [task.completed for task in talk._bars.tasks] == [1, 2]
                talk._bars.refresh()

    assert talk._bars is None
    for text in ("transfer", "full", "2/5", "left"):
        assert text in err.getvalue()


@pytest.mark.parametrize(("terminal", "quiet"), [(False, False), (True, True)])
def test_there_is_no_bar_in_a_file_or_where_quiet_is_wanted(
    attach: Attach, terminal: bool, quiet: bool
) -> None:
    _, err = attach(terminal=terminal)
    talk = Terminal(quiet=quiet)

    with talk.progress("sweep") as step:
        step(1, 2)
    assert err.getvalue() == ""

    talk.say("sweep", "done [1]")
    talk.remark("so [it] is")
    assert err.getvalue() == ("" if quiet else "sweep    done [1]\nso [it] is\n")


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands(shell: str) -> None:
    words = {"bash": ("COMP_WORDS", "COMP_CWORD"), "zsh": (), "fish": ()}[shell]
    environment = {
        "_PARAMREUSE_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": "paramreuse r",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    environment |= dict(zip(words, ("paramreuse r", "1"), strict=False))
    code = "import sys; sys.argv[0] = 'paramreuse'; from paramreuse.cli import main; main()"

    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )

    for command in ("run", "rank", "report"):
        assert command in done.stdout, done.stderr
    assert "sweep" not in done.stdout


def test_long_work_says_a_line_per_tenth_where_no_bar_can_be_drawn(
    attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, err = attach(terminal=False)
    monkeypatch.setattr(console, "LONG_SECONDS", 0.0)
    with Terminal().progress("sweep of ae") as step:
        for done in range(41):
            step(done, 40)

    lines = err.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == [
        f"sweep of ae: {tenth}0 %" for tenth in range(1, 10)
    ]


def test_short_work_says_nothing_in_a_file(attach: Attach) -> None:
    _, err = attach(terminal=False)
    with Terminal().progress("reading") as step:
        step(5, 10)

    assert err.getvalue() == ""
