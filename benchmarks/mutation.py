"""Mutation testing of the method: how many small faults its own tests notice.

python benchmarks/mutation.py                            30 mutants of every part, as Markdown
python benchmarks/mutation.py verdict plan --sample 100  of some parts, or more of them
python benchmarks/mutation.py --json mutants.jsonl       every mutant, with what became of it
python benchmarks/mutation.py --again mutants.jsonl      those that survived, by more tests
python benchmarks/mutation.py --table mutants.jsonl      the table of such a file

Faults are drawn at random with a fixed seed. Each runs in a fork of one process that has imported
the libraries, which mutmut and cosmic-ray do not do: importing them again for every mutant would
take longer than the tests. A mutant on which the tests take ten times as long is killed as well.
"""

import argparse
import ast
import copy
import importlib
import importlib.abc
import importlib.machinery
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "paramreuse"
TALK = str(Path(tempfile.gettempdir()) / f"mutation-{os.getpid()}.txt")
LIBRARIES = (
    *("torch", "torch.export", "torch._dynamo", "torch.fx", "torch.optim.swa_utils"),
    *("pandas", "scipy.stats", "scipy.optimize", "safetensors.torch", "yaml", "hypothesis"),
    *("lightning.pytorch", "sklearn.linear_model"),
)


@dataclass(frozen=True)
class Part:
    """A part of the method.

    Attributes:
        files: Patterns of its files below the package.
        tests: What runs on its mutants, those that are nearest first.
        wide: What runs on survivors besides, with the slow ones.
    """

    files: tuple[str, ...]
    tests: tuple[str, ...]
    wide: tuple[str, ...] = ()


PARTS: Mapping[str, Part] = {
    "sites": Part(
        ("sites/layers.py", "sites/matching.py", "sites/lending.py", "sites/copies.py"),
        ("tests/sites", "tests/compare"),
        ("tests/sweep", "tests/reuse"),
    ),
    "swaps": Part(("sites/swaps.py",), ("tests/sites/test_swaps.py", "tests/sweep")),
    "engine": Part(("engine/*.py",), ("tests/engine", "tests/sweep/test_impure_targets.py")),
    "sweep": Part(
        ("sweep/[!o]*.py",),
        ("tests/sweep", "tests/reuse/test_ranking.py"),
        ("tests/engine", "tests/study"),
    ),
    "outcomes": Part(
        ("sweep/outcomes.py",),
        ("tests/sweep/test_outcomes.py", "tests/sweep/test_not_finite.py", "tests/reuse"),
        ("tests/sweep", "tests/study"),
    ),
    "verdict": Part(
        ("reuse/verdict*.py", "reuse/network.py", "reuse/power.py"),
        ("tests/reuse/test_verdict.py", "tests/reuse/test_network.py", "tests/reuse"),
        ("tests/sweep", "tests/test_notebook.py", "tests/study"),
    ),
    "plan": Part(
        ("reuse/plan*.py", "reuse/blocks.py", "reuse/recipe.py"),
        ("tests/reuse/test_plan.py", "tests/reuse/test_plan_file.py", "tests/reuse"),
        ("tests/test_fuzzing.py", "tests/study"),
    ),
    "freezing": Part(
        ("reuse/fr*.py", "reuse/averaging.py"),
        ("tests/reuse/test_freezing.py", "tests/reuse/test_freezing_averaged.py"),
        ("tests/training", "tests/reuse"),
    ),
    "distance": Part(
        ("compare/distance.py", "compare/pair_sums.py"),
        ("tests/compare/test_distance.py", "tests/compare"),
        ("tests/cli", "tests/study"),
    ),
}

COMPARISONS: Mapping[type[ast.cmpop], type[ast.cmpop]] = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt},
    **{ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is},
    **{ast.In: ast.NotIn, ast.NotIn: ast.In},
}
OPERATORS: Mapping[type[ast.operator], type[ast.operator]] = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult},
    **{ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult},
    **{ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd},
}
UNTOUCHED = (ast.arg, ast.Assert, ast.JoinedStr, ast.Import, ast.ImportFrom)
"""Types, messages, and statements of what is our own business."""
TYPE_UNION = {ast.BinOp, ast.BitOr, ast.Name, ast.Attribute, ast.Constant, ast.Load}
"""What ``int | nn.Module | None`` is made of."""


@dataclass(frozen=True)
class Mutant:
    """A fault.

    Attributes:
        part: Part of the method.
        path: File, below the package.
        number: Of the fault within its file.
        line: Where it is.
        change: The line before and after, in Python's own spelling.
        fate: ``killed``, ``timeout``, ``survived``, or nothing yet.
    """

    part: str
    path: str
    number: int
    line: int = 0
    change: str = ""
    fate: str = ""


