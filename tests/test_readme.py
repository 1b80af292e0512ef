"""The README is correct: its code runs, and its tables equal the committed files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.lib.tables import PAGES, fill

ROOT = Path(__file__).parent.parent


def test_readme_lines_run_in_an_empty_folder(tmp_path: Path) -> None:
    (lines,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", lines],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "mrr@20" in done.stdout
    assert (tmp_path / "session.png").stat().st_size > 10_000
    assert (tmp_path / "srgnn" / "weights.safetensors").exists()


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
