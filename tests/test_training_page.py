"""The page on training: its examples run, and it leaves nothing out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import graphseq as gs
from graphseq.data.graphs import augment

PAGE = Path(__file__).parent.parent / "docs" / "training.md"


def test_examples_of_the_training_page_run_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # some write files
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), names)


def test_training_page_names_every_loss_and_every_augmentation() -> None:
    text = PAGE.read_text()
    kinds = [
        name
        for name, value in vars(augment).items()
        if isinstance(value, type) and issubclass(value, augment.ClickAugmentation)
    ]
    assert [
        name
        for name in (*gs.training.LOSSES, *kinds)
        if f"`{name}" not in text and f".{name}`" not in text
    ] == []


def test_links_of_the_training_page_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", PAGE.read_text())
    assert [link for link in links if not (PAGE.parent / link).exists()] == []
