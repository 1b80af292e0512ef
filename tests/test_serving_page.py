"""The page on serving: its examples run, and its tables leave nothing out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from graphseq.serving import INDEXES, Recommender
from graphseq.serving.service.app import (
    batch,
    click,
    forget,
    health,
    items,
    metrics,
    models,
    page,
    ready,
    recommendations,
    why,
)
from graphseq.serving.service.app import reload as reload_route

PAGE = Path(__file__).parent.parent / "docs" / "serving.md"


def test_examples_of_the_serving_page_run_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks[0].splitlines()) <= 30
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), names)
    assert len(names["reply"].items) == 5
    assert not names["reply"].fallback
    assert names["reply"].model_version == names["recommender"].version
    assert (tmp_path / "indexes.png").exists()
    assert "faiss_hnsw" in capsys.readouterr().out


def test_serving_page_names_every_index_and_every_path() -> None:
    text = PAGE.read_text()
    assert [name for name in INDEXES if f"| `{name}` |" not in text] == []
    options = {name for family in INDEXES.values() for name in family.__init__.__kwdefaults__ or {}}
    assert [name for name in options if f"`{name}`" not in text] == []
    arguments = list(Recommender.__init__.__kwdefaults__ or {})
    assert [name for name in arguments if f"{name}=" not in text] == []
    routes = (
        items,
        models,
        page,
        batch,
        click,
        forget,
        health,
        metrics,
        ready,
        recommendations,
        reload_route,
        why,
    )
    paths = {re.sub(r"\{session:str\}", "{id}", path) for route in routes for path in route.paths}
    assert [path for path in paths if path not in text] == []
