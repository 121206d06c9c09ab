"""The house: who may import whom, what is public, how long a file may be."""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import paramreuse

ROOT = Path(paramreuse.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

TABLE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
ORDER = re.findall(r"^\| `(\w+)` \|", TABLE, re.MULTILINE)
"""Each room imports only from those before it."""

HOMES_OF_LIBRARIES = {
    "lightning": {"training"},
    "monai": {"data", "training"},
    "nibabel": {"data"},
    "pydicom": {"data"},
    "h5py": {"data"},
    "matplotlib": {"report", "papers"},
    "jinja2": {"report", "papers"},
    "typer": {"cli"},
    "rich": {"cli", "training"},
    "ray": {"distribution"},
    "safetensors": {"checkpoint"},
    "huggingface_hub": {"checkpoint"},
    "sqlite3": {"nearest", "recommendation", "study"},
    "fsspec": {"checkpoint"},
    "pydantic": {"study", "papers"},
    "yaml": {"reuse", "study", "papers", "yaml_text"},
}
"""Which rooms may import a library; the others work where it is not installed."""


def room_of(path: Path) -> str:
    """Name of the module or package right below the root."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def without_type_checking(tree: ast.Module) -> ast.Module:
    body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
    ]
    return ast.Module(body, [])


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_names(tree: ast.Module) -> Iterator[str]:
    """Dotted names of all modules that a file imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"a relative import in line {node.lineno}"
            module = node.module or ""
            yield from (f"{module}.{alias.name}" for alias in node.names)


def modules_imported_by(path: Path) -> set[str]:
    """Names, below the root, of those of our own modules that a file imports, if only for types."""
    names = {n.removeprefix("paramreuse.") for n in imported_names(tree_of(path)) if "." in n}
    ours = {".".join(f.relative_to(ROOT).with_suffix("").parts) for f in FILES}
    imported = set()
    for name in names:
        parent = name.rpartition(".")[0]
        candidates = (name, f"{name}.__init__", parent, f"{parent}.__init__")
        imported |= set([module for module in candidates if module in ours][:1])
    return imported


def test_the_table_has_one_row_for_each_room() -> None:
    rooms = {room_of(path) for path in FILES} - {"__init__"}

    assert sorted(rooms) == sorted(ORDER)


@pytest.mark.parametrize(
    "path",
    sorted(ROOT.glob("*/**/__init__.py")),
    ids=lambda path: str(path.parent.relative_to(ROOT)),
)
def test_a_package_says_what_comes_in_and_what_goes_out(path: Path) -> None:
    told = ast.get_docstring(tree_of(path)) or ""

    assert re.fullmatch(r"[A-Z].+\.\n\nIn: .+\nOut: .+", told)


def test_rooms_import_only_from_those_before_them() -> None:
    wrong = [
        f"{room_of(path)} imports {module}"
        for path in FILES
        if room_of(path) != "__init__"
        for module in sorted(modules_imported_by(path))
        if ORDER.index(module.split(".")[0]) > ORDER.index(room_of(path))
    ]

    assert wrong == []


def test_no_imports_run_in_a_circle_not_even_for_types() -> None:
    graph = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): modules_imported_by(path)
        for path in FILES
        if path != ROOT / "__init__.py"
    }

    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"imports run in a circle: {error.args[1]}")


def test_a_library_is_imported_where_it_belongs() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in FILES
        for name in imported_names(without_type_checking(tree_of(path)))
        if room_of(path) not in HOMES_OF_LIBRARIES.get(name.split(".")[0], {room_of(path)})
    ]

    assert wrong == []


def test_tables_are_made_with_pandas_only_when_asked_for() -> None:
    eager = [
        path.relative_to(ROOT)
        for path in FILES
        for node in tree_of(path).body
        if isinstance(node, ast.Import) and any(alias.name == "pandas" for alias in node.names)
    ]

    assert eager == []


def test_importing_the_package_imports_no_library() -> None:
    libraries = ("torch", "numpy", "pandas", "scipy", "lightning", "monai", "typer", "pydantic")
    code = f"import sys, paramreuse; print([n for n in {libraries!r} if n in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_a_type_checker_is_told_the_same_names() -> None:
    stub = ast.parse((ROOT / "__init__.pyi").read_text(encoding="utf-8"))
    imported = [node for node in stub.body if isinstance(node, ast.ImportFrom)]

    # ``as`` the same name: to a type checker, what a stub merely imports is not public.
    told = {alias.asname: node.module for node in imported for alias in node.names}

    assert told == paramreuse._HOME_OF
    assert dir(paramreuse) == paramreuse.__all__ == sorted(told)


@pytest.mark.parametrize("name", sorted(set(paramreuse.__all__) - {"__version__"}))
def test_a_public_name_is_that_of_its_home_and_documented(name: str) -> None:
    home = importlib.import_module(paramreuse._HOME_OF[name])

    assert getattr(paramreuse, name) is getattr(home, name)
    assert (getattr(home, name).__doc__ or "").strip()


def test_an_unknown_name_is_not_an_attribute() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'process'"):
        _ = paramreuse.process


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_short_and_says_what_it_is_for(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert len(text.splitlines()) <= 400
    assert ast.get_docstring(ast.parse(text))
    assert path.stem not in {"utils", "core", "base", "common", "helpers", "misc"}


def test_the_files_that_contributing_names_exist() -> None:
    root = ROOT.parents[1]
    named = re.findall(r"`((?:tests|docs)?[\w/]*/[\w.]*|__init__\.pyi)`", TABLE)
    gone = [name for name in named if not (root / name).exists() and not (ROOT / name).exists()]

    assert len(named) > 20
    assert (
        sorted(set(gone) - {"acdc/", "sunnybrook/", "src/paramreuse", "Task04_Hippocampus/"}) == []
    )
