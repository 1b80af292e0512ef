"""The package as a whole: allowed imports, forbidden code, and its metadata."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import graphseq

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "graphseq"

ROOMS = {
    "data": {"data"},
    "nn": {"nn", "data"},
    "models": {"models", "nn", "data"},
    "evaluation": {"evaluation", "models", "data"},
    "training": {"training", "evaluation", "visualization", "models", "nn", "data"},
    "serving": {"serving", "training", "evaluation", "visualization", "models", "nn", "data"},
    "testing": {"testing", "training", "evaluation", "models", "nn", "data"},
    "visualization": {"visualization", "models", "data"},
    "explanations": {"explanations", "visualization", "models", "data"},
    "comparison": {"comparison", "training", "evaluation", "visualization", "models", "data"},
    "commands": {"commands", "serving", "comparison", "training", "evaluation", "models", "data"},
}
"""The rooms, and those that each may import."""

SHARED = {"arguments", "deprecation", "metric_scale", "ragged", "random", "typing"}
"""Files of the package itself that every room may import; they import no room, only each other."""

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


MODULES = {name_of(source) for source in SOURCES}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports_of(path: Path) -> tuple[str, ...]:
    """Modules of graphseq that a file imports, at any place."""
    found: list[str] = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.startswith("graphseq")]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("graphseq"):
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [each if each in MODULES else str(node.module) for each in inner]
    return tuple(found)


def ids(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_imports_of_each_file_stay_within_its_rooms(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0]
    if room not in ROOMS:  # graphseq/__init__.py opens all rooms
        assert path.parent == PACKAGE
        shared = {f"graphseq.{name}" for name in SHARED}
        assert path.stem not in SHARED or set(imports_of(path)) <= shared
        return
    for module in imports_of(path):
        target = module.split(".")[1] if "." in module else ""
        assert target in ROOMS[room] | SHARED, f"{room} may not import {module}"


def test_every_folder_of_the_package_is_a_known_room() -> None:
    folders = {
        path.parent.relative_to(PACKAGE).parts[0] for path in SOURCES if path.parent != PACKAGE
    }
    assert folders <= set(ROOMS)


def test_imports_form_no_circle() -> None:
    """Not even imports within functions or for type checkers."""
    graph = {name_of(path): set(imports_of(path)) for path in SOURCES}
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


LAYERS = {
    "data": [
        {"sessions", "logs", "formats", "storage", "splits"},
        {"graphs", "datasets"},
        {"loading"},
    ],
    "models": [{"counting", "use", "published"}, {"graph", "sequence", "features"}, {"hybrid"}],
    "training": [{"losses", "optim"}, {"negatives"}, {"objectives", "lightning"}],
    "serving": [{"indexes", "stores", "onnx"}, {"live"}, {"service"}],
}
"""Folders within a room: each imports those of its own layer and of the layers before."""


@pytest.mark.parametrize("room", LAYERS)
def test_folders_of_a_room_import_none_of_a_later_layer(room: str) -> None:
    height = {folder: n for n, layer in enumerate(LAYERS[room]) for folder in layer}
    folders = {path.parent.name for path in SOURCES if path.parent.parent == PACKAGE / room}
    assert folders <= set(height)
    for path in SOURCES:
        for module in imports_of(path) if path.parent.parent == PACKAGE / room else ():
            where = module.split(".")[1:3]
            if where[0] == room and where[-1] in height:
                assert height[where[-1]] <= height[path.parent.name], f"{ids(path)}: {module}"


def test_storage_knows_arrays_and_ids_alone() -> None:
    targets = {
        module
        for path in (PACKAGE / "data" / "storage").iterdir()
        if path.suffix == ".py"
        for module in imports_of(path)
        if not module.startswith("graphseq.data.storage")
    }
    assert targets <= {"graphseq.data.sessions.vocabulary", "graphseq.typing", "graphseq.ragged"}


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_source_file_holds_nothing_forbidden(path: Path) -> None:
    assert path.name not in ("utils.py", "helpers.py", "misc.py", "common.py")
    for node in ast.walk(tree_of(path)):
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
    tree = tree_of(path)
    if path.name != "__init__.py" or tree.body:
        assert ast.get_docstring(tree), "the file itself"
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            forms = [ast.unparse(each) for each in node.decorator_list]
            assert ast.get_docstring(node) or forms == ["overload"], node.name


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


def test_import_of_the_package_loads_no_library_that_it_may_not_need() -> None:
    code = (
        "import sys, graphseq\n"
        "def loaded(): print(*(name for name in sys.argv[1:] if name in sys.modules))\n"
        "loaded()\n"
        "assert not set(graphseq.__all__) - set(dir(graphseq))\n"
        "graphseq.data, graphseq.nn, graphseq.models, graphseq.Sessions, graphseq.evaluate\n"
        "loaded()\n"
        "for name in graphseq.__all__: assert getattr(graphseq, name) is not None\n"
    )
    heavy = ["torch", "torch_geometric", "pandas", "pyarrow", "duckdb", "dask", "polars"]
    in_some_rooms = ["pytorch_lightning", "matplotlib", "networkx", "scipy.stats", "optuna"]
    run = [sys.executable, "-c", code, *heavy, *in_some_rooms]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True)
    at_first, with_models = done.stdout.split("\n")[:2]
    assert at_first == ""
    assert not {*with_models.split()} & {*in_some_rooms, "dask", "polars"}


def test_names_of_the_package_are_those_that_type_checkers_see() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        (node.module, name.name)
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    homes = {(module, name) for module, names in graphseq.HOMES.items() for name in names}
    assert seen == homes | {("graphseq", room) for room in graphseq.ROOMS}
    assert {name for _, name in seen} == set(graphseq.__all__)
    with pytest.raises(AttributeError, match="module 'graphseq' has no attribute 'fitt'"):
        graphseq.fitt  # noqa: B018


def test_version_is_that_of_the_changelog() -> None:
    text = (PACKAGE / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    assert version is not None
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d[^\]]*)\]", changelog, re.MULTILINE)
    assert released[0] == version[1]


def pins_of_parts() -> dict[str, dict[str, list[str]]]:
    """Part of constraints.txt -> pin -> its hashes."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    parts = re.split(r"^# -- (\w+)$", text, flags=re.MULTILINE)[1:]
    found: dict[str, dict[str, list[str]]] = {}
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        entries = body.replace("\\\n", " ").strip().splitlines()
        found[name] = {pin: rest.split() for pin, _, rest in (e.partition(" ") for e in entries)}
    return found


