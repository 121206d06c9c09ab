"""The documents: code runs, commands parse, studies are valid, the site builds."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import typer
import yaml

import paramreuse
from paramreuse.cli import app
from paramreuse.study.study_file import check_study
from samples.documents import blocks, commands

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
ALL_PAGES = sorted(DOCS.rglob("*.md"))
NOTEBOOKS = sorted(DOCS.glob("notebooks/*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.stem
)
def test_the_code_of_a_page_runs_from_top_to_bottom(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mynet", raising=False)
    names: dict[str, Any] = {"__name__": page.stem}

    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), names)  # noqa: S102 - our own file


@pytest.mark.parametrize(
    ("page", "line"),
    [
        pytest.param(page, line, id=f"{page.stem}: {line}")
        for page in ALL_PAGES
        for line in commands(page)
    ],
)
def test_every_command_can_be_parsed(page: Path, line: str) -> None:
    _, name, *arguments = shlex.split(line)
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]

    # Raises for an option that does not exist, and for a missing argument.
    command.make_context(name, arguments)


@pytest.mark.parametrize(
    "page", [page for page in ALL_PAGES if blocks(page, "yaml")], ids=lambda page: page.stem
)
def test_every_study_is_valid(page: Path) -> None:
    for block in blocks(page, "yaml"):
        check_study(yaml.safe_load(block), where=page.name)


@pytest.mark.parametrize(
    ("page", "script"),
    [
        pytest.param(page, script, id=f"{page.stem} {number}")
        for page in ALL_PAGES
        for number, script in enumerate(blocks(page, "bash"))
    ],
)
def test_every_job_file_is_one_that_bash_and_slurm_can_read(page: Path, script: str) -> None:
    checked = subprocess.run(
        ["bash", "-n"], input=script, capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stderr
    asked = [line for line in script.splitlines() if line.startswith("#SBATCH")]
    # sbatch stops looking at the first command.
    assert asked == script.splitlines()[1 : len(asked) + 1]
    assert all(re.fullmatch(r"#SBATCH --[a-z-]+=[\w:@-]+", line) for line in asked), asked


EXECUTE = """
import sys, nbformat
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

path, folder, sockets = sys.argv[1:]
notebook = nbformat.read(path, as_version=4)
# Files of its own, where ports may be taken.
kernel = KernelManager(kernel_name="python3", transport="ipc", ip=f"{sockets}/kernel")
NotebookClient(notebook, km=kernel, timeout=300, resources={"metadata": {"path": folder}}).execute()
nbformat.write(notebook, f"{folder}/executed.ipynb")
"""


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_is_kept_without_outputs(path: Path, tmp_path: Path) -> None:
    kept = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in kept)

    with TemporaryDirectory() as sockets:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", EXECUTE, path, tmp_path, sockets],
            capture_output=True,
            text=True,
            check=False,
        )

    assert done.returncode == 0, done.stderr
    cells = json.loads((tmp_path / "executed.ipynb").read_text())["cells"]
    shown = [output.get("data", {}) for cell in cells for output in cell.get("outputs", ())]
    assert sum("image/png" in data for data in shown) == 2


def requests_of(site: Path) -> set[str]:
    """What the pages and styles of a site load from elsewhere; links are followed by people."""
    elsewhere = r"((?:https?:)?//[^\"' >)]+)"
    tags = "link|script|img|iframe|source|video"
    loads = rf"<(?:{tags})\b[^>]*?\b(?:href|src)=[\"']?{elsewhere}"
    styles = rf"(?:@import|url\()[\s\"'(]*{elsewhere}"
    loaded: set[str] = set()
    for path in site.rglob("*"):
        if path.suffix in (".html", ".css"):
            text = path.read_text(encoding="utf-8")
            loaded |= set(re.findall(styles, text)) | set(re.findall(loads, text))
            # The theme's script would load a library for such a block.
            loaded |= {f"mermaid in {path}"} if 'class="mermaid"' in text else set()
    return loaded


def test_what_a_page_loads_from_elsewhere_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<a href="https://a.org/x"></a><script src="https://b.org/h.js"></script>'
        '<link rel="stylesheet" href=//c.org/s.css><img src="own.png">'
    )
    (tmp_path / "s.css").write_text('@import "https://d.org/f.css"; a { b: url(own.png) }')

    assert requests_of(tmp_path) == {"https://b.org/h.js", "//c.org/s.css", "https://d.org/f.css"}


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", tmp_path]

    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "reference" / "index.html").read_text(encoding="utf-8")
    names = set(paramreuse.__all__) - {"__version__"}
    assert sorted(name for name in names if f">{name}<" not in reference) == []
    assert sorted(requests_of(tmp_path)) == []


def test_the_reference_names_all_that_is_public() -> None:
    named = re.findall(r"^::: (\S+)", (DOCS / "reference.md").read_text(), re.MULTILINE)
    public = {name: f"{home}.{name}" for name, home in paramreuse._HOME_OF.items()}
    elsewhere = {"ParamReuseError", "__version__"}

    # A module that is named as a whole is shown with all that it defines.
    shown = {name for name, path in public.items() if {path, paramreuse._HOME_OF[name]} & {*named}}
    assert sorted(public.keys() - shown - elsewhere) == []


def test_the_licence_of_every_dependency_is_listed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(r for name in extras for r in extras[name])]
    for_us = {*extras["dev"], *extras["docs"]} - set(extras["trackers"])
    names = {re.match(r"[\w-]+", item)[0] for item in wanted if item not in for_us}  # type: ignore[index]
    told = (DOCS / "reliability.md").read_text(encoding="utf-8")

    unlisted = [name for name in names - {"paramreuse"} if f"| {name} |" not in told]

    assert unlisted == []