@dataclass
class Places:
    """Every fault that a file can have, in order; each changes a tree in place."""

    tree: ast.Module
    faults: list[tuple[ast.AST, str, object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._walk(self.tree)

    def _walk(self, node: ast.AST) -> None:
        for name, value in ast.iter_fields(node):
            if name in ("decorator_list", "annotation", "returns", "bases"):
                continue
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, ast.AST) and not self._is_left_out(item):
                    self._note(item)
                    if not isinstance(item, ast.Raise):
                        self._walk(item)

    def _is_left_out(self, node: ast.AST) -> bool:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        is_union = isinstance(node, ast.BinOp) and not set(map(type, ast.walk(node))) - TYPE_UNION
        return docstring or typing or is_union or isinstance(node, UNTOUCHED)

    def _note(self, node: ast.AST) -> None:
        self.faults += ((node, *change) for change in _changes(node))


def _changes(node: ast.AST) -> Iterator[tuple[str, object]]:
    """Yield the field of a node and its new value, for each fault at the node."""
    match node:
        case ast.Compare(ops=[operator]) if type(operator) in COMPARISONS:
            yield "ops", [COMPARISONS[type(operator)]()]
        case ast.BinOp(op=operator) | ast.AugAssign(op=operator) if type(operator) in OPERATORS:
            yield "op", OPERATORS[type(operator)]()
        case ast.BoolOp(op=operator):
            yield "op", ast.Or() if isinstance(operator, ast.And) else ast.And()
        case _:
            yield from _other_changes(node)


def _other_changes(node: ast.AST) -> Iterator[tuple[str, object]]:
    match node:
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
            yield "test", ast.UnaryOp(ast.Not(), test)
        case ast.comprehension(ifs=[test]):
            yield "ifs", []
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield "", operand
        case ast.Constant(value=bool() as value):
            yield "value", not value
        case ast.Constant(value=int() | float() as value):
            yield "value", value + 1 if isinstance(value, int) else value * 2
        case ast.Expr(value=ast.Call()) | ast.Raise():
            yield "", ast.Pass()
        case ast.Continue():
            yield "", ast.Break()
        case ast.Break():
            yield "", ast.Continue()


class _Replaced(ast.NodeTransformer):
    """Puts another node in a node's place."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self._old, self._new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        if node is self._old:
            return ast.copy_location(self._new, node)
        return self.generic_visit(node)


def mutated(mutant: Mutant) -> tuple[ast.Module, Mutant]:
    """Return the faulty tree, and the fault with its line and what changes there."""
    tree = ast.parse((SOURCE / mutant.path).read_text(encoding="utf-8"))
    node, name, value = Places(tree).faults[mutant.number]
    before = ast.unparse(copy.deepcopy(node))
    if name:
        setattr(node, name, value)
        after = ast.unparse(ast.fix_missing_locations(node))
    else:
        assert isinstance(value, ast.AST)
        after = ast.unparse(value)
        tree = _Replaced(node, value).visit(tree)
    change = f"{_short(before)}  ->  {_short(after)}"
    lines = [at.lineno for at in ast.walk(node) if hasattr(at, "lineno")]
    told = Mutant(mutant.part, mutant.path, mutant.number, min(lines, default=0), change)
    return ast.fix_missing_locations(tree), told


def _short(code: str) -> str:
    line = " ".join(code.split())
    return line if len(line) <= 100 else f"{line[:97]}..."


class _Faulty(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module with a fault in it."""

    def __init__(self, path: str, tree: ast.Module) -> None:
        self._file = SOURCE / path
        parts = Path(path).with_suffix("").parts
        self._name = ".".join(("paramreuse", *parts)).removesuffix(".__init__")
        self._tree = tree

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._name:
            return None
        is_package = self._file.name == "__init__.py"
        return importlib.util.spec_from_file_location(
            name,
            self._file,
            loader=self,
            submodule_search_locations=[str(self._file.parent)] if is_package else None,
        )

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._tree, str(self._file), "exec"), module.__dict__)  # noqa: S102


def run_tests(tests: Sequence[str], faulty: _Faulty | None, seconds: int, *options: str) -> str:
    """Run tests in a fork, and say whether they noticed: killed, timeout or survived."""
    child = os.fork()
    if child == 0:
        _run_in_fork(tests, faulty, seconds, options)
    end = time.monotonic() + 20 * seconds
    while time.monotonic() < end:
        done, status, used = os.wait4(child, os.WNOHANG)
        if done:
            if os.waitstatus_to_exitcode(status) == 0:
                return "survived"
            return "timeout" if used.ru_utime + used.ru_stime >= seconds - 1 else "killed"
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout"