def test_constraints_are_exact_pins_with_hashes() -> None:
    parts = pins_of_parts()
    assert list(parts) == ["core", "test", "dev", "docs", "scatter", "end"]
    assert parts["end"] == {}
    pins = {pin: hashes for part in parts.values() for pin, hashes in part.items()}
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.!]+", pin) for pin in pins)
    for pin, hashes in pins.items():
        assert hashes, pin
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), pin
    names = [pin.split("==")[0] for pin in pins]
    assert len(names) == len(set(names)) == sum(map(len, parts.values()))


@pytest.mark.parametrize(
    ("part", "extra"),
    [
        (("core",), ""),
        (("core", "test"), "test"),
        (("core", "test", "dev"), "dev"),
        (("core", "test", "dev", "docs"), "all"),
    ],
)
def test_constraints_hold_all_that_the_project_asks_for(part: tuple[str, ...], extra: str) -> None:
    parts = pins_of_parts()
    pins = dict(pin.split("==") for name in part for pin in parts[name])
    pins["torch"] = "2.13.0"  # the Makefile installs it
    assert "pip install torch==2.13.0" in (ROOT / "Makefile").read_text().replace("$(PIP)", "pip")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting, seen = ["graphseq[" + extra + "]"], set()
    wanted = list(project["dependencies"])
    while waiting:
        inner = set(re.findall(r"[\w-]+", waiting.pop().partition("[")[2])) - seen
        seen |= inner
        for name in inner:
            for each in project["optional-dependencies"][name]:
                (waiting if each.startswith("graphseq[") else wanted).append(each)
    for requirement in map(Requirement, wanted):
        pin = pins[re.sub(r"[-_.]+", "-", requirement.name).lower()]
        assert requirement.specifier.contains(pin), requirement


def test_lower_bounds_exclude_releases_with_known_holes() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    bounds = {each.name: each.specifier for each in map(Requirement, listed)}
    for name, bad, good in (
        ("torch", "2.9.1", "2.10.0"),  # weights_only
        ("pytorch-lightning", "2.6.5", "2.6.6"),
        ("pyarrow", "23.0.0", "23.0.1"),
    ):
        assert not bounds[name].contains(bad)
        assert bounds[name].contains(good)


def test_package_is_marked_as_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()
