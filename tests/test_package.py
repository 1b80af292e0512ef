"""The package as a whole: who may import whom, what never occurs in it, what it says of itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "graphseq"

ROOMS = {
    "data": {"data"},
    "nn": {"nn", "data"},
    "models": {"models", "nn", "data"},
    "evaluation": {"evaluation", "models", "data"},
    "training": {"training", "evaluation", "visualization", "models", "nn", "data"},
    "serving": {"serving", "training", "evaluation", "models", "nn", "data"},
    "visualization": {"visualization", "models", "data"},
}
"""The rooms, and those that each may import."""

SOURCES = sorted(PACKAGE.rglob("*.py"))
ALL_PYTHON = sorted(
    path
    for folder in ("graphseq", "tests", "experiments", "datasets", "docs")
    for path in (ROOT / folder).rglob("*.py")
)


def name_of(path: Path) -> str:
    """The dotted name of a module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, *, when_loaded: bool = False) -> Iterator[str]:
    """Modules of graphseq that a file imports; ``when_loaded``: only as the file is loaded."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes: list[ast.AST] = list(ast.iter_child_nodes(tree)) if when_loaded else list(ast.walk(tree))
    modules = {name_of(source) for source in SOURCES}
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("graphseq"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("graphseq"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules else str(node.module)


def ids(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_imports_of_each_file_stay_within_its_rooms(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0]
    if room not in ROOMS:  # graphseq/__init__.py opens all rooms
        assert path.parent == PACKAGE
        return
    for module in imports_of(path):
        target = module.split(".")[1] if "." in module else ""
        assert target in ROOMS[room], f"{room} may not import {module}"


def test_every_folder_of_the_package_is_a_known_room() -> None:
    folders = {
        path.parent.relative_to(PACKAGE).parts[0] for path in SOURCES if path.parent != PACKAGE
    }
    assert folders <= set(ROOMS)


def test_imports_form_no_circle() -> None:
    graph = {name_of(path): set(imports_of(path, when_loaded=True)) for path in SOURCES}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"circle: {' -> '.join((*trail, module))}"
        if module in done:
            return
        for target in sorted(graph.get(module, ())):
            visit(target, (*trail, module))
        done.add(module)

    for module in sorted(graph):
        visit(module, ())


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_source_file_holds_nothing_forbidden(path: Path) -> None:
    assert path.name not in ("utils.py", "helpers.py", "misc.py", "common.py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        where = f"line {getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called != "print", f"{where}: logging, never print"
            assert called not in ("pickle.load", "pickle.loads", "eval", "exec"), (
                f"{where}: {called}"
            )
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{where}: bare except"
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for default in [*node.args.defaults, *node.args.kw_defaults]:
                assert not isinstance(default, (ast.List, ast.Dict, ast.Set)), (
                    f"{where}: shared default"
                )


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_public_names_of_each_file_have_docstrings(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if path.name != "__init__.py" or tree.body:
        assert ast.get_docstring(tree), "the file itself"
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name


def test_no_file_names_a_path_of_one_machine() -> None:
    machine = re.compile(r"(^|[^\w.])/(work|farm|tmp|opt|root|home)/")
    texts = [*ALL_PYTHON, *ROOT.glob("*.toml"), *ROOT.glob("*.txt"), ROOT / "Makefile"]
    texts += [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "datasets").rglob("*.md"),
    ]
    found = [
        f"{ids(path)}:{number}"
        for path in texts
        if path != Path(__file__).resolve()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if machine.search(line)
    ]
    assert found == []


def test_test_folders_are_no_packages() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_version_is_that_of_the_changelog() -> None:
    text = (PACKAGE / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    assert version is not None
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d[^\]]*)\]", changelog, re.MULTILINE)
    assert released[0] == version[1]


def test_constraints_are_exact_pins_of_public_versions() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.!]+", pin) for pin in pins)
    assert "torch==2.13.0" in pins
    names = [re.sub(r"[-_.]+", "-", pin.split("==")[0]).lower() for pin in pins]
    assert len(names) == len(set(names))


def test_package_is_marked_as_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()
