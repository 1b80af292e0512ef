"""The documentation site: its pages run, its reference is complete, its links lead somewhere."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
RUN = [DOCS / "start.md", DOCS / "guide.md", *sorted((DOCS / "howto").glob("[a-z]*.md"))]
PAGES = sorted(DOCS.rglob("*.md"))


def ids(path: Path) -> str:
    return path.relative_to(DOCS).as_posix()


@pytest.mark.parametrize("page", RUN, ids=ids)
def test_examples_of_a_page_run_one_after_another(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # some write files
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, page.name, "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_formulas_of_the_site_need_no_script_from_a_network() -> None:
    settings = (DOCS / "conf.py").read_text()
    assert 'html_math_renderer = "mathml"' in settings
    assert "mathjax" not in settings


def modules_with_names() -> list[str]:
    """Every public module: those of graphseq whose ``__init__`` lists its names."""
    files = sorted((ROOT / "graphseq").rglob("__init__.py"))
    listed = [path.parent for path in files if "__all__ = " in path.read_text()]
    names = [".".join(path.relative_to(ROOT).parts) for path in listed]
    return [name for name in names if name not in ("graphseq", "graphseq.commands")]


def test_reference_holds_every_public_name_once() -> None:
    shown: dict[str, set[str]] = {}
    for page in (DOCS / "api").glob("[a-z]*.md"):
        for module, options in re.findall(
            r"^\.\. automodule:: (\S+)\n((?:   :.*\n)*)", page.read_text(), re.MULTILINE
        ):
            excluded = re.findall(r":exclude-members: (.*)", options)
            left_out = set(excluded[0].split(", ")) if excluded else set()
            names = getattr(importlib.import_module(module), "__all__", [])
            shown[module] = set(names) - left_out
            assert left_out <= set(names), f"{page.name} leaves out what {module} does not have"
    assert sorted(set(modules_with_names()) - set(shown)) == []
    for module in modules_with_names():
        room = ".".join(module.split(".")[:2])
        names = set(importlib.import_module(module).__all__)
        assert names <= shown[module] | shown[room], f"add names of {module} to docs/api"
        if module != room:
            assert not shown[module] & shown[room], f"{module}: shown twice, see docs/api"


def test_reference_lists_the_names_of_the_package() -> None:
    import graphseq

    text = (DOCS / "api" / "README.md").read_text()
    names = set(graphseq.__all__) - set(graphseq.ROOMS)
    assert sorted(name for name in names if f"`gs.{name}`" not in text) == []
    assert sorted(room for room in graphseq.ROOMS if f"[{room}]({room}.md)" not in text) == []


@pytest.mark.parametrize("path", sorted((DOCS / "notebooks").glob("*.ipynb")), ids=ids)
def test_notebook_is_committed_without_outputs(path: Path) -> None:
    book = json.loads(path.read_text())
    assert book["nbformat"] == 4
    for cell in book["cells"]:
        assert not cell.get("outputs"), "run make docs to see them; commit none"
        assert cell.get("execution_count") is None


def test_first_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others take longer: make docs executes all."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(mpl.rcParams, "backend", "agg")
    book = json.loads((DOCS / "notebooks" / "first_session_graph.ipynb").read_text())
    names: dict[str, Any] = {}
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), "notebook", "exec"), names)
    assert names["batch"].num_graphs == 256