def _run_in_fork(
    tests: Sequence[str], faulty: _Faulty | None, seconds: int, options: Sequence[str]
) -> None:
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    # What they say is of interest only where they should not fail.
    talk = os.open(os.devnull if faulty is not None else TALK, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    for stream in range(3):
        os.dup2(talk, stream)
    if faulty is not None:
        sys.meta_path.insert(0, faulty)
    with tempfile.TemporaryDirectory() as folder:
        base = f"--basetemp={folder}/tests"
        quiet = ("-W", "ignore::pytest.PytestAssertRewriteWarning", "-p", "no:cacheprovider")
        status = pytest.main(["-q", "-x", *quiet, base, *options, *tests])
    os._exit(int(status))


def drawn(name: str, sample: int, seed: int) -> tuple[list[Mutant], int]:
    """Return some mutants of a part, and how many it has in all."""
    paths = [path for pattern in PARTS[name].files for path in sorted(SOURCE.glob(pattern))]
    mutants = [
        Mutant(name, str(path.relative_to(SOURCE)), number)
        for path in paths
        for number in range(len(Places(ast.parse(path.read_text(encoding="utf-8"))).faults))
    ]
    order = random.Random(f"{seed} {name}")  # noqa: S311
    return order.sample(mutants, min(sample, len(mutants))), len(mutants)


def share(killed: int, total: int) -> str:
    """Return a share in percent with its 95 % interval. Source: Wilson (1927)."""
    if not total:
        return "-"
    z, p = 1.96, killed / total
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    reach = z * (p * (1 - p) / total + z * z / (4 * total**2)) ** 0.5 / (1 + z * z / total)
    return f"{100 * p:.0f} % ({100 * (middle - reach):.0f} to {100 * (middle + reach):.0f})"


def try_out(mutant: Mutant, tests: Sequence[str], seconds: int, *options: str) -> Mutant:
    """Return a mutant with its fate."""
    tree, told = mutated(mutant)
    fate = run_tests(tests, _Faulty(mutant.path, tree), seconds, *options)
    return Mutant(told.part, told.path, told.number, told.line, told.change, fate)


def limit_of(name: str) -> int:
    """Return ten times the processor time that the tests of a part take, in whole seconds.

    Raises:
        SystemExit: They fail without any fault.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    if run_tests(PARTS[name].tests, None, 3600, "-m", "not slow") != "survived":
        told = Path(TALK).read_text(encoding="utf-8")[-2000:]
        raise SystemExit(f"the tests of {name} fail on the code as it is:\n{told}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{name}: its tests take {used:.0f} s of processor time", file=sys.stderr, flush=True)
    return int(10 * used) + 10


def table(done: Sequence[Mutant]) -> str:
    """Return how many mutants of each part were killed, as Markdown."""
    lines = ["| part | faults possible | drawn | killed | share, 95 % interval |"]
    lines.append("|---|--:|--:|--:|--:|")
    for name in PARTS:
        fates = [mutant.fate for mutant in done if mutant.part == name]
        killed = sum(fate != "survived" for fate in fates)
        possible = drawn(name, 0, 0)[1]
        part = share(killed, len(fates))
        lines.append(f"| {name} | {possible} | {len(fates)} | {killed} | {part} |")
    return "\n".join(lines)


def try_out_all(parts: Sequence[str], sample: int, seed: int, kept: Path | None) -> list[Mutant]:
    """Try out mutants of every part, in turn, so that a run cut short tells of each."""
    columns = [drawn(name, sample, seed)[0] for name in parts]
    limits: dict[str, int] = {}
    done: list[Mutant] = []
    for mutant in (m for row in zip_longest(*columns) for m in row if m is not None):
        if mutant.part not in limits:
            limits[mutant.part] = limit_of(mutant.part)
        tests = PARTS[mutant.part].tests
        done.append(try_out(mutant, tests, limits[mutant.part], "-m", "not slow"))
        last = done[-1]
        print(f"{last.fate}: {last.path}:{last.line}: {last.change}", file=sys.stderr, flush=True)
        if kept is not None:
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(last)) + "\n")
    return done


def read_mutants(path: Path) -> list[Mutant]:
    """Return the mutants of a file that ``--json`` wrote."""
    return [Mutant(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"of the method: {', '.join(PARTS)}; or all")
    parser.add_argument("--sample", type=int, default=30, help="mutants per part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file that every mutant is added to")
    parser.add_argument("--table", type=Path, help="such a file, as Markdown")
    parser.add_argument("--again", type=Path, help="such a file, whose survivors run again")
    options = parser.parse_args()
    if options.table:
        print(table(read_mutants(options.table)))
        return
    os.chdir(ROOT)
    for library in LIBRARIES:
        importlib.import_module(library)
    import hypothesis

    # A test that is slow because the machine is busy has noticed nothing.
    hypothesis.settings.register_profile("patient", deadline=None)
    hypothesis.settings.load_profile("patient")
    if options.again:
        try_again(read_mutants(options.again))
        return
    parts = options.parts or list(PARTS)
    print(table(try_out_all(parts, options.sample, options.seed, options.json)))


def try_again(mutants: Sequence[Mutant]) -> None:
    """Run survivors once more, by all tests that may notice them, the slow ones too."""
    for mutant in mutants:
        if mutant.fate == "survived":
            part = PARTS[mutant.part]
            done = try_out(mutant, (*part.tests, *part.wide), 3600)
            print(f"{done.fate}: {done.path}:{done.line}: {done.change}", flush=True)


if __name__ == "__main__":
    main()
