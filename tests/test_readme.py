"""The README is correct: its code runs, and its tables equal the committed files."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.lib.tables import PAGES, fill

ROOT = Path(__file__).parent.parent


def programs(folder: Path) -> dict[str, list[str]]:
    (lines,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (folder / "readme").mkdir()
    return {"readme": ["-c", f"import os\nos.chdir({str(folder / 'readme')!r})\n{lines}"]}


def test_readme_lines_run_in_an_empty_folder(
    finished: Callable[[str], tuple[Path, int, str]],
) -> None:
    folder, code, output = finished("readme")
    assert code == 0, output
    assert "mrr@20" in output
    assert (folder / "readme" / "session.png").stat().st_size > 10_000
    assert (folder / "readme" / "srgnn" / "weights.safetensors").exists()


@pytest.mark.parametrize("name", PAGES)
def test_tables_are_those_of_the_committed_files(name: str) -> None:
    page = (ROOT / name).read_text()
    assert "<!-- table:" in page
    assert fill(page) == page


@pytest.mark.parametrize("name", [*PAGES, "datasets/README.md"])
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
